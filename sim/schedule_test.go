package sim_test

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/conec-go/conec/sim"
)

// schedule is everything that happens in one run of TestSchedules: who is where,
// and what is done when. It is plain data: drawn from random numbers or from a
// fuzzer's bytes, printed, parsed and made shorter. Every schedule can be played:
// a step that speaks of what is not there does nothing.
type schedule struct {
	seed     uint64 // of the world
	backlog  int    // of the clients, if not zero
	streams  int    // that a peer may have open on a channel, if not zero
	mtu      int    // of the lines of all clients, if not zero
	gateways []gatewayPlan
	clients  []clientPlan
	steps    []step
}

type gatewayPlan struct {
	at   int // an earlier gateway, or outside
	nat  int // of natKinds
	line int // bits of lineTraits
}

type clientPlan struct {
	at   int // a gateway, or outside
	line int
}

// Places and parties that are not in the lists of a schedule.
const (
	outside = -1 // the internet, as a place
	hub     = -1 // the coordinator, as a party
)

// step is something that is done at an instant. What its fields mean depends on
// what is done; see [verbs].
type step struct {
	at     time.Duration
	do     verb
	stream int // the stream's number, which its open step gave it
	who    int // a client, or the hub
	whom   int
	place  int // a gateway, or outside
	back   bool
	count  int
	size   int
	every  time.Duration
	last   time.Duration // how long a fault lasts, or patience
	how    int
}

type verb int

const (
	doOpen      verb = iota // who opens a stream to whom, in a mode; if last is not zero, with no more patience than that
	doSend                  // one side of a stream sends count messages of a size
	doTry                   // the same, but gives up each message after last
	doCloseSend             // one side ends its sending, after what it sends
	doClose                 // one side closes the stream, after what it sends
	doReset                 // one side resets the stream, at once
	doStall                 // one side receives nothing for a while
	doDrain                 // one side closes the channel of a stream in order
	doAbort                 // one side aborts the channel of a stream
	doCrash                 // who crashes, and comes back after a while; the hub, too
	doStop                  // who ends in order, and comes back
	doCut                   // what who sends to whom is lost for a while
	doBlock                 // what who and whom send to each other is lost
	doIsolate               // all that who sends or is sent is lost
	doLate                  // all that who sends comes half a second later than that
	doPause                 // who sleeps
	doMove                  // who moves to another place
	doLine                  // who gets another line
	doReboot                // a gateway forgets its mappings
	doRenumber              // a gateway gets another address
	doBlockUDP              // a gateway lets no UDP through for a while
	doChangeNAT             // a gateway behaves differently from now on
	verbCount
)

// verbs says what each verb is called, and which fields count.
var verbs = [verbCount]struct{ name, fields string }{
	doOpen:      {"open", "stream who whom how last"},
	doSend:      {"send", "stream back count size every"},
	doTry:       {"try", "stream back count size last"},
	doCloseSend: {"closesend", "stream back"},
	doClose:     {"close", "stream back"},
	doReset:     {"reset", "stream back"},
	doStall:     {"stall", "stream back last"},
	doDrain:     {"drain", "stream back"},
	doAbort:     {"abort", "stream back"},
	doCrash:     {"crash", "who last"},
	doStop:      {"stop", "who last"},
	doCut:       {"cut", "who whom last"},
	doBlock:     {"block", "who whom last"},
	doIsolate:   {"isolate", "who last"},
	doLate:      {"late", "who last"},
	doPause:     {"pause", "who last"},
	doMove:      {"move", "who place"},
	doLine:      {"line", "who how"},
	doReboot:    {"reboot", "place"},
	doRenumber:  {"renumber", "place"},
	doBlockUDP:  {"blockudp", "place last"},
	doChangeNAT: {"nat", "place how"},
}

func (s step) has(field string) bool {
	return slices.Contains(strings.Fields(verbs[s.do].fields), field)
}

// Modes of an open step, by how.
const (
	openAuto = iota
	openRelay
	openDirect
	openOwn // on a channel of its own
	openModes
)

var modeNames = []string{openAuto: "auto", openRelay: "relay", openDirect: "direct", openOwn: "own"}

// natKinds are the gateways there are. A firewall has public addresses inside.
var natKinds = []struct {
	name string
	nat  func() sim.NAT
}{
	{"portrestricted", sim.PortRestricted},
	{"fullcone", sim.FullCone},
	{"addressrestricted", sim.AddressRestricted},
	{"symmetric", sim.Symmetric},
	{"masquerade", sim.OpenMasquerade},
	{"short", func() sim.NAT {
		nat := sim.PortRestricted()
		nat.Timeout, nat.OutboundRefresh, nat.Hairpin = 30*time.Second, true, true
		return nat
	}},
	{"firewall", sim.Firewall},
}

