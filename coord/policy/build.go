package policy

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/conec-go/conec/messages"
	"github.com/conec-go/conec/netio"
)

// minToken is the least length of a join token in bytes.
const minToken = 16

// rules makes rules of what is in a file, and says what is wrong with them.
func (f *reading) rules(content *fileContent) *Rules {
	r := &Rules{}
	if len(content.Attach) == 0 && len(f.errs) == 0 {
		f.fail(1, `attach: no rule: nobody could attach; want for instance {name: "*", open: true}`)
	}
	for section, count := range map[string]int{
		"attach": len(content.Attach), "ban": len(content.Ban), "peers": len(content.Peers), "groups": len(content.Groups),
		"introduce": len(content.Introduce), "limits": len(content.Limits),
	} {
		if count > maxRules {
			f.fail(content.line(section, 0), "%s: %d rules; want at most %d", section, count, maxRules)
			return r
		}
	}
	for i, from := range content.Attach {
		r.attach = append(r.attach, f.attachRule(from, content.line("attach", i)))
	}
	for i, from := range content.Ban {
		r.bans = append(r.bans, f.ban(from, content.line("ban", i)))
	}
	for i, from := range content.Peers {
		r.peers = append(r.peers, f.peerRule(from, content.line("peers", i)))
	}
	for i, from := range content.Groups {
		r.groups = append(r.groups, f.groupRule(from, content.line("groups", i)))
	}
	for i, from := range content.Introduce {
		r.introduce = append(r.introduce, f.introduceRule(from, content.line("introduce", i)))
	}
	for i, from := range content.Limits {
		r.limits = append(r.limits, f.limitRule(from, content.line("limits", i)))
	}
	if len(f.errs) == 0 {
		f.idle(r)
	}
	return r
}

// line is where an element of a section is.
func (c *fileContent) line(section string, i int) int {
	if lines := c.lines[section]; i < len(lines) {
		return lines[i]
	}
	return 1
}

// patterns checks a list of patterns that has to be there.
func (f *reading) patterns(line int, field string, from list, check func(pattern) error) (ps patterns) {
	if len(from.words) == 0 {
		f.fail(line, `%s: is missing; want a pattern such as "*", or a list of them`, field)
	}
	for _, word := range from.words {
		if err := check(pattern(word)); err != nil {
			f.fail(line, "%s: %v", field, err)
		}
		ps = append(ps, pattern(word))
	}
	return ps
}

// rights checks a list of rights. Each of them needs those before it in the order of all.
func (f *reading) rights(line int, field string, from list, all ...right) (may []right) {
	if !from.given {
		f.fail(line, "%s: is missing; want a list of %v, or [] for nothing", field, all)
	}
	for _, word := range from.words {
		if !slices.Contains(all, right(word)) {
			f.fail(line, "%s: no right %q; want a list of %v, or [] for nothing", field, messages.Clip(word, 40), all)
		}
		may = append(may, right(word))
	}
	for i, what := range all[1:] {
		if slices.Contains(may, what) && !slices.Contains(may, all[i]) {
			f.fail(line, "%s: %s is of no use without %s; want both", field, what, all[i])
		}
	}
	return may
}

func (f *reading) peerRule(from peerContent, line int) peerRule {
	return peerRule{
		line: line,
		from: f.patterns(line, "from", from.From, checkPattern),
		to:   f.patterns(line, "to", from.To, checkPattern),
		may:  f.rights(line, "may", from.May, maySee, mayOpen, mayRelay),
	}
}

func (f *reading) groupRule(from groupContent, line int) groupRule {
	return groupRule{
		line:    line,
		clients: f.patterns(line, "client", from.Client, checkPattern),
		groups:  f.patterns(line, "group", from.Group, checkGroupPattern),
		may:     f.rights(line, "may", from.May, mayJoin, mayCreate),
	}
}

func (f *reading) introduceRule(from introduceContent, line int) introduceRule {
	rule := introduceRule{line: line, by: f.patterns(line, "by", from.By, checkPattern)}
	if len(from.Between) != 2 {
		f.fail(line, "between: %d patterns; want two, one for each side, such as [device-*, screen-*]", len(from.Between))
		return rule
	}
	rule.one = f.patterns(line, "between", from.Between[0], checkPattern)
	rule.other = f.patterns(line, "between", from.Between[1], checkPattern)
	return rule
}

func (f *reading) limitRule(from limitContent, line int) limitRule {
	rule := limitRule{line: line, names: f.patterns(line, "name", from.Name, checkPattern)}
	const most = 1 << 40
	given := false
	number := func(field string, n number, atMost int64) int64 {
		given = given || n.given
		if n.given && !n.wrong && (n.value < 1 || n.value > atMost) {
			f.fail(line, "%s: is %d; want 1 to %d, or leave it out for the coordinator's own limit", field, n.value, atMost)
		}
		return n.value
	}
	rule.limits = Limits{
		Channels: int(number("channels", from.Channels, 1<<20)), Pending: int(number("pending", from.Pending, 1<<20)),
		Opens: int(number("opens", from.Opens, 1<<20)), Joins: int(number("joins", from.Joins, 1<<20)),
		RelayRate: number("relay-rate", from.RelayRate, most), Clients: int(number("clients", from.Clients, 1<<20)),
	}
	if from.Clients.given {
		rule.limits.Class = rule.names.String()
	}
	if !given {
		f.fail(line, "no limit; want one of channels, pending, opens, joins, relay-rate, clients")
	}
	return rule
}

