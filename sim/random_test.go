package sim_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/messages"
	"github.com/conec-go/conec/sim"
)

var (
	seeds      = flag.Int("seeds", 12, "how many seeds TestSchedules plays; few with -short")
	firstSeed  = flag.Uint64("first", 1, "the first seed that TestSchedules plays")
	seed       = flag.Uint64("seed", 0, "the one seed that TestSchedules plays")
	traceIn    = flag.String("trace", "", "the folder for the trace of a schedule")
	scheduleIn = flag.String("schedule", "", "the schedule that TestSchedule plays: text, or the name of a file")
)

// TestSchedules plays what random numbers say, and holds what must always be so:
// nothing is lost, nothing comes twice or out of order; what fails, fails on both
// sides and for a reason; nothing hangs; afterwards everything works again, and
// nothing is left when all is closed. What fails is made as short as it gets.
func TestSchedules(t *testing.T) {
	first, count := *firstSeed, *seeds
	if testing.Short() {
		count = min(count, 3)
	}
	if *seed != 0 {
		first, count = *seed, 1
	}
	for n := first; n < first+uint64(count); n++ {
		t.Run(fmt.Sprint("seed ", n), func(t *testing.T) {
			report(t, drawSchedule(n))
		})
	}
}

// TestSchedule plays one schedule: that of the command line, else those in testdata.
func TestSchedule(t *testing.T) {
	if *scheduleIn != "" {
		report(t, readSchedule(t, *scheduleIn))
		return
	}
	for _, name := range scheduleFiles(t) {
		t.Run(name, func(t *testing.T) { report(t, readSchedule(t, name)) })
	}
}

