package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"time"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/messages"
)

// Times of conec ping.
const (
	pingWait     = 5 * time.Second        // for an answer
	explainWait  = 500 * time.Millisecond // for the reason of a path
	leastBetween = 10 * time.Millisecond  // probes
)

// errNoAnswer says that no probe was answered.
var errNoAnswer = errors.New("no answer")

// pingFlags are the flags and the argument of conec ping.
type pingFlags struct {
	joinFlags
	count int
	every time.Duration
	json  bool
}

func parsePing(args []string, std streams) (*pingFlags, error) {
	f := &pingFlags{}
	flags := flag.NewFlagSet("ping", flag.ContinueOnError)
	f.register(flags)
	f.registerMode(flags)
	f.registerWords(flags)
	flags.IntVar(&f.count, "c", 0, "`number` of probes (default: until SIGINT or SIGTERM)")
	flags.DurationVar(&f.every, "i", time.Second, "`time` from one probe to the next; an answer that takes longer is waited for")
	flags.BoolVar(&f.json, "json", false, "print a JSON object for each line")
	if err := f.parse(flags, "conec ping [flags] PEER: measure round trips to a peer, and say which path they take and why", args, std, f.checkOwn); err != nil {
		return nil, err
	}
	return f, nil
}

func (f *pingFlags) checkOwn() error {
	switch {
	case f.peer == "":
		return errors.New("no PEER to ping")
	case f.count < 0:
		return fmt.Errorf("-c is %d: want 1 or more", f.count)
	case f.every < leastBetween:
		return fmt.Errorf("-i is %v: want %v or more", f.every, leastBetween)
	}
	return nil
}

// runPing pings until it has done so often enough, or is interrupted, which is no failure.
func runPing(ctx context.Context, args []string, std streams) error {
	f, err := parsePing(args, std)
	if err != nil {
		return err
	}
	p := &pinging{pingFlags: f, out: std.out, std: std, moves: make(chan move, 64)}
	cl, done, err := f.connect(ctx, "ping", std, func(config *client.Config) { config.OnEvent = p.hear })
	if err != nil {
		return err
	}
	defer done()
	p.cl = cl
	return closeSoon(ctx, cl, p.run(ctx))
}

// pinging is one run of conec ping. What it counts belongs to run.
type pinging struct {
	*pingFlags
	cl      *client.Client
	channel *client.Channel
	out     io.Writer
	std     streams
	moves   chan move // from the client's events

	opened       time.Time // when the channel was, for the first time
	sent         int
	answered     []time.Duration
	direct       int // of these
	relayed      int
	turnedDirect time.Duration // after it was opened; 0: not yet
}

// move is an event with its time.
type move struct {
	at    time.Time
	event client.Event
}

// hear is called by the client. What comes too fast to be printed is left out.
func (p *pinging) hear(event client.Event) {
	select {
	case p.moves <- move{time.Now(), event}:
	default:
	}
}

func (p *pinging) run(ctx context.Context) error {
	opening, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	var err error
	if p.channel, err = p.open(opening); err != nil {
		return because(ctx, err)
	}
	p.sayWords(p.std, p.channel)
	ticker := time.NewTicker(p.every)
	defer ticker.Stop()
	for p.count == 0 || p.sent < p.count {
		p.probe(ctx)
		for waits := p.sent != p.count; waits && ctx.Err() == nil; {
			select {
			case m := <-p.moves:
				p.moved(m)
			case <-ticker.C:
				waits = false
			case <-ctx.Done():
			}
		}
		if ctx.Err() != nil {
			break
		}
	}
	p.summary()
	if len(p.answered) == 0 {
		return fmt.Errorf("ping %q: %w to %d probes", p.peer, errNoAnswer, p.sent)
	}
	return nil
}

// open opens the channel, or another one after it was lost for good.
func (p *pinging) open(ctx context.Context) (*client.Channel, error) {
	return p.cl.OpenChannel(ctx, p.peer, &client.ChannelOptions{Mode: modes[p.mode]})
}

// probe sends one, and waits for its answer.
func (p *pinging) probe(ctx context.Context) {
	type result struct {
		channel *client.Channel
		pong    client.Pong
		err     error
	}
	waiting, cancel := context.WithTimeout(ctx, pingWait)
	defer cancel()
	done := make(chan result, 1)
	go func(r result) {
		if r.channel == nil { // it was lost
			r.channel, r.err = p.open(waiting)
		}
		if r.err == nil {
			r.pong, r.err = r.channel.Ping(waiting)
		}
		done <- r
	}(result{channel: p.channel})
	for {
		select {
		case m := <-p.moves:
			p.moved(m)
		case r := <-done:
			for len(p.moves) > 0 {
				p.moved(<-p.moves)
			}
			if r.err != nil && ctx.Err() != nil {
				return // it had no time to be answered
			}
			p.sent++
			p.channel = r.channel
			p.answer(ctx, r.pong, r.err)
			return
		}
	}
}