func (f *reading) ban(from banContent, line int) Ban {
	ban := Ban{Name: from.Name, Key: strings.ToLower(from.Key), Reason: from.Reason}
	if from.Addr != "" {
		prefix, err := netip.ParsePrefix(from.Addr)
		if addr, single := netip.ParseAddr(from.Addr); single == nil {
			prefix, err = netip.PrefixFrom(addr, addr.BitLen()), nil
		}
		if err != nil {
			f.fail(line, "addr: %q; want an address or a prefix such as 192.0.2.0/24", messages.Clip(from.Addr, 60))
			return ban
		}
		ban.Addr = prefix
	}
	if from.Until != "" {
		until, err := time.Parse(time.RFC3339, from.Until)
		if err != nil {
			f.fail(line, "until: %q; want a time such as 2027-01-31T12:00:00Z", messages.Clip(from.Until, 60))
		}
		ban.Until = until
	}
	if err := ban.Validate(); err != nil {
		f.fail(line, "ban: %s", strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	return ban
}

func (f *reading) attachRule(from attachContent, line int) attachRule {
	rule := attachRule{
		line: line, names: f.patterns(line, "name", from.Name, checkPattern),
		fingerprints: map[string]bool{}, open: from.Open != nil && *from.Open,
	}
	for _, name := range from.Authorities.words {
		rule.authorities = append(rule.authorities, f.authority(line, name))
	}
	for _, fingerprint := range from.Fingerprints.words {
		fingerprint = strings.ToLower(fingerprint)
		if err := netio.CheckFingerprint(fingerprint); err != nil {
			f.fail(line, "fingerprints: %v", err)
		}
		rule.fingerprints[fingerprint] = true
	}
	for i, token := range from.Tokens.words {
		rule.tokens = append(rule.tokens, f.token(line, i+1, token))
	}
	proofs := len(rule.authorities) + len(rule.fingerprints) + len(rule.tokens)
	switch {
	case rule.open && proofs > 0:
		f.fail(line, "open: true lets everybody in, whatever the other proofs say; want either")
	case from.Open != nil && !rule.open:
		f.fail(line, "open: false says nothing; leave it out")
	case !rule.open && proofs == 0:
		f.fail(line, "no proof; want one of authorities, fingerprints, tokens, or open: true for everybody")
	}
	return rule
}

func (f *reading) authority(line int, name string) authority {
	data, err := f.read(name)
	if err != nil {
		f.fail(line, "authorities: %v", err)
	}
	roots := x509.NewCertPool()
	if err == nil && !roots.AppendCertsFromPEM(data) {
		f.fail(line, "authorities: %s: no PEM certificate in it", name)
	}
	return authority{file: name, roots: roots}
}

// token takes a token as it is, or its hash. Its errors do not show it.
func (f *reading) token(line, number int, text string) [sha256.Size]byte {
	if digits, hashed := strings.CutPrefix(text, "sha256:"); hashed {
		hash, err := hex.DecodeString(digits)
		if err != nil || len(hash) != sha256.Size {
			f.fail(line, "tokens: number %d: want sha256: and 64 hex digits, or the token itself", number)
			return [sha256.Size]byte{}
		}
		return [sha256.Size]byte(hash)
	}
	if len(text) < minToken || len(text) > messages.MaxToken {
		f.fail(line, "tokens: number %d has %d characters; want %d to %d random ones, such as openssl rand -hex 16 prints",
			number, len(text), minToken, messages.MaxToken)
	}
	return sha256.Sum256([]byte(text))
}

// idle complains about rules that never decide, because one before them fits all that
// they fit.
func (f *reading) idle(r *Rules) {
	report := func(section string, line, before int) {
		f.fail(line, "%s: never decides, because the rule in line %d fits all that it fits and comes first; want it above that one, or not at all", section, before)
	}
	for i, rule := range r.attach {
		if j := slices.IndexFunc(r.attach[:i], func(first attachRule) bool { return first.names.cover(rule.names) }); j >= 0 {
			report("attach", rule.line, r.attach[j].line)
		}
	}
	for i, rule := range r.peers {
		j := slices.IndexFunc(r.peers[:i], func(first peerRule) bool { return first.from.cover(rule.from) && first.to.cover(rule.to) })
		if j >= 0 {
			report("peers", rule.line, r.peers[j].line)
		}
	}
	for i, rule := range r.groups {
		j := slices.IndexFunc(r.groups[:i], func(first groupRule) bool {
			return first.clients.cover(rule.clients) && first.groups.cover(rule.groups)
		})
		if j >= 0 {
			report("groups", rule.line, r.groups[j].line)
		}
	}
	for i, rule := range r.limits {
		if j := slices.IndexFunc(r.limits[:i], func(first limitRule) bool { return first.names.cover(rule.names) }); j >= 0 {
			report("limits", rule.line, r.limits[j].line)
		}
	}
}
