package policy

import (
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
)

func TestPatternFits(t *testing.T) {
	for _, test := range []struct {
		pattern, name string
		want          bool
	}{
		{"alice", "alice", true},
		{"alice", "alice2", false},
		{"alice", "xalice", false},
		{"*", "anything.at_all", true},
		{"device-*", "device-7", true},
		{"device-*", "device-", true},
		{"device-*", "device", false},
		{"device-*", "my-device-7", false},
		{"*-hub", "east-hub", true},
		{"*-hub", "east-hub-2", false},
		{"device-?", "device-7", true},
		{"device-?", "device-77", false},
		{"device-?", "device-", false},
		{"a*b*c", "abc", true},
		{"a*b*c", "a-b-b-c", true},
		{"a*b*c", "a-c-b", false},
		{"*a*", "bab", true},
		{"**", "x", true},
		{"?*", "x", true},
		{"a.c", "abc", false}, // a dot is a dot
		{"a", "", false},
	} {
		if got := pattern(test.pattern).fits(test.name); got != test.want {
			t.Errorf("%q fits %q: %v", test.pattern, test.name, got)
		}
	}
}

// TestPatternLikeRegexp compares with another implementation, on random patterns and names.
func TestPatternLikeRegexp(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	draw := func(from string, most int) string {
		var text strings.Builder
		for range random.IntN(most + 1) {
			text.WriteByte(from[random.IntN(len(from))])
		}
		return text.String()
	}
	covered := 0
	for range 20_000 {
		p, other, name := draw("ab*?", 6), draw("ab*?", 6), draw("ab", 8)
		as := func(p string) *regexp.Regexp {
			return regexp.MustCompile("^" + strings.NewReplacer("*", ".*", "?", ".").Replace(p) + "$")
		}
		if got, want := pattern(p).fits(name), as(p).MatchString(name); got != want {
			t.Fatalf("%q fits %q: %v, want %v", p, name, got, want)
		}
		if pattern(p).covers(pattern(other)) && as(other).MatchString(name) {
			covered++
			if !as(p).MatchString(name) {
				t.Fatalf("%q covers %q, but does not fit %q", p, other, name)
			}
		}
	}
	if covered < 200 {
		t.Errorf("only %d names tried what covers means", covered)
	}
}

// TestPatternTakesNoTime holds that a pattern made to be slow is not.
func TestPatternTakesNoTime(t *testing.T) {
	slow := pattern(strings.Repeat("a*", maxPattern/2) + "b")
	if slow.fits(strings.Repeat("a", 63)) {
		t.Error("fits")
	}
}

func TestPatternCovers(t *testing.T) {
	for _, test := range []struct {
		pattern, other string
		want           bool
	}{
		{"*", "device-*", true},
		{"*", "*", true},
		{"device-*", "device-1", true},
		{"device-*", "device-1*", true},
		{"device-*", "device*", false},
		{"device-*", "*", false},
		{"device-?", "device-*", false},
		{"device-?", "device-?", true},
		{"device-?", "device-1", true},
		{"device-1", "device-?", false},
		{"alice", "alice", true},
		{"alice", "bob", false},
	} {
		if got := pattern(test.pattern).covers(pattern(test.other)); got != test.want {
			t.Errorf("%q covers %q: %v", test.pattern, test.other, got)
		}
	}
}
