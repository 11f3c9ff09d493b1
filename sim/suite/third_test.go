package suite_test

import (
	"context"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
	"github.com/conec-go/conec/netio"
	"github.com/conec-go/conec/sim"
)

// What a peer can make us send to addresses that it names and that never answer (docs/protocol.md, section 6).
const (
	candidatesAtMost = 32   // addresses that are taken of an offer
	pingsAtOnce      = 96   // of 1,205 bytes
	pingsPerSecond   = 32   // of 1,205 bytes
	guessesAtMost    = 2048 // of 56 bytes, in an hour
)

// third is a machine that has nothing to do with it. It counts what comes, and sends it back.
type third struct {
	addrs          []netip.AddrPort
	everything     bool // is counted, and not only what comes to addrs
	pings, guesses atomic.Int64
}

func (x *third) count(size int) {
	count := &x.pings
	if size < 1000 {
		count = &x.guesses
	}
	count.Add(1)
}

// third adds it. In the simulator, what comes to ports where nobody listens is counted, too.
func (w *world) third() *third {
	w.Helper()
	x := &third{}
	var at simulated
	if at, x.everything = w.ground.(simulated); x.everything {
		at.Add(func(p sim.Packet) sim.Verdict {
			if p.Destination == "third" {
				x.count(len(p.Payload))
			}
			return sim.Verdict{}
		})
	}
	for range candidatesAtMost {
		link := w.listen("third")
		context.AfterFunc(w.ctx, func() { link.Close() })
		x.addrs = append(x.addrs, link.Addrs()[0])
		w.background.Go(func() {
			var b netio.Batch
			for link.Read(&b) == nil {
				for at := 0; at < b.N; at += b.Segment {
					packet := b.Buf[at:min(at+b.Segment, b.N)]
					if !x.everything {
						x.count(len(packet))
					}
					_ = link.Write(b.From, netio.Packets{Data: packet}, true)
				}
			}
		})
	}
	return x
}

// A peer that offers a third party's addresses as its own, again and again and on several channels, has us send there what is
// documented and no more; what comes back from there is not taken for the peer's.
func TestThirdParty(t *testing.T) {
	everywhere(t, func(w *world) {
		w.begin()
		bob, x := w.client("bob"), w.third()
		raw := w.rawClient("mallory")
		offer := &conecv1.OfferCandidates{Varies: true, Searches: true}
		for _, addr := range x.addrs {
			offer.Addresses = append(offer.Addresses, messages.FromAddrPort(addr))
		}
		const channels = 4
		seconds := 5
		if x.everything { // and has the time
			seconds = 30
		}
		var controls []*netio.Control
		var seen []*client.Channel
		for n := range uint64(channels) {
			raw.say(open(n+1, "bob"))
			conn, control := raw.connect(raw.hear().GetChannelIntroduced().GetIntroduction())
			offer.Tag = conn.Port().Tag()
			channel, err := bob.AcceptChannel(w.ctx)
			if err != nil {
				w.Fatal(err)
			}
			controls, seen = append(controls, control), append(seen, channel)
		}
		for range seconds {
			for _, control := range controls {
				for _, said := range []*conecv1.Control{
					{Said: &conecv1.Control_OfferCandidates{OfferCandidates: offer}},
					{Said: &conecv1.Control_SearchPorts{SearchPorts: &conecv1.SearchPorts{}}},
				} {
					if err := control.Send(said); err != nil {
						w.Fatal(err)
					}
				}
			}
			<-time.After(time.Second)
		}
		pings, guesses := x.pings.Load(), x.guesses.Load()
		if most := int64(pingsAtOnce + pingsPerSecond*(seconds+1)); pings < pingsAtOnce || pings > most {
			w.Errorf("%d pings to a third party, want %d to %d", pings, pingsAtOnce, most)
		}
		if guesses > guessesAtMost {
			w.Errorf("%d guesses at a third party, want at most %d", guesses, guessesAtMost)
		}
		for _, channel := range seen {
			if path := channel.Path(); !path.Relayed {
				w.Errorf("path is %v, want relayed", path)
			}
		}
	}, slow("takes seconds")...)
}
