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
	"github.com/conec-go/conec/messages"
	"github.com/conec-go/conec/sim"
)

// deliveryCase is a kind of stream in the law test.
type deliveryCase struct {
	name    string
	options client.StreamOptions
	within  time.Duration // deadline of every second message; if 0, that of the stream
}

// deadline of the streams in the law test that have one.
const deadline = 80 * time.Millisecond

var deliveryCases = []deliveryCase{
	{"ordered", client.StreamOptions{}, 0},
	{"ordered in time", client.StreamOptions{Deadline: deadline}, 0},
	{"resumable", client.StreamOptions{Resumable: true}, 0},
	{"unordered", client.StreamOptions{Delivery: client.Unordered}, 0},
	{"unordered in time", client.StreamOptions{Delivery: client.Unordered, Deadline: deadline}, 0},
	{"sequenced", client.StreamOptions{Delivery: client.Sequenced}, 0},
	{"sequenced in time", client.StreamOptions{Delivery: client.Sequenced, Deadline: deadline}, 0},
	{"lossy", client.StreamOptions{Delivery: client.Lossy}, 0},
	{"lossy in time", client.StreamOptions{Delivery: client.Lossy, Deadline: deadline}, 0},
	{"lossy, some in less", client.StreamOptions{Delivery: client.Lossy, Deadline: deadline}, deadline / 2},
	{"lossy twice", client.StreamOptions{Delivery: client.Lossy, Copies: true}, 0},
}

// carried is what one stream of a kind did: there are several if the channel is restarted.
type carried struct {
	first     uint64 // number of its first message
	sent, got client.StreamStats
	sendErr   error // why sending ended before all were sent
	err       error // why receiving ended before the end
	received  chan struct{}
}

// delivered is what the streams of one kind did.
type delivered struct {
	deliveryCase
	streams []*carried
	numbers []uint64
	ages    []time.Duration
}

