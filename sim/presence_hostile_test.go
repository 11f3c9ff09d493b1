package sim_test

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
	"github.com/conec-go/conec/netio"
	"github.com/conec-go/conec/sim"
)

// handmade is a client that says what it likes to the coordinator, and reads nothing unless asked.
type handmade struct {
	w         *world
	transport *netio.Transport
	conn      *netio.Conn
	control   *netio.Control
}

// handmade attaches one, with this metadata.
func (w *world) handmade(name string, metadata ...*conecv1.Label) *handmade {
	w.T.Helper()
	host := w.Host(name, w.Internet(), near)
	link, err := host.Listen(netip.AddrPort{})
	w.must(err)
	sw, err := netio.NewSwitch(netio.SwitchConfig{}, link)
	w.must(err)
	identity, err := netio.NewIdentity(name, time.Now())
	w.must(err)
	h := &handmade{w: w}
	h.transport, err = netio.NewTransport(sw, identity, false, &netio.Config{Now: time.Now})
	w.must(err)
	h.conn, err = h.transport.DialHome(within(time.Second), hubAddr, netio.Coordinator{Fingerprint: w.coordinator.Fingerprint()})
	w.must(err)
	h.control, err = h.conn.OpenControl(within(time.Second))
	w.must(err)
	h.say(&conecv1.Control{Said: &conecv1.Control_Attach{Attach: &conecv1.Attach{Name: name, Metadata: metadata}}})
	return h
}

// say says something, when there is room for it. It reports whether the connection is still there.
func (h *handmade) say(said *conecv1.Control) bool {
	for {
		err := h.control.Send(said)
		switch {
		case err == nil:
			return true
		case !errors.Is(err, messages.ErrLimit):
			return false
		}
		<-time.After(time.Millisecond)
	}
}

func (h *handmade) watch(number uint64) bool {
	return h.say(&conecv1.Control{Said: &conecv1.Control_WatchPeers{WatchPeers: &conecv1.WatchPeers{Watch: number, Pattern: "*"}}})
}

func (h *handmade) close() { h.w.check(h.transport.Close()) }

func metadataOf(labels ...*conecv1.Label) *conecv1.Control {
	return &conecv1.Control{Said: &conecv1.Control_SetMetadata{SetMetadata: &conecv1.SetMetadata{Metadata: labels}}}
}

// Who breaks the rules of presence loses its connection, with the reason.
func TestPresenceRules(t *testing.T) {
	large := &conecv1.Label{Key: "x", Value: strings.Repeat("y", messages.MaxMetadata)}
	watch := func(number uint64) *conecv1.Control {
		return &conecv1.Control{Said: &conecv1.Control_WatchPeers{WatchPeers: &conecv1.WatchPeers{Watch: number, Pattern: "*"}}}
	}
	changed := &conecv1.Control{Said: &conecv1.Control_PeersChanged{PeersChanged: &conecv1.PeersChanged{Watch: 1}}}
	tests := []struct {
		name   string
		attach []*conecv1.Label
		says   []*conecv1.Control
		want   error
	}{
		{"attaches with too much metadata", []*conecv1.Label{large}, nil, messages.ErrLimit},
		{"publishes too much metadata", nil, []*conecv1.Control{metadataOf(large)}, messages.ErrLimit},
		{"publishes a key twice", nil, []*conecv1.Control{metadataOf(&conecv1.Label{Key: "a"}, &conecv1.Label{Key: "a"})}, messages.ErrProtocol},
		{"watch 0", nil, []*conecv1.Control{watch(0)}, messages.ErrProtocol},
		{"a number twice", nil, []*conecv1.Control{watch(1), watch(1)}, messages.ErrProtocol},
		{"what only a coordinator says", nil, []*conecv1.Control{changed}, messages.ErrProtocol},
	}
	inWorld(t, 1, func(w *world) {
		all := w.client("alice", near, nil).watches("*")
		all.expect(time.Second, "a list", "listed")
		for i, test := range tests {
			h := w.handmade(fmt.Sprint("mallory-", i), test.attach...)
			for _, said := range test.says {
				h.say(said)
			}
			w.Eventually(time.Second, test.name, func() bool { return h.conn.Err() != nil })
			if err := h.conn.Err(); !errors.Is(err, test.want) {
				w.T.Errorf("%s: %v, want %v", test.name, err, test.want)
			}
			h.close()
		}
		<-time.After(time.Second)
		if n := all.knows(); n > 0 {
			w.T.Errorf("%d are there", n)
		}
	})
}

