package coord

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	conecv1 "github.com/conec-go/conec/messages/conec/v1"
)

// fakeRoutes counts routes instead of relaying.
type fakeRoutes struct {
	next uint32
	held map[uint32]uint32 // both ends of each route
	shut map[uint32]bool

	capped int // how many routes were, so far
}

func (f *fakeRoutes) AddRoute(_, _ uint64) (a, b uint32, err error) {
	f.next += 2
	f.held[f.next], f.held[f.next+1] = f.next+1, f.next
	return f.next, f.next + 1, nil
}

func (f *fakeRoutes) AddCappedRoute(a, b uint64, _ int64) (routeA, routeB uint32, err error) {
	f.capped++
	return f.AddRoute(a, b)
}

func (f *fakeRoutes) ShutRoute(route uint32, shut bool) {
	if f.held[route] != 0 {
		f.shut[route] = shut
	}
}

func (f *fakeRoutes) RemoveRoute(route uint32) {
	delete(f.shut, route)
	delete(f.shut, f.held[route])
	delete(f.held, f.held[route])
	delete(f.held, route)
}

// play is a registry with clients that do random things, and what they were told.
type play struct {
	t        *testing.T
	random   *rand.Rand
	now      time.Time
	r        *registry
	routes   *fakeRoutes
	ids      []uint64
	last     uint64
	request  uint64
	open     map[uint64]map[uint64]bool // by client, requests without an answer
	offers   map[uint64][][]byte        // by client, channels offered
	channels map[uint64][][]byte        // by client, channels that it has or had
}

// TestRandom lets clients come, go, open, answer, cancel, release, restore and
// stay silent at random, and holds what must always be so.
func TestRandom(t *testing.T) {
	for seed := range uint64(200) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			limits := Limits{Clients: 6, ChannelsPerClient: 5, PendingPerClient: 4}.withDefaults()
			routes := &fakeRoutes{held: map[uint32]uint32{}, shut: map[uint32]bool{}}
			p := &play{
				t: t, random: rand.New(rand.NewPCG(seed, 1)), now: time.Unix(0, 0), routes: routes,
				r:    newRegistry(limits, routes),
				open: map[uint64]map[uint64]bool{}, offers: map[uint64][][]byte{}, channels: map[uint64][][]byte{},
			}
			for range 400 {
				p.step()
				p.check()
			}
			for len(p.ids) > 0 {
				p.detach(p.ids[0])
			}
			p.check()
			if n := len(routes.held) + len(p.r.pending) + len(p.r.channels) + len(p.r.names) + len(p.r.restores); n != 0 {
				t.Errorf("%d things are left when everybody has gone", n)
			}
		})
	}
}

func (p *play) step() {
	p.now = p.now.Add(time.Duration(p.random.IntN(1500)) * time.Millisecond)
	if len(p.ids) == 0 || p.random.IntN(12) == 0 {
		p.attach()
		return
	}
	id := p.ids[p.random.IntN(len(p.ids))]
	switch p.random.IntN(9) {
	case 0:
		p.detach(id)
	case 1, 2, 3:
		p.request++
		p.open[id][p.request] = true
		p.hear(p.r.open(p.now, id, &conecv1.OpenChannel{
			Request: p.request, Peer: p.name(), Shared: p.random.IntN(2) == 0, Mode: conecv1.Mode(p.random.IntN(2)),
		}), id, p.request)
	case 4, 5:
		answer := &conecv1.AnswerOffer{Channel: pick(p.random, p.offers[id])}
		if p.random.IntN(4) == 0 {
			answer.Code = conecv1.Code_CODE_REFUSED
		} else if intro := p.r.pending[string(answer.GetChannel())]; intro != nil && intro.request != 0 && intro.acceptor.id == id {
			delete(p.open[intro.dialer.id], intro.request) // who is answered by the channel itself
		}
		p.hear(p.r.answer(id, answer), 0, 0)
	case 6:
		for request := range p.open[id] {
			delete(p.open[id], request) // it wants no answer, but may still get one that was on its way
			p.hear(p.r.cancel(id, &conecv1.CancelOpen{Request: request}), 0, 0)
			break
		}
	case 7:
		p.hear(p.r.release(id, &conecv1.ReleaseChannel{Channel: pick(p.random, p.channels[id])}), 0, 0)
	case 8:
		p.hear(p.r.restore(p.now, id, &conecv1.RestoreChannel{Channel: pick(p.random, p.channels[id]), Peer: p.name()}), 0, 0)
		p.hear(p.r.expire(p.now), 0, 0)
	}
}

