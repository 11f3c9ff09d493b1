package netio_test

import (
	"net"
	"testing"

	"github.com/quic-go/quic-go"
)

// The three benchmarks of one QUIC stream are to be compared in one run:
//
//	go test ./netio -run '^$' -bench 'BenchmarkSwitch' -count 5

func BenchmarkSwitchBare(b *testing.B) {
	udp := func() *net.UDPConn {
		c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(loopbackAny))
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = c.Close() })
		return c
	}
	from, to := udp(), udp()
	s, r := quicStream(b, from, to, to.LocalAddr())
	pourStream(b, s, r)
}

func BenchmarkSwitchDirect(b *testing.B) {
	from, to, port, _ := directPorts(b)
	s, r := quicStream(b, from, to, port.Addr())
	pourStream(b, s, r)
}

func BenchmarkSwitchRelayed(b *testing.B) {
	from, to, _, port, _ := relayedPorts(b)
	s, r := quicStream(b, from, to, port.Addr())
	pourStream(b, s, r)
}

// pourStream writes b.N times 64 KiB and reads them.
func pourStream(b *testing.B, s *quic.SendStream, r *quic.ReceiveStream) {
	b.Helper()
	const size = 64 << 10
	b.SetBytes(size)
	b.ReportAllocs()
	data, buf := make([]byte, size), make([]byte, size)
	go func() {
		for range b.N {
			if _, err := s.Write(data); err != nil {
				return
			}
		}
	}()
	b.ResetTimer()
	for left := b.N * size; left > 0; {
		n, err := r.Read(buf)
		if err != nil {
			b.Fatal(err)
		}
		left -= n
	}
}
