package actors

import (
	"errors"
	"fmt"

	"github.com/asynkron/protoactor-go/actor"
	"google.golang.org/protobuf/proto"

	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
)

// maxLane is how many envelopes wait for the network per peer.
const maxLane = 65_536

// lane sends actor messages to one peer, over one stream that is opened with the
// first message and again after a failure.
//
//	behavior  message   does
//	any       Envelope  keeps it; starts the pump if none runs
//	any       sent      starts the pump again if more waits; after a failure, what
//	                    was in hand and what waits become dead letters
//	any       ended     opens another stream for the next message
//	any       Stopping  stops the pump
//
// Parent: the system's root.
type lane struct {
	peer    *remotePeer
	over    Stream // the last stream that ended, maybe before its pump said that it was opened
	life    Life
	stream  Stream
	waiting []*conecv1.Envelope
	sending bool
}

// Told by the pump, and by the one that receives on the same stream.
type (
	sent struct {
		Life
		stream Stream
		unsent []*conecv1.Envelope
		err    error
	}
	ended struct {
		Life
		stream Stream
	}
)

func laneProps(p *remotePeer) *actor.Props {
	return p.remote.sys.Props(func() actor.Actor { return &lane{peer: p} })
}

// Receive implements actor.Actor.
func (l *lane) Receive(ctx actor.Context) {
	switch msg := ctx.Message().(type) {
	case *actor.Started:
		l.life = Begin()
	case *actor.Stopping, *actor.Restarting:
		l.life.End()
		l.peer.drop(l.waiting, messages.ErrClosed)
		if l.stream != nil {
			l.stream.Close()
		}
	case *conecv1.Envelope:
		if len(l.waiting) >= maxLane {
			l.peer.drop([]*conecv1.Envelope{msg}, fmt.Errorf("%w: %d messages wait", messages.ErrLimit, len(l.waiting)))
			return
		}
		l.waiting = append(l.waiting, msg)
		l.startPump(ctx)
	case sent:
		l.sent(ctx, msg)
	case ended:
		if msg.Of(l.life) {
			l.over = msg.stream
			if l.stream == msg.stream {
				l.stream = nil
			}
		}
	}
}

func (l *lane) startPump(ctx actor.Context) {
	if l.sending || len(l.waiting) == 0 {
		return
	}
	l.sending = true
	batch, stream := l.waiting, l.stream
	l.waiting = nil
	life, root, self := l.life, ctx.ActorSystem().Root, ctx.Self()
	l.peer.remote.sys.Pumps.Go(func() {
		root.Send(self, l.peer.send(life, stream, batch, func(stream Stream) { root.Send(self, ended{life, stream}) }))
	})
}

func (l *lane) sent(ctx actor.Context, msg sent) {
	if !msg.Of(l.life) {
		return
	}
	l.sending, l.stream = false, msg.stream
	if msg.err != nil {
		l.peer.drop(msg.unsent, msg.err)
	}
	if l.stream == l.over {
		l.stream = nil
	}
	l.startPump(ctx)
}

// drop makes dead letters of messages that can not be sent.
func (p *remotePeer) drop(envelopes []*conecv1.Envelope, why error) {
	for _, envelope := range envelopes {
		pid := actor.NewPID(addressPrefix+p.peer, envelope.GetTarget())
		var sender *actor.PID
		if envelope.GetSender() != "" {
			sender = &actor.PID{Address: p.remote.sys.Address(), Id: envelope.GetSender(), RequestId: envelope.GetSenderRequest()}
		}
		p.deadLetter(pid, &actor.MessageEnvelope{Message: envelope, Sender: sender}, why)
	}
}

// send is the pump: it opens the stream if need be and sends a batch.
func (p *remotePeer) send(life Life, stream Stream, batch []*conecv1.Envelope, over func(Stream)) sent {
	ctx := life.Context()
	if stream == nil {
		var err error
		if stream, err = p.remote.open(ctx, p.peer); err != nil {
			return sent{Life: life, unsent: batch, err: err}
		}
		p.remote.sys.Pumps.Go(func() {
			p.remote.Serve(ctx, p.peer, stream)
			over(stream)
		})
	}
	for i, envelope := range batch {
		raw, err := proto.Marshal(envelope)
		if err == nil {
			err = stream.Send(ctx, raw)
		}
		switch {
		case err == nil:
		case errors.Is(err, messages.ErrTooLarge): // the stream goes on without it
			p.drop(batch[i:i+1], err)
		default:
			stream.Close()
			return sent{Life: life, unsent: batch[i:], err: err}
		}
	}
	return sent{Life: life, stream: stream}
}
