package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/netio"
)

const (
	bareProtocol = "bench"
	bareHostname = "localhost"
	bareBuffer   = 64 << 10 // of readers, and of writers of small messages
)

// bare is quic-go as one would use it without conec: on a *net.UDPConn, with its defaults.
type bare struct {
	streams map[byte]chan barePipe // that came to the host, by kind
	count   atomic.Int64           // connections that the host has
	at      Place                  // where the host is
	conn    *quic.Conn             // to it
}

// bareTLS is what both sides have in common: the same kind of certificate as conec, and no tickets, as conec.
func bareTLS(who *netio.Identity) (*tls.Config, error) {
	certificate, key, err := who.PEM()
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		Certificates: []tls.Certificate{pair}, NextProtos: []string{bareProtocol},
		MinVersion: tls.VersionTLS13, SessionTicketsDisabled: true,
	}, nil
}

func bareSocket() (*net.UDPConn, error) {
	addr, err := net.ResolveUDPAddr("udp4", loopback)
	if err != nil {
		return nil, err
	}
	return net.ListenUDP("udp4", addr)
}

// host listens with a certificate that an authority vouches for, as a coordinator does.
func (b *bare) host(context.Context) (place Place, err error) {
	authority, err := netio.NewAuthority("bench", time.Now())
	if err != nil {
		return place, err
	}
	who, err := authority.Issue(bareHostname, time.Now())
	if err != nil {
		return place, err
	}
	config, err := bareTLS(who)
	if err != nil {
		return place, err
	}
	config.ClientAuth = tls.RequireAnyClientCert
	socket, err := bareSocket()
	if err != nil {
		return place, err
	}
	listener, err := (&quic.Transport{Conn: socket}).Listen(config, bareConfig())
	if err != nil {
		return place, err
	}
	b.streams = map[byte]chan barePipe{}
	for _, kind := range []byte{kindStream, kindBulk, kindDatagrams, kindFan} {
		b.streams[kind] = make(chan barePipe)
	}
	go b.acceptAll(listener)
	return Place{Addr: socket.LocalAddr().String(), Authority: authority.Certificate().Raw}, nil
}

// bareConfig is what quic-go has by default, and datagrams.
func bareConfig() *quic.Config { return &quic.Config{EnableDatagrams: true} }

// acceptAll takes connections and their streams.
func (b *bare) acceptAll(listener *quic.Listener) {
	for {
		conn, err := listener.Accept(context.Background())
		if err != nil {
			return
		}
		b.count.Add(1)
		go func() {
			defer b.count.Add(-1)
			for {
				stream, err := conn.AcceptStream(context.Background())
				if err != nil {
					return
				}
				var kind [1]byte
				if _, err := io.ReadFull(stream, kind[:]); err != nil {
					return
				}
				if kind[0] != kindIdle {
					b.streams[kind[0]] <- barePipe{conn: conn, stream: stream}
				} else if _, err := stream.Write(kind[:]); err == nil {
					go wait(stream)
				}
			}
		}()
	}
}

// The first byte of a stream says what it is for.
const (
	kindStream    = 1 // messages
	kindIdle      = 2 // nothing: it is answered, and then stays
	kindBulk      = 3 // messages beside the others
	kindDatagrams = 4 // to say when datagrams, which carry the messages, have ended
	kindFan       = 5 // messages that go to many
)

// bareKind is the first byte of streams of a kind.
func bareKind(kind Kind) byte {
	switch {
	case kind.Delivery != client.Ordered:
		return kindDatagrams
	case kind.Bulk:
		return kindBulk
	}
	return kindStream
}

// wait is what an idle end does.
func wait(stream *quic.Stream) {
	var nothing [1]byte
	_, _ = stream.Read(nothing[:]) // returns when the connection ends
}

func (b *bare) attended() int { return int(b.count.Load()) }

func (b *bare) join(_ context.Context, at Place, _ string) error {
	b.at = at
	return nil
}

// bareGuest is a client of bare quic-go.
type bareGuest struct {
	to     netip.AddrPort
	config *tls.Config
}

func (b *bare) guest(at Place, name string) (guest, error) { return newBareGuest(at, name) }

func newBareGuest(at Place, name string) (*bareGuest, error) {
	who, err := netio.NewIdentity(name, time.Now())
	if err != nil {
		return nil, err
	}
	config, err := bareTLS(who)
	if err != nil {
		return nil, err
	}
	authority, err := x509.ParseCertificate(at.Authority)
	if err != nil {
		return nil, err
	}
	config.ServerName, config.RootCAs = bareHostname, x509.NewCertPool()
	config.RootCAs.AddCert(authority)
	to, err := netip.ParseAddrPort(at.Addr)
	return &bareGuest{to, config}, err
}

