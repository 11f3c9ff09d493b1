package messages

import (
	"fmt"
	"path"
	"strings"
)

// MaxPattern limits a pattern of names, in bytes; see [CheckPattern].
const MaxPattern = 255

// ErrPatternInvalid says that something is no pattern; see [CheckPattern]. It is not on the wire.
var ErrPatternInvalid error = &sentinel{"invalid pattern", nil}

// CheckPattern reports whether pattern may be a pattern of names: 1 to 255 of the
// characters of names, of * for any characters, also none, and of ? for any one.
func CheckPattern(pattern string) error {
	if pattern == "" || len(pattern) > MaxPattern {
		return fmt.Errorf("%w %q: must have 1 to %d characters", ErrPatternInvalid, Clip(pattern, MaxPattern), MaxPattern)
	}
	const allowed = "abcdefghijklmnopqrstuvwxyz0123456789-_.*?"
	if strings.ContainsFunc(pattern, func(c rune) bool { return !strings.ContainsRune(allowed, c) }) {
		return fmt.Errorf("%w %q: use what names have, a-z, 0-9, - _ and dots, and * and ?", ErrPatternInvalid, pattern)
	}
	return nil
}

// MatchName reports whether a name matches a pattern that [CheckPattern] allows.
func MatchName(pattern, name string) bool {
	ok, err := path.Match(pattern, name) // names have no slash, which * would not match
	return ok && err == nil
}
