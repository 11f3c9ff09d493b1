package sim_test

import (
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/netio"
	"github.com/conec-go/conec/sim"
)

// attacker records packets of some kinds, and whatever is sent to itself.
type attacker struct {
	world *world
	host  *sim.Host
	link  netio.Link

	mu       sync.Mutex
	recorded map[byte][]sim.Packet // by first byte
	received []byte                // first bytes of packets to the attacker
}

// attack adds an attacker who sees all packets.
func (w *world) attack() *attacker {
	w.T.Helper()
	at := addr("203.0.113.66:6666")
	x := &attacker{world: w, host: w.Host("attacker", w.Internet(), near, at.Addr()), recorded: map[byte][]sim.Packet{}}
	var err error
	x.link, err = x.host.Listen(at)
	w.must(err)
	w.Add(func(p sim.Packet) sim.Verdict {
		kind := frameKind(p)
		x.mu.Lock()
		defer x.mu.Unlock()
		switch {
		case p.Source == "attacker":
		case p.To == at:
			x.received = append(x.received, kind)
		case kind >= typeRelay && kind <= typeProbe:
			p.Payload = slices.Clone(p.Payload)
			x.recorded[kind] = append(x.recorded[kind], p)
		}
		return sim.Verdict{}
	})
	return x
}

// of returns what was recorded of a kind.
func (x *attacker) of(kind byte) []sim.Packet {
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.Clone(x.recorded[kind])
}

// got returns what was sent to the attacker.
func (x *attacker) got() []byte {
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.Clone(x.received)
}

// send sends a payload from the attacker's own address.
func (x *attacker) send(to netip.AddrPort, payload []byte) {
	x.world.T.Helper()
	x.world.must(x.link.Write(to, netio.Packets{Data: payload}, false))
}

// replay sends all that was recorded again: from the attacker's address, with the
// source that it had, and back to its sender as if from its receiver.
func (x *attacker) replay() (packets int) {
	for kind := byte(typeRelay); kind <= typeProbe; kind++ {
		for _, p := range x.of(kind) {
			x.send(p.To, p.Payload)
			x.world.Inject(p.From, p.To, p.Payload)
			x.world.Inject(p.To, p.From, p.Payload)
			packets++
		}
	}
	return packets
}

// TestReplay sends every frame of a channel again, from elsewhere, from where it
// came, and to there: no path changes, and the attacker gets nothing.
func TestReplay(t *testing.T) {
	for _, mode := range []client.Mode{client.Automatic, client.RelayOnly} {
		t.Run(mode.String(), func(t *testing.T) {
			inWorld(t, 1, func(w *world) {
				x := w.attack()
				alice, bob := w.client("alice", near, nil), w.client("bob", near, nil)
				a, b := w.open(alice, bob, &client.StreamOptions{Mode: mode})
				traffic := w.flows(a, b, 100*time.Millisecond, 200)
				time.Sleep(20 * time.Second)
				kinds := []byte{typeRelay, typeBind, typeBound}
				if mode == client.Automatic {
					kinds = append(kinds, typeDirect, typeProbe)
				}
				for _, kind := range kinds {
					if len(x.of(kind)) == 0 {
						w.T.Errorf("nothing of kind %d was recorded", kind)
					}
				}
				before, paths := w.coordinator.Stats(), [2]client.Path{a.Channel().Path(), b.Channel().Path()}
				began := time.Now()
				binds := uint64(len(x.of(typeBind)))
				replayed := x.replay()
				time.Sleep(30 * time.Second)
				after := w.coordinator.Stats()
				if got := after.Switch.Dropped.Replay - before.Switch.Dropped.Replay; got < binds {
					w.T.Errorf("%d replayed binds dropped", got)
				}
				if after.Switch.Dropped.Unproven == before.Switch.Dropped.Unproven {
					w.T.Error("no relay frame from elsewhere was dropped")
				}
				if got := x.got(); len(got) > 0 {
					w.T.Errorf("%d packets to the attacker for %d replayed: %v", len(got), replayed, got)
				}
				for i, s := range []*client.Stream{a, b} {
					if path := s.Channel().Path(); path.Remote != paths[i].Remote {
						w.T.Errorf("path was %v, is %v", paths[i], path)
					}
				}
				for _, p := range []*program{alice, bob} {
					if events := p.since(began); len(events) > 0 {
						w.T.Errorf("%s: %v", p.Name(), events)
					}
				}
				w.check(traffic.end())
			})
		})
	}
}