func (d *delivered) String() string {
	text := fmt.Sprintf("%s: %d came, p50 %v, p99 %v, slowest %v", d.name, len(d.numbers), d.age(50), d.age(99), d.age(100))
	for _, c := range d.streams {
		text += fmt.Sprintf("\n\tfrom %d: sent %+v, %v\n\tgot %+v, %v", c.first, c.sent, c.sendErr, c.got, c.err)
	}
	return text
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

// lawMessages is how many messages are sent on the streams of each kind.
const lawMessages = 400

func (d *delivered) complete() bool { return len(d.numbers) == lawMessages }

// sum adds up something of all streams.
func (d *delivered) sum(what func(*carried) uint64) (total uint64) {
	for _, c := range d.streams {
		total += what(c)
	}
	return total
}

// deliveryFaults is what befalls the streams of the law test.
type deliveryFaults struct {
	loss            float64
	moves, restarts bool
}

// TestDeliveryLaws sends the same messages on streams of every kind, on one
// channel, through the same faults, and checks what each kind promises. What one
// kind does not promise must be seen to fail, or the test would show nothing.
func TestDeliveryLaws(t *testing.T) {
	for _, loss := range []float64{0, 0.05, 0.3} {
		for _, faults := range []deliveryFaults{{loss, false, false}, {loss, true, false}, {loss, true, true}} {
			t.Run(fmt.Sprintf("%+v", faults), func(t *testing.T) {
				seeds := 3
				if testing.Short() {
					seeds = 1
				}
				sim.Seeds(t, seeds, nil, func(w *sim.World) {
					runs := deliver(w, faults)
					for _, d := range runs {
						w.T.Log(d)
						// Under heavy loss, and when the path moves, QUIC's congestion control
						// holds up datagrams, too.
						checkLaws(w.T, d, loss < 0.1 && !faults.moves)
						if restarted := len(d.streams) > 1; restarted != (faults.restarts && !d.options.Resumable) {
							w.T.Errorf("%s: %d streams", d.name, len(d.streams))
						}
					}
					if loss > 0 && !faults.moves {
						tellApart(w.T, runs, loss)
					}
				})
			})
		}
	}
}

// deliver plays the faults and returns what the streams of each kind did.
func deliver(w *sim.World, faults deliveryFaults) []*delivered {
	lan := sim.Line{Latency: time.Millisecond}
	line := sim.Line{Latency: 10 * time.Millisecond}
	w.Coordinator(w.Host("coordinator", w.Internet(), line), nil)
	home := w.Gateway("home", w.Internet(), sim.PortRestricted(), line)
	lte := w.Gateway("lte", w.Internet(), sim.Symmetric(), sim.Line{Latency: 20 * time.Millisecond})
	soon := func(c *client.Config) {
		if faults.restarts { // the channel is lost soon
			c.IdleTimeout, c.KeepAlive = 3*time.Second, time.Second
		}
	}
	alice := w.Client(w.Host("alice", home, lan), soon)
	bob := w.Client(w.Host("bob", w.Internet(), line), soon)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	var all, opened sync.WaitGroup
	runs := make([]*delivered, len(deliveryCases))
	ready := make(chan struct{})
	for i, c := range deliveryCases {
		runs[i] = &delivered{deliveryCase: c}
		opened.Add(1)
		all.Go(func() { runs[i].send(ctx, w, alice, bob, func() { opened.Done(); <-ready }) })
	}
	opened.Wait()
	faulty := line
	faulty.Loss, faulty.Reorder, faulty.ReorderBy, faulty.Duplicate = faults.loss, 0.05, overtaken, 0.05
	if err := bob.Host().SetLine(faulty); err != nil {
		w.T.Fatal(err)
	}
	if faults.moves {
		w.After(3*time.Second, func() { _ = alice.Host().Move(lte, lan) })
		w.After(6*time.Second, func() { _ = alice.Host().Move(home, lan) })
	}
	if faults.restarts {
		cutFor(w, 4*time.Second, 8*time.Second, "bob")
	}
	close(ready)
	all.Wait()
	return runs
}

// cutFor loses everything from and to a host, from a time on and for a while.
func cutFor(w *sim.World, at, length time.Duration, host string) {
	w.After(at, func() {
		heal := w.Add(func(p sim.Packet) sim.Verdict {
			if p.Source == host || p.Destination == host {
				return sim.Drop()
			}
			return sim.Verdict{}
		})
		w.After(length, heal)
	})
}

// send sends the messages of a kind on a stream and, when that fails, the rest on another. Each goes on when await returns.
func (d *delivered) send(ctx context.Context, w *sim.World, from, to *sim.Client, await func()) {
	const apart, pause = 5 * time.Millisecond, 50 * time.Millisecond // of two messages, and after them
	options := d.options
	options.Purpose = d.name
	listener, err := to.Listen(d.name, nil)
	if err != nil {
		w.T.Error(err)
		return
	}
	defer listener.Close()
	for n := uint64(0); n < lawMessages; {
		out, err := from.OpenStream(ctx, to.Name(), &options)
		if err != nil {
			if await != nil || ctx.Err() != nil {
				w.T.Errorf("%s: %v", d.name, err)
				return
			}
			<-time.After(time.Second)
			continue
		}
		in, err := listener.Accept(ctx)
		if err != nil {
			w.T.Errorf("%s: %v", d.name, err)
			return
		}
		if got := in.Options(); got.Delivery != options.Delivery || got.Deadline != options.Deadline || got.Copies != options.Copies {
			w.T.Errorf("%s: the acceptor sees %+v", d.name, got)
		}
		c := &carried{first: n, received: make(chan struct{})}
		d.streams = append(d.streams, c)
		go d.receive(ctx, w, in, c)
		if await != nil {
			await()
			await = nil
		}
		for ; n < lawMessages && c.sendErr == nil; n++ {
			if d.within > 0 && n%2 == 1 {
				c.sendErr = out.SendWithin(ctx, stamped(w, n), d.within)
			} else {
				c.sendErr = out.Send(ctx, stamped(w, n))
			}
			if n%2 == 0 {
				<-time.After(apart)
			} else {
				<-time.After(pause)
			}
		}
		out.CloseSend()
		<-c.received
		c.sent = out.Stats()
	}
}

// stamped is a message that says which it is and when it was sent.
func stamped(w *sim.World, n uint64) []byte {
	message := make([]byte, 100)
	binary.BigEndian.PutUint64(message, n)
	binary.BigEndian.PutUint64(message[8:], uint64(w.Elapsed()))
	return message
}

func (d *delivered) receive(ctx context.Context, w *sim.World, in *client.Stream, c *carried) {
	defer close(c.received)
	for {
		message, err := in.Receive(ctx)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			c.err = err
			break
		}
		d.numbers = append(d.numbers, binary.BigEndian.Uint64(message))
		d.ages = append(d.ages, w.Elapsed()-time.Duration(binary.BigEndian.Uint64(message[8:])))
	}
	c.got = in.Stats()
	in.Close()
}

