package suite_test

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/messages"
)

var (
	seeds = flag.Int("seeds", 3, "how many seeds TestRandom plays")
	seed  = flag.Uint64("seed", 0, "the one seed that TestRandom plays")
)

// TestRandom lets clients open, send, close, abort and come back at random, all at
// once, and holds what must always be so: messages arrive in order and once; an
// end in order comes after all of them; what nobody disturbed ends in order;
// everything ends. The seed decides what each client does, not how they meet: a
// failure may need a few more plays.
func TestRandom(t *testing.T) {
	first, count := uint64(1), *seeds
	if *seed != 0 {
		first, count = *seed, 1
	}
	for n := first; n < first+uint64(count); n++ {
		t.Run(fmt.Sprint("seed ", n), func(t *testing.T) {
			everywhere(t, func(w *world) { playRandom(w, n) })
		})
	}
}

// party is a world of players and all streams that they ever had.
type party struct {
	*world
	players []*player

	mu         sync.Mutex
	flows      map[string]*flow // by the purpose of the stream and the sender's name
	disturbing map[string]int   // things that are being done to all that these two share
	last       int
}

// player is one client, under a name that it keeps.
type player struct {
	*party
	name     string
	identity *client.Identity
	random   *rand.Rand

	cl      *client.Client
	streams []*playedStream
	accepts sync.WaitGroup
}

// playedStream is one end of a stream.
type playedStream struct {
	*client.Stream
	out *flow // what this end sends
}

// flow is one direction of a stream.
type flow struct {
	id       string
	from, to string

	accepted  bool        // by the peer; under the party's mutex
	disturbed atomic.Bool // something was done that may cut it off
	ended     atomic.Bool // the receiver has seen its end

	mu   sync.Mutex // held while sending: the end looks at what was sent
	sent int
}

const steps = 60

func playRandom(w *world, seed uint64) {
	w.Helper()
	w.begin()
	p := &party{world: w, flows: map[string]*flow{}, disturbing: map[string]int{}}
	random := rand.New(rand.NewPCG(seed, 0))
	for i := range 3 + random.IntN(3) {
		name := string(rune('a' + i))
		identity, err := client.NewIdentity(name, time.Now())
		if err != nil {
			w.Fatal(err)
		}
		pl := &player{party: p, name: name, identity: identity, random: rand.New(rand.NewPCG(seed, uint64(i+1)))}
		p.players = append(p.players, pl)
		pl.connect()
	}
	p.everybody((*player).play)
	p.everybody(func(pl *player) {
		for _, s := range pl.streams {
			s.CloseSend()
		}
	})
	p.eventually("every stream to end", func() bool { return p.open() == "" })
	p.everybody(func(pl *player) {
		if err := pl.cl.Close(p.ctx); err != nil {
			w.Errorf("%s: close: %v", pl.name, err)
		}
		pl.accepts.Wait()
	})
	p.attached(0)
	p.idle()
}

// everybody lets all players do something at once.
func (p *party) everybody(do func(pl *player)) {
	var all sync.WaitGroup
	for _, pl := range p.players {
		all.Go(func() { do(pl) })
	}
	all.Wait()
}

// open names a direction that should have ended and has not.
func (p *party) open() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range p.flows {
		if !f.ended.Load() && !f.disturbed.Load() {
			return f.id
		}
	}
	return ""
}

// connect attaches the player, also in place of its former self.
func (pl *player) connect() {
	cl, err := pl.world.connect(pl.name, func(c *client.Config) { c.Identity = pl.identity })
	if err != nil {
		pl.Errorf("%s: connect: %v", pl.name, err)
		return
	}
	pl.cl, pl.streams = cl, nil
	pl.accepts.Go(func() {
		for {
			s, err := cl.AcceptStream(pl.ctx)
			if err != nil {
				return
			}
			pl.accepted(s.Purpose(), s.Peer(), pl.name)
			pl.receive(s, s.Peer())
			pl.send(&playedStream{s, pl.flow(s.Purpose(), pl.name, s.Peer())}, 3)
			s.CloseSend()
		}
	})
}

// flow returns one direction of the stream with this purpose. There is none if
// its opener has given up.
func (p *party) flow(purpose, from, to string) *flow {
	p.mu.Lock()
	defer p.mu.Unlock()
	if f := p.flows[purpose+" from "+from]; f != nil {
		return f
	}
	f := &flow{from: from, to: to}
	f.disturbed.Store(true)
	return f
}

// begin notes both directions of a stream, before there is one.
func (p *party) begin(from, to string) (purpose string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last++
	purpose = strconv.Itoa(p.last)
	disturbed := p.disturbing[pairOf(from, to)] > 0
	for _, f := range []*flow{{from: from, to: to}, {from: to, to: from}} {
		f.id = purpose + " from " + f.from
		f.disturbed.Store(disturbed)
		p.flows[f.id] = f
	}
	return purpose
}

// accepted notes that a stream has reached its peer. If another did before, its
// channel was closed before the opener got to know: the opener's client tried
// again, and it is the second stream that counts.
func (p *party) accepted(purpose, from, to string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, id := range []string{purpose + " from " + from, purpose + " from " + to} {
		f := p.flows[id]
		if f == nil {
			continue
		}
		if f.accepted {
			f.disturbed.Store(true)
			again := &flow{id: f.id, from: f.from, to: f.to}
			again.disturbed.Store(p.disturbing[pairOf(from, to)] > 0)
			f, p.flows[id] = again, again
		}
		f.accepted = true
	}
}

