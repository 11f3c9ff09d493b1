package netio

import (
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// bindToInterface has a socket send and receive on one interface only (socket(7), SO_BINDTODEVICE). Linux before 5.7 lets only
// who has CAP_NET_RAW.
func bindToInterface(fd uintptr, _ bool, ifi *net.Interface) error {
	return os.NewSyscallError("SO_BINDTODEVICE", unix.BindToDevice(int(fd), ifi.Name))
}
