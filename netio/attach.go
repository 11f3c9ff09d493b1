package netio

import (
	"bytes"
	"context"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
)

// OpenFor opens a QUIC stream that is to carry a resumable one: AwaitAnswer tells
// whether it does. It blocks like [Conn.OpenStream]. There may be one attempt at
// a time; the last one counts. If early is set, the first attempt carries messages at
// once; a refusal then ends r.
func (c *Conn) OpenFor(ctx context.Context, open *conecv1.OpenStream, r *Resumable, early bool) (*Stream, error) {
	raw, err := c.raw.OpenStreamSync(ctx)
	if err != nil {
		return nil, overOrContext(ctx, err)
	}
	stream := c.newStream(raw)
	stream.carries.Store(r)
	resume, err := r.open(stream, early)
	if err != nil {
		stream.cancelWrite(messages.ErrCanceled)
		stream.cancelRead(messages.ErrCanceled)
		return nil, err
	}
	open = proto.CloneOf(open)
	open.Resume = resume
	begin := func(body []byte) error { return r.begin(stream, body) }
	if err = stream.startOpener(open, begin); err != nil {
		stream.Reset(messages.ErrCanceled)
		return nil, err
	}
	return stream, nil
}

// open begins an attempt to attach.
func (r *Resumable) open(stream *Stream, early bool) (*conecv1.Resume, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended || r.at != nil {
		return nil, fmt.Errorf("%w: resumable stream", messages.ErrClosed)
	}
	if early && r.attempt == 0 {
		r.at = stream // the other side can not have received anything
	} else {
		r.opening = stream
	}
	resume := &conecv1.Resume{
		Id: r.config.ID, Incarnation: r.config.Incarnation, Peer: r.peer, Attempt: r.attempt, Received: r.intake.attach(nil),
	}
	r.attempt++
	return resume, nil
}

// begin says what the stream is for. Where it carries messages at once, they come after that.
func (r *Resumable) begin(stream *Stream, body []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.at == stream {
		return r.journal.attach(stream, 0, 0, baseWindow, appendFrame(nil, fieldOpen, body))
	}
	return stream.out.begin(fieldOpen, body)
}

// answered attaches the stream: the acceptor said what it has. Called by the pump
// of the attachment.
func (r *Resumable) answered(stream *Stream, opened *conecv1.StreamOpened) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	early := r.at == stream
	switch peer := opened.GetIncarnation(); {
	case !early && r.opening != stream || r.ended:
		return errLeft
	case len(peer) == 0:
		return fmt.Errorf("%w: the peer's streams are not resumable", messages.ErrVersion)
	case len(peer) != IDSize || r.peer != nil && !bytes.Equal(peer, r.peer):
		return fmt.Errorf("%w: opened by another process", messages.ErrProtocol)
	case early && opened.GetReceived() != 0:
		return fmt.Errorf("%w: a new stream of which %d messages have arrived", messages.ErrProtocol, opened.GetReceived())
	case r.peer == nil:
		r.peer = peer
		close(r.known)
	}
	stream.in.mu.Lock()
	stream.in.intake.Store(r.intake)
	wanted := stream.in.early
	stream.in.mu.Unlock()
	r.at, r.opening = stream, nil
	taken := r.intake.attach(stream.in)
	var err error
	if !early { // else it is, and has its credit
		err = r.journal.attach(stream, opened.GetReceived(), taken, opened.GetCredit(), nil)
	}
	if wanted.n > 0 {
		r.intake.wanted(stream.in, wanted.put, wanted.n)
	}
	return err
}

// AcceptFor accepts a QUIC stream that is to carry r. It does not block. An attempt
// that was overtaken by a later one is not accepted, nor is one of another process.
func (s *Stream) AcceptFor(r *Resumable, resume *conecv1.Resume) error {
	r.mu.Lock()
	switch {
	case r.ended:
		r.mu.Unlock()
		return messages.ErrNoSuchStream
	case r.peer != nil && !bytes.Equal(r.peer, resume.GetIncarnation()):
		r.mu.Unlock()
		return messages.ErrNoSuchStream
	case r.peer != nil && resume.GetAttempt() < r.attempt:
		r.mu.Unlock()
		return fmt.Errorf("%w: attached anew meanwhile", messages.ErrCanceled)
	}
	r.peer, r.attempt = resume.GetIncarnation(), resume.GetAttempt()+1
	former := r.at
	r.at = s
	s.carries.Store(r)
	s.in.intake.Store(r.intake)
	received, limit := r.intake.accept(s.in)
	s.decide()
	select {
	case <-s.in.over: // its pump may have ended before it knew of r
		r.mu.Unlock()
		err := s.in.reason()
		r.lost(s, err)
		return err
	default:
	}
	opened, err := appendMessageFrame(nil, fieldOpened, &conecv1.StreamOpened{
		Incarnation: r.config.Incarnation, Received: received, Credit: limit,
	})
	if err == nil {
		err = r.journal.attach(s, resume.GetReceived(), received, s.credit, opened)
	}
	r.mu.Unlock()
	if former != nil {
		former.leave(errLeft)
	}
	if err != nil {
		r.lost(s, err)
	} else if s.opened.GetOneWay() {
		r.CloseSend()
	}
	return err
}

// Drained says that the other side has read to its end what this side sent on the
// stream, as the channel has learned.
func (s *Stream) Drained() {
	if r := s.carries.Load(); r != nil {
		r.journal.everythingRead()
	}
}
