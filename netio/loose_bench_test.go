package netio_test

import (
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	conecv1 "github.com/conec-go/conec/messages/conec/v1"
)

// The rates of messages that are received, to be compared in one run:
//
//	go test ./netio -run '^$' -bench 'BenchmarkLoose' -count 5

func BenchmarkLooseUnordered64(b *testing.B) {
	pourLoose(b, conecv1.DeliveryMode_DELIVERY_MODE_UNORDERED, 64)
}

func BenchmarkLooseUnordered64K(b *testing.B) {
	pourLoose(b, conecv1.DeliveryMode_DELIVERY_MODE_UNORDERED, 64<<10)
}
func BenchmarkLooseOrdered64(b *testing.B) { pourLoose(b, 0, 64) }
func BenchmarkLooseLossy64(b *testing.B)   { pourLoose(b, conecv1.DeliveryMode_DELIVERY_MODE_LOSSY, 64) }

func BenchmarkLooseLossy1000(b *testing.B) {
	pourLoose(b, conecv1.DeliveryMode_DELIVERY_MODE_LOSSY, 1000)
}

// pourLoose sends b.N messages and receives what comes of them.
func pourLoose(b *testing.B, mode conecv1.DeliveryMode, size int) {
	b.Helper()
	la, lb := listenLoopback(b), listenLoopback(b)
	from, to := newEnd(b, la, newIdentity(b, "alice"), nil), newEnd(b, lb, newIdentity(b, "bob"), nil)
	joinPorts(from.port, la, to.port, lb)
	ca, cb := connect(b, from, to)
	open := &conecv1.OpenStream{Purpose: "test"}
	if mode != 0 {
		open.Delivery = &conecv1.Delivery{Mode: mode}
	}
	out, in := openStreamAs(b, ca, cb, open)
	ctx := context.Background()
	b.ReportAllocs()
	b.ResetTimer()
	began := time.Now()
	go func() {
		message := make([]byte, size)
		for range b.N {
			if err := out.Send(ctx, message); err != nil {
				b.Error(err)
				return
			}
		}
		out.CloseSend()
	}()
	got := 0
	var buffer []byte
	var err error
	for {
		if buffer, err = in.ReceiveInto(ctx, buffer); err != nil {
			break
		}
		got++
	}
	if !errors.Is(err, io.EOF) {
		b.Fatal(err)
	}
	b.ReportMetric(float64(got)/time.Since(began).Seconds(), "received/s")
	b.ReportMetric(float64(got)/float64(b.N), "share")
}

func BenchmarkLooseBare64(b *testing.B)   { pourBareDatagrams(b, 64) }
func BenchmarkLooseBare1000(b *testing.B) { pourBareDatagrams(b, 1000) }

// pourBareDatagrams is the same with the datagrams of bare quic-go on a *net.UDPConn.
func pourBareDatagrams(b *testing.B, size int) {
	b.Helper()
	udp := func() *net.UDPConn {
		c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(loopbackAny))
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = c.Close() })
		return c
	}
	from, to := udp(), udp()
	config := bareTLS(b, newIdentity(b, "bob"), "bare")
	tr, tl := &quic.Transport{Conn: from}, &quic.Transport{Conn: to}
	b.Cleanup(func() { _, _ = tr.Close(), tl.Close() })
	listener, err := tl.Listen(config, &quic.Config{EnableDatagrams: true})
	if err != nil {
		b.Fatal(err)
	}
	out, err := tr.Dial(within(b), to.LocalAddr(), config, &quic.Config{EnableDatagrams: true})
	if err != nil {
		b.Fatal(err)
	}
	in, err := listener.Accept(within(b))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.ResetTimer()
	began := time.Now()
	var got atomic.Int64
	go func() {
		for {
			if _, err := in.ReceiveDatagram(context.Background()); err != nil {
				return
			}
			got.Add(1)
		}
	}()
	message := make([]byte, size)
	for range b.N {
		if err := out.SendDatagram(message); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(got.Load())/time.Since(began).Seconds(), "received/s")
	b.ReportMetric(float64(got.Load())/float64(b.N), "share")
}
