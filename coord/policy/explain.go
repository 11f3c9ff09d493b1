package policy

import (
	"fmt"
	"strings"
	"time"
)

// Question is what [Rules.Answer] answers.
type Question struct {
	// Who is the client that it is about.
	Who string
	// Peer is another client. May be empty.
	Peer string
	// Group is a group. May be empty.
	Group string
}

// Answer says, a line for each matter, what a client may do and which line of the file
// says so.
func (r *Rules) Answer(q Question) []string {
	lines := r.answerAttach(q.Who)
	if q.Peer != "" {
		lines = append(lines, r.answerPeer(q.Who, q.Peer), r.answerPeer(q.Peer, q.Who))
		for _, rule := range r.introduce {
			if rule.between(q.Who, q.Peer) {
				lines = append(lines, fmt.Sprintf("%s and %s may be introduced by %v (line %d)", q.Who, q.Peer, rule.by, rule.line))
			}
		}
	}
	if q.Group != "" {
		if rule := r.groupRule(q.Who, q.Group); rule == nil {
			lines = append(lines, fmt.Sprintf("%s may not join %s: no rule fits", q.Who, q.Group))
		} else {
			lines = append(lines, fmt.Sprintf("%s may %s %s (line %d)", q.Who, rightsText(rule.may), q.Group, rule.line))
		}
	}
	return lines
}

func (r *Rules) answerAttach(who string) (lines []string) {
	for _, ban := range r.bans {
		if ban.Name != "" && pattern(ban.Name).fits(who) {
			lines = append(lines, "banned is "+ban.describe())
		}
	}
	rule := r.attachRule(who)
	if rule == nil {
		return append(lines, who+" may not attach: no rule fits")
	}
	lines = append(lines, fmt.Sprintf("%s may attach %s (line %d)", who, rule.proofs(), rule.line))
	if rule := r.limitRule(who); rule != nil {
		lines = append(lines, fmt.Sprintf("%s has %s (line %d)", who, rule.limits, rule.line))
	}
	return lines
}

func (r *Rules) answerPeer(from, to string) string {
	rule := r.peerRule(from, to)
	if rule == nil {
		return fmt.Sprintf("%s may do nothing to %s: no rule fits", from, to)
	}
	return fmt.Sprintf("%s may %s %s (line %d)", from, rightsText(rule.may), to, rule.line)
}

// Explain says what the file says, a line for each rule.
func (r *Rules) Explain() []string {
	var lines []string
	say := func(line int, format string, args ...any) {
		lines = append(lines, fmt.Sprintf("line %d: ", line)+fmt.Sprintf(format, args...))
	}
	for _, rule := range r.attach {
		say(rule.line, "%v may attach %s", rule.names, rule.proofs())
	}
	for _, ban := range r.bans {
		lines = append(lines, "banned is "+ban.describe())
	}
	for _, rule := range r.peers {
		say(rule.line, "%v may %s %v", rule.from, rightsText(rule.may), rule.to)
	}
	for _, rule := range r.groups {
		say(rule.line, "%v may %s %v", rule.clients, rightsText(rule.may), rule.groups)
	}
	for _, rule := range r.introduce {
		say(rule.line, "%v may introduce %v and %v", rule.by, rule.one, rule.other)
	}
	for _, rule := range r.limits {
		say(rule.line, "%v has %v", rule.names, rule.limits)
	}
	return lines
}

// proofs says what is enough to attach.
func (a *attachRule) proofs() string {
	if a.open {
		return "with any key"
	}
	var ways []string
	for _, by := range a.authorities {
		ways = append(ways, "a certificate of "+by.file)
	}
	for _, proof := range []struct {
		count int
		name  string
	}{{len(a.fingerprints), "key"}, {len(a.tokens), "join token"}} {
		switch {
		case proof.count == 1:
			ways = append(ways, "the "+proof.name)
		case proof.count > 1:
			ways = append(ways, fmt.Sprintf("one of %d %ss", proof.count, proof.name))
		}
	}
	return "with " + strings.Join(ways, " or ")
}

func rightsText(may []right) string {
	if len(may) == 0 {
		return "do nothing to"
	}
	words := make([]string, len(may))
	for i, what := range may {
		words[i] = string(what)
	}
	return strings.Join(words, ", ")
}

// String lists the limits that are set.
func (l Limits) String() string {
	var words []string
	for _, limit := range []struct {
		value int64
		text  string
	}{
		{int64(l.Channels), "at most %d channels"},
		{int64(l.Pending), "at most %d introductions without an answer"},
		{int64(l.Opens), "at most %d introductions per second"},
		{int64(l.Joins), "at most %d groups joined per second"},
		{l.RelayRate, "at most %d bytes per second over the relay"},
		{int64(l.Clients), "at most %d clients of these names attached"},
	} {
		if limit.value > 0 {
			words = append(words, fmt.Sprintf(limit.text, limit.value))
		}
	}
	if len(words) == 0 {
		return "the coordinator's limits"
	}
	return strings.Join(words, ", ")
}

// describe says whom the ban keeps away.
func (b Ban) describe() string {
	var words []string
	if b.Name != "" {
		words = append(words, b.Name)
	}
	if b.Key != "" {
		words = append(words, "key "+b.Key)
	}
	if b.Addr.IsValid() {
		words = append(words, "at "+b.Addr.String())
	}
	text := strings.Join(words, ", ")
	if !b.Until.IsZero() {
		text += " until " + b.Until.UTC().Format(time.RFC3339)
	}
	return text
}
