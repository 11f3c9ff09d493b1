package client

import (
	"errors"
	"testing"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/conec-go/conec/actors"
	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
)

// refusing is the parent of a channel, which it refuses to introduce.
type refusing struct {
	sys     *actors.System
	ref     *channelRef
	stopped chan struct{}
}

func (r *refusing) Receive(ctx actor.Context) {
	switch ctx.Message().(type) {
	case *actor.Started:
		r.ref.pid = ctx.Spawn(actors.ChannelProps(r.sys, actors.ChannelSpec{Channel: r.ref.Channel, Config: &actors.ChannelConfig{}}))
		ctx.Watch(r.ref.pid)
	case *conecv1.OpenChannel:
		code, reason := messages.ToCode(messages.ErrNoSuchPeer)
		ctx.Send(ctx.Sender(), &conecv1.OpenRefused{Code: code, Reason: reason})
	case *actor.Terminated:
		close(r.stopped)
	}
}

// A channel may have been refused, and its actor stopped, before its opener comes
// to wait for it: the opener is told why all the same.
func TestRefusedBeforeAwaited(t *testing.T) {
	sys := actors.NewSystem(nil)
	r := &refusing{sys: sys, ref: &channelRef{Channel: &actors.Channel{Peer: "bob"}}, stopped: make(chan struct{})}
	parent, err := sys.Spawn(sys.Props(func() actor.Actor { return r }), "refusing")
	if err != nil {
		t.Fatal(err)
	}
	<-r.stopped
	cl := &Client{sys: sys, pid: parent}
	if err := cl.awaitUp(t.Context(), r.ref); !errors.Is(err, messages.ErrNoSuchPeer) {
		t.Errorf("await: %v, want no such peer", err)
	}
	if _, err := cl.openOn(t.Context(), r.ref, &conecv1.OpenStream{}, nil, false); !errors.Is(err, messages.ErrNoSuchPeer) {
		t.Errorf("open stream: %v, want no such peer", err)
	}
	if err := sys.Close(t.Context()); err != nil {
		t.Error(err)
	}
}
