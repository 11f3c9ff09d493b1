package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/conec-go/conec/messages"
)

// maxPattern is the longest pattern in bytes.
const maxPattern = 255

// pattern fits names: * stands for any run of characters, also none, ? for any one
// character, and all others for themselves. It fits the whole of a name or not at all.
type pattern string

// fits tells whether the pattern fits a name.
func (p pattern) fits(name string) bool { return messages.MatchName(string(p), name) }

// covers tells whether everything that the other pattern fits, this one fits, too. It
// may miss that, where several * meet ?. It walks along the other, and returns to the last *
// when something does not fit.
func (p pattern) covers(other pattern) bool {
	at, star, from := 0, -1, 0
	for i := 0; i < len(other); {
		switch {
		case at < len(p) && p[at] == '*':
			star, from = at, i
			at++
		case at < len(p) && other[i] != '*' && (p[at] == '?' || p[at] == other[i]):
			at++
			i++
		case star >= 0:
			from++
			at, i = star+1, from
		default:
			return false
		}
	}
	return strings.Trim(string(p[at:]), "*") == ""
}

// checkPattern says what is wrong with a pattern for names of clients.
func checkPattern(p pattern) error {
	if p == "" || len(p) > maxPattern {
		return fmt.Errorf("has %d characters; want 1 to %d", len(p), maxPattern)
	}
	for i := range len(p) {
		if !strings.ContainsRune("abcdefghijklmnopqrstuvwxyz0123456789-_.*?", rune(p[i])) {
			return fmt.Errorf("%q: no name has such a character; want a-z, 0-9, - _ . and the wildcards * and ?", p)
		}
	}
	return nil
}

// checkGroupPattern says what is wrong with a pattern for names of groups.
func checkGroupPattern(p pattern) error {
	if p == "" || len(p) > maxPattern {
		return fmt.Errorf("has %d characters; want 1 to %d", len(p), maxPattern)
	}
	for _, c := range p {
		if c < ' ' || c == 0x7f {
			return fmt.Errorf("%q: has a control character", p)
		}
	}
	return nil
}

// patterns fit what one of them fits.
type patterns []pattern

func (ps patterns) fit(name string) bool {
	return slices.ContainsFunc(ps, func(p pattern) bool { return p.fits(name) })
}

// cover tells whether each of the others is covered by one of these.
func (ps patterns) cover(others patterns) bool {
	return !slices.ContainsFunc(others, func(other pattern) bool {
		return !slices.ContainsFunc(ps, func(p pattern) bool { return p.covers(other) })
	})
}

// String lists the patterns: "a-*" or "a-*, b".
func (ps patterns) String() string {
	words := make([]string, len(ps))
	for i, p := range ps {
		words[i] = string(p)
	}
	return strings.Join(words, ", ")
}
