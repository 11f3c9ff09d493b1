package messages_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/conec-go/conec/messages"
)

func TestMatchName(t *testing.T) {
	tests := []struct {
		pattern, name string
		want          bool
	}{
		{"*", "web-1.example_x.net", true},
		{"alice", "alice", true},
		{"alice", "alice2", false},
		{"web-?", "web-1", true},
		{"web-?", "web-12", false},
		{"*.lab", "a.b.lab", true},
		{"a*b*c", "a.b.b.c", true},
		{"a*b*c", "a.b.b", false},
		{"**", "", true},
		{"?", "", false},
	}
	for _, test := range tests {
		if got := messages.MatchName(test.pattern, test.name); got != test.want {
			t.Errorf("%q matches %q: %t", test.pattern, test.name, got)
		}
	}
}

func TestCheckPattern(t *testing.T) {
	for _, good := range []string{"*", "a?c", "web-1.example_x.*", strings.Repeat("*", messages.MaxPattern)} {
		if err := messages.CheckPattern(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{"", "[a-z]", "A", "a b", "ä", "a/b", `\`, strings.Repeat("a", messages.MaxPattern+1)} {
		if err := messages.CheckPattern(bad); !errors.Is(err, messages.ErrPatternInvalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
