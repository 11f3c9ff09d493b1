package client

import (
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"google.golang.org/protobuf/proto"

	"github.com/conec-go/conec/actors"
	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
)

// The part of the client actor that tells the coordinator about this client, and hears of others.

const (
	metadataEvery = 200 * time.Millisecond // metadata is said
	grantAhead    = 64 << 10               // bytes that the coordinator may tell before it hears that they were taken
	grantStep     = grantAhead / 4
)

// presenceState is the client actor's own, and all but metadata's timer begins anew with each attachment.
type presenceState struct {
	said     *conecv1.SetMetadata // that the coordinator knows
	saidAt   time.Time
	timer    *time.Timer     // until metadata may be said again; nil: it may
	watching map[uint64]bool // watches that it knows
	taken    uint64          // bytes of what it told
	granted  uint64
}

// Sent by the program and a timer.
type (
	metadataSet struct{}
	metadataDue struct{ actors.Life }
	watchBegun  struct{ watch *PeerWatch }
	watchClosed struct{ number uint64 }
)

// watches are those that the program has open.
type watches struct {
	mu   sync.Mutex
	open map[uint64]*PeerWatch // by number
	last uint64                // number
}

func (w *watches) add(watch *PeerWatch) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.open == nil {
		w.open = map[uint64]*PeerWatch{}
	}
	w.last++
	watch.number = w.last
	w.open[watch.number] = watch
}

// remove returns the watch, nil if it was removed before.
func (w *watches) remove(number uint64) *PeerWatch {
	w.mu.Lock()
	defer w.mu.Unlock()
	watch := w.open[number]
	delete(w.open, number)
	return watch
}

func (w *watches) of(number uint64) *PeerWatch {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.open[number]
}

// list returns them in the order in which they began.
func (w *watches) list() []*PeerWatch {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.SortedFunc(maps.Values(w.open), func(a, b *PeerWatch) int { return cmp.Compare(a.number, b.number) })
}

// SetMetadata replaces what this client publishes about itself, at first Config.Metadata, to those that watch it. It does
// not block, and may be called at any time; what is replaced within a fifth of a second may never be seen. Errors:
// [messages.ErrLimit] for more than 1,024 bytes or 64 keys, or what is wrong with a key or a value.
func (cl *Client) SetMetadata(metadata map[string]string) error {
	labels, err := messages.ToLabels(metadata)
	if err != nil {
		return &messages.OpError{Op: "set metadata", Err: err}
	}
	cl.metadata.Store(&conecv1.SetMetadata{Metadata: labels})
	if cl.metadataSet.CompareAndSwap(false, true) { // one message is enough, however often it is set
		cl.sys.Root.Send(cl.pid, metadataSet{})
	}
	return nil
}

// published is what a client publishes at first.
func (c *Config) published() *conecv1.SetMetadata {
	labels, _ := messages.ToLabels(c.Metadata) // Validate has checked them
	return &conecv1.SetMetadata{Metadata: labels}
}

// attaching is what the client says first.
func (c *clientActor) attaching() *conecv1.Attach {
	c.presence.said, c.presence.saidAt = c.cl.metadata.Load(), time.Now()
	return &conecv1.Attach{
		Name: c.cl.config.Name, Accepts: !c.cl.config.NotAccepting, Token: c.cl.config.JoinToken,
		Instance: binary.BigEndian.Uint64(c.cl.incarnation), Metadata: c.presence.said.GetMetadata(),
	}
}

// askedOfPresence acts on what the program wants.
func (c *clientActor) askedOfPresence(ctx actor.Context) {
	switch msg := ctx.Message().(type) {
	case metadataSet:
		c.cl.metadataSet.Store(false)
		c.sayMetadata(ctx)
	case metadataDue:
		if msg.Of(c.life) {
			c.presence.timer = nil
			c.sayMetadata(ctx)
		}
	case watchBegun:
		c.sayWatch(ctx, msg.watch)
	case watchClosed:
		if c.presence.watching[msg.number] {
			delete(c.presence.watching, msg.number)
			c.sayIfBound(ctx, &conecv1.Control{Said: &conecv1.Control_EndWatch{EndWatch: &conecv1.EndWatch{Watch: msg.number}}})
		}
	}
}

