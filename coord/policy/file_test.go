package policy_test

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/conec-go/conec/coord/policy"
	"github.com/conec-go/conec/netio"
)

// TestErrors holds that all that is wrong is told at once, with its line and what is wanted.
func TestErrors(t *testing.T) {
	text := `attach:
  - name: Alice
    open: true
  - {name: a, opne: true, tokens: tooshort}
  - {name: b}
  - {name: c, open: true, tokens: 0123456789abcdef0123}
  - {name: d, authorities: missing.pem}
  - {name: e, fingerprints: "sha256:12", open: no}
peers:
  - {from: "*", to: hub, may: [open]}
  - {to: hub, may: [see, fly]}
  - {from: "*", to: "*"}
groups:
  - {client: a, group: x, may: [create]}
introduce:
  - {by: a, between: [x]}
limits:
  - {name: "*"}
  - {name: x, channels: 0}
  - {name: y, channels: many}
ban:
  - {reason: none}
  - {name: x, until: tomorrow}
  - {addr: 300.1.1.1}
frobnicate: true
`
	_, err := policy.Parse("p.yaml", []byte(text), noFiles)
	if err == nil {
		t.Fatal("no error")
	}
	want := []string{
		`p.yaml:2: name: "Alice": no name has such a character; want a-z, 0-9, - _ . and the wildcards * and ?`,
		`p.yaml:4: no field opne; want one of name, authorities, fingerprints, tokens, open`,
		`p.yaml:4: tokens: number 1 has 8 characters; want 16 to 255 random ones, such as openssl rand -hex 16 prints`,
		`p.yaml:5: no proof; want one of authorities, fingerprints, tokens, or open: true for everybody`,
		`p.yaml:6: open: true lets everybody in, whatever the other proofs say; want either`,
		`p.yaml:7: authorities: file does not exist`,
		`p.yaml:8: fingerprints: fingerprint "sha256:12": want sha256: and 64 hex digits`,
		`p.yaml:8: open: false says nothing; leave it out`,
		`p.yaml:10: may: open is of no use without see; want both`,
		`p.yaml:11: from: is missing; want a pattern such as "*", or a list of them`,
		`p.yaml:11: may: no right "fly"; want a list of [see open relay], or [] for nothing`,
		`p.yaml:12: may: is missing; want a list of [see open relay], or [] for nothing`,
		`p.yaml:14: may: create is of no use without join; want both`,
		`p.yaml:16: between: 1 patterns; want two, one for each side, such as [device-*, screen-*]`,
		`p.yaml:18: no limit; want one of channels, pending, opens, joins, relay-rate, clients`,
		`p.yaml:19: channels: is 0; want 1 to 1048576, or leave it out for the coordinator's own limit`,
		`p.yaml:20: is "many"; want a number`,
		`p.yaml:22: ban: nobody is named: want a name, a key or an address`,
		`p.yaml:23: until: "tomorrow"; want a time such as 2027-01-31T12:00:00Z`,
		`p.yaml:24: addr: "300.1.1.1"; want an address or a prefix such as 192.0.2.0/24`,
		`p.yaml:25: no field frobnicate; want one of attach, ban, peers, groups, introduce, limits`,
	}
	if diff := cmp.Diff(want, strings.Split(err.Error(), "\n")); diff != "" {
		t.Errorf("errors (- wanted, + got):\n%s", diff)
	}
	var one *policy.Error
	if !errors.As(err, &one) || one.Line != 2 || one.File != "p.yaml" {
		t.Errorf("the first error is %+v", one)
	}
}

