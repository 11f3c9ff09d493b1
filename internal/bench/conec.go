package main

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/coord"
	"github.com/conec-go/conec/netio"
)

// loopback is where sockets are bound.
const loopback = "127.0.0.1:0"

// conec is the system under test.
type conec struct {
	coordinator *coord.Coordinator
	client      *client.Client
	at          Place // where the coordinator is
	resumable   bool  // its streams are
	warm        bool  // it keeps many paths

	accepting sync.Mutex
	accepted  map[string]*client.Stream // by purpose
}

func (c *conec) host(ctx context.Context) (place Place, err error) {
	if c.coordinator, err = coord.Start(ctx, &coord.Config{Addr: loopback}); err != nil {
		return place, err
	}
	return Place{Addr: c.coordinator.Addr().String(), Fingerprint: c.coordinator.Fingerprint()}, nil
}

func (c *conec) attended() int {
	if c.coordinator == nil {
		return 0
	}
	return c.coordinator.Stats().Attached
}

func (c *conec) config(at Place, name string, who *netio.Identity) *client.Config {
	config := &client.Config{Name: name, Coordinator: at.Addr, Fingerprint: at.Fingerprint, Bind: loopback, Identity: who}
	if c.warm {
		config.Links = []string{"second", "third", "fourth"}
		config.OpenLinkOn = func(string) (netio.Link, error) { return netio.ListenUDP(netip.MustParseAddrPort(loopback)) }
	}
	return config
}

// warmPaths is how many paths answer, at least, where there are to be many: each of four sockets reaches four.
const warmPaths = 10

// awaitWarm waits until so many paths answer.
func awaitWarm(ctx context.Context, ch *client.Channel) error {
	for {
		report, err := ch.Paths(ctx)
		if err != nil {
			return err
		}
		answer := 0
		for _, c := range report.Candidates {
			if c.State == client.CandidateInUse || c.State == client.CandidateSpare {
				answer++
			}
		}
		if answer >= warmPaths {
			return nil
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("only %d paths answer, want %d:\n%v", answer, warmPaths, report)
		}
	}
}

func (c *conec) join(ctx context.Context, at Place, name string) (err error) {
	c.at, c.accepted = at, map[string]*client.Stream{}
	c.client, err = client.Connect(ctx, c.config(at, name, nil))
	return err
}

func (c *conec) open(ctx context.Context, kind Kind) (pipe, error) {
	options := &client.StreamOptions{Purpose: purpose(kind), Mode: kind.Mode, Resumable: c.resumable, Delivery: kind.Delivery}
	if kind.Bulk {
		options.Urgency = client.Bulk
	}
	stream, err := c.client.OpenStream(ctx, receiverName, options)
	if err != nil {
		return nil, err
	}
	if c.warm {
		wait, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		if err := awaitWarm(wait, stream.Channel()); err != nil {
			return nil, err
		}
	}
	return &conecPipe{stream: stream}, nil
}

// accept may be waiting for one kind of stream at a time; the others wait for their turn.
func (c *conec) accept(ctx context.Context, kind Kind) (pipe, error) {
	c.accepting.Lock()
	defer c.accepting.Unlock()
	for {
		if stream := c.accepted[purpose(kind)]; stream != nil {
			delete(c.accepted, purpose(kind))
			return &conecPipe{stream: stream}, nil
		}
		stream, err := c.client.AcceptStream(ctx)
		if err != nil {
			return nil, err
		}
		c.accepted[stream.Purpose()] = stream
	}
}

// purpose tells streams of different kinds apart.
func purpose(kind Kind) string { return fmt.Sprintf("bulk=%v", kind.Bulk) }

func (c *conec) guest(at Place, name string) (guest, error) {
	who, err := netio.NewIdentity(name, time.Now())
	return conecGuest{c.config(at, name, who)}, err
}

// conecGuest is a client of conec. Its home channel has a stream anyway.
type conecGuest struct{ config *client.Config }

func (g conecGuest) attach(ctx context.Context, _ bool) (func() error, error) {
	attached, err := client.Connect(ctx, g.config)
	if err != nil {
		return nil, err
	}
	return func() error { return attached.Close(ctx) }, nil
}

// conecPipe is a stream of conec.
type conecPipe struct {
	stream *client.Stream
	last   []byte // message that was received
}

func (p *conecPipe) send(ctx context.Context, message []byte) error {
	return p.stream.Send(ctx, message)
}

// receive copies into memory that it uses again, as the bare reader does.
func (p *conecPipe) receive(ctx context.Context) (message []byte, err error) {
	p.last, err = p.stream.ReceiveInto(ctx, p.last)
	return p.last, err
}

func (p *conecPipe) finish() error {
	p.stream.CloseSend()
	return nil
}

func (p *conecPipe) relayed() bool { return p.stream.Channel().Path().Relayed }
