package portmap

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"
)

// Numbers of NAT-PMP (RFC 6886 sections 3.2 and 3.3).
const (
	pmpVersion  = 0
	pmpAddress  = 0
	pmpMapUDP   = 1
	pmpResponse = 0x80
)

// pmpResults are the reasons for which a NAT-PMP server refuses (RFC 6886 section 3.5).
var pmpResults = [...]string{
	1: "it does not know this version", 2: "not authorized", 3: "its own network has failed", 4: "no resources",
	5: "it does not know the operation",
}

// pmp makes a mapping by NAT-PMP. The gateway knows a mapping by the address of who asks, and the port.
type pmp struct{}

func (p pmp) make(ctx context.Context, at site, outer netip.AddrPort) (netip.AddrPort, time.Duration, error) {
	var addr netip.Addr
	err := at.ask(ctx, []byte{pmpVersion, pmpAddress}, func(message []byte) (err error) {
		addr, err = pmpAddressAnswer(message)
		return err
	})
	if err != nil {
		return netip.AddrPort{}, 0, err
	}
	port := outer.Port()
	if port == 0 {
		port = at.inner.Port()
	}
	var lifetime time.Duration
	err = at.ask(ctx, pmpRequest(at.inner.Port(), port, wanted), func(message []byte) (err error) {
		port, lifetime, err = pmpMapAnswer(message, at.inner.Port())
		return err
	})
	if err == nil && lifetime == 0 {
		err = fmt.Errorf("%w: no lifetime", ErrInvalid)
	}
	return netip.AddrPortFrom(addr, port), lifetime, err
}

func (p pmp) unmake(ctx context.Context, at site, _ netip.AddrPort) error {
	return at.ask(ctx, pmpRequest(at.inner.Port(), 0, 0), func(message []byte) error {
		_, _, err := pmpMapAnswer(message, at.inner.Port())
		return err
	})
}

// pmpRequest asks for a mapping of a port, at an outer port if that is possible, for so long; 0 deletes it.
func pmpRequest(inner, outer uint16, lifetime time.Duration) []byte {
	b := []byte{pmpVersion, pmpMapUDP, 0, 0}
	b = binary.BigEndian.AppendUint16(b, inner)
	b = binary.BigEndian.AppendUint16(b, outer)
	return binary.BigEndian.AppendUint32(b, uint32(lifetime/time.Second))
}

// pmpHead reads how an answer begins.
func pmpHead(message []byte, operation byte) error {
	if len(message) < 8 || message[0] != pmpVersion || message[1] != pmpResponse|operation {
		return errOther
	}
	if result := binary.BigEndian.Uint16(message[2:]); result != 0 {
		return refusal(pmpResults[:], int(result))
	}
	return nil
}

func pmpAddressAnswer(message []byte) (netip.Addr, error) {
	if err := pmpHead(message, pmpAddress); err != nil {
		return netip.Addr{}, err
	}
	if len(message) < 12 {
		return netip.Addr{}, errOther
	}
	return netip.AddrFrom4([4]byte(message[8:12])), nil
}

func pmpMapAnswer(message []byte, inner uint16) (outer uint16, lifetime time.Duration, err error) {
	if err := pmpHead(message, pmpMapUDP); err != nil {
		return 0, 0, err
	}
	if len(message) < 16 || binary.BigEndian.Uint16(message[8:]) != inner {
		return 0, 0, errOther
	}
	return binary.BigEndian.Uint16(message[10:]), seconds(message[12:]), nil
}