// readSchedule reads the text of a schedule, or the file that has it.
func readSchedule(t *testing.T, from string) *schedule {
	t.Helper()
	text := from
	if !strings.Contains(from, "\n") {
		content, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		text = string(content)
	}
	s, err := parseSchedule(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// report plays a schedule. If it fails, the shortest one that fails alike is shown.
func report(t *testing.T, s *schedule) {
	t.Helper()
	faults := playSchedule(t, s)
	for _, fault := range faults {
		t.Error(faultMark + fault)
	}
	if t.Failed() && *shrinkFor > 0 {
		shrinkAndShow(t, s)
	}
}

// playSchedule plays a schedule in a world of its own, and returns what was wrong.
func playSchedule(t *testing.T, s *schedule) []string {
	t.Helper()
	p := &play{schedule: s, streams: map[int]*playedStream{}}
	options := sim.Options{Seed: max(s.seed, 1), Limit: time.Hour, Trace: *traceIn, TraceOff: *traceIn == ""}
	sim.Test(t, &options, func(w *sim.World) { p.run(w) })
	return p.faults
}

// play is one run of a schedule.
type play struct {
	*schedule
	w       *sim.World
	hub     *sim.Coordinator
	inside  []*sim.Gateway
	parties []*player
	ends    sync.WaitGroup // of what both sides of all streams do

	mu       sync.Mutex
	streams  map[int]*playedStream
	troubles []*trouble
	faults   []string
	over     bool // nothing more is begun
	bad      bool // a stream could not be opened because of lost packets
}

// player is a client, or the coordinator.
type player struct {
	name   string
	client *sim.Client // nil if it is the coordinator
	host   *sim.Host
	place  int           // a gateway, or outside; only steps use it
	began  time.Duration // when it was last started
	down   bool          // it is being stopped or started; under the play's mu
}

// Patience of a play.
const (
	openWithin   = 30 * time.Second // to open a stream
	drainWithin  = 20 * time.Second // to close a channel
	attachWithin = 90 * time.Second // to be attached again when nothing disturbs any more
	endWithin    = 4 * time.Minute  // for all streams to end when they should
	idleWithin   = 40 * time.Second // for the coordinator to forget who has left
	calm         = 20 * time.Second // after the last fault
)

// run plays the schedule.
func (p *play) run(w *sim.World) {
	p.w = w
	p.build()
	end := time.Duration(0)
	for _, s := range p.steps {
		end = max(end, s.at+s.last)
		w.After(s.at, func() { p.do(s) })
	}
	<-time.After(end + calm)
	p.mu.Lock()
	p.over = true
	p.mu.Unlock()
	if p.settles() && p.finishes() && p.opensAgain() {
		p.closes()
	}
}

// build makes who is there.
func (p *play) build() {
	for i, g := range p.gateways {
		p.inside = append(p.inside, p.w.Gateway(placeName(i), p.place(g.at, i), p.natOf(i, g.nat), p.lineOf(g.line)))
	}
	host := p.w.Host("hub", p.w.Internet(), sim.Line{Latency: 5 * time.Millisecond})
	p.hub = p.w.Coordinator(host, nil)
	p.parties = append(p.parties, &player{name: "hub", host: host})
	var hosts []*sim.Host
	for i, c := range p.clients {
		at := outside
		if c.at < len(p.inside) {
			at = c.at
		}
		hosts = append(hosts, p.w.Host(clientName(i), p.place(at, len(p.inside)), p.lineOf(c.line)))
		p.parties = append(p.parties, &player{name: clientName(i), host: hosts[i], place: at})
	}
	for i, c := range p.w.Clients(func(c *client.Config) { c.Backlog, c.MaxStreams = p.backlog, p.schedule.streams }, hosts...) {
		p.party(i).client = c
		p.accept(i)
	}
}

// place returns a gateway's inside, or the internet if there is none among the
// first ones.
func (p *play) place(gateway, among int) sim.Place {
	if gateway < 0 || gateway >= min(among, len(p.inside)) {
		return p.w.Internet()
	}
	return p.inside[gateway]
}

// natOf returns how a gateway behaves. Insides that others can reach must differ.
func (p *play) natOf(gateway, kind int) sim.NAT {
	nat := natKinds[kind].nat()
	switch {
	case nat.Routed:
		nat.Inside = prefixOf(100+gateway, 24)
	case p.gateways[gateway].at != outside:
		nat.Inside = prefixOf(50+gateway, 24)
	}
	return nat
}

// party returns a client, or the coordinator; nil if there is none of that number.
func (p *play) party(number int) *player {
	if number < hub || number-hub >= len(p.parties) {
		return nil
	}
	return p.parties[number-hub]
}

// fault notes that something is wrong. The kind is what shrinking keeps.
func (p *play) fault(kind, format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	const enough = 12
	if len(p.faults) < enough {
		p.faults = append(p.faults, fmt.Sprintf("%s: after %v: %s", kind, p.w.Elapsed().Round(time.Millisecond), fmt.Sprintf(format, args...)))
	}
}

// eventually waits, or notes a fault.
func (p *play) eventually(within time.Duration, kind string, ok func() bool, state func() string) bool {
	for began := p.w.Elapsed(); !ok(); <-time.After(20 * time.Millisecond) {
		if p.w.Elapsed()-began > within {
			p.fault(kind, "not within %v: %s", within, state())
			return false
		}
	}
	return true
}

// settles waits until everybody is back.
func (p *play) settles() bool {
	return p.eventually(attachWithin, "attach", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, party := range p.parties {
			if party.down {
				return false
			}
		}
		return p.hub.Stats().Attached == len(p.clients)
	}, func() string {
		return fmt.Sprintf("all clients attached; the coordinator has %d", p.hub.Stats().Attached)
	})
}

// finishes asks all streams to end in order and waits until they have.
func (p *play) finishes() bool {
	p.mu.Lock()
	for _, s := range p.inOrder() {
		for side := range s.ends {
			s.orders[side].add(step{do: doCloseSend}, true)
		}
	}
	p.mu.Unlock()
	ended := make(chan struct{})
	go func() {
		p.ends.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(endWithin):
		for _, s := range p.inOrder() {
			p.mu.Lock()
			text := s.unfinished()
			p.mu.Unlock()
			if text != "" {
				p.fault("hang", "stream %d has not ended: %s", s.number, text)
			}
		}
		return false
	}
	for _, s := range p.inOrder() {
		for _, flow := range s.flows {
			p.judge(s, flow)
		}
	}
	return true
}

func (p *play) inOrder() []*playedStream {
	list := make([]*playedStream, 0, len(p.streams))
	for _, step := range p.steps {
		if s := p.streams[step.stream]; step.do == doOpen && s != nil && !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	return list
}

// opensAgain checks that everybody reaches everybody, in both modes that always
// work; one after the other, because together they are more than a slow line takes.
func (p *play) opensAgain() bool {
	for from := range p.clients {
		for to := range p.clients {
			mode := []client.Mode{client.Automatic, client.RelayOnly}[(from+to)%2]
			err := p.greet(from, to, mode)
			if isReason(err) && (p.crashed() || p.unlucky(err)) { // on a channel that has not noticed yet
				<-time.After(forgetTakes)
				err = p.greet(from, to, mode)
			}
			if err != nil {
				p.fault("reopen", "%s to %s: %v", clientName(from), clientName(to), err)
				return false
			}
		}
	}
	return true
}

// greet sends a message there, and back.
func (p *play) greet(from, to int, mode client.Mode) error {
	ctx, cancel := context.WithTimeout(context.Background(), openWithin)
	defer cancel()
	stream, err := p.party(from).client.Current().OpenStream(ctx, clientName(to), &client.StreamOptions{Purpose: greeting, Mode: mode})
	if err != nil {
		return err
	}
	defer stream.Close()
	if err := stream.Send(ctx, []byte(greeting)); err != nil {
		return err
	}
	answer, err := stream.Receive(ctx)
	if err == nil && string(answer) != greeting {
		err = fmt.Errorf("answer is %q", answer)
	}
	return err
}

// closes ends everybody in order; then the coordinator must have forgotten all.
func (p *play) closes() {
	p.eventually(idleWithin, "stats", func() bool {
		stats := p.hub.Stats()
		return stats.Pending == 0 && stats.Relay.Routes == 2*stats.Channels && stats.Relay.Clients == stats.Attached &&
			stats.Relay.Routes <= p.openEnds()
	}, func() string {
		return fmt.Sprintf("the coordinator knows of no more than the clients, whose channels have %d ends: %+v", p.openEnds(), p.hub.Stats())
	})
	for i := range p.clients { // not all at once: the last word between two that close may get lost
		if err := p.party(i).client.Stop(); err != nil && (!isReason(err) || !p.crashed()) {
			p.fault("close", "%s: %v", clientName(i), err)
		}
	}
	p.eventually(idleWithin, "stats", func() bool {
		stats := p.hub.Stats()
		return stats.Attached+stats.Connections+stats.Channels+stats.Pending+stats.Relay.Clients+stats.Relay.Routes == 0
	}, func() string { return fmt.Sprintf("the coordinator forgets all who have left: %+v", p.hub.Stats()) })
}

// openEnds counts the channels of all clients, as they have told their programs,
// and those that are being connected again: not too few, where it can not be told
// whether what ended had been open.
func (p *play) openEnds() (count int) {
	for i := range p.clients {
		party := p.party(i)
		p.mu.Lock()
		began := party.began
		p.mu.Unlock()
		restarting := map[string]int{} // by peer
		for _, e := range party.client.Events() {
			if e.At <= began {
				continue
			}
			switch e := e.Event.(type) {
			case client.ChannelOpened:
				count++
				restarting[e.Peer] = max(0, restarting[e.Peer]-1)
			case client.ChannelClosed:
				switch {
				case restarting[e.Peer] == 0:
					count--
				case !e.Restarting:
					restarting[e.Peer]--
					continue
				}
				if e.Restarting {
					restarting[e.Peer] = 1
				}
			}
		}
		for _, channels := range restarting {
			count += 2 * channels
		}
	}
	return count
}

// crashed reports whether channels may still be waiting for somebody who has crashed
// or has aborted them,
// or who has gone where no direct path leads.
func (p *play) crashed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.streams {
		if s.mode == openDirect {
			return true
		}
	}
	return slices.ContainsFunc(p.troubles, func(t *trouble) bool {
		return t.fatal && t.stream == anyStream && t.until >= p.w.Elapsed()-openWithin
	})
}

// unlucky reports whether opening may have failed because so many packets were
// lost, of the few of a handshake: that may happen once, where lines lose some.
func (p *play) unlucky(err error) bool {
	const losing = "lossy burst corrupt slow"
	traits := 0
	for _, g := range p.gateways {
		traits |= g.line
	}
	for _, c := range p.clients {
		traits |= c.line
	}
	for _, s := range p.steps {
		if s.do == doLine {
			traits |= s.how
		}
	}
	for name := range strings.SplitSeq(traitNames(traits), "+") {
		if strings.Contains(losing, name) && (errors.Is(err, messages.ErrTimeout) || errors.Is(err, messages.ErrUnreachable)) {
			p.mu.Lock()
			defer p.mu.Unlock()
			again := p.bad
			p.bad = true
			return !again
		}
	}
	return false
}
