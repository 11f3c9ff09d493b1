package policy_test

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/conec-go/conec/coord/policy"
	"github.com/conec-go/conec/messages"
	"github.com/conec-go/conec/netio"
)

var now = time.Date(2026, time.November, 26, 12, 0, 0, 0, time.UTC)

// parse reads rules that name no other files.
func parse(t *testing.T, text string) *policy.Rules {
	t.Helper()
	rules, err := policy.Parse("policy.yaml", []byte(text), noFiles)
	if err != nil {
		t.Fatal(err)
	}
	return rules
}

func noFiles(name string) ([]byte, error) { return nil, os.ErrNotExist }

// who is a client with a certificate of its own.
func who(t *testing.T, name string) *policy.Subject {
	t.Helper()
	identity, err := netio.NewIdentity(name, now)
	if err != nil {
		t.Fatal(err)
	}
	return &policy.Subject{
		Name: name, Certificate: identity.Certificate(), Addr: netip.MustParseAddrPort("192.0.2.7:4000"), Now: now,
	}
}

// certificateOf is what a file has of an authority.
func certificateOf(authority *netio.Identity) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authority.Chain()[0]})
}

// decides checks a decision against the error that is wanted, nil to allow.
func decides(t *testing.T, what string, got, want error) {
	t.Helper()
	if want == nil && got != nil || want != nil && !errors.Is(got, want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func TestRulesPeers(t *testing.T) {
	rules := parse(t, `
attach: [{name: "*", open: true}]
peers:
  - {from: "device-*", to: device-evil, may: []}
  - {from: "device-*", to: [hub, "device-*"], may: [see, open]}
  - {from: hub, to: "*", may: [see, open, relay]}
  - {from: "*", to: hub, may: [see]}
`)
	for _, test := range []struct {
		from, to         string
		see, open, relay error
	}{
		{"device-1", "device-2", nil, nil, messages.ErrForbidden},
		{"device-1", "device-evil", messages.ErrNoSuchPeer, messages.ErrForbidden, messages.ErrForbidden}, // the first that fits decides
		{"device-evil", "device-1", nil, nil, messages.ErrForbidden},
		{"device-1", "hub", nil, nil, messages.ErrForbidden},
		{"hub", "device-1", nil, nil, nil},
		{"other", "hub", nil, messages.ErrForbidden, messages.ErrForbidden},
		{"other", "device-1", messages.ErrNoSuchPeer, messages.ErrForbidden, messages.ErrForbidden}, // nothing fits
	} {
		from, to := &policy.Subject{Name: test.from}, &policy.Subject{Name: test.to}
		about := test.from + " to " + test.to
		decides(t, about+": see", rules.See(from, to), test.see)
		decides(t, about+": open", rules.Open(from, to), test.open)
		decides(t, about+": relay", rules.Relay(from, to), test.relay)
	}
}

func TestRulesGroupsAndIntroductions(t *testing.T) {
	rules := parse(t, `
attach: [{name: "*", open: true}]
groups:
  - {client: hub, group: "*", may: [join, create]}
  - {client: "device-*", group: [news, "room/*"], may: [join]}
introduce:
  - {by: hub, between: ["device-*", ["screen-*", printer]]}
`)
	for _, test := range []struct {
		client, group string
		create        bool
		want          error
	}{
		{"hub", "anything", true, nil},
		{"device-1", "room/7", false, nil},
		{"device-1", "room/7", true, messages.ErrForbidden},
		{"device-1", "secret", false, messages.ErrForbidden},
		{"other", "news", false, messages.ErrForbidden},
	} {
		decides(t, test.client+" and "+test.group, rules.Join(&policy.Subject{Name: test.client}, test.group, test.create), test.want)
	}
	for _, test := range []struct {
		by, one, other string
		want           error
	}{
		{"hub", "device-1", "screen-1", nil},
		{"hub", "printer", "device-1", nil},
		{"hub", "device-1", "device-2", messages.ErrForbidden},
		{"hub", "screen-1", "printer", messages.ErrForbidden},
		{"device-1", "device-1", "screen-1", messages.ErrForbidden},
	} {
		err := rules.Introduce(&policy.Subject{Name: test.by}, &policy.Subject{Name: test.one}, &policy.Subject{Name: test.other})
		decides(t, test.by+" introduces "+test.one+" and "+test.other, err, test.want)
	}
}

func TestRulesLimits(t *testing.T) {
	rules := parse(t, `
attach: [{name: "*", open: true}]
limits:
  - {name: "big-*", channels: 100}
  - {name: "*-1", pending: 2, opens: 3, joins: 4, relay-rate: 1000}
  - {name: ["guest-*", visitor], clients: 5}
`)
	for name, want := range map[string]policy.Limits{
		"big-1":   {Channels: 100},
		"small-1": {Pending: 2, Opens: 3, Joins: 4, RelayRate: 1000},
		"guest-7": {Clients: 5, Class: "guest-*, visitor"},
		"visitor": {Clients: 5, Class: "guest-*, visitor"},
		"other":   {},
	} {
		if got := rules.Limits(&policy.Subject{Name: name}); got != want {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
	}
}

// TestRulesAttach tries each proof, and that a proof for one name is none for another.
func TestRulesAttach(t *testing.T) {
	authority, err := netio.NewAuthority("devices", now)
	if err != nil {
		t.Fatal(err)
	}
	issued := func(name string, at time.Time) *policy.Subject {
		identity, err := authority.Issue(name, at)
		if err != nil {
			t.Fatal(err)
		}
		s := &policy.Subject{Name: name, Certificate: identity.Certificate(), Now: now}
		for _, der := range identity.Chain()[1:] {
			more, err := x509.ParseCertificate(der)
			if err != nil {
				t.Fatal(err)
			}
			s.Intermediates = append(s.Intermediates, more)
		}
		return s
	}
	byKey, byCertificate := who(t, "alice"), who(t, "alice")
	upper := strings.ToUpper(strings.TrimPrefix(netio.Fingerprint(byCertificate.Certificate.Raw), "sha256:"))
	text := `
attach:
  - name: alice
    fingerprints:
      - ` + netio.Fingerprint(byKey.Certificate.RawSubjectPublicKeyInfo) + `
      - sha256:` + upper + `
  - {name: "device-*", authorities: devices.pem, tokens: "` + policy.HashToken("the token of devices") + `"}
  - {name: "guest-*", tokens: ["the token of guests", "the other token of guests"]}
  - {name: "open-*", open: true}
`
	rules, err := policy.Parse("policy.yaml", []byte(text), func(name string) ([]byte, error) {
		if name != "devices.pem" {
			return nil, os.ErrNotExist
		}
		return certificateOf(authority), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	token := func(name, token string) *policy.Subject {
		s := who(t, name)
		s.Token = token
		return s
	}
	expired := issued("device-1", now.AddDate(-20, 0, 0))
	impostor := who(t, "alice")
	for what, test := range map[string]struct {
		who  *policy.Subject
		want error
	}{
		"key":                             {byKey, nil},
		"certificate":                     {byCertificate, nil},
		"another key":                     {impostor, messages.ErrForbidden},
		"authority":                       {issued("device-1", now), nil},
		"authority, for another rule":     {issued("guest-1", now), messages.ErrForbidden},
		"authority, expired":              {expired, messages.ErrForbidden},
		"no authority":                    {who(t, "device-1"), messages.ErrForbidden},
		"hashed token":                    {token("device-2", "the token of devices"), nil},
		"the hash itself":                 {token("device-2", policy.HashToken("the token of devices")), messages.ErrForbidden},
		"token":                           {token("guest-1", "the token of guests"), nil},
		"second token":                    {token("guest-1", "the other token of guests"), nil},
		"no token":                        {token("guest-1", ""), messages.ErrForbidden},
		"token of others":                 {token("guest-1", "the token of devices"), messages.ErrForbidden},
		"beginning of a token":            {token("guest-1", "the token of guest"), messages.ErrForbidden},
		"a token takes no other's name":   {token("alice", "the token of guests"), messages.ErrForbidden},
		"open":                            {who(t, "open-1"), nil},
		"nothing fits":                    {token("mallory", "the token of guests"), messages.ErrForbidden},
		"without certificate, by a token": {&policy.Subject{Name: "guest-1", Token: "the token of guests", Now: now}, nil},
		"without certificate":             {&policy.Subject{Name: "device-1", Now: now}, messages.ErrForbidden},
	} {
		err := rules.Attach(test.who)
		decides(t, what, err, test.want)
		if err != nil && test.who.Token != "" && strings.Contains(err.Error(), test.who.Token) {
			t.Errorf("%s: the error shows the token: %v", what, err)
		}
	}
}

func TestBans(t *testing.T) {
	alice := who(t, "alice")
	text := `
attach: [{name: "*", open: true}]
ban:
  - {name: "spam-*", reason: no spam}
  - {key: "` + netio.Fingerprint(alice.Certificate.RawSubjectPublicKeyInfo) + `"}
  - {addr: 198.51.100.0/24, until: "2026-12-01T00:00:00Z"}
  - {name: bob, addr: "2001:db8::1"}
`
	rules := parse(t, text)
	at := func(name, addr string, when time.Time) *policy.Subject {
		s := who(t, name)
		s.Addr, s.Now = netip.MustParseAddrPort(addr), when
		return s
	}
	for what, test := range map[string]struct {
		who  *policy.Subject
		want error
	}{
		"name":                        {who(t, "spam-7"), messages.ErrBanned},
		"another name":                {who(t, "ham-7"), nil},
		"key":                         {alice, messages.ErrBanned},
		"another key":                 {who(t, "alice"), nil},
		"address":                     {at("carol", "198.51.100.9:1", now), messages.ErrBanned},
		"address, written as IPv6":    {at("carol", "[::ffff:198.51.100.9]:1", now), messages.ErrBanned},
		"address, when it is over":    {at("carol", "198.51.100.9:1", now.AddDate(0, 1, 0)), nil},
		"another address":             {at("carol", "198.51.101.9:1", now), nil},
		"name and address":            {at("bob", "[2001:db8::1]:1", now), messages.ErrBanned},
		"name, at another address":    {at("bob", "[2001:db8::2]:1", now), nil},
		"address, with another name":  {at("carol", "[2001:db8::1]:1", now), nil},
		"address, in another's zone ": {at("bob", "[2001:db8::1%eth0]:1", now), messages.ErrBanned},
	} {
		decides(t, what, rules.Attach(test.who), test.want)
	}
	if got, want := rules.Attach(who(t, "spam-1")).Error(), "banned: no spam"; got != want {
		t.Errorf("told %q, want %q", got, want)
	}
	if got, want := rules.Attach(at("carol", "198.51.100.9:1", now)).Error(), "banned until 2026-12-01T00:00:00Z"; got != want {
		t.Errorf("told %q, want %q", got, want)
	}
	for _, ban := range []policy.Ban{{}, {Name: "A*"}, {Key: "sha256:12"}, {Name: "a", Reason: string(make([]byte, 1000))}} {
		if ban.Validate() == nil {
			t.Errorf("%+v is valid", ban)
		}
	}
	mapped := policy.Ban{Addr: netip.MustParsePrefix("::ffff:198.51.100.0/120")}
	if !mapped.Fits(at("carol", "198.51.100.9:1", now)) || mapped.Fits(at("carol", "198.51.101.9:1", now)) {
		t.Error("a prefix of IPv4 that is written as IPv6 does not fit as it should")
	}
}