// pingLine is what conec ping prints in JSON, one object in a line.
type pingLine struct {
	// Type is probe, path or summary.
	Type string `json:"type"`
	Peer string `json:"peer"`

	// Number is that of a probe, from 1.
	Number int `json:"number,omitempty"`
	// RTT is its round trip.
	RTT millis `json:"rtt_ms,omitempty"`
	// Error is why there was no answer.
	Error string `json:"error,omitempty"`

	// Path is direct, relayed or none, and Remote where packets go to.
	Path   string `json:"path,omitempty"`
	Remote string `json:"remote,omitempty"`
	// Answer is direct or relayed: each side chooses for what it sends.
	Answer string `json:"answer,omitempty"`
	// Reason and Why say why the path is that one, for programs and for people.
	Reason *client.PathReason `json:"reason,omitempty"`
	Why    string             `json:"why,omitempty"`
	// After is how long the channel had been there when its path changed.
	After float64 `json:"after_s,omitempty"`

	*pingSummary
}

// pingSummary is what was counted.
type pingSummary struct {
	Sent     int    `json:"sent"`
	Answered int    `json:"answered"`
	Lost     int    `json:"lost"`
	Min      millis `json:"min_ms"`
	Avg      millis `json:"avg_ms"`
	Max      millis `json:"max_ms"`
	Direct   int    `json:"direct"`
	Relayed  int    `json:"relayed"`
	// DirectAfter is when the channel turned direct for the first time, 0 if it has not.
	DirectAfter float64 `json:"direct_after_s"`
}

// print prints one line, in words or in JSON.
func (p *pinging) print(line pingLine, words string) {
	if !p.json {
		fmt.Fprintln(p.out, words)
		return
	}
	line.Peer = p.peer
	_ = json.NewEncoder(p.out).Encode(line) // as Fprintln, it ends in vain when nobody reads
}

// answer tells of a probe.
func (p *pinging) answer(ctx context.Context, pong client.Pong, err error) {
	var path client.Path
	why := path.Reason.String()
	if p.channel != nil {
		path, why = p.explain(ctx)
	}
	line := pingLine{Type: "probe", Number: p.sent, Path: pathKind(path), Reason: &path.Reason, Why: why}
	if path.Remote.IsValid() {
		line.Remote = path.Remote.String()
	}
	if err != nil {
		line.Error = err.Error()
		if errors.Is(err, context.DeadlineExceeded) {
			line.Error = fmt.Sprintf("no answer in %v", pingWait)
		}
		p.print(line, fmt.Sprintf("%d: %s; %s", p.sent, line.Error, pathWords(path, why)))
		return
	}
	p.answered = append(p.answered, pong.RTT)
	line.RTT, line.Answer = millis(pong.RTT), "direct"
	if pong.Relayed {
		line.Answer = "relayed"
	}
	if line.Path == "direct" {
		p.direct++
	} else {
		p.relayed++
	}
	words := fmt.Sprintf("%d: %v %s", p.sent, line.RTT, pathWords(path, why))
	if line.Answer != line.Path {
		words += ", answered " + line.Answer
	}
	p.print(line, words)
}

// explain returns the path and why it is that one. It forgets a channel that is over.
func (p *pinging) explain(ctx context.Context) (path client.Path, why string) {
	path = p.channel.Path()
	asking, cancel := context.WithTimeout(ctx, explainWait)
	defer cancel()
	report, err := p.channel.Paths(asking)
	if errors.Is(err, messages.ErrClosed) {
		p.channel = nil
	}
	if err != nil {
		return path, path.Reason.String()
	}
	return report.Path, report.Why()
}

// moved tells of a change of path.
func (p *pinging) moved(m move) {
	switch event := m.event.(type) {
	case client.ChannelOpened:
		if p.opened.IsZero() {
			p.opened = m.at
		}
	case client.PathChanged:
		path := pathOf(event)
		after := time.Duration(0)
		if !p.opened.IsZero() {
			after = m.at.Sub(p.opened)
		}
		kind := pathKind(path)
		if kind == "direct" && p.turnedDirect == 0 {
			p.turnedDirect = max(after, 1)
		}
		line := pingLine{Type: "path", Path: kind, Remote: event.Remote, Reason: &event.Reason, Why: event.Reason.String(), After: after.Seconds()}
		p.print(line, fmt.Sprintf("after %.2f s: %s", after.Seconds(), pathWords(path, line.Why)))
	}
}

func (p *pinging) summary() {
	s := &pingSummary{
		Sent: p.sent, Answered: len(p.answered), Lost: p.sent - len(p.answered), Direct: p.direct, Relayed: p.relayed,
		DirectAfter: p.turnedDirect.Seconds(),
	}
	words := fmt.Sprintf("%s: %d sent, %d answered, %d lost", p.peer, s.Sent, s.Answered, s.Lost)
	if s.Answered > 0 {
		least, most, sum := p.answered[0], p.answered[0], time.Duration(0)
		for _, rtt := range p.answered {
			least, most, sum = min(least, rtt), max(most, rtt), sum+rtt
		}
		s.Min, s.Avg, s.Max = millis(least), millis(sum/time.Duration(s.Answered)), millis(most)
		words += fmt.Sprintf("; min %v, avg %v, max %v; %d direct, %d relayed", s.Min, s.Avg, s.Max, s.Direct, s.Relayed)
	}
	p.print(pingLine{Type: "summary", pingSummary: s}, words)
}
