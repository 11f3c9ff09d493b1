package portmap

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"
)

// Numbers of PCP (RFC 6887 sections 7, 11.1 and 19).
const (
	pcpVersion   = 2
	pcpMap       = 1
	pcpResponse  = 0x80
	pcpUDP       = 17
	pcpMapLength = 60
	nonceLength  = 12
)

// pcpResults are the reasons for which a PCP server refuses (RFC 6887 section 7.4).
var pcpResults = [...]string{
	1: "it does not know this version", 2: "not authorized", 3: "malformed request", 4: "it does not know the operation",
	5: "it does not know an option", 6: "malformed option", 7: "its own network has failed", 8: "no resources",
	9: "it does not know the transport protocol", 10: "quota exceeded", 11: "it can not give this outer address",
	12: "there is a NAT before it", 13: "too many remote peers",
}

// pcp makes a mapping by PCP. The nonce is the mapping's: who does not know it can not change it.
type pcp struct{ nonce [nonceLength]byte }

func newPCP() *pcp {
	p := &pcp{}
	_, _ = rand.Read(p.nonce[:]) // never fails (crypto/rand)
	return p
}

func (p *pcp) make(ctx context.Context, at site, outer netip.AddrPort) (netip.AddrPort, time.Duration, error) {
	var lifetime time.Duration
	err := at.ask(ctx, p.request(at.inner, outer, wanted), func(message []byte) (err error) {
		outer, lifetime, err = p.answer(message, at.inner.Port())
		return err
	})
	if err == nil && lifetime == 0 {
		err = fmt.Errorf("%w: no lifetime", ErrInvalid)
	}
	return outer, lifetime, err
}

func (p *pcp) unmake(ctx context.Context, at site, outer netip.AddrPort) error {
	return at.ask(ctx, p.request(at.inner, outer, 0), func(message []byte) error {
		_, _, err := p.answer(message, at.inner.Port())
		return err
	})
}

// request asks for a mapping to inner, at outer if that is possible, for so long; 0 deletes it.
func (p *pcp) request(inner, outer netip.AddrPort, lifetime time.Duration) []byte {
	b := make([]byte, 0, pcpMapLength)
	b = append(b, pcpVersion, pcpMap, 0, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(lifetime/time.Second))
	b = appendMapped(b, inner.Addr())
	b = append(b, p.nonce[:]...)
	b = append(b, pcpUDP, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, inner.Port())
	if !outer.IsValid() { // any; the same port would be convenient for people
		outer = netip.AddrPortFrom(netip.IPv4Unspecified(), inner.Port())
	}
	b = binary.BigEndian.AppendUint16(b, outer.Port())
	return appendMapped(b, outer.Addr())
}

// appendMapped appends an IPv4 address as PCP writes it: as an IPv4-mapped IPv6 address (RFC 6887 section 5).
func appendMapped(b []byte, addr netip.Addr) []byte {
	mapped := addr.As16()
	return append(b, mapped[:]...)
}

// answer reads the answer to a request. What is not for this mapping is errOther.
func (p *pcp) answer(message []byte, inner uint16) (outer netip.AddrPort, lifetime time.Duration, err error) {
	const head = 24
	switch {
	case len(message) >= 4 && message[0] == pmpVersion && message[1]&pcpResponse != 0: // RFC 6886 section 9
		return outer, 0, fmt.Errorf("%w: it knows NAT-PMP only", ErrRefused)
	case len(message) < head || message[0] != pcpVersion || message[1] != pcpResponse|pcpMap:
		return outer, 0, errOther
	}
	result, long := message[3], len(message) >= pcpMapLength
	if long && !bytes.Equal(message[head:head+nonceLength], p.nonce[:]) {
		return outer, 0, errOther
	}
	if result != 0 { // some leave out the rest then
		return outer, 0, refusal(pcpResults[:], int(result))
	}
	if !long || message[36] != pcpUDP || binary.BigEndian.Uint16(message[40:]) != inner {
		return outer, 0, errOther
	}
	addr := netip.AddrFrom16([16]byte(message[44:60])).Unmap()
	outer = netip.AddrPortFrom(addr, binary.BigEndian.Uint16(message[42:]))
	return outer, seconds(message[4:]), nil
}

func seconds(b []byte) time.Duration {
	return time.Duration(binary.BigEndian.Uint32(b)) * time.Second
}

// refusal says a result code in words.
func refusal(results []string, result int) error {
	if result < len(results) {
		return fmt.Errorf("%w: %s", ErrRefused, results[result])
	}
	return fmt.Errorf("%w with code %d", ErrRefused, result)
}
