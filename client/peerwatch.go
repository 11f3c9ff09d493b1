package client

import (
	"cmp"
	"context"
	"encoding/binary"
	"slices"
	"sync"
	"time"

	"github.com/conec-go/conec/actors"
	"github.com/conec-go/conec/messages"
)

// PeerInfo is what the coordinator tells of a peer that is there. It is not to be changed.
type PeerInfo struct {
	// Name is its name.
	Name string
	// Accepting tells whether it accepts channels.
	Accepting bool
	// Instance identifies its process: a later one of the same name has a greater number.
	// 0 if it has not said.
	Instance uint64
	// Key identifies its key: the first 16 bytes of the SHA-256 of the public key (as in
	// its certificate, DER), in hex.
	Key string
	// Metadata is what it publishes about itself ([Client.SetMetadata]). Nobody checks it.
	Metadata map[string]string

	former string // its key before it was renewed
}

// PeerEventKind is what a [PeerEvent] says.
type PeerEventKind int

// Kinds of events.
const (
	// PeerPresent: a peer is there that the watch has not told of before.
	PeerPresent PeerEventKind = iota + 1
	// PeerChanged: it publishes something else, has renewed its key ([Client.SetIdentity]), or accepts channels or does
	// not any more.
	PeerChanged
	// PeerGone: it is not attached any more, or is not to be seen.
	PeerGone
	// PeerBack: it is there again after PeerGone, or another process has taken its place.
	PeerBack
	// PeersListed: all that are there were told; from now on changes are.
	PeersListed
	// CoordinatorAway: the coordinator was lost, and nothing is known of changes until
	// PeersListed comes again.
	CoordinatorAway
)

// String returns a word in lower case.
func (k PeerEventKind) String() string {
	words := [...]string{"unknown", "present", "changed", "gone", "back", "listed", "coordinator away"}
	if k < 0 || int(k) >= len(words) {
		k = 0
	}
	return words[k]
}

// PeerEvent is something that happened to a peer, or to the watch itself.
type PeerEvent struct {
	// Kind is what happened.
	Kind PeerEventKind
	// Peer is whom it happened to; with PeerGone, what was known last.
	Peer PeerInfo
	// SameProcess and SameKey tell, with PeerBack, whether it is the process, and has the
	// key, that the watch has told of before.
	SameProcess, SameKey bool
	// Err is why, with CoordinatorAway.
	Err error
}

// PeerWatch tells which peers are there and what becomes of them. Its methods may be
// called from any goroutine; each event is told to one caller of Next.
type PeerWatch struct {
	cl      *Client
	number  uint64
	pattern string

	mu      sync.Mutex
	view    *peerView
	err     error
	changed chan struct{} // closed and replaced when there is something to look at
}

// WatchPeers begins to watch the peers whose names match a pattern, in which * stands for
// any characters and ? for one; see [messages.CheckPattern]. It does not block. Which of
// them this client may see is up to the coordinator's policy; a client does not see itself.
// How many watches there may be is up to the coordinator, too: by default 16 of a client.
// The error matches [messages.ErrPatternInvalid], or the client is closed.
func (cl *Client) WatchPeers(pattern string) (*PeerWatch, error) {
	err := messages.CheckPattern(pattern)
	if err == nil && cl.isClosed() {
		err = messages.ErrClosed
	}
	if err != nil {
		return nil, &messages.OpError{Op: watchOp, Err: err}
	}
	w := &PeerWatch{cl: cl, pattern: pattern, view: newPeerView(), changed: make(chan struct{})}
	cl.watches.add(w)
	cl.sys.Root.Send(cl.pid, watchBegun{w})
	return w, nil
}

const watchOp = "watch peers"

