package sim_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/sim"
)

// deliveryCase is a kind of stream in the law test.
type deliveryCase struct {
	name    string
	options client.StreamOptions
}

// deadline of the streams in the law test that have one.
const deadline = 80 * time.Millisecond

var deliveryCases = []deliveryCase{
	{"ordered", client.StreamOptions{}},
	{"unordered", client.StreamOptions{Delivery: client.Unordered}},
	{"unordered in time", client.StreamOptions{Delivery: client.Unordered, Deadline: deadline}},
	{"sequenced", client.StreamOptions{Delivery: client.Sequenced}},
	{"sequenced in time", client.StreamOptions{Delivery: client.Sequenced, Deadline: deadline}},
	{"lossy", client.StreamOptions{Delivery: client.Lossy}},
	{"lossy in time", client.StreamOptions{Delivery: client.Lossy, Deadline: deadline}},
	{"lossy twice", client.StreamOptions{Delivery: client.Lossy, Copies: true}},
}

// delivered is what one stream of the law test did.
type delivered struct {
	deliveryCase
	sent, got client.StreamStats
	numbers   []uint64
	ages      []time.Duration
	err       error
}

func (d *delivered) String() string {
	return fmt.Sprintf("%s: sent %+v, got %+v, p50 %v, p99 %v, slowest %v", d.name, d.sent, d.got, d.age(50), d.age(99), d.age(100))
}

// age returns the age that so many percent of the messages that came were not above.
func (d *delivered) age(percent int) time.Duration {
	if len(d.ages) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(d.ages))
	return sorted[(len(sorted)-1)*percent/100]
}

func (d *delivered) twice() bool {
	sorted := slices.Sorted(slices.Values(d.numbers))
	return len(slices.Compact(sorted)) != len(d.numbers)
}

func (d *delivered) inOrder() bool { return slices.IsSorted(d.numbers) }

func (d *delivered) complete() bool { return uint64(len(d.numbers)) == d.sent.Sent }

// TestDeliveryLaws sends the same messages on streams of every kind, on one
// channel, through the same faults, and checks what each kind promises. What one
// kind does not promise must be seen to fail, or the test would show nothing.
func TestDeliveryLaws(t *testing.T) {
	for _, loss := range []float64{0, 0.05, 0.3} {
		for _, moves := range []bool{false, true} {
			t.Run(fmt.Sprintf("loss %v, moves %v", loss, moves), func(t *testing.T) {
				seeds := 3
				if testing.Short() {
					seeds = 1
				}
				sim.Seeds(t, seeds, nil, func(w *sim.World) {
					runs := deliver(w, loss, moves)
					for _, d := range runs {
						w.T.Log(d)
						// Under heavy loss, and when the path moves, QUIC's congestion control
						// holds up datagrams, too.
						checkLaws(w.T, d, loss < 0.1 && !moves)
					}
					if loss > 0 && !moves {
						tellApart(w.T, runs)
					}
				})
			})
		}
	}
}

// deliver plays the faults and returns what each stream did.
func deliver(w *sim.World, loss float64, moves bool) []*delivered {
	const messages, every = 500, 20 * time.Millisecond
	lan := sim.Line{Latency: time.Millisecond}
	line := sim.Line{Latency: 10 * time.Millisecond}
	w.Coordinator(w.Host("coordinator", w.Internet(), line), nil)
	home := w.Gateway("home", w.Internet(), sim.PortRestricted(), line)
	lte := w.Gateway("lte", w.Internet(), sim.Symmetric(), sim.Line{Latency: 20 * time.Millisecond})
	alice := w.Client(w.Host("alice", home, lan), nil)
	bob := w.Client(w.Host("bob", w.Internet(), line), nil)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	var all sync.WaitGroup
	runs := make([]*delivered, len(deliveryCases))
	ready := make(chan struct{})
	for i, c := range deliveryCases {
		runs[i] = &delivered{deliveryCase: c}
		out, err := alice.OpenStream(ctx, "bob", &c.options)
		if err != nil {
			w.T.Fatal(err)
		}
		in, err := bob.AcceptStream(ctx)
		if err != nil {
			w.T.Fatal(err)
		}
		if in.Delivery() != c.options.Delivery || in.Options().Deadline != c.options.Deadline || in.Options().Copies != c.options.Copies {
			w.T.Errorf("%s: the acceptor sees %+v", c.name, in.Options())
		}
		all.Go(func() {
			<-ready
			for n := range uint64(messages) {
				if err := out.Send(ctx, stamped(w, n)); err != nil {
					w.T.Errorf("%s: %v", c.name, err)
				}
				<-time.After(every)
			}
			out.CloseSend()
		})
		all.Go(func() { runs[i].receive(ctx, w, in) })
		defer func() { runs[i].sent = out.Stats() }()
	}
	faulty := line
	faulty.Loss, faulty.Reorder, faulty.ReorderBy, faulty.Duplicate = loss, 0.05, overtaken, 0.05
	if err := bob.Host().SetLine(faulty); err != nil {
		w.T.Fatal(err)
	}
	if moves {
		w.After(3*time.Second, func() { _ = alice.Host().Move(lte, lan) })
		w.After(6*time.Second, func() { _ = alice.Host().Move(home, lan) })
	}
	close(ready)
	all.Wait()
	return runs
}

