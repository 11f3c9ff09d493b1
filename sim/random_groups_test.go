package sim_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/coord/policy"
	"github.com/conec-go/conec/messages"
	"github.com/conec-go/conec/sim"
)

var (
	groupSeeds   = flag.Int("groupseeds", 10, "how many seeds TestRandomGroups plays")
	groupsSealed = flag.Bool("groupssealed", false, "whether all groups of TestRandomGroups are sealed, not a third of them")
)

// Sizes of a play of a group.
const (
	choirClients = 6
	choirSteps   = 120
	choirTime    = 90 * time.Second // in which the steps happen
)

// TestRandomGroups has clients join and leave a group, send, read slowly, crash, and lose the network, while the coordinator
// restarts or is given another policy, as the seed says. A third of the groups are sealed. It holds that all see the same
// messages in the same order, that who missed some, or could not read them, is told exactly how many, that nothing comes twice, and
// that what who left in order had sent is there.
func TestRandomGroups(t *testing.T) {
	seeds := *groupSeeds
	if testing.Short() {
		seeds = 2
	}
	sim.Seeds(t, seeds, &sim.Options{Limit: time.Hour}, func(w *sim.World) { newChoir(w).run() })
}

// choir is one play. The witness is a member that is always there and reads at once: what it sees is the order.
type choir struct {
	*hall
	random    *rand.Rand
	restarts  bool // the coordinator restarts in this play
	sealed    bool // the group is
	uncertain bool // the witness does not know all
	options   client.GroupOptions
	witness   *singer

	mu      sync.Mutex
	singers []*singer // all memberships there were
	seats   [choirClients]*singer
	busy    [choirClients]bool // joining, leaving or being restarted
}

// singer is one membership.
type singer struct {
	group *client.Group
	name  string
	sent  int
	voice chan struct{} // a token for who sends: one batch after the other
	done  chan struct{} // its reader has ended

	mu    sync.Mutex
	heard []heard
	left  bool // in order
	slow  time.Duration
	doubt bool // some of what it sent may be lost

	forged uint64
}

// heard is what a member received: a message, how many were missed before it, how many of these could not be read, and
// whether it is not known how many.
type heard struct {
	text       string
	missed     uint64
	unreadable uint64
	another    bool
}

func newChoir(w *sim.World) *choir {
	c := &choir{hall: newHall(w, choirClients+1, nil), random: w.Rand()}
	c.restarts = c.random.IntN(3) == 0
	c.options = client.GroupOptions{Keep: 128 << 10, Rejoin: 20 * time.Second, Slow: client.SlowMembers(c.random.IntN(3))}
	if c.options.Slow == client.EndSlow && c.random.IntN(2) == 0 {
		c.options.Slow = client.SkipSlow
	}
	if c.options.Slow == client.EndSlow {
		c.options.Keep = 1 << 20 // more than all can say at once: who reads at once, as the witness does, stays
	}
	c.sealed = *groupsSealed || c.random.IntN(3) == 0
	return c
}

func (c *choir) run() {
	c.witness = c.sit(choirClients, &client.JoinOptions{Own: true, Make: c.options, Sealed: c.sealed})
	for range choirSteps {
		<-time.After(time.Duration(c.random.Int64N(int64(2 * choirTime / choirSteps))))
		c.step()
	}
	<-time.After(time.Minute) // what was cut is healed, and who was away is back or gone
	c.mu.Lock()
	singers := slices.Clone(c.singers)
	c.mu.Unlock()
	for _, s := range singers {
		s.setSlow(0)
	}
	<-time.After(30 * time.Second)
	if err := c.witness.group.Send(c.soon(), []byte("end")); err != nil {
		c.T.Fatal(err)
	}
	<-time.After(10 * time.Second)
	c.check(singers)
}