// TestForged sends frames that were changed by a bit, or made up.
func TestForged(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		x := w.attack()
		alice, bob := w.client("alice", near, nil), w.client("bob", near, nil)
		a, b := w.open(alice, bob, nil)
		traffic := w.flows(a, b, 100*time.Millisecond, 200)
		time.Sleep(20 * time.Second)
		before := w.coordinator.Stats().Switch.Dropped
		began := time.Now()
		for kind := byte(typeBind); kind <= typeProbe; kind++ {
			for _, p := range x.of(kind) {
				for _, at := range []int{1, 7, 12, 20, 40} { // id or tag, kind, numbers, addresses
					forged := slices.Clone(p.Payload)
					forged[at] ^= 0x80
					x.send(p.To, forged)
					w.Inject(p.From, p.To, forged)
				}
				x.send(p.To, p.Payload[:len(p.Payload)-1])
				x.send(p.To, append(slices.Clone(p.Payload), 0))
			}
		}
		time.Sleep(20 * time.Second)
		after := w.coordinator.Stats().Switch.Dropped
		if after.BadMAC == before.BadMAC || after.Malformed == before.Malformed || after.Unknown == before.Unknown {
			w.T.Errorf("dropped before %+v, after %+v", before, after)
		}
		if got := slices.DeleteFunc(x.got(), func(kind byte) bool { return kind == typeWho }); len(got) > 0 {
			w.T.Errorf("%d packets to the attacker: %v", len(got), got)
		}
		for _, p := range []*program{alice, bob} {
			if events := p.since(began); len(events) > 0 {
				w.T.Errorf("%s: %v", p.Name(), events)
			}
		}
		w.check(traffic.end())
	})
}

// isPing tells a probe that asks from one that answers.
func isPing(payload []byte) bool {
	return payload[0] == typeProbe && netio.ProbeKind(payload[5]) == netio.Ping
}

// TestStolenProbe has an attacker on the way who keeps a probe back and sends it
// from elsewhere: the one authentic packet that he may do that with. He gets an
// answer and a few probes, all as large as his own, and no data.
func TestStolenProbe(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		x := w.attack()
		alice, bob := w.client("alice", near, nil), w.client("bob", near, nil)
		a, b := w.open(alice, bob, nil)
		traffic := w.flows(a, b, 100*time.Millisecond, 200)
		w.direct(time.Second, a, b)
		time.Sleep(20 * time.Second)
		theft := make(chan sim.Packet, 1)
		done := false
		give := w.Add(func(p sim.Packet) sim.Verdict {
			if !done && p.Source == "alice" && p.Destination == "bob" && isPing(p.Payload) {
				p.Payload = slices.Clone(p.Payload)
				theft <- p
				done = true
			}
			if p.Source == "alice" && p.Destination == "bob" && done {
				return sim.Drop() // bob hears the attacker first
			}
			return sim.Verdict{}
		})
		stolen := <-theft
		x.send(stolen.To, stolen.Payload)
		time.Sleep(100 * time.Millisecond)
		give()
		time.Sleep(time.Minute)
		received := x.got()
		for _, kind := range received {
			if kind != typeProbe {
				w.T.Errorf("a packet of kind %d to the attacker", kind)
			}
		}
		if got := len(received); got < 1 || got > 60 { // an answer, and 9 probes every 14 seconds
			w.T.Errorf("%d packets to the attacker", got)
		}
		if path := b.Channel().Path(); path.Remote.Addr() == x.host.Addr() {
			w.T.Errorf("path is %v", path)
		}
		w.check(traffic.end())
	})
}