// dial connects from a socket of its own, which leave closes too.
func (g *bareGuest) dial(ctx context.Context) (conn *quic.Conn, leave func() error, err error) {
	socket, err := bareSocket()
	if err != nil {
		return nil, nil, err
	}
	transport := &quic.Transport{Conn: socket}
	if conn, err = transport.Dial(ctx, net.UDPAddrFromAddrPort(g.to), g.config, bareConfig()); err != nil {
		return nil, nil, errors.Join(err, transport.Close(), socket.Close())
	}
	return conn, func() error {
		return errors.Join(conn.CloseWithError(0, ""), transport.Close(), socket.Close())
	}, nil
}

func (b *bare) open(ctx context.Context, kind Kind) (pipe, error) {
	if err := b.connect(ctx); err != nil {
		return nil, err
	}
	stream, err := b.conn.OpenStreamSync(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := stream.Write([]byte{bareKind(kind)}); err != nil {
		return nil, err
	}
	return newBarePipe(barePipe{conn: b.conn, stream: stream}, kind), nil
}

// connect dials with the first stream.
func (b *bare) connect(ctx context.Context) error {
	if b.conn != nil {
		return nil
	}
	who, err := newBareGuest(b.at, senderName)
	if err != nil {
		return err
	}
	b.conn, _, err = who.dial(ctx)
	return err
}

func (b *bare) accept(ctx context.Context, kind Kind) (pipe, error) {
	select {
	case got := <-b.streams[bareKind(kind)]:
		return newBarePipe(got, kind), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (g *bareGuest) attach(ctx context.Context, stays bool) (func() error, error) {
	conn, leave, err := g.dial(ctx)
	if err != nil || !stays {
		return leave, err
	}
	stream, err := conn.OpenStreamSync(ctx)
	if err != nil {
		return nil, errors.Join(err, leave())
	}
	kind := []byte{kindIdle}
	if _, err := stream.Write(kind); err != nil {
		return nil, errors.Join(err, leave())
	}
	if _, err := io.ReadFull(stream, kind); err != nil {
		return nil, errors.Join(err, leave())
	}
	go wait(stream)
	return leave, nil
}

// barePipe frames messages on a QUIC stream: a varint length and the payload.
type barePipe struct {
	conn   *quic.Conn
	stream *quic.Stream
	reader *bufio.Reader
	writer *bufio.Writer // of small messages; nil if every frame is written by itself
	frame  []byte        // being written
	last   []byte        // message that was read
}

func newBarePipe(p barePipe, kind Kind) pipe {
	if kind.Delivery != client.Ordered {
		return newBareDatagrams(p)
	}
	p.reader = bufio.NewReaderSize(p.stream, bareBuffer)
	if kind.Size < smallLimit && !kind.Prompt {
		p.writer = bufio.NewWriterSize(p.stream, bareBuffer)
	}
	return &p
}

func (p *barePipe) send(_ context.Context, message []byte) error {
	if p.writer == nil { // one write, so that header and payload share packets
		p.frame = append(binary.AppendUvarint(p.frame[:0], uint64(len(message))), message...)
		_, err := p.stream.Write(p.frame)
		return err
	}
	head := binary.AppendUvarint(p.writer.AvailableBuffer(), uint64(len(message)))
	if _, err := p.writer.Write(head); err != nil {
		return err
	}
	_, err := p.writer.Write(message)
	return err
}

func (p *barePipe) receive(context.Context) ([]byte, error) {
	size, err := binary.ReadUvarint(p.reader)
	if err != nil {
		return nil, err
	}
	const limit = 1 << 20
	if size > limit {
		return nil, fmt.Errorf("message of %d bytes", size)
	}
	if uint64(cap(p.last)) < size {
		p.last = make([]byte, size)
	}
	p.last = p.last[:size]
	_, err = io.ReadFull(p.reader, p.last)
	return p.last, err
}

func (p *barePipe) finish() error {
	if p.writer != nil {
		if err := p.writer.Flush(); err != nil {
			return err
		}
	}
	return p.stream.Close()
}

func (p *barePipe) relayed() bool { return false }

// bareDatagrams sends every message in a datagram. Its stream says when there are no more.
type bareDatagrams struct {
	barePipe
	ended context.Context //nolint:containedctx // it lasts as long as the stream
}

// straggling is how long after the end of the stream datagrams may come.
const straggling = 50 * time.Millisecond

func newBareDatagrams(p barePipe) *bareDatagrams {
	ended, end := context.WithCancel(context.Background())
	go func() {
		wait(p.stream)
		<-time.After(straggling)
		end()
	}()
	return &bareDatagrams{p, ended}
}

func (p *bareDatagrams) send(_ context.Context, message []byte) error {
	return p.conn.SendDatagram(message)
}

func (p *bareDatagrams) receive(context.Context) ([]byte, error) {
	message, err := p.conn.ReceiveDatagram(p.ended)
	if p.ended.Err() != nil {
		err = io.EOF
	}
	return message, err
}
