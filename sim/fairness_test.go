package sim_test

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/coord"
	"github.com/conec-go/conec/netio"
	"github.com/conec-go/conec/sim"
)

// TestRelayIsFair floods channels of a client over the relay and asks questions on another, lossy, so that whatever the
// relay drops is an answer less. With limits that channels share the questions do not notice the flood. If the
// coordinator's line is what limits all, to the same rate, they do, which shows that the test can fail.
func TestRelayIsFair(t *testing.T) {
	if testing.Short() {
		t.Skip("many packets")
	}
	const rate = 1_000_000
	for _, test := range []struct {
		name   string
		limits coord.Limits
		line   sim.Line
		fair   bool
	}{
		{"limit per client", coord.Limits{RelayClientRate: rate}, sim.Line{}, true},
		{"limit in all", coord.Limits{RelayTotalRate: rate}, sim.Line{}, true},
		{"slow line", coord.Limits{}, sim.Line{Rate: rate, Queue: 32 << 10}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			sim.Test(t, nil, func(w *sim.World) {
				c := w.Coordinator(w.Host("coordinator", w.Internet(), test.line), func(c *coord.Config) { c.Limits = test.limits })
				f := floodAndAsk(w)
				dropped := c.Stats().Relay.Dropped.RateLimited // the flood is over
				w.T.Logf("%d of %d answers lost, half took %v, the slowest %v; %.0f bytes per second of the flood came, %d packets dropped",
					f.lost, f.asked, f.took[len(f.took)/2], f.took[len(f.took)-1], f.rate, dropped)
				if fair := f.lost <= f.asked/250 && f.took[len(f.took)-1] < fairRoundTrip*5/4; fair != test.fair {
					w.T.Errorf("fair: %v, want %v", fair, test.fair)
				}
				if f.rate < 0.6*rate || f.rate > rate {
					w.T.Errorf("%.0f bytes per second of the flood came, of %d", f.rate, rate)
				}
				if (dropped > 0) != test.fair {
					w.T.Errorf("the relay dropped %d packets", dropped)
				}
				seesWhoFloods(w, c, dropped)
			})
		})
	}
}

// seesWhoFloods reads the counters of each client and channel.
func seesWhoFloods(w *sim.World, c *sim.Coordinator, dropped uint64) {
	usage, err := c.Usage(context.Background())
	if err != nil || len(usage) != 3 || usage[0].Name != "alice" || len(usage[0].Channels) != floods+1 || len(usage[1].Channels) != floods {
		w.T.Fatalf("usage %+v, %v", usage, err)
	}
	alice, bob, carol := usage[0], usage[1], usage[2]
	asks, flooded := alice.Channels[floods], netio.RouteStats{}
	for i, channel := range alice.Channels[:floods] {
		if channel.Peer != "bob" || asks.Peer != "carol" || bob.Channels[i].Peer != "alice" {
			w.T.Errorf("channels %+v and %+v", alice.Channels, bob.Channels)
		}
		flooded.RateLimited += channel.Sent.RateLimited
		flooded.Forwarded.Bytes += channel.Sent.Forwarded.Bytes
	}
	if asked := asks.Sent.RateLimited; flooded.RateLimited+asked != dropped || alice.Relay.RateLimited != dropped || asked > 5 {
		w.T.Errorf("of alice's packets %+v were dropped, %d of those to carol, want %d, of those to bob", alice.Relay, asked, dropped)
	}
	if sent := asks.Sent.Forwarded; sent != carol.Relay.Received || carol.Relay.Sent != carol.Channels[0].Sent.Forwarded {
		w.T.Errorf("%+v was sent to carol, who has %+v", sent, carol)
	}
	if alice.Relay.Sent.Bytes != flooded.Forwarded.Bytes+asks.Sent.Forwarded.Bytes || flooded.Forwarded.Bytes < 10*asks.Sent.Forwarded.Bytes {
		w.T.Errorf("alice sent %+v", alice)
	}
}

// floods is how many channels are flooded: so many do not slow down enough to lose little.
const floods = 16

// question is the size of a question in bytes: not so small that it fits where the packets of a flood do not.
const question = 1000

// fairRoundTrip is how long a question and its answer take through an idle relay.
const fairRoundTrip = 40 * time.Millisecond

// flooded says what came of a flood, and of questions beside it.
type flooded struct {
	asked, lost int
	took        []time.Duration // sorted
	rate        float64         // bytes of the flood that came, per second
}

// floodAndAsk has alice flood bob and ask carol, both over the relay.
func floodAndAsk(w *sim.World) (f flooded) {
	line := sim.Line{Latency: fairRoundTrip / 4}
	clients := w.Clients(nil, w.Host("alice", w.Internet(), line), w.Host("bob", w.Internet(), line), w.Host("carol", w.Internet(), line))
	alice, bob, carol := clients[0], clients[1], clients[2]
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	var came atomic.Int64
	over, end := context.WithCancel(ctx)
	for range floods {
		out, in := relayedStream(ctx, w, alice, bob, client.Ordered)
		w.Go(func() {
			for out.Send(over, make([]byte, 16<<10)) == nil {
			}
			out.Reset()
		})
		w.Go(func() {
			for message, err := range in.Messages(ctx) {
				if err != nil {
					return
				}
				came.Add(int64(len(message)))
			}
		})
	}
	asks, answers := relayedStream(ctx, w, alice, carol, client.Lossy)
	w.Go(func() {
		for message, err := range answers.Messages(ctx) {
			if err != nil || answers.Send(ctx, message) != nil {
				return
			}
		}
	})
	<-time.After(5 * time.Second) // the burst is used up, and QUIC has found the rate
	start, before := w.Elapsed(), came.Load()
	for range 500 {
		sent := w.Elapsed()
		if err := asks.Send(ctx, make([]byte, question)); err != nil {
			w.T.Fatal(err)
		}
		patience, done := context.WithTimeout(ctx, 10*fairRoundTrip)
		if f.asked++; patience.Err() == nil {
			if _, err := asks.Receive(patience); err != nil {
				f.lost++
			} else {
				f.took = append(f.took, w.Elapsed()-sent)
			}
		}
		done()
	}
	f.rate = float64(came.Load()-before) / (w.Elapsed() - start).Seconds()
	slices.Sort(f.took)
	end()
	asks.Reset()
	<-time.After(5 * time.Second)
	return f
}

// relayedStream opens a stream on a new channel that stays on the relay.
func relayedStream(ctx context.Context, w *sim.World, from, to *sim.Client, delivery client.Delivery) (out, in *client.Stream) {
	channel, err := from.OpenChannel(ctx, to.Name(), &client.ChannelOptions{Mode: client.RelayOnly})
	if err != nil {
		w.T.Fatal(err)
	}
	if out, err = channel.OpenStream(ctx, &client.StreamOptions{Delivery: delivery}); err != nil {
		w.T.Fatal(err)
	}
	if in, err = to.AcceptStream(ctx); err != nil {
		w.T.Fatal(err)
	}
	return out, in
}