// Peers returns the peers whose names match a pattern, by name. It blocks until the
// coordinator has told all of them, or ctx ends. Errors: [messages.ErrPatternInvalid], and
// [messages.ErrLimit] if this client has too many watches.
func (cl *Client) Peers(ctx context.Context, pattern string) ([]PeerInfo, error) {
	w, err := cl.WatchPeers(pattern)
	if err != nil {
		return nil, err
	}
	defer w.Close()
	there := map[string]PeerInfo{}
	for {
		event, err := w.Next(ctx)
		switch {
		case err != nil:
			return nil, err
		case event.Kind == PeersListed:
			list := make([]PeerInfo, 0, len(there))
			for _, peer := range there {
				list = append(list, peer)
			}
			slices.SortFunc(list, func(a, b PeerInfo) int { return cmp.Compare(a.Name, b.Name) })
			return list, nil
		case event.Kind == PeerGone:
			delete(there, event.Peer.Name)
		case event.Peer.Name != "":
			there[event.Peer.Name] = event.Peer
		}
	}
}

// Next returns the next event. It blocks until there is one, ctx ends, or the watch has
// ended: then the error says why, and matches [messages.ErrLimit] if the coordinator
// allows no more watches.
//
// First come the peers that are there, each as PeerPresent, and PeersListed. Then each
// change comes once, in order per peer. Who calls Next too rarely to hear of every change
// hears the difference between what it knows and what is. After CoordinatorAway the watch
// goes on by itself once the client is attached again: what has changed meanwhile is told,
// and PeersListed. Peers who are not back then are not told to have gone until 30 seconds
// later: the coordinator may have been started again, and they attach one after the other.
func (w *PeerWatch) Next(ctx context.Context) (PeerEvent, error) {
	for {
		w.mu.Lock()
		event, ok, due := w.view.next(time.Now())
		err, changed := w.err, w.changed
		w.mu.Unlock()
		if ok {
			return event, nil
		}
		if err == nil {
			err = w.await(ctx, changed, due)
		}
		if err != nil {
			return PeerEvent{}, w.cl.opError(ctx, watchOp, "", err)
		}
	}
}

// await waits until there may be an event.
func (w *PeerWatch) await(ctx context.Context, changed <-chan struct{}, due time.Time) error {
	var later <-chan time.Time
	if !due.IsZero() {
		timer := time.NewTimer(time.Until(due))
		defer timer.Stop()
		later = timer.C
	}
	select {
	case <-changed:
	case <-later:
	case <-ctx.Done():
		return ctx.Err()
	case <-w.cl.closed:
		return messages.ErrClosed
	}
	return nil
}

// sight tells the actor system of this client who is there, as [actors.RemoteConfig] says.
func (cl *Client) sight(ctx context.Context, pattern string, tell func(actors.Sighted)) error {
	w, err := cl.WatchPeers(pattern)
	if err != nil {
		return err
	}
	defer w.Close()
	for {
		event, err := w.Next(ctx)
		if err != nil {
			return err
		}
		switch peer := event.Peer; event.Kind {
		case PeerPresent, PeerChanged, PeerBack:
			s := actors.Sighted{Peer: peer.Name, Present: true, Metadata: peer.Metadata}
			if peer.Instance != 0 {
				s.Address = actors.Address(peer.Name, binary.BigEndian.AppendUint64(nil, peer.Instance))
			}
			tell(s)
		case PeerGone:
			tell(actors.Sighted{Peer: peer.Name})
		case PeersListed, CoordinatorAway:
		}
	}
}

// Close ends the watch. It does not block.
func (w *PeerWatch) Close() {
	if w.cl.watches.remove(w.number) != nil {
		w.end(messages.ErrClosed)
		w.cl.sys.Root.Send(w.cl.pid, watchClosed{w.number})
	}
}

// end makes err the result of Next once all was told.
func (w *PeerWatch) end(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
	}
	w.wake()
}

// wake lets everybody who waits look again. Called with mu held.
func (w *PeerWatch) wake() {
	close(w.changed)
	w.changed = make(chan struct{})
}