// giveUp forgets a stream that could not be opened.
func (p *party) giveUp(purpose, from, to string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.flows, purpose+" from "+from)
	delete(p.flows, purpose+" from "+to)
}

func pairOf(a, b string) string { return min(a, b) + max(a, b) }

// play does random things.
func (pl *player) play() {
	for range steps {
		switch n := pl.random.IntN(100); {
		case n < 30 || len(pl.streams) == 0:
			pl.openStream()
		case n < 80:
			pl.send(pl.streams[pl.random.IntN(len(pl.streams))], 1+pl.random.IntN(20))
		case n < 88:
			pl.streams[pl.random.IntN(len(pl.streams))].CloseSend()
		case n < 91:
			s := pl.streams[pl.random.IntN(len(pl.streams))]
			pl.disturb(func(f *flow) bool { return strings.HasPrefix(f.id, s.Purpose()+" from ") })
			s.Reset()
		case n < 98:
			s := pl.streams[pl.random.IntN(len(pl.streams))]
			pl.disturbAll([]string{s.Peer()}, func() { pl.endChannel(s.Channel(), n >= 96) })
		case n < 99:
			var others []string
			for _, other := range pl.players {
				others = append(others, other.name)
			}
			pl.disturbAll(others, func() {
				pl.cl.Abort()
				pl.connect()
			})
		}
	}
}

// endChannel ends a channel, in order or not.
func (pl *player) endChannel(ch *client.Channel, abort bool) {
	if abort {
		ch.Abort()
	}
	if err := ch.Close(pl.ctx); !abort && !isOneOf(err, nil, messages.ErrReset, messages.ErrShutdown, messages.ErrUnreachable) {
		pl.Errorf("%s: close channel: %v", pl.name, err)
	}
}

// disturb notes what is about to be cut off.
func (p *party) disturb(which func(f *flow) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range p.flows {
		if which(f) {
			f.disturbed.Store(true)
		}
	}
}

// disturbAll does something that may cut off whatever the player and others share.
func (pl *player) disturbAll(others []string, do func()) {
	pl.mu.Lock()
	for _, other := range others {
		pl.disturbing[pairOf(pl.name, other)]++
	}
	pl.mu.Unlock()
	pl.disturb(func(f *flow) bool {
		return f.from == pl.name && slices.Contains(others, f.to) || f.to == pl.name && slices.Contains(others, f.from)
	})
	do()
	pl.mu.Lock()
	defer pl.mu.Unlock()
	for _, other := range others {
		pl.disturbing[pairOf(pl.name, other)]--
	}
}

// openStream opens a stream to somebody.
func (pl *player) openStream() {
	peer := pl.players[pl.random.IntN(len(pl.players))].name
	if peer == pl.name {
		return // its two directions could not be told apart
	}
	purpose := pl.begin(pl.name, peer)
	mode := modes[pl.random.IntN(len(modes))]
	s, err := pl.cl.OpenStream(pl.ctx, peer, &client.StreamOptions{Purpose: purpose, Mode: mode})
	if err != nil {
		pl.giveUp(purpose, pl.name, peer)
		// Somebody else may close the channel, or leave, just now: a peer that has given a channel up refuses the
		// connection that is still on its way.
		if !isOneOf(err, net.ErrClosed, messages.ErrNoSuchPeer, messages.ErrUnreachable, messages.ErrTimeout, messages.ErrBusy, messages.ErrRefused) {
			pl.Errorf("%s: %v", pl.name, err)
		}
		return
	}
	pl.receive(s, peer)
	pl.streams = append(pl.streams, &playedStream{s, pl.flow(purpose, pl.name, peer)})
}

// send sends a few messages.
func (pl *player) send(s *playedStream, count int) {
	for range count {
		s.out.mu.Lock()
		err := s.Send(pl.ctx, numbered(s.out.sent, 8+s.out.sent%2000))
		if err == nil {
			s.out.sent++
		}
		s.out.mu.Unlock()
		if err != nil {
			if !isOneOf(err, net.ErrClosed, messages.ErrUnreachable) {
				pl.Errorf("%s: %v", pl.name, err)
			}
			return
		}
	}
}

// receive checks what comes from a stream until it ends.
func (pl *player) receive(s *client.Stream, from string) {
	f := pl.flow(s.Purpose(), from, pl.name)
	pl.accepts.Go(func() {
		for n := 0; ; n++ {
			message, err := s.Receive(pl.ctx)
			if err != nil {
				pl.end(f, n, err)
				return
			}
			if string(message) != string(numbered(n, 8+n%2000)) {
				pl.Errorf("%s: message %d is another: %d bytes", f.id, n, len(message))
				return
			}
		}
	})
}

// end checks how a direction ended, after n messages.
func (pl *player) end(f *flow, n int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended.Store(true)
	switch {
	case err == io.EOF && n != f.sent: //nolint:errorlint // Receive promises io.EOF itself
		pl.Errorf("%s: ended in order after %d messages of %d", f.id, n, f.sent)
	case err == io.EOF: //nolint:errorlint // as above
	case !f.disturbed.Load():
		pl.Errorf("%s: nobody disturbed it, and it ended with %v after %d messages", f.id, err, n)
	case !errors.Is(err, net.ErrClosed) && !errors.Is(err, messages.ErrUnreachable):
		pl.Errorf("%s: ended with %v", f.id, err)
	}
}
