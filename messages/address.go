package messages

import (
	"fmt"
	"net/netip"

	conecv1 "github.com/conec-go/conec/messages/conec/v1"
)

// FromAddrPort makes a message of an address.
func FromAddrPort(addr netip.AddrPort) *conecv1.Address {
	return &conecv1.Address{Ip: addr.Addr().Unmap().AsSlice(), Port: uint32(addr.Port())}
}

// ToAddrPort is the reverse of [FromAddrPort]. It refuses what is no address, or
// has no port.
func ToAddrPort(address *conecv1.Address) (netip.AddrPort, error) {
	addr, ok := netip.AddrFromSlice(address.GetIp())
	if !ok || address.GetPort() == 0 || address.GetPort() > 0xffff {
		return netip.AddrPort{}, fmt.Errorf("%w: address of %d bytes, port %d", ErrProtocol, len(address.GetIp()), address.GetPort())
	}
	return netip.AddrPortFrom(addr.Unmap(), uint16(address.GetPort())), nil
}
