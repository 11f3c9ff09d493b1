//go:build !linux

package netio

import "net"

// limitUnsent keeps the system from queuing up megabytes, which QUIC would notice late.
func limitUnsent(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetWriteBuffer(tcpQueueBytes)
	}
}