// sayMetadata tells the coordinator what this client publishes, if it does not know, and was not told just before.
func (c *clientActor) sayMetadata(ctx actor.Context) {
	metadata := c.cl.metadata.Load()
	if !c.bound || metadata == c.presence.said || c.presence.timer != nil {
		return
	}
	if wait := metadataEvery - time.Since(c.presence.saidAt); wait > 0 {
		life, root, self := c.life, ctx.ActorSystem().Root, ctx.Self()
		c.presence.timer = c.apart.AfterFunc(wait, func() { root.Send(self, metadataDue{life}) })
		return
	}
	c.presence.said, c.presence.saidAt = metadata, time.Now()
	ctx.Send(c.home, &conecv1.Control{Said: &conecv1.Control_SetMetadata{SetMetadata: metadata}})
}

// sayWatch tells the coordinator of a watch, if it does not know.
func (c *clientActor) sayWatch(ctx actor.Context, w *PeerWatch) {
	if !c.bound || c.presence.watching[w.number] || c.cl.watches.of(w.number) == nil {
		return
	}
	c.presence.watching[w.number] = true
	ctx.Send(c.home, &conecv1.Control{Said: &conecv1.Control_WatchPeers{WatchPeers: &conecv1.WatchPeers{
		Watch: w.number, Pattern: w.pattern,
	}}})
}

// presenceBound tells a coordinator that has just attached this client what it has to know.
func (c *clientActor) presenceBound(ctx actor.Context) {
	c.presence.watching, c.presence.taken, c.presence.granted = map[uint64]bool{}, 0, grantAhead
	c.sayMetadata(ctx)
	for _, w := range c.cl.watches.list() {
		c.sayWatch(ctx, w)
	}
}

// presenceAway tells watches that the coordinator was lost.
func (c *clientActor) presenceAway(err error) {
	for _, w := range c.cl.watches.list() {
		if c.final != nil {
			w.end(err)
			continue
		}
		w.mu.Lock()
		w.view.away(err)
		w.wake()
		w.mu.Unlock()
	}
}

// saidOfPresence does what the coordinator says of peers. It reports whether that is something it may say.
func (c *clientActor) saidOfPresence(ctx actor.Context, message *conecv1.Control) bool {
	switch said := message.GetSaid().(type) {
	case *conecv1.Control_PeersChanged:
		if w := c.cl.watches.of(said.PeersChanged.GetWatch()); w != nil {
			if err := w.take(said.PeersChanged); err != nil {
				w.end(err)
				w.Close()
			}
		}
		c.grant(ctx, proto.Size(said.PeersChanged))
	case *conecv1.Control_WatchEnded:
		if w := c.cl.watches.remove(said.WatchEnded.GetWatch()); w != nil {
			w.end(remoteError{messages.FromCode(said.WatchEnded.GetCode(), said.WatchEnded.GetReason())})
		}
	default:
		return false
	}
	return true
}

// grant lets the coordinator tell more, since so much was taken.
func (c *clientActor) grant(ctx actor.Context, size int) {
	p := &c.presence
	p.taken += uint64(size)
	if p.granted < p.taken+grantAhead-grantStep {
		p.granted = p.taken + grantAhead
		c.sayIfBound(ctx, &conecv1.Control{Said: &conecv1.Control_GrantPeers{GrantPeers: &conecv1.GrantPeers{Limit: p.granted}}})
	}
}

// take takes what the coordinator says for a watch.
func (w *PeerWatch) take(msg *conecv1.PeersChanged) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if msg.GetBegins() {
		w.view.begin()
	}
	for _, state := range msg.GetPeers() {
		if err := messages.CheckName(state.GetName()); err != nil {
			return fmt.Errorf("%w: %w", messages.ErrProtocol, err)
		}
		if state.GetGone() {
			w.view.gone(state.GetName())
			continue
		}
		err := messages.CheckLabels(state.GetMetadata())
		if err == nil {
			err = w.view.there(&PeerInfo{
				Name: state.GetName(), Accepting: state.GetAccepts(), Instance: state.GetInstance(),
				Key: hex.EncodeToString(state.GetKey()), former: hex.EncodeToString(state.GetFormerKey()), Metadata: messages.FromLabels(state.GetMetadata()),
			})
		}
		if err != nil {
			return err
		}
	}
	if msg.GetComplete() {
		w.view.complete(time.Now())
	}
	w.wake()
	return nil
}
