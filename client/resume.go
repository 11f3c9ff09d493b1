package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/conec-go/conec/actors"
	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
	"github.com/conec-go/conec/netio"
)

// Pauses between attempts to attach a stream again. They double.
const (
	resumeFirst  = 50 * time.Millisecond
	resumeSlower = 2 * time.Second
)

// resumptions are the resumable streams of a client: those that it opened, which
// it attaches again when their channel is lost, and those that peers opened,
// which wait to be found. Safe for concurrent use; nothing blocks with mu held.
type resumptions struct {
	cl          *Client
	incarnation []byte // names this client among those that had its name before

	mu       sync.Mutex
	opened   map[resumeKey]*resumable
	accepted map[resumeKey]*resumable
	err      error // why there are no more
}

// resumeKey is what a stream is found by. A client may open streams to itself, so
// those it opened and those it accepted are apart.
type resumeKey struct{ peer, id string }

// resumable is one resumable stream.
type resumable struct {
	*netio.Resumable
	all     *resumptions
	key     resumeKey
	purpose string
	terms   *conecv1.OpenStream // what the opener asks for
	mode    Mode
	opens   bool   // this side opened it
	process []byte // the opener's incarnation, if the other side opened it
	channel atomic.Pointer[channelRef]

	attaching bool        // somebody tries to attach it; under the mutex of all
	timer     *time.Timer // of a stream that waits to be found; under the mutex of all
	waits     int         // how often it did
	apart     actors.Apart
}

func newResumptions(cl *Client) *resumptions {
	return &resumptions{
		cl: cl, incarnation: cl.incarnation, opened: map[resumeKey]*resumable{}, accepted: map[resumeKey]*resumable{},
	}
}

// newIncarnation returns the name of a process: a time, so that a later one compares
// as greater, and random bytes.
func newIncarnation(now time.Time) []byte {
	id := newID()
	ticks := uint64(now.UnixMicro()) >> 4
	for i := range 6 { // 48 bits of it, until the year 2112
		id[i] = byte(ticks >> (8 * (5 - i)))
	}
	return id
}

// newID returns a random name.
func newID() []byte {
	id := make([]byte, netio.IDSize)
	_, _ = rand.Read(id) // never fails (crypto/rand)
	return id
}

// add makes a stream. Called with mu held.
func (all *resumptions) add(to map[resumeKey]*resumable, r *resumable) (err error) {
	r.all = all
	pumps := &all.cl.sys.Pumps
	r.Resumable, err = all.cl.transport.NewResumable(netio.ResumableConfig{
		Peer: r.key.peer, ID: []byte(r.key.id), Incarnation: all.incarnation, Keep: all.cl.config.ResumeBuffer,
		Detached: func(error) { pumps.Go(r.detached) },
		Ended:    func() { pumps.Go(r.forget) },
	})
	if err == nil {
		to[r.key] = r
	}
	return err
}

// open makes a stream that this side opens. Who opens it calls settle once it is
// attached.
func (all *resumptions) open(peer string, terms *conecv1.OpenStream, mode Mode) (*resumable, error) {
	all.mu.Lock()
	defer all.mu.Unlock()
	if all.err != nil {
		return nil, all.err
	}
	r := &resumable{
		key: resumeKey{peer, string(newID())}, purpose: terms.GetPurpose(), terms: terms, mode: mode, opens: true, attaching: true,
	}
	if err := all.add(all.opened, r); err != nil {
		return nil, err
	}
	return r, nil
}

// accept attaches a stream that a peer opens again, or takes a new one. It does
// not block.
func (all *resumptions) accept(in actors.Incoming, to *streamQueue) error {
	resume := in.Resume
	if err := all.check(in); err != nil {
		return err
	}
	key := resumeKey{in.Peer, string(resume.GetId())}
	all.mu.Lock()
	r := all.accepted[key]
	if r == nil {
		defer all.mu.Unlock()
		return all.acceptNew(in, key, to)
	}
	all.mu.Unlock()
	if err := in.Stream.AcceptFor(r.Resumable, resume); err != nil {
		return err
	}
	r.found(in.Channel)
	return nil
}