// lineTraits are what a line may be beside good. All of them together must still
// be good enough for everything that is undisturbed.
var lineTraits = []struct {
	name string
	add  func(*sim.Line)
}{
	{"far", func(l *sim.Line) { l.Latency += 80 * time.Millisecond }},
	{"jitter", func(l *sim.Line) { l.Jitter += 15 * time.Millisecond }},
	{"lossy", func(l *sim.Line) { l.Loss = 0.02 }},
	{"burst", func(l *sim.Line) { l.Burst = &sim.Burst{Enter: 0.005, Leave: 0.3} }},
	{"slow", func(l *sim.Line) { l.Rate = 100_000 }},
	{"reorder", func(l *sim.Line) { l.Reorder = 0.05 }},
	{"duplicate", func(l *sim.Line) { l.Duplicate = 0.05 }},
	{"corrupt", func(l *sim.Line) { l.Corrupt = 0.01 }},
}

// lineOf returns a line. The MTU is that of all clients, and does not change: QUIC
// does not notice when a path gets a smaller one.
func (s *schedule) lineOf(traits int) sim.Line {
	line := sim.Line{Latency: 5 * time.Millisecond, MTU: s.mtu}
	for i, trait := range lineTraits {
		if traits&(1<<i) != 0 {
			trait.add(&line)
		}
	}
	return line
}

func traitNames(traits int) string {
	names := []string{"good"}
	for i, trait := range lineTraits {
		if traits&(1<<i) != 0 {
			names = append(names, trait.name)
		}
	}
	return strings.Join(names[min(1, len(names)-1):], "+")
}

func clientName(client int) string {
	if client == hub {
		return "hub"
	}
	return string(rune('a' + client))
}

func placeName(place int) string {
	if place == outside {
		return "internet"
	}
	return "g" + strconv.Itoa(place)
}

// String is the schedule as text, one line for each thing. [parseSchedule] reads it.
func (s *schedule) String() string {
	var text strings.Builder
	fmt.Fprintf(&text, "seed %d\n", s.seed)
	fmt.Fprintf(&text, "limits backlog=%d streams=%d mtu=%d\n", s.backlog, s.streams, s.mtu)
	for i, g := range s.gateways {
		fmt.Fprintf(&text, "gateway %s at=%s nat=%s line=%s\n", placeName(i), placeName(g.at), natKinds[g.nat].name, traitNames(g.line))
	}
	for i, c := range s.clients {
		fmt.Fprintf(&text, "client %s at=%s line=%s\n", clientName(i), placeName(c.at), traitNames(c.line))
	}
	for _, step := range s.steps {
		fmt.Fprintln(&text, step)
	}
	return text.String()
}

func (s step) String() string {
	words := []string{s.at.String(), verbs[s.do].name}
	for field := range strings.FieldsSeq(verbs[s.do].fields) {
		if value := s.field(field); value != "" {
			words = append(words, field+"="+value)
		}
	}
	return strings.Join(words, " ")
}

func (s step) field(name string) string {
	switch name {
	case "stream":
		return strconv.Itoa(s.stream)
	case "who":
		return clientName(s.who)
	case "whom":
		return clientName(s.whom)
	case "place":
		return placeName(s.place)
	case "count":
		return strconv.Itoa(s.count)
	case "size":
		return strconv.Itoa(s.size)
	case "every":
		return s.every.String()
	case "last":
		if s.do == doOpen && s.last == 0 {
			return ""
		}
		return s.last.String()
	case "back":
		if s.back {
			return "yes"
		}
		return ""
	}
	switch s.do {
	case doOpen:
		return modeNames[s.how]
	case doLine:
		return traitNames(s.how)
	default:
		return natKinds[s.how].name
	}
}

// parseSchedule reads what String writes.
func parseSchedule(text string) (*schedule, error) {
	s := &schedule{}
	var errs []error
	for number, line := range strings.Split(text, "\n") {
		words := strings.Fields(line)
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		if err := s.parseLine(words); err != nil {
			errs = append(errs, fmt.Errorf("line %d: %w", number+1, err))
		}
	}
	if len(s.clients) < 2 {
		errs = append(errs, errors.New("want at least two clients"))
	}
	return s, errors.Join(errs...)
}

func (s *schedule) parseLine(words []string) (err error) {
	if len(words) < 2 {
		return fmt.Errorf("%q: want more than one word", words[0])
	}
	values := map[string]string{}
	for _, word := range words[2:] {
		name, value, _ := strings.Cut(word, "=")
		values[name] = value
	}
	p := fieldParser{values: values}
	switch words[0] {
	case "seed":
		s.seed, err = strconv.ParseUint(words[1], 10, 64)
	case "limits":
		name, value, _ := strings.Cut(words[1], "=")
		values[name] = value
		s.backlog, s.streams, s.mtu = p.number("backlog"), p.number("streams"), p.number("mtu")
		err = p.err
	case "gateway":
		s.gateways = append(s.gateways, gatewayPlan{p.place("at"), p.nat("nat"), p.traits("line")})
		err = p.err
	case "client":
		s.clients = append(s.clients, clientPlan{p.place("at"), p.traits("line")})
		err = p.err
	default:
		var parsed step
		if parsed, err = parseStep(words[0], words[1], &p); err == nil {
			s.steps = append(s.steps, parsed)
		}
	}
	return err
}

