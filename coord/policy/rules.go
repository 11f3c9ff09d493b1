package policy

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/conec-go/conec/messages"
)

// Rules is a policy that was read from a file: see [Load]. In each section the first rule
// that fits decides, alone, and what no rule fits is not allowed. It is never changed.
type Rules struct {
	attach    []attachRule
	peers     []peerRule
	groups    []groupRule
	introduce []introduceRule
	limits    []limitRule
	bans      []Ban
}

// attachRule says what clients of some names have to show. One of the proofs is enough.
type attachRule struct {
	line         int
	names        patterns
	authorities  []authority
	fingerprints map[string]bool
	tokens       [][sha256.Size]byte // their hashes
	open         bool
}

// authority is what one file of certificates vouches for.
type authority struct {
	file  string
	roots *x509.CertPool
}

// right is something that one client may do to another, or to a group.
type right string

const (
	maySee    right = "see"
	mayOpen   right = "open"
	mayRelay  right = "relay"
	mayJoin   right = "join"
	mayCreate right = "create"
)

// peerRule says what clients of some names may do to those of others.
type peerRule struct {
	line     int
	from, to patterns
	may      []right
}

// groupRule says which groups clients of some names may join or create.
type groupRule struct {
	line            int
	clients, groups patterns
	may             []right
}

// introduceRule says who may hand which two a channel to each other.
type introduceRule struct {
	line       int
	by         patterns
	one, other patterns
}

// limitRule bounds clients of some names.
type limitRule struct {
	line   int
	names  patterns
	limits Limits
}

// Attach implements [Policy].
func (r *Rules) Attach(who *Subject) error {
	for _, ban := range r.bans {
		if ban.Fits(who) {
			return ban.Err()
		}
	}
	rule := r.attachRule(who.Name)
	if rule == nil {
		return fmt.Errorf("%w: to attach as %q", messages.ErrForbidden, who.Name)
	}
	return rule.admit(who)
}

func (r *Rules) attachRule(name string) *attachRule {
	i := slices.IndexFunc(r.attach, func(rule attachRule) bool { return rule.names.fit(name) })
	if i < 0 {
		return nil
	}
	return &r.attach[i]
}

// admit says why what a client shows is not enough; never which of the proofs was near.
func (a *attachRule) admit(who *Subject) error {
	switch {
	case a.open,
		who.Token != "" && a.knows(who.Token),
		hasKey(who.Certificate, func(fingerprint string) bool { return a.fingerprints[fingerprint] }),
		slices.ContainsFunc(a.authorities, func(by authority) bool { return by.vouches(who) }):
		return nil
	case who.Token != "":
		return fmt.Errorf("%w: to attach as %q with this certificate and join token", messages.ErrForbidden, who.Name)
	}
	return fmt.Errorf("%w: to attach as %q with this certificate and without a join token", messages.ErrForbidden, who.Name)
}

// knows compares a token with all that there are, in a time that does not depend on them.
func (a *attachRule) knows(token string) bool {
	hash, found := sha256.Sum256([]byte(token)), 0
	for _, known := range a.tokens {
		found |= subtle.ConstantTimeCompare(hash[:], known[:])
	}
	return found == 1
}

// vouches tells whether the certificate leads to one of the roots.
func (by authority) vouches(who *Subject) bool {
	if who.Certificate == nil {
		return false
	}
	options := x509.VerifyOptions{
		Roots: by.roots, Intermediates: x509.NewCertPool(), CurrentTime: who.Now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	}
	for _, certificate := range who.Intermediates {
		options.Intermediates.AddCert(certificate)
	}
	_, err := who.Certificate.Verify(options)
	return err == nil
}

// See implements [Policy].
func (r *Rules) See(who, whom *Subject) error { return r.allow(who, whom, maySee) }

// Open implements [Policy].
func (r *Rules) Open(who, whom *Subject) error { return r.allow(who, whom, mayOpen) }

// Relay implements [Policy].
func (r *Rules) Relay(who, whom *Subject) error { return r.allow(who, whom, mayRelay) }

func (r *Rules) allow(who, whom *Subject, what right) error {
	rule := r.peerRule(who.Name, whom.Name)
	switch {
	case rule != nil && slices.Contains(rule.may, what):
		return nil
	case what == mayOpen:
		return fmt.Errorf("%w: to open a channel to %q", messages.ErrForbidden, whom.Name)
	case what == mayRelay:
		return fmt.Errorf("%w: to use the relay with %q", messages.ErrForbidden, whom.Name)
	}
	return fmt.Errorf("%w: %q", messages.ErrNoSuchPeer, whom.Name)
}

func (r *Rules) peerRule(from, to string) *peerRule {
	i := slices.IndexFunc(r.peers, func(rule peerRule) bool { return rule.from.fit(from) && rule.to.fit(to) })
	if i < 0 {
		return nil
	}
	return &r.peers[i]
}

// Introduce implements [Policy].
func (r *Rules) Introduce(who, one, other *Subject) error {
	if r.introduceRule(who.Name, one.Name, other.Name) == nil {
		return fmt.Errorf("%w: to introduce %q and %q", messages.ErrForbidden, one.Name, other.Name)
	}
	return nil
}

func (r *Rules) introduceRule(by, one, other string) *introduceRule {
	i := slices.IndexFunc(r.introduce, func(rule introduceRule) bool {
		return rule.by.fit(by) && rule.between(one, other)
	})
	if i < 0 {
		return nil
	}
	return &r.introduce[i]
}

// between tells whether the rule is about two clients, either way round.
func (i *introduceRule) between(one, other string) bool {
	return i.one.fit(one) && i.other.fit(other) || i.one.fit(other) && i.other.fit(one)
}

// Join implements [Policy].
func (r *Rules) Join(who *Subject, group string, create bool) error {
	what := mayJoin
	if create {
		what = mayCreate
	}
	if rule := r.groupRule(who.Name, group); rule != nil && slices.Contains(rule.may, what) {
		return nil
	}
	return fmt.Errorf("%w: to %s group %q", messages.ErrForbidden, what, group)
}

func (r *Rules) groupRule(client, group string) *groupRule {
	i := slices.IndexFunc(r.groups, func(rule groupRule) bool { return rule.clients.fit(client) && rule.groups.fit(group) })
	if i < 0 {
		return nil
	}
	return &r.groups[i]
}

// Limits implements [Policy].
func (r *Rules) Limits(who *Subject) Limits {
	if rule := r.limitRule(who.Name); rule != nil {
		return rule.limits
	}
	return Limits{}
}

func (r *Rules) limitRule(name string) *limitRule {
	i := slices.IndexFunc(r.limits, func(rule limitRule) bool { return rule.names.fit(name) })
	if i < 0 {
		return nil
	}
	return &r.limits[i]
}

// HashToken returns how a file stores a join token: "sha256:" and the hash of the token
// in hex. Tokens are to be random, so that nobody can guess what has that hash.
func HashToken(token string) string {
	hash := sha256.Sum256([]byte(token))
	return "sha256:" + hex.EncodeToString(hash[:])
}
