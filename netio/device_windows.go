package netio

import (
	"encoding/binary"
	"net"
	"os"

	"golang.org/x/sys/windows"
)

// Options of sockets (ws2ipdef.h).
const (
	ipUnicastIf   = 31
	ipv6UnicastIf = 31
)

// bindToInterface has a socket send on one interface only. The socket may be for both families. For IPv4 the index is in
// network byte order.
func bindToInterface(fd uintptr, is6 bool, ifi *net.Interface) error {
	var index [4]byte
	binary.BigEndian.PutUint32(index[:], uint32(ifi.Index))
	err := windows.SetsockoptInt(windows.Handle(fd), windows.IPPROTO_IP, ipUnicastIf, int(binary.NativeEndian.Uint32(index[:])))
	if is6 && err == nil {
		err = windows.SetsockoptInt(windows.Handle(fd), windows.IPPROTO_IPV6, ipv6UnicastIf, ifi.Index)
	}
	return os.NewSyscallError("IP_UNICAST_IF", err)
}