func parseStep(at, name string, p *fieldParser) (s step, err error) {
	if s.at, err = time.ParseDuration(at); err != nil {
		return s, err
	}
	s.do = verb(slices.IndexFunc(verbs[:], func(v struct{ name, fields string }) bool { return v.name == name }))
	if s.do < 0 {
		return s, fmt.Errorf("%q: want a verb", name)
	}
	for field := range strings.FieldsSeq(verbs[s.do].fields) {
		switch field {
		case "stream":
			s.stream = p.number(field)
		case "who":
			s.who = p.client(field)
		case "whom":
			s.whom = p.client(field)
		case "place":
			s.place = p.place(field)
		case "back":
			s.back = p.values[field] == "yes"
		case "count":
			s.count = p.number(field)
		case "size":
			s.size = p.number(field)
		case "every":
			s.every = p.duration(field)
		case "last":
			s.last = p.duration(field)
		case "how":
			switch s.do {
			case doOpen:
				s.how = p.index(field, modeNames)
			case doLine:
				s.how = p.traits(field)
			default:
				s.how = p.nat(field)
			}
		}
	}
	return s, p.err
}

// fieldParser reads fields and keeps the first error.
type fieldParser struct {
	values map[string]string
	err    error
}

func (p *fieldParser) fail(field string, why any) {
	if p.err == nil {
		p.err = fmt.Errorf("%s=%s: %v", field, p.values[field], why)
	}
}

func (p *fieldParser) number(field string) int {
	n, err := strconv.Atoi(p.values[field])
	if err != nil || n < 0 {
		p.fail(field, "want a number")
	}
	return max(n, 0)
}

func (p *fieldParser) duration(field string) time.Duration {
	if p.values[field] == "" {
		return 0
	}
	d, err := time.ParseDuration(p.values[field])
	if err != nil {
		p.fail(field, err)
	}
	return d
}

func (p *fieldParser) client(field string) int {
	if p.values[field] == "hub" {
		return hub
	}
	if value := p.values[field]; len(value) == 1 && value[0] >= 'a' && value[0] <= 'z' {
		return int(value[0] - 'a')
	}
	p.fail(field, "want a client, such as a, or hub")
	return 0
}

func (p *fieldParser) place(field string) int {
	if p.values[field] == "internet" {
		return outside
	}
	n, err := strconv.Atoi(strings.TrimPrefix(p.values[field], "g"))
	if err != nil || n < 0 {
		p.fail(field, "want a gateway, such as g0, or internet")
	}
	return max(n, 0)
}

func (p *fieldParser) index(field string, names []string) int {
	i := slices.Index(names, p.values[field])
	if i < 0 {
		p.fail(field, "want one of "+strings.Join(names, ", "))
	}
	return max(i, 0)
}

func (p *fieldParser) nat(field string) int {
	var names []string
	for _, kind := range natKinds {
		names = append(names, kind.name)
	}
	return p.index(field, names)
}

func (p *fieldParser) traits(field string) (traits int) {
	for name := range strings.SplitSeq(p.values[field], "+") {
		if name == "good" {
			continue
		}
		found := false
		for i, trait := range lineTraits {
			if trait.name == name {
				traits, found = traits|1<<i, true
			}
		}
		if !found {
			p.fail(field, "want good, or traits of a line joined by +")
		}
	}
	return traits
}

// TestScheduleText checks that what is printed is parsed back to the same, for
// schedules with every verb.
func TestScheduleText(t *testing.T) {
	seen := map[verb]bool{}
	for seed := range uint64(200) {
		want := drawSchedule(seed)
		for _, step := range want.steps {
			seen[step.do] = true
		}
		got, err := parseSchedule(want.String())
		if err != nil {
			t.Fatalf("%v\n%s", err, want)
		}
		if difference := cmp.Diff(want.String(), got.String()); difference != "" {
			t.Fatalf("parsed and printed again (-want +got):\n%s", difference)
		}
		if difference := cmp.Diff(want, got, cmp.AllowUnexported(schedule{}, gatewayPlan{}, clientPlan{}, step{})); difference != "" {
			t.Fatalf("parsed (-want +got):\n%s", difference)
		}
	}
	for do := range verbCount {
		if !seen[do] {
			t.Errorf("no schedule has the verb %s", verbs[do].name)
		}
	}
	if _, err := parseSchedule("seed x\nclient a at=internet line=fast\n1s jump who=a\n"); err == nil {
		t.Error("a schedule that is wrong in each line was parsed")
	}
}
