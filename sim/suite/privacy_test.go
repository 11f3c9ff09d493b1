package suite_test

import (
	"bytes"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/coord"
	"github.com/conec-go/conec/netio"
)

// recordingLink is a socket that keeps every byte that it reads and writes.
type recordingLink struct {
	netio.Link

	mu       sync.Mutex
	recorded bytes.Buffer
}

func (l *recordingLink) config(c *coord.Config) { c.Link, l.Link = l, c.Link }

// Read implements netio.Link.
func (l *recordingLink) Read(b *netio.Batch) error {
	err := l.Link.Read(b)
	if err == nil {
		l.record(b.Buf[:b.N])
	}
	return err
}

// Write implements netio.Link.
func (l *recordingLink) Write(to netip.AddrPort, p netio.Packets, wait bool) error {
	l.record(p.Header)
	l.record(p.Data)
	return l.Link.Write(to, p, wait)
}

func (l *recordingLink) record(b []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.recorded.Write(b)
}

func (l *recordingLink) contains(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Contains(l.recorded.Bytes(), []byte(text))
}

func (l *recordingLink) size() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.recorded.Len()
}

// The coordinator relays what clients say to each other but can not read it: of
// all bytes that it reads and writes, none are of a message or of a stream's
// purpose.
func TestRelayReadsNothing(t *testing.T) {
	const (
		said    = "the-quick-brown-fox"
		purpose = "jumps-over-the-lazy"
		control = "dog-in-the-clear"
	)
	everywhere(t, func(w *world) {
		link := &recordingLink{}
		w.begin(link.config)
		alice, bob := w.client("alice"), w.client("bob")
		here, there := w.stream(alice, bob, &client.StreamOptions{Mode: client.RelayOnly, Purpose: purpose})
		if there.Purpose() != purpose {
			w.Fatalf("purpose %q", there.Purpose())
		}
		before := link.size()
		const rounds, repeats = 50, 100
		text := strings.Repeat(said, repeats)
		for range rounds {
			w.send(here, text)
			w.want(there, text)
			w.send(there, text)
			w.want(here, text)
		}
		// Every message was read once and written once.
		if recorded, least := link.size()-before, 4*rounds*len(text); recorded < least {
			w.Fatalf("the coordinator handled %d bytes, want at least %d: the messages went elsewhere", recorded, least)
		}
		for _, text := range []string{said, purpose, said[:8], purpose[:8]} {
			if link.contains(text) {
				w.Errorf("the coordinator could read %q", text)
			}
		}

		// The control case: what is not encrypted, is found, in both directions.
		plain := w.listen("plain")
		if err := plain.Write(w.coord.Addr(), netio.Packets{Data: []byte(control)}, true); err != nil {
			w.Fatal(err)
		}
		w.eventually("a datagram in the clear", func() bool { return link.contains(control) })
		if err := link.Write(plain.Addrs()[0], netio.Packets{Header: []byte(control[:4]), Data: []byte("x" + control)}, true); err != nil {
			w.Fatal(err)
		}
		if !link.contains("x" + control) {
			w.Error("what the coordinator writes is not recorded")
		}
	})
}

// Names and the purpose of a channel are for the coordinator too, but only inside
// its own encrypted connections: nobody on the way reads them.
func TestWireReadsNothing(t *testing.T) {
	const purpose = "purpose-of-the-channel"

	everywhere(t, func(w *world) {
		link := &recordingLink{}
		w.begin(link.config)
		alice, bob := w.client("alice-in-wonderland"), w.client("bob-the-builder")
		here, there := w.channel(alice, bob, &client.ChannelOptions{Purpose: purpose, Mode: client.RelayOnly})
		w.both(w.streamOn(here, there))
		for _, text := range []string{"alice-in-wonderland", "bob-the-builder", purpose} {
			if link.contains(text) {
				w.Errorf("%q is on the wire in the clear", text)
			}
		}
	})
}