// stamped is a message that says which it is and when it was sent.
func stamped(w *sim.World, n uint64) []byte {
	message := make([]byte, 100)
	binary.BigEndian.PutUint64(message, n)
	binary.BigEndian.PutUint64(message[8:], uint64(w.Elapsed()))
	return message
}

func (d *delivered) receive(ctx context.Context, w *sim.World, in *client.Stream) {
	for {
		message, err := in.Receive(ctx)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			d.err = err
			break
		}
		d.numbers = append(d.numbers, binary.BigEndian.Uint64(message))
		d.ages = append(d.ages, w.Elapsed()-time.Duration(binary.BigEndian.Uint64(message[8:])))
	}
	d.got = in.Stats()
	in.Close()
}

// checkLaws checks what a stream promises; what is lossy is to be prompt, too.
func checkLaws(t *testing.T, d *delivered, prompt bool) {
	t.Helper()
	options := d.options
	if d.err != nil {
		t.Errorf("%s: %v", d.name, d.err)
	}
	if d.twice() {
		t.Errorf("%s: a message came twice", d.name)
	}
	if all := d.got.Delivered + d.got.Late + d.got.Dropped + d.got.Lost; all != d.sent.Sent || d.got.Delivered != uint64(len(d.numbers)) {
		t.Errorf("%s: the account does not add up: %+v, %+v", d.name, d.sent, d.got)
	}
	if (options.Delivery == client.Ordered || options.Delivery == client.Sequenced) && !d.inOrder() {
		t.Errorf("%s: out of order", d.name)
	}
	if (options.Delivery == client.Ordered || options.Delivery == client.Unordered) && options.Deadline == 0 && !d.complete() {
		t.Errorf("%s: %d of %d came", d.name, len(d.numbers), d.sent.Sent)
	}
	const asymmetry = 5 * time.Millisecond // of the fastest round trip, half of it
	if options.Deadline > 0 && d.age(100) > options.Deadline+asymmetry {
		t.Errorf("%s: a message came after %v, the deadline is %v", d.name, d.age(100), options.Deadline)
	}
	if options.Delivery == client.Lossy && prompt && d.age(99) > promptly {
		t.Errorf("%s: p99 %v", d.name, d.age(99))
	}
	if len(d.numbers) == 0 {
		t.Errorf("%s: nothing came", d.name)
	}
}

// overtaken is by how much some packets are late, and promptly a round trip more.
const (
	overtaken = 25 * time.Millisecond
	promptly  = 44*time.Millisecond + overtaken
)

// tellApart checks that under loss each kind does what another one must not.
func tellApart(t *testing.T, runs []*delivered) {
	t.Helper()
	by := map[string]*delivered{}
	for _, d := range runs {
		by[d.name] = d
	}
	for _, difference := range []struct {
		what string
		seen bool
	}{
		{"ordered is late", by["ordered"].age(99) > promptly},
		{"lossy is earlier", by["lossy"].age(99) < by["ordered"].age(99)},
		{"unordered is out of order", !by["unordered"].inOrder()},
		{"lossy is out of order", !by["lossy"].inOrder()},
		{"sequenced is incomplete", !by["sequenced"].complete()},
		{"lossy is incomplete", !by["lossy"].complete()},
		{"unordered in time is incomplete", !by["unordered in time"].complete()},
		{"unordered without a deadline is late", by["unordered"].age(100) > deadline},
		{"copies help", by["lossy twice"].got.Lost < by["lossy"].got.Lost},
		{"copies are dropped", by["lossy twice"].got.Duplicates > 0},
	} {
		if !difference.seen {
			t.Errorf("control: not seen that %s\n%v", difference.what, runs)
		}
	}
}
