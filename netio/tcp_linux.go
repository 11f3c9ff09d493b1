package netio

import (
	"net"
	"syscall"
)

// tcpNotSent is TCP_NOTSENT_LOWAT of linux/tcp.h, which package syscall does not have.
const tcpNotSent = 25

// unsentBytes is what the system holds for a TCP connection beside what is on its way: little, so that datagrams wait in
// the queue, which is short, and QUIC notices that it sends too fast.
const unsentBytes = 64 << 10

// limitUnsent keeps the system from queuing up megabytes.
func limitUnsent(conn net.Conn) {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return
	}
	if raw, err := tcp.SyscallConn(); err == nil { // without it, it is only slower
		_ = raw.Control(func(fd uintptr) {
			_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpNotSent, unsentBytes)
		})
	}
}
