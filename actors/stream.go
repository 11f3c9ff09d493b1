package actors

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
	"github.com/conec-go/conec/netio"
)

// openTimeout limits how long a peer may take to say what its new stream is for.
const openTimeout = 10 * time.Second

// stream owns one data stream: it opens or accepts it and watches over its end.
// Messages pass by it: users queue them in the [netio.Stream] itself, whose
// pumps carry them in batches (docs/decisions.md tells what a mailbox would cost).
//
//	behavior  message       does                                        then
//	opening   Started       starts the pump: opens or accepts           -
//	opening   streamOpened  answers who asked                           open
//	opening   streamFailed  answers who asked                           stops
//	opening   EndStream     gives up                                    stops
//	open      EndStream     ends the sending side                       -
//	open      streamEnded   -                                           stops
//	any       Stopping      stops its pump, which resets what is open   -
//
// Parent: channel. Never restarted: what was sent can not be taken back.
type stream struct {
	sys      *System
	spec     streamSpec
	behavior Behavior
	life     Life
	stream   *netio.Stream
	ending   bool // EndStream came before the stream was open
}

// streamSpec says what to open, or what to accept.
type streamSpec struct {
	peer      string
	open      *conecv1.OpenStream // set if this side opens
	resumable *netio.Resumable    // what the stream is to carry, if not messages of its own
	early     bool                // it is open before the other side has answered
	conn      *netio.Conn
	asker     *actor.PID    // who wants the answer of an opening
	incoming  *netio.Stream // set if the other side opened
	offer     func(Incoming) error
}

// StreamResult answers OpenStream.
type StreamResult struct {
	// Stream is open, if Err is nil.
	Stream *netio.Stream
	// Err is why it is not.
	Err error
	// Remote tells whether the other side decided it.
	Remote bool
}

// Incoming is a stream that the other side opened.
type Incoming struct {
	// Peer is the authenticated name of the other side.
	Peer string
	// Purpose is what it is for.
	Purpose string
	// Channel is the channel it came on.
	Channel *Channel
	// Stream is the stream itself; Accept was not called yet.
	Stream *netio.Stream
	// Resume says which resumable stream it is to carry; nil if none.
	Resume *conecv1.Resume
	// Join says which group it is for, on a home channel; nil if none.
	Join *conecv1.JoinGroup
}

// Sent by the pump.
type (
	streamOpened struct {
		Life
		stream *netio.Stream
	}
	streamFailed struct {
		Life
		err    error
		remote bool
	}
	streamEnded struct{ Life }
)

// streamStarted tells the channel which stream this is.
type streamStarted struct{ stream *netio.Stream }

func streamProps(sys *System, spec streamSpec) *actor.Props {
	return sys.Props(func() actor.Actor { return &stream{sys: sys, spec: spec} })
}

// Receive implements actor.Actor.
func (s *stream) Receive(ctx actor.Context) {
	switch ctx.Message().(type) {
	case *actor.Started:
		s.life = Begin()
		s.behavior.Become(ctx, "opening", s.opening)
		life, root, self, parent := s.life, ctx.ActorSystem().Root, ctx.Self(), ctx.Parent()
		s.sys.Pumps.Go(func() { s.pump(life, root, self, parent) })
	case *actor.Stopping, *actor.Restarting:
		s.life.End()
		s.answer(ctx, StreamResult{Err: messages.ErrClosed})
	default:
		s.behavior.Receive(ctx)
	}
}

func (s *stream) opening(ctx actor.Context) {
	switch msg := ctx.Message().(type) {
	case streamOpened:
		if !msg.Of(s.life) {
			return
		}
		s.stream = msg.stream
		s.behavior.Become(ctx, "open", s.open)
		if s.ending {
			s.stream.CloseSend()
		}
		s.answer(ctx, StreamResult{Stream: msg.stream})
	case streamFailed:
		if msg.Of(s.life) {
			s.answer(ctx, StreamResult{Err: msg.err, Remote: msg.remote})
			ctx.Stop(ctx.Self())
		}
	case *conecv1.EndStream:
		if s.ending = s.spec.incoming != nil; !s.ending { // the program may have an incoming one already
			ctx.Stop(ctx.Self())
		}
	default:
		s.behavior.Unexpected(ctx)
	}
}

func (s *stream) open(ctx actor.Context) {
	switch msg := ctx.Message().(type) {
	case streamEnded:
		if msg.Of(s.life) {
			ctx.Stop(ctx.Self())
		}
	case *conecv1.EndStream:
		s.stream.CloseSend()
	default:
		s.behavior.Unexpected(ctx)
	}
}

// answer tells who asked for the stream, once.
func (s *stream) answer(ctx actor.Context, result StreamResult) {
	if s.spec.asker != nil {
		ctx.Send(s.spec.asker, &result)
		s.spec.asker = nil
	}
}

// pump opens or accepts the stream and waits for its end.
func (s *stream) pump(life Life, root *actor.RootContext, self, parent *actor.PID) {
	stream, err := s.begin(life.Context(), func(stream *netio.Stream) {
		root.RequestWithCustomSender(parent, streamStarted{stream}, self)
	})
	if err != nil {
		root.Send(self, streamFailed{life, err, netio.IsRemote(err)})
		return
	}
	root.Send(self, streamOpened{life, stream})
	select {
	case <-stream.Ended():
		root.Send(self, streamEnded{life})
	case <-life.Context().Done():
		select {
		case <-s.spec.conn.Done(): // tells the streams why
			<-stream.Ended()
		default:
			stream.Cut(messages.ErrShutdown)
		}
	}
}

// begin opens or accepts the stream. It calls started with one that it opens as
// soon as there is one, before the other side can know of it.
func (s *stream) begin(ctx context.Context, started func(*netio.Stream)) (*netio.Stream, error) {
	if s.spec.incoming != nil {
		return s.spec.incoming, s.accept(ctx, s.spec.incoming)
	}
	open := s.spec.conn.OpenStream
	if r := s.spec.resumable; r != nil {
		open = func(ctx context.Context, open *conecv1.OpenStream) (*netio.Stream, error) {
			return s.spec.conn.OpenFor(ctx, open, r, s.spec.early)
		}
	}
	stream, err := open(ctx, s.spec.open)
	if err != nil {
		return nil, err
	}
	started(stream)
	if s.spec.early {
		return stream, nil // which tells who has it of a refusal
	}
	if err = stream.AwaitAnswer(ctx); err != nil {
		why := messages.ErrRefused
		if ctx.Err() != nil || s.spec.resumable != nil { // which is not over with this attempt
			why = messages.ErrCanceled
		}
		stream.Reset(why)
		return nil, err
	}
	return stream, nil
}

// accept hears what the stream is for and offers it to the program.
func (s *stream) accept(ctx context.Context, incoming *netio.Stream) error {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	open, err := incoming.AwaitOpen(ctx)
	if err != nil {
		why := messages.ErrClosed
		if errors.Is(err, context.DeadlineExceeded) {
			why = fmt.Errorf("%w: nothing said what the stream is for", messages.ErrTimeout)
		}
		incoming.Reset(why)
		return err
	}
	if err = s.spec.offer(Incoming{Peer: s.spec.peer, Purpose: open.GetPurpose(), Stream: incoming, Resume: open.GetResume(), Join: open.GetJoin()}); err != nil {
		incoming.Refuse(err)
	}
	return err
}