// checkLaws checks what streams of a kind promise; what is lossy is to be prompt, too.
func checkLaws(t *testing.T, d *delivered, prompt bool) {
	t.Helper()
	options := d.options
	if d.twice() {
		t.Errorf("%s: a message came twice", d.name)
	}
	for _, c := range d.streams {
		checkAccount(t, d, c)
	}
	if came := d.sum(func(c *carried) uint64 { return c.got.Delivered }); came != uint64(len(d.numbers)) {
		t.Errorf("%s: %d were delivered, %d came", d.name, came, len(d.numbers))
	}
	if (options.Delivery == client.Ordered || options.Delivery == client.Sequenced) && !d.inOrder() {
		t.Errorf("%s: out of order", d.name)
	}
	reliable := options.Delivery == client.Ordered || options.Delivery == client.Unordered
	if reliable && options.Deadline == 0 && len(d.streams) == 1 && !d.complete() {
		t.Errorf("%s: %d of %d came", d.name, len(d.numbers), lawMessages)
	}
	for i, age := range d.ages {
		within := options.Deadline
		if d.within > 0 && d.numbers[i]%2 == 1 {
			within = d.within
		}
		// Half the difference of the two ways of the fastest round trip, which no clock can know: one may be direct from
		// home, 21 ms, and the other relayed to lte, 51 ms.
		const asymmetry = 16 * time.Millisecond
		if within > 0 && age > within+asymmetry {
			t.Errorf("%s: message %d came after %v, the deadline is %v", d.name, d.numbers[i], age, within)
		}
	}
	if options.Delivery == client.Lossy && prompt && d.age(99) > promptly {
		t.Errorf("%s: p99 %v", d.name, d.age(99))
	}
	if len(d.numbers) == 0 {
		t.Errorf("%s: nothing came", d.name)
	}
}

// checkAccount checks that what one stream took is accounted for: sent = delivered + late + dropped + lost if it ended in
// order, sent = confirmed + in doubt if not, and what was confirmed came.
func checkAccount(t *testing.T, d *delivered, c *carried) {
	t.Helper()
	known := c.got.Delivered + c.got.Late + c.got.Dropped + c.got.Lost
	if c.err == nil {
		if known != c.sent.Sent || c.sendErr != nil {
			t.Errorf("%s: the account does not add up: %+v, %+v, %v", d.name, c.sent, c.got, c.sendErr)
		}
		return
	}
	var doubt *messages.DoubtError
	switch {
	case !errors.Is(c.err, messages.ErrUnreachable):
		t.Errorf("%s: ended with %v", d.name, c.err)
	case c.sendErr != nil && !errors.As(c.sendErr, &doubt):
		t.Errorf("%s: %v does not say what is in doubt", d.name, c.sendErr)
	case doubt != nil && doubt.Confirmed+doubt.InDoubt != c.sent.Sent:
		t.Errorf("%s: %d confirmed and %d in doubt, of %d", d.name, doubt.Confirmed, doubt.InDoubt, c.sent.Sent)
	}
	if c.sent.Confirmed > known || known > c.sent.Sent {
		t.Errorf("%s: %d confirmed, %d known, %d sent", d.name, c.sent.Confirmed, known, c.sent.Sent)
	}
	if d.options.Delivery == client.Ordered && d.options.Deadline == 0 {
		for n := range c.got.Delivered {
			if !slices.Contains(d.numbers, c.first+n) {
				t.Errorf("%s: message %d is missing before others", d.name, c.first+n)
				break
			}
		}
	}
}

// overtaken is by how much some packets are late, and promptly a round trip more.
const (
	overtaken = 25 * time.Millisecond
	promptly  = 44*time.Millisecond + overtaken
)

// tellApart checks that under loss each kind does what another one must not.
func tellApart(t *testing.T, runs []*delivered, loss float64) {
	t.Helper()
	by := map[string]*delivered{}
	lost := func(d *delivered) uint64 { return d.sum(func(c *carried) uint64 { return c.got.Lost }) }
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
		// Under heavy loss messages wait together for congestion control, and share packets.
		{"lossy is out of order", !by["lossy"].inOrder() || loss > 0.1},
		{"sequenced is incomplete", !by["sequenced"].complete()},
		{"lossy is incomplete", !by["lossy"].complete()},
		{"unordered in time is incomplete", !by["unordered in time"].complete()},
		{"ordered in time is incomplete", !by["ordered in time"].complete()},
		{"unordered without a deadline is late", by["unordered"].age(100) > deadline},
		{"copies help", lost(by["lossy twice"]) < lost(by["lossy"])},
		{"copies are dropped", by["lossy twice"].sum(func(c *carried) uint64 { return c.got.Duplicates }) > 0},
	} {
		if !difference.seen {
			t.Errorf("control: not seen that %s\n%v", difference.what, runs)
		}
	}
}