// check says why what a peer wants can not be.
func (all *resumptions) check(in actors.Incoming) error {
	resume := in.Resume
	expected := resume.GetPeer()
	switch {
	case len(resume.GetId()) != netio.IDSize, len(resume.GetIncarnation()) != netio.IDSize,
		len(expected) != 0 && len(expected) != netio.IDSize:
		return fmt.Errorf("%w: name of a resumable stream", messages.ErrProtocol)
	case len(expected) != 0 && !bytes.Equal(expected, all.incarnation):
		return fmt.Errorf("%w: this is another process", messages.ErrNoSuchStream)
	}
	return nil
}

// maxLanes is how many streams with actor messages a peer may have, some of them about
// to be forgotten. They do not count among other resumable streams.
const maxLanes = 32

// isFull says why no more streams like this are taken. Called with mu held.
func (all *resumptions) isFull(in actors.Incoming) error {
	count, limit := 0, all.cl.config.MaxResumable
	lanes := in.Purpose == actors.RemotePurpose
	for _, r := range all.accepted {
		if isLane := r.purpose == actors.RemotePurpose; isLane == lanes && (!lanes || r.key.peer == in.Peer) {
			count++
		}
	}
	if lanes {
		limit = maxLanes
	}
	if count >= limit {
		return fmt.Errorf("%w: %d resumable streams", messages.ErrLimit, count)
	}
	return nil
}

// acceptNew takes a stream that was not known before. Called with mu held.
func (all *resumptions) acceptNew(in actors.Incoming, key resumeKey, to *streamQueue) error {
	all.endFormer(key.peer, in.Resume.GetIncarnation())
	full := all.isFull(in)
	switch {
	case len(in.Resume.GetPeer()) != 0:
		return fmt.Errorf("%w: it waited too long, or has ended", messages.ErrNoSuchStream)
	case all.err != nil:
		return all.err
	case full != nil:
		return full
	}
	r := &resumable{key: key, purpose: in.Purpose, terms: in.Stream.Terms(), process: in.Resume.GetIncarnation()}
	if err := all.add(all.accepted, r); err != nil {
		return err
	}
	r.channel.Store(&channelRef{in.Channel, in.Channel.PID()})
	err := all.cl.incoming.offer(in, r, to)
	if err != nil {
		r.giveUp()
	}
	return err
}

// endFormer ends the streams of a peer's former process, which is gone: those that it
// opened, and those that were opened to it. Called with mu held.
func (all *resumptions) endFormer(peer string, now []byte) {
	end := func(r *resumable) {
		all.cl.sys.Pumps.Go(func() { r.End(fmt.Errorf("%w: the peer was restarted", messages.ErrNoSuchStream)) })
	}
	for _, r := range all.accepted {
		if r.key.peer == peer && !bytes.Equal(r.process, now) {
			end(r)
		}
	}
	for _, r := range all.opened {
		if former := r.Peer(); r.key.peer == peer && former != nil && bytes.Compare(former, now) < 0 { // which begin with a time
			end(r)
		}
	}
}

// attach opens the stream on a channel. If ctx ends, it calls canceled first. If early
// is set, it does not wait for the peer's answer to the first attempt.
func (r *resumable) attach(ctx context.Context, ref *channelRef, early bool, canceled func()) error {
	_, err := r.all.cl.openRaw(ctx, ref, actors.OpenStream{
		Open: r.terms, Resumable: r.Resumable, Early: early,
	}, canceled)
	if err == nil {
		r.channel.Store(ref)
	}
	return err
}

// giveUp ends a stream that could not be opened. r may be nil.
func (r *resumable) giveUp() {
	if r != nil {
		r.Reset(messages.ErrReset)
	}
}

// settle ends the attempts of an opener, unless the stream was lost meanwhile:
// then it is attached again.
func (r *resumable) settle() {
	r.all.mu.Lock()
	r.attaching = false
	r.all.mu.Unlock()
	if !r.Attached() {
		r.detached()
	}
}

// found notes that a stream that waited is attached.
func (r *resumable) found(channel *actors.Channel) {
	r.channel.Store(&channelRef{channel, channel.PID()})
	r.all.mu.Lock()
	defer r.all.mu.Unlock()
	if r.timer != nil && r.Attached() {
		r.timer.Stop()
		r.timer = nil
	}
}