// TestOneError tries files that are wrong as a whole, or in one place.
func TestOneError(t *testing.T) {
	const attach = "attach: [{name: '*', open: true}]\n"
	for text, want := range map[string]string{
		"":                                  "is empty",
		"# nothing\n":                       "is empty",
		"attach: [":                         "",
		"attach: []\n":                      "nobody could attach",
		"peers: []\n":                       "nobody could attach",
		"- a\n":                             "want the sections",
		attach + "---\n" + attach:           "a second document",
		"attach: [{name: *, open: true}]\n": "needs quotes",
		"attach: &a [{name: x, open: true}]\npeers: *a\n": "anchors and aliases",
		attach + attach:                                      "already defined",
		attach + "peers: everything\n":                       "want a list of rules",
		attach + "peers: [everything]\n":                     "want fields: from, to, may",
		attach + "peers: [{from: {a: b}, to: c, may: []}]\n": "want a word, or a list of words",
		attach + "limits: [{name: x, relay-rate: -1}]\n":     "relay-rate: is -1",
		"attach:\n  - {name: '*', open: true}\n  - {name: hub, tokens: 0123456789abcdef}\n":                  "attach: never decides, because the rule in line 2",
		attach + "peers:\n  - {from: 'a*', to: '*', may: []}\n  - {from: [ab, 'ac*'], to: x, may: [see]}\n":  "peers: never decides, because the rule in line 3",
		attach + "groups:\n  - {client: '*', group: '*', may: []}\n  - {client: x, group: y, may: [join]}\n": "groups: never decides",
		attach + "limits:\n  - {name: '*', channels: 1}\n  - {name: x, channels: 2}\n":                       "limits: never decides",
		attach + "groups: [{client: x, group: \"a\\nb\", may: [join]}]\n":                                    "control character",
		"attach: [{name: x, tokens: 'sha256:0123456789abcdef'}]\n":                                           "want sha256: and 64 hex digits",
		attach + strings.Repeat("#", 1<<20):                                                                  "bytes; want at most",
		attach + "limits:\n" + strings.Repeat("  - {name: x, channels: 2}\n", 1001):                          "1001 rules; want at most 1000",
		"attach: [{name: '" + strings.Repeat("a", 300) + "', open: true}]\n":                                 "has 300 characters",
		"attach: [{name: [], open: true}]\n":                                                                 "name: is missing",
		"attach: [{name: x, open: perhaps}]\n":                                                               "want true or false",
	} {
		_, err := policy.Parse("p.yaml", []byte(text), noFiles)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "p.yaml:") {
			t.Errorf("%.100q: %v, want %q", text, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "0123456789abcdef") {
			t.Errorf("%.100q: the error shows a token: %v", text, err)
		}
		if err != nil && strings.Contains(err.Error(), "policy.") && !strings.Contains(err.Error(), "policy.yaml") {
			t.Errorf("%.100q: the error speaks Go: %v", text, err)
		}
	}
}

// TestExample loads the example of docs/operations.md, and holds what its explanation says.
func TestExample(t *testing.T) {
	page, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile("(?s)```yaml\n(# policy.yaml.*?)```").FindSubmatch(page)
	if found == nil {
		t.Fatal("no policy in docs/operations.md")
	}
	dir := t.TempDir()
	name := filepath.Join(dir, "policy.yaml")
	if err := os.WriteFile(name, found[1], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := policy.Load(name); err == nil || !strings.Contains(err.Error(), "devices.pem") {
		t.Errorf("without the certificates that it names: %v", err)
	}
	authority, err := netio.NewAuthority("devices", now)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "devices.pem"), certificateOf(authority), 0o600); err != nil {
		t.Fatal(err)
	}
	rules, err := policy.Load(name)
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Join(rules.Answer(policy.Question{Who: "device-7", Peer: "hub", Group: "alarms"}), "\n")
	for _, want := range []string{
		"device-7 may attach with a certificate of devices.pem",
		"device-7 may see, open, relay hub",
		"hub may see, open device-7",
		"device-7 may join alarms",
		"device-7 has at most 8 channels",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the answer has no %q:\n%s", want, got)
		}
	}
	if len(rules.Explain()) < 10 {
		t.Errorf("the explanation is\n%s", strings.Join(rules.Explain(), "\n"))
	}
}

// FuzzParse holds that no text makes the reader fail, or rules that can not be asked.
func FuzzParse(f *testing.F) {
	f.Add("attach: [{name: '*', open: true}]\npeers: [{from: 'a*', to: '?b', may: [see]}]\n")
	f.Add("attach:\n- {name: a, tokens: [0123456789abcdef, 'sha256:00']}\nban: [{addr: 192.0.2.0/24, until: 2026-01-01T00:00:00Z}]\n")
	f.Add("introduce: [{by: a, between: [b, [c, d]]}]\nlimits: [{name: x, opens: 3}]\ngroups: [{client: a, group: 'r*', may: [join, create]}]")
	f.Fuzz(func(t *testing.T, text string) {
		rules, err := policy.Parse("p.yaml", []byte(text), noFiles)
		if err != nil {
			for line := range strings.Lines(err.Error()) {
				if line == "" {
					t.Errorf("an empty line in %q", err)
				}
			}
			return
		}
		a, b := &policy.Subject{Name: "alice"}, &policy.Subject{Name: "bob"}
		_, _, _, _ = rules.Attach(a), rules.Open(a, b), rules.Introduce(a, a, b), rules.Join(a, "room", true)
		if rules.Open(a, b) == nil && rules.See(a, b) != nil || rules.Relay(a, b) == nil && rules.Open(a, b) != nil {
			t.Error("a right without the one that it needs")
		}
		rules.Explain()
		rules.Answer(policy.Question{Who: "alice", Peer: "bob", Group: "room"})
		if limits := rules.Limits(a); limits.Channels < 0 || limits.RelayRate < 0 {
			t.Errorf("limits are %+v", limits)
		}
	})
}