// step does one thing.
func (c *choir) step() {
	i := c.random.IntN(choirClients)
	c.mu.Lock()
	s, busy := c.seats[i], c.busy[i]
	c.mu.Unlock()
	if busy {
		return
	}
	if s != nil {
		select {
		case <-s.done: // it was too slow, or the policy does not allow it any more
			s = nil
		default:
		}
	}
	what := c.random.IntN(20)
	switch {
	case s == nil:
		c.busily(i, func() { c.sit(i, &client.JoinOptions{Own: true, Make: c.options, Sealed: c.sealed}) })
	case what < 10:
		c.sing(s, 1+c.random.IntN(40), 1+c.random.IntN(4000))
	case what < 12:
		c.busily(i, func() { c.leave(i, s) })
	case what < 15:
		s.setSlow(time.Duration(c.random.Int64N(int64(2 * time.Second))))
	case what < 18:
		c.cut(c.clients[i].Host(), time.Duration(c.random.Int64N(int64(40*time.Second))))
	case what < 19:
		c.busily(i, func() { c.crash(i) })
	case c.restarts:
		c.hub.Start()
	default:
		if err := c.hub.SetPolicy(c.soon(), choosy{out: uint(c.random.IntN(1 << choirClients))}); err != nil {
			c.T.Error(err)
		}
	}
}

// choosy is a policy that keeps some clients out of groups: a bit for each.
type choosy struct {
	policy.AllowAll
	out uint
}

func (p choosy) Join(who *policy.Subject, _ string, _ bool) error {
	var n int
	if _, err := fmt.Sscanf(who.Name, "c%d", &n); err == nil && p.out>>n&1 != 0 {
		return errors.New("not in this choir")
	}
	return nil
}

// busily does something with a client in the background, and nothing else with it meanwhile.
func (c *choir) busily(i int, what func()) {
	c.mu.Lock()
	c.busy[i] = true
	c.mu.Unlock()
	c.Go(func() {
		what()
		c.mu.Lock()
		c.busy[i] = false
		c.mu.Unlock()
	})
}

// sit joins with a client and has a reader read.
func (c *choir) sit(i int, options *client.JoinOptions) *singer {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cl := c.clients[i].Current()
	if cl == nil {
		return nil // it could not start again yet
	}
	group, err := cl.Join(ctx, "choir", options)
	if err != nil {
		if i == choirClients || !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, messages.ErrForbidden) {
			c.T.Errorf("c%d: %v", i, err)
		}
		return nil
	}
	c.mu.Lock()
	s := &singer{group: group, name: fmt.Sprintf("%d.%d", i, len(c.singers)), voice: make(chan struct{}, 1), done: make(chan struct{})}
	c.singers = append(c.singers, s)
	if i < choirClients {
		c.seats[i] = s
	}
	c.mu.Unlock()
	c.Go(s.read)
	return s
}

// read receives until the membership ends.
func (s *singer) read() {
	defer close(s.done)
	var next heard
	for {
		s.mu.Lock()
		slow := s.slow
		s.mu.Unlock()
		if slow > 0 {
			<-time.After(slow)
		}
		event, err := s.group.Next(context.Background())
		if err != nil {
			return
		}
		s.mu.Lock()
		switch event := event.(type) {
		case client.GroupMessage:
			next.text, _, _ = strings.Cut(string(event.Data), " ")
			s.heard = append(s.heard, next)
			next = heard{}
		case client.GroupMissed:
			next.missed += event.Messages
			next.unreadable += event.Unreadable
			s.forged += event.Forged
		case client.GroupRejoined:
			next.another = next.another || event.Another
			s.doubt = s.doubt || event.InDoubt > 0
		}
		s.mu.Unlock()
	}
}

func (s *singer) setSlow(slow time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.slow = slow
}