func pick(random *rand.Rand, from [][]byte) []byte {
	if len(from) == 0 {
		return []byte("no such channel.")
	}
	return from[random.IntN(len(from))]
}

func (p *play) name() string { return fmt.Sprint("c", p.random.IntN(6)) }

func (p *play) attach() {
	p.last++
	name := p.name()
	key := []byte{byte(p.random.IntN(2))}
	superseded, says, err := p.r.attach(p.now, &attachment{id: p.last, name: name, key: key, shows: &credentials{}, accepts: p.random.IntN(5) > 0})
	if superseded != 0 {
		p.forget(superseded)
	}
	p.hear(says, 0, 0)
	if err == nil {
		p.ids = append(p.ids, p.last)
		p.open[p.last] = map[uint64]bool{}
	}
}

func (p *play) detach(id uint64) {
	says := p.r.detach(p.now, id)
	p.forget(id)
	p.hear(says, 0, 0)
}

func (p *play) forget(id uint64) {
	for i, other := range p.ids {
		if other == id {
			p.ids = append(p.ids[:i], p.ids[i+1:]...)
			break
		}
	}
	delete(p.open, id)
	delete(p.offers, id)
}

// hear takes what the registry says to clients. A request just made may be
// dropped, if its peer offers the same channel.
func (p *play) hear(says []say, asker, request uint64) {
	for _, s := range says {
		if p.open[s.to] == nil {
			continue // said to who has just gone
		}
		switch said := s.message.GetSaid().(type) {
		case *conecv1.Control_ChannelOffered:
			p.offers[s.to] = append(p.offers[s.to], said.ChannelOffered.GetIntroduction().GetChannel())
		case *conecv1.Control_ChannelIntroduced:
			p.introduced(s.to, said.ChannelIntroduced.GetRequest())
			p.channels[s.to] = append(p.channels[s.to], said.ChannelIntroduced.GetIntroduction().GetChannel())
		case *conecv1.Control_OpenRefused:
			p.answered(s.to, said.OpenRefused.GetRequest())
		}
	}
	if request != 0 && p.open[asker] != nil && p.r.clients[asker].opening[request] == nil {
		delete(p.open[asker], request)
	}
}

// introduced holds that only who made a request is introduced. It may still be refused.
func (p *play) introduced(id, request uint64) {
	p.t.Helper()
	if !p.open[id][request] {
		p.t.Errorf("client %d is introduced for request %d, which is not open", id, request)
	}
}

// answered holds that a request is answered once, and only to who made it.
func (p *play) answered(id, request uint64) {
	p.t.Helper()
	if !p.open[id][request] {
		p.t.Errorf("client %d is given an answer to request %d, which is not open", id, request)
	}
	delete(p.open[id], request)
}

// check holds what is so at any time.
func (p *play) check() {
	p.t.Helper()
	r := p.r
	if want := 2 * (len(r.pending) + len(r.channels)); len(p.routes.held) != want {
		p.t.Fatalf("%d route ends, want %d", len(p.routes.held), want)
	}
	pending := map[*attachment]int{}
	for _, intro := range r.pending {
		if p.routes.shut[intro.dialerRoute] == intro.asksDialer || p.routes.shut[intro.acceptorRoute] {
			p.t.Fatal("the relay forwards what nobody has accepted, or not what somebody has")
		}
		pending[intro.dialer]++
		pending[intro.acceptor]++
	}
	for id, a := range r.clients {
		switch {
		case r.names[a.name] != a:
			p.t.Fatalf("%q is not registered as itself", a.name)
		case a.pending != pending[a] || a.pending > 2*r.limits.PendingPerClient:
			p.t.Fatalf("%q has %d introductions, counts %d", a.name, pending[a], a.pending)
		case len(a.channels) > r.limits.ChannelsPerClient+r.limits.PendingPerClient:
			p.t.Fatalf("%q has %d channels", a.name, len(a.channels))
		case len(p.open[id]) != len(a.opening):
			p.t.Fatalf("client %d waits for %d answers, the registry owes %d", id, len(p.open[id]), len(a.opening))
		}
	}
	for _, channel := range r.channels {
		if p.routes.shut[channel.routes[0]] || p.routes.shut[channel.routes[1]] {
			p.t.Fatal("the relay does not forward on a channel that is there")
		}
		for _, end := range channel.ends {
			if r.clients[end.id] != end || end.channels[channel.channel] != channel {
				p.t.Fatal("a channel has an end that does not know it")
			}
		}
	}
}
