package netio_test

import (
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"

	"golang.org/x/net/ipv4"

	"github.com/conec-go/conec/netio"
)

// fakeNet connects fakeLinks in memory. It is used inside synctest bubbles: it blocks on channels only.
type fakeNet struct {
	mu    sync.Mutex
	links map[netip.AddrPort]*fakeLink
}

// fakeLink is a Link that is no kernel socket.
type fakeLink struct {
	network *fakeNet
	addr    netip.AddrPort
	in      chan netio.Batch
	closed  chan struct{}
	once    sync.Once
}

func (n *fakeNet) link(addr string) *fakeLink {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.links == nil {
		n.links = map[netip.AddrPort]*fakeLink{}
	}
	l := &fakeLink{
		network: n, addr: netip.MustParseAddrPort(addr),
		in: make(chan netio.Batch, 1024), closed: make(chan struct{}),
	}
	n.links[l.addr] = l
	return l
}

// remove lets nothing come to a link, until add does.
func (n *fakeNet) remove(l *fakeLink) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.links, l.addr)
}

func (n *fakeNet) add(l *fakeLink) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.links[l.addr] = l
}

// deliver hands the link datagrams that came in one batch: equal sizes, but the last may be shorter.
func (l *fakeLink) deliver(from netip.AddrPort, datagrams ...[]byte) {
	b := netio.Batch{From: from}
	for _, d := range datagrams {
		b.Segment = max(b.Segment, len(d))
		b.Buf = append(b.Buf, d...)
	}
	b.N = len(b.Buf)
	l.in <- b
}

func (l *fakeLink) Read(b *netio.Batch) error {
	select {
	case got := <-l.in:
		*b = got
		return nil
	case <-l.closed:
		return net.ErrClosed
	}
}

func (l *fakeLink) Write(to netip.AddrPort, p netio.Packets, _ bool) error {
	select {
	case <-l.closed:
		return net.ErrClosed
	default:
	}
	l.network.mu.Lock()
	dest := l.network.links[to]
	l.network.mu.Unlock()
	if dest == nil {
		return nil
	}
	select {
	case dest.in <- batchOf(l.addr, p):
		return nil
	default:
		return syscall.EAGAIN
	}
}

// batchOf is what arrives when p is sent.
func batchOf(from netip.AddrPort, p netio.Packets) netio.Batch {
	segment := p.Segment
	if segment <= 0 {
		segment = max(1, len(p.Data))
	}
	b := netio.Batch{From: from, ECN: p.ECN, Segment: segment + len(p.Header)}
	for data := p.Data; len(data) > 0; {
		n := min(segment, len(data))
		b.Buf = append(append(b.Buf, p.Header...), data[:n]...)
		data = data[n:]
	}
	b.N = len(b.Buf)
	return b
}

func (l *fakeLink) LocalAddr() netip.AddrPort { return l.addr }

func (l *fakeLink) Addrs() []netip.AddrPort { return []netip.AddrPort{l.addr} }

func (l *fakeLink) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// reader collects what a switch hands to QUIC.
type reader struct {
	mu   sync.Mutex
	got  []string // address and content
	done chan struct{}
}

// read reads a switch until it is closed.
func read(s *netio.Switch) *reader {
	r := &reader{done: make(chan struct{})}
	go func() {
		defer close(r.done)
		ms := make([]ipv4.Message, 4)
		for i := range ms {
			ms[i].Buffers, ms[i].OOB = [][]byte{make([]byte, 1500)}, make([]byte, 128)
		}
		for {
			n, err := s.ReadBatch(ms, 0)
			if err != nil {
				return
			}
			if n == 0 {
				panic("ReadBatch returned nothing and no error")
			}
			r.mu.Lock()
			for _, m := range ms[:n] {
				r.got = append(r.got, m.Addr.(*net.UDPAddr).IP.String()+" "+string(m.Buffers[0][:m.N]))
			}
			r.mu.Unlock()
		}
	}()
	return r
}

// take returns what has been read since the last call, once everything in the bubble waits.
func (r *reader) take() []string {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	got := r.got
	r.got = nil
	return got
}

func TestFakeLinkClosed(t *testing.T) {
	var n fakeNet
	l := n.link("10.0.0.1:1")
	_ = l.Close()
	if err := l.Read(&netio.Batch{}); err == nil {
		t.Error("read from a closed link")
	}
}
