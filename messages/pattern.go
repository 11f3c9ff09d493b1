package messages

import (
	"fmt"
	"path"
)

// MaxPattern limits a pattern of names; see [CheckPattern].
const MaxPattern = 128

// CheckPattern reports whether pattern may be a pattern of names: 1 to 128 bytes, in
// which * stands for any characters, ? for one, and [a-f] for one of some, as in
// [path.Match]. Errors match [ErrPatternInvalid].
func CheckPattern(pattern string) error {
	if pattern == "" || len(pattern) > MaxPattern {
		return fmt.Errorf("%w %q: must have 1 to %d characters", ErrPatternInvalid, Clip(pattern, MaxPattern), MaxPattern)
	}
	if _, err := path.Match(pattern, ""); err != nil {
		return fmt.Errorf("%w %q: a [ without its ], or a \\ at the end", ErrPatternInvalid, pattern)
	}
	return nil
}

// ErrPatternInvalid: see [CheckPattern]. It is not on the wire.
var ErrPatternInvalid error = &sentinel{"invalid pattern", nil}

// MatchName reports whether a name matches a pattern. Names have no slash, so * matches
// all of them. What is no pattern matches nothing.
func MatchName(pattern, name string) bool {
	ok, err := path.Match(pattern, name)
	return ok && err == nil
}
