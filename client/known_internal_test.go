package client

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/conec-go/conec/messages"
	"github.com/conec-go/conec/netio"
)

// keyForms returns an Ed25519 key as it might be printed.
func keyForms(t *testing.T, text []byte) []string {
	t.Helper()
	block, _ := pem.Decode(text)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	seed := key.(ed25519.PrivateKey).Seed()[:8]
	return []string{string(seed), hex.EncodeToString(seed), strings.Trim(fmt.Sprintf("%d", seed), "[]"), strings.Trim(fmt.Sprintf("%#v", seed), "[]byte{}")}
}

// print is a fingerprint that is not one of anything.
func testPrint(n int) string { return netio.Fingerprint([]byte{byte(n >> 8), byte(n)}) }

func newKnown(t *testing.T, text string) *knownPeers {
	t.Helper()
	k := &knownPeers{path: filepath.Join(t.TempDir(), "known")}
	if text != "" {
		if err := os.WriteFile(k.path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return k
}

// TestKnownPeers trusts on first use, and on no other key afterwards, until a line is removed.
func TestKnownPeers(t *testing.T) {
	k := newKnown(t, "")
	for _, step := range []struct {
		peer  string
		print int
		ok    bool
	}{{"bob", 1, true}, {"bob", 1, true}, {"carol", 2, true}, {"bob", 2, false}, {"bob", 1, true}, {"bo", 3, true}, {"carol", 1, false}} {
		if err := k.check(step.peer, testPrint(step.print)); (err == nil) != step.ok || err != nil && !errors.Is(err, messages.ErrUntrusted) {
			t.Errorf("%+v: %v", step, err)
		}
	}
	text, err := os.ReadFile(k.path)
	if want := "bob " + testPrint(1) + "\ncarol " + testPrint(2) + "\nbo " + testPrint(3) + "\n"; string(text) != want || err != nil {
		t.Errorf("got %q, %v", text, err)
	}
	err = k.check("carol", testPrint(4))
	for _, want := range []string{`KEY OF "carol" HAS CHANGED`, testPrint(4), testPrint(2), "remove line 2 of " + k.path} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want one that says %q", err, want)
		}
	}
	if code, reason := messages.ToCode(err); len(reason) >= messages.MaxReason && len(k.path) < 100 {
		t.Errorf("clipped: %v %s", code, reason)
	}
	lines := strings.SplitAfter(string(text), "\n")
	if err := os.WriteFile(k.path, []byte(lines[0]+lines[2]), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := k.check("carol", testPrint(4)); err != nil {
		t.Error(err)
	}
}

// TestKnownPeersFile reads what people write, and trusts nobody if it can not be understood.
func TestKnownPeersFile(t *testing.T) {
	bob := testPrint(1)
	for _, c := range []struct {
		name, text string
		why        string // empty: bob is trusted
	}{
		{"comment and spaces", "# mine\n\n  bob\t" + strings.ToUpper(bob[:7]) + bob[7:] + " \r\n", "line 3"},
		{"spaces", "# mine\n\n  bob\t" + bob + " \r\n", ""},
		{"two keys", "bob " + testPrint(2) + "\nbob " + bob + "\n", ""},
		{"no end of line", "carol " + bob, ""},
		{"upper case digits", "bob sha256:" + strings.ToUpper(bob[7:]), ""},
		{"name of two", "bob carol " + bob, "line 1"},
		{"no fingerprint", "carol " + testPrint(2) + "\nbob\n", "line 2"},
		{"another fingerprint", "bob " + testPrint(2), "HAS CHANGED"},
		{"too large", strings.Repeat("#", maxKnown+1), "more than"},
		{"full", strings.Repeat("#", maxKnown-10), "at most"},
	} {
		k := newKnown(t, c.text)
		err := k.check("bob", bob)
		if c.why == "" && err != nil || c.why != "" && (!errors.Is(err, messages.ErrUntrusted) || !strings.Contains(err.Error(), c.why)) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.why)
		}
		if c.why != "" {
			if text, err := os.ReadFile(k.path); string(text) != c.text {
				t.Errorf("%s: changed, %v", c.name, err)
			}
		} else if err := k.check("bob", bob); err != nil {
			t.Errorf("%s: not again: %v", c.name, err)
		}
	}
	directory := &knownPeers{path: t.TempDir()}
	if err := directory.check("bob", bob); !errors.Is(err, messages.ErrUntrusted) {
		t.Error(err)
	}
}

// TestKnownPeersAtOnce has many meet different peers, and one name with two keys, at the same
// time: no line is lost, and one key of the name wins.
func TestKnownPeersAtOnce(t *testing.T) {
	k := newKnown(t, "")
	const peers = 20
	var all sync.WaitGroup
	errs := make([]error, 2)
	for i := range peers {
		all.Go(func() {
			if err := (&knownPeers{path: k.path}).check(fmt.Sprintf("peer-%d", i), testPrint(i)); err != nil {
				t.Error(err)
			}
		})
	}
	for i := range errs {
		all.Go(func() { errs[i] = (&knownPeers{path: k.path}).check("mallory", testPrint(100+i)) })
	}
	all.Wait()
	if (errs[0] == nil) == (errs[1] == nil) {
		t.Errorf("two keys of one name: %v and %v", errs[0], errs[1])
	}
	text, err := os.ReadFile(k.path)
	if got := strings.Count(string(text), "\n"); got != peers+1 || err != nil {
		t.Errorf("%d lines, %v", got, err)
	}
}