// detached has a stream attached again, or waits to be found.
func (r *resumable) detached() {
	all := r.all
	all.mu.Lock()
	defer all.mu.Unlock()
	switch {
	case all.err != nil, r.attaching, r.timer != nil, r.Attached():
	case r.opens:
		r.attaching = true
		all.cl.sys.Pumps.Go(r.attachAgain)
	default:
		r.waits++
		wait := r.waits
		r.timer = r.apart.AfterFunc(all.cl.config.ResumeWait, func() { r.waited(wait) })
	}
}

// waited gives up a stream that nobody has found.
func (r *resumable) waited(wait int) {
	r.all.mu.Lock()
	late := r.timer == nil || r.waits != wait || r.Attached()
	r.all.mu.Unlock()
	if !late {
		r.End(r.waitOver())
	}
}

func (r *resumable) waitOver() error {
	return fmt.Errorf("%w: not attached again within %v", messages.ErrUnreachable, r.all.cl.config.ResumeWait)
}

// attachAgain is a pump: it opens the stream again, on its channel or another
// one, until that works or will not work any more.
func (r *resumable) attachAgain() {
	life := r.all.cl.life.Context()
	ctx, cancel := context.WithCancel(life)
	defer cancel()
	var apart actors.Apart
	defer apart.AfterFunc(r.all.cl.config.ResumeWait, cancel).Stop()
	for pause := resumeFirst; ; pause = min(2*pause, resumeSlower) {
		err := r.attachAnywhere(ctx)
		var refused remoteError
		switch {
		case err == nil, r.Attached():
			r.settle()
			return
		case errors.Is(err, messages.ErrNoSuchStream), errors.Is(err, messages.ErrProtocol), errors.Is(err, messages.ErrVersion),
			errors.Is(err, messages.ErrForbidden):
			r.End(err)
			return
		case r.Peer() == nil && errors.As(err, &refused): // it was open only as far as this side knew
			r.End(refused.error)
			return
		case life.Err() != nil:
			r.End(messages.ErrClosed)
			return
		}
		over := make(chan struct{})
		timer := apart.AfterFunc(pause, func() { close(over) })
		select {
		case <-over:
			continue
		case <-r.Ended():
		case <-ctx.Done():
			r.End(r.waitOver())
		}
		timer.Stop()
		return
	}
}

// attachAnywhere opens the stream on its channel or, if that has ended, on one
// that streams to the peer share.
func (r *resumable) attachAnywhere(ctx context.Context) error {
	ref := r.channel.Load()
	if ref == nil || ref.Draining() {
		var err error
		if ref, err = r.all.cl.find(ctx, findChannel{peer: r.key.peer, mode: conecv1.Mode(r.mode)}); err != nil {
			return err
		}
	}
	return r.attach(ctx, ref, false, func() {})
}

// forget takes a stream that has ended out of the table.
func (r *resumable) forget() {
	all := r.all
	all.mu.Lock()
	defer all.mu.Unlock()
	if r.timer != nil {
		r.timer.Stop()
	}
	for _, table := range []map[resumeKey]*resumable{all.opened, all.accepted} {
		if table[r.key] == r {
			delete(table, r.key)
		}
	}
}

// list returns all streams.
func (all *resumptions) list() []*resumable {
	all.mu.Lock()
	defer all.mu.Unlock()
	var list []*resumable
	for _, table := range []map[resumeKey]*resumable{all.opened, all.accepted} {
		for _, r := range table {
			list = append(list, r)
		}
	}
	return list
}

// drain ends the sending side of streams that no channel carries now, and waits
// until what they keep has arrived, or will not. Those that carry actor messages have
// been drained before: what they still keep is of no use to anybody.
func (all *resumptions) drain(ctx context.Context) error {
	var errs []error
	for _, r := range all.list() {
		if r.purpose != actors.RemotePurpose && !r.Attached() {
			r.CloseSend()
			errs = append(errs, r.Confirm(ctx))
		}
	}
	return errors.Join(errs...)
}

// end ends all streams.
func (all *resumptions) end(err error) {
	all.mu.Lock()
	all.err = err
	all.mu.Unlock()
	for _, r := range all.list() {
		r.End(err)
	}
}
