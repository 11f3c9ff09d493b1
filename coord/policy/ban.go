package policy

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/conec-go/conec/messages"
	"github.com/conec-go/conec/netio"
)

// Ban keeps clients away. It fits a client that has all that it names: at least one of
// name, key and address.
type Ban struct {
	// Name is a pattern for names: * stands for any run of characters, ? for any one.
	// If empty, any name.
	Name string
	// Key is the fingerprint of the public key or of the certificate, as
	// [netio.Fingerprint] writes it. If empty, any key. A client without a certificate
	// of its own has another one whenever it starts.
	Key string
	// Addr holds the addresses, such as 192.0.2.0/24. If not valid, any address. Many
	// clients may come from one address, behind a NAT.
	Addr netip.Prefix
	// Until is when the ban ends. If zero, it does not.
	Until time.Time
	// Reason is told to the client, at most [messages.MaxReason] bytes.
	Reason string
}

// Validate reports everything that is wrong with the ban.
func (b Ban) Validate() error {
	var errs []error
	if b.Name == "" && b.Key == "" && !b.Addr.IsValid() {
		errs = append(errs, errors.New("nobody is named: want a name, a key or an address"))
	}
	if b.Name != "" {
		if err := checkPattern(pattern(b.Name)); err != nil {
			errs = append(errs, fmt.Errorf("name: %w", err))
		}
	}
	if b.Key != "" {
		if err := netio.CheckFingerprint(b.Key); err != nil {
			errs = append(errs, fmt.Errorf("key: %w", err))
		}
	}
	if len(b.Reason) > messages.MaxReason {
		errs = append(errs, fmt.Errorf("reason: %d bytes; want at most %d", len(b.Reason), messages.MaxReason))
	}
	return errors.Join(errs...)
}

// Fits tells whether the ban keeps a client away, at the subject's time.
func (b Ban) Fits(who *Subject) bool {
	switch {
	case b.Over(who.Now):
		return false
	case b.Name != "" && !pattern(b.Name).fits(who.Name):
		return false
	case b.Key != "" && !hasKey(who.Certificate, func(fingerprint string) bool { return fingerprint == strings.ToLower(b.Key) }):
		return false
	case b.Addr.IsValid():
		addr := who.Addr.Addr().Unmap().WithZone("")
		prefix := b.Addr
		if prefix.Addr().Is4In6() && prefix.Bits() >= 96 {
			prefix = netip.PrefixFrom(prefix.Addr().Unmap(), prefix.Bits()-96)
		}
		return prefix.Contains(addr)
	}
	return b.Name != "" || b.Key != ""
}

// Over tells whether the ban has ended.
func (b Ban) Over(now time.Time) bool { return !b.Until.IsZero() && !now.Before(b.Until) }

// Err is what a client is told.
func (b Ban) Err() error {
	text := ""
	if !b.Until.IsZero() {
		text = " until " + b.Until.UTC().Format(time.RFC3339)
	}
	if b.Reason != "" {
		text += ": " + b.Reason
	}
	return fmt.Errorf("%w%s", messages.ErrBanned, text)
}

// hasKey asks for the fingerprints of a certificate and of its public key.
func hasKey(certificate *x509.Certificate, is func(fingerprint string) bool) bool {
	if certificate == nil {
		return false
	}
	return is(netio.Fingerprint(certificate.RawSubjectPublicKeyInfo)) || is(netio.Fingerprint(certificate.Raw))
}
