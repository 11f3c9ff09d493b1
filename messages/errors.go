package messages

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	conecv1 "github.com/conec-go/conec/messages/conec/v1"
)

// Sizes in bytes of what control messages carry.
const (
	// MaxName limits client names; see [CheckName].
	MaxName = 63
	// MaxReason limits the text that comes with a code; longer text is clipped.
	MaxReason = 512
	// MaxPurpose limits the purpose of a channel or stream.
	MaxPurpose = 255
	// MaxToken limits join tokens.
	MaxToken = 255
)

// Protocol versions, as TLS application protocols (RFC 7301).
const (
	// ALPNHome is spoken between a client and its coordinator.
	ALPNHome = "conec-home/1"
	// ALPNChannel is spoken between two clients.
	ALPNChannel = "conec-channel/1"
	// ALPNTCP carries the packets of both over TLS and TCP, between a client and its
	// coordinator.
	ALPNTCP = "conec-tcp/1"
)

// OpError says which operation failed, towards whom, and whose decision it was.
type OpError struct {
	// Op is the operation: "attach", "open channel", "open stream", "send", …
	Op string
	// Peer is the name of the other side, or the coordinator's address.
	Peer string
	// Remote tells whether the other side decided it.
	Remote bool
	// Err is why.
	Err error
}

// Error reads like: open stream to "bob": no such peer.
func (e *OpError) Error() string {
	var text strings.Builder
	text.WriteString(e.Op)
	if e.Peer != "" {
		text.WriteString(" to ")
		text.WriteString(strconv.Quote(e.Peer))
	}
	text.WriteString(": ")
	if e.Remote {
		text.WriteString("by the other side: ")
	}
	text.WriteString(e.Err.Error())
	return text.String()
}

// Unwrap returns Err.
func (e *OpError) Unwrap() error { return e.Err }

// CodeError is a wire code with the text that came with it. It matches the code's
// sentinel, if it has one.
type CodeError struct {
	// Code is what was on the wire.
	Code conecv1.Code
	// Reason is the other side's explanation.
	Reason string

	sentinel error
}

// Error reads like: refused: not before nine.
func (c *CodeError) Error() string {
	head := fmt.Sprintf("unknown code %d", int32(c.Code))
	if c.sentinel != nil {
		head = c.sentinel.Error()
	}
	if c.Reason == "" || strings.HasPrefix(c.Reason, head) {
		return head + strings.TrimPrefix(c.Reason, head)
	}
	return head + ": " + c.Reason
}

// Unwrap returns the sentinel, or nil for an unknown code.
func (c *CodeError) Unwrap() error { return c.sentinel }

// CheckName reports whether name may be a client's name: 1 to 63 bytes, each a
// lower-case ASCII letter, a digit, '-', '_' or '.', the first and last a letter
// or digit. Such a name is also a legal DNS name in a certificate, and no two
// of them look alike by case or script.
func CheckName(name string) error {
	if name == "" || len(name) > MaxName {
		return fmt.Errorf("%w %q: must have 1 to %d characters", ErrNameInvalid, Clip(name, MaxName), MaxName)
	}
	for i := range len(name) {
		c := name[i]
		alphanumeric := c >= 'a' && c <= 'z' || c >= '0' && c <= '9'
		if alphanumeric {
			continue
		}
		inside := i > 0 && i < len(name)-1
		if !inside || c != '-' && c != '_' && c != '.' {
			return fmt.Errorf("%w %q: use a-z, 0-9, and inside also -, _ and dots", ErrNameInvalid, name)
		}
	}
	return nil
}

// Clip cuts text to at most limit bytes without cutting a character.
func Clip(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	text = text[:limit]
	for text != "" && !utf8.ValidString(text) {
		text = text[:len(text)-1]
	}
	return text
}