// sing sends some messages in the background.
func (c *choir) sing(s *singer, count, size int) {
	c.Go(func() {
		s.voice <- struct{}{}
		defer func() { <-s.voice }()
		s.mu.Lock()
		first := s.sent
		s.mu.Unlock()
		for n := range count {
			text := fmt.Sprintf("%s/%d %s", s.name, first+n, strings.Repeat("la", size/2))
			if s.group.Send(context.Background(), []byte(text)) != nil {
				return
			}
			s.mu.Lock()
			s.sent++
			s.mu.Unlock()
		}
	})
}

func (c *choir) leave(i int, s *singer) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s.setSlow(0)
	err := s.group.Leave(ctx)
	s.mu.Lock()
	s.left = err == nil
	s.mu.Unlock()
	c.mu.Lock()
	c.seats[i] = nil
	c.mu.Unlock()
}

func (c *choir) cut(host *sim.Host, lasts time.Duration) {
	heal := c.Add(sim.Isolate(host))
	c.After(lasts, heal)
}

func (c *choir) crash(i int) {
	c.clients[i].Crash()
	c.mu.Lock()
	c.seats[i] = nil
	c.mu.Unlock()
	for {
		<-time.After(time.Second)
		if c.clients[i].Start() == nil { // else the network is cut
			return
		}
	}
}

// check holds what all have heard against what the witness has.
func (c *choir) check(singers []*singer) {
	place, unknown := map[string]int{}, map[int]bool{} // of a message; whether something may be missing before a place
	c.witness.mu.Lock()
	order := slices.Clone(c.witness.heard)
	c.witness.mu.Unlock()
	for at, h := range order {
		if _, twice := place[h.text]; twice {
			c.T.Errorf("%s came twice", h.text)
		}
		place[h.text] = at
		unknown[at] = h.another || h.missed > 0 // many sent a lot at once
		c.uncertain = c.uncertain || unknown[at]
		if h.missed > h.unreadable && c.options.Slow == client.AwaitSlow {
			c.T.Errorf("the witness missed %d before %s", h.missed, h.text)
		}
	}
	for _, s := range singers {
		s.mu.Lock()
		c.checkOne(s, place, unknown)
		s.mu.Unlock()
	}
	c.checkSenders(singers, place)
}

func (c *choir) checkOne(s *singer, place map[string]int, unknown map[int]bool) {
	if s.forged > 0 {
		c.T.Errorf("%s takes %d messages for forged", s.name, s.forged)
	}
	last := -1
	for n, h := range s.heard {
		at, known := place[h.text]
		if !known {
			if !c.uncertain {
				c.T.Errorf("%s heard %s, which the witness has not", s.name, h.text)
			}
			last = -1
			continue
		}
		if last >= 0 && at <= last {
			c.T.Errorf("%s heard %s after %s", s.name, h.text, s.heard[n-1].text)
		}
		certain := last >= 0 && !h.another
		for between := last + 1; certain && between <= at; between++ {
			certain = !unknown[between]
		}
		if missed := uint64(at - last - 1); certain && missed != h.missed {
			c.T.Errorf("%s was told of %d missing before %s, and it is %d", s.name, h.missed, h.text, missed)
		}
		last = at
	}
	select {
	case <-s.done:
	default:
		if len(s.heard) == 0 || s.heard[len(s.heard)-1].text != "end" {
			c.T.Errorf("%s has not heard the end", s.name)
		}
	}
}

// checkSenders holds that what each member sent is there in order, and all of it if it left in order.
func (c *choir) checkSenders(singers []*singer, place map[string]int) {
	for _, s := range singers {
		s.mu.Lock()
		sent, left, doubt := s.sent, s.left, s.doubt
		s.mu.Unlock()
		last := -1
		for n := range sent {
			at, there := place[fmt.Sprintf("%s/%d", s.name, n)]
			if !there && left && !doubt && !c.uncertain {
				c.T.Errorf("%s left in order, and its message %d is not there", s.name, n)
			}
			if there && at < last {
				c.T.Errorf("message %d of %s came too early", n, s.name)
			}
			last = max(last, at)
		}
	}
}