// Clients that begin and end watches all the time, publish all the time, take nothing and grant everything, do not keep the
// coordinator from serving others, nor have it hold much.
func TestPresenceFlood(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		for i := range 70 {
			name := fmt.Sprint("c", i)
			w.client(name, near, func(c *client.Config) { c.Metadata = map[string]string{"x": strings.Repeat("y", 1000)} })
		}
		all := w.clients[0].watches("c*")
		w.Eventually(time.Second, "a list", func() bool { return all.knows() == 69 })
		before := memory()
		floods := map[string]func(h *handmade, i uint64) bool{
			"too-many": func(h *handmade, i uint64) bool { return h.watch(i + 1) },
			"on-off": func(h *handmade, i uint64) bool {
				return h.watch(i+1) && h.say(&conecv1.Control{Said: &conecv1.Control_EndWatch{EndWatch: &conecv1.EndWatch{Watch: i + 1}}})
			},
			"chatter": func(h *handmade, i uint64) bool {
				return h.say(metadataOf(&conecv1.Label{Key: "i", Value: fmt.Sprint(i)}))
			},
			"grants": func(h *handmade, i uint64) bool {
				return (i > 15 || h.watch(i+1)) && h.say(&conecv1.Control{Said: &conecv1.Control_GrantPeers{GrantPeers: &conecv1.GrantPeers{Limit: 1 << 63}}})
			},
		}
		var hostile []*handmade
		for _, name := range []string{"too-many", "on-off", "chatter", "grants"} {
			h := w.handmade("mallory-" + name)
			hostile = append(hostile, h)
			w.Go(func() {
				for i := range uint64(10_000) {
					if !floods[name](h, i) {
						return
					}
				}
			})
		}
		all.clear()
		for i := range 5 {
			w.must(w.clients[1].SetMetadata(map[string]string{"i": fmt.Sprint(i)}))
			all.expect(time.Second, "a change meanwhile", "c1 changed")
			stream, err := w.clients[2].OpenStream(within(time.Second), "c3", nil)
			w.must(err)
			stream.Reset()
			<-time.After(500 * time.Millisecond)
		}
		<-time.After(10 * time.Second)
		if grown := int64(memory()) - int64(before); grown > 20<<20 {
			w.T.Errorf("%d MB more", grown>>20)
		}
		for _, h := range hostile {
			h.close()
		}
		<-time.After(20 * time.Second)
	})
}

// A long list on a slow line holds up what else the coordinator says by 64 KiB, not by the whole of it.
func TestListOnSlowLine(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		for i := range 60 {
			w.client(fmt.Sprint("c", i), near, func(c *client.Config) {
				c.Metadata = map[string]string{"x": strings.Repeat("y", 1000)}
			})
		}
		const rate = 125_000 // bytes a second
		slow := w.client("slow", sim.Line{Latency: 10 * time.Millisecond, Rate: rate}, nil)
		alone := w.answers(slow)
		var lists []*watching
		for range 10 { // 600 KB
			lists = append(lists, slow.watches("*"))
		}
		<-time.After(time.Second)
		if meanwhile, most := w.answers(slow), alone+time.Second*(64<<10)/rate+100*time.Millisecond; meanwhile > most {
			w.T.Errorf("an answer takes %v alone and %v while lists come, want at most %v", alone, meanwhile, most)
		}
		last := lists[len(lists)-1]
		if last.knows() == 60 {
			w.T.Error("the lists were there before")
		}
		w.Eventually(20*time.Second, "all lists", func() bool { return last.knows() == 60 })
	})
}

// answers measures how long the coordinator takes to answer a client.
func (w *world) answers(p *program) time.Duration {
	w.T.Helper()
	began := time.Now()
	if _, err := p.OpenStream(within(20*time.Second), "nobody", nil); !errors.Is(err, messages.ErrNoSuchPeer) {
		w.T.Errorf("open to nobody: %v", err)
	}
	return time.Since(began)
}
