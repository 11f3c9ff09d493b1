package netio

import (
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// bindToInterface has a socket send and receive on one interface only. The socket may be for both families.
func bindToInterface(fd uintptr, is6 bool, ifi *net.Interface) error {
	if is6 {
		return os.NewSyscallError("IPV6_BOUND_IF", unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_BOUND_IF, ifi.Index))
	}
	return os.NewSyscallError("IP_BOUND_IF", unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_BOUND_IF, ifi.Index))
}
