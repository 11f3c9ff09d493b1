package portmap

import (
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// protocolsOf are gateways that know one protocol.
var protocolsOf = map[string]func(*fake){
	"PCP": (*fake).speaksPCP, "NAT-PMP": (*fake).speaksPMP, "UPnP": (*fake).speaksUPnP,
}

// TestMap has each protocol make a mapping, renew it, make it anew after the gateway has lost it, follow the gateway's
// address, and delete it.
func TestMap(t *testing.T) {
	for protocol, speak := range protocolsOf {
		t.Run(protocol, func(t *testing.T) {
			f, m := newFake(t)
			speak(f)
			f.taken[inner.Port()] = true
			first, err := f.mapPort(m, inner)
			want := Mapping{protocol, netip.AddrPortFrom(outside, first.Outer.Port()), inner, time.Hour}
			if err != nil || first != want || first.Outer.Port() == inner.Port() {
				t.Fatalf("got %+v, %v, want %+v at another port", first, err, want)
			}
			isMapped := func() bool { return len(f.mapped) == 1 && f.mapped[first.Outer.Port()] == inner.Port() }
			if !isMapped() {
				t.Errorf("the gateway has %v", f.mapped)
			}
			if again, err := f.mapPort(m, inner); err != nil || again != first || !isMapped() {
				t.Errorf("renewed: %+v, %v, want %+v", again, err, first)
			}
			clear(f.mapped) // restarted; the inner port is free outside now, and still not wanted
			clear(f.taken)
			if again, err := f.mapPort(m, inner); err != nil || again != first || !isMapped() {
				t.Errorf("after a restart: %+v, %v, want %+v", again, err, first)
			}
			f.outside = netip.MustParseAddr("198.51.100.77")
			again, err := f.mapPort(m, inner)
			if err != nil || again.Outer != netip.AddrPortFrom(f.outside, first.Outer.Port()) {
				t.Errorf("after a change of address: %+v, %v", again, err)
			}
			if err := f.unmapPort(m); err != nil || len(f.mapped) > 0 {
				t.Errorf("deleted: %v, the gateway has %v", err, f.mapped)
			}
			asked := len(f.asked)
			if err := f.unmapPort(m); err != nil || len(f.asked) != asked {
				t.Errorf("deleted again: %v, asked %v", err, f.asked[asked:])
			}
		})
	}
}

// TestOrder has gateways that know several protocols.
func TestOrder(t *testing.T) {
	for _, test := range []struct {
		name  string
		speak []string
		want  string
	}{
		{"all", []string{"PCP", "NAT-PMP", "UPnP"}, "PCP"},
		{"an older Apple", []string{"NAT-PMP", "UPnP"}, "NAT-PMP"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f, m := newFake(t)
			for _, protocol := range test.speak {
				protocolsOf[protocol](f)
			}
			began := time.Now()
			if got, err := f.mapPort(m, inner); err != nil || got.Protocol != test.want {
				t.Errorf("got %+v, %v", got, err)
			}
			if took := time.Since(began); took > 5*time.Second { // no pause is waited for
				t.Errorf("took %v", took)
			}
			f.answerPCP, f.answerPMP = nil, nil
			if got, err := f.mapPort(m, inner); err != nil || got.Protocol != "UPnP" {
				t.Errorf("without: %+v, %v", got, err)
			}
		})
	}
}

// TestNoMapping has gateways that refuse, lie, or say nothing that means anything.
func TestNoMapping(t *testing.T) {
	always := func(answer string) func(*fake) {
		return func(f *fake) {
			f.answerPCP = func(_, _ []byte) []byte { return []byte(answer) }
			f.answerPMP = f.answerPCP
			f.found = func(string) string { return answer }
		}
	}
	change := func(offset int, value ...byte) func(*fake) {
		return func(f *fake) {
			f.answerPCP = func(_, answer []byte) []byte { copy(answer[offset:], value); return answer }
		}
	}
	upnp := func(amend func(*fake)) func(*fake) {
		return func(f *fake) { f.speaksUPnP(); amend(f) }
	}
	page := func(text string) func(*fake) {
		return upnp(func(f *fake) { f.page = func(string) string { return text } })
	}
	for _, test := range []struct {
		name string
		set  func(*fake)
		want error
		says string
	}{
		{"silence", func(*fake) {}, ErrNoAnswer, "PCP: no answer\nNAT-PMP: no answer\nUPnP: no answer"},
		{"garbage", always("garbage"), ErrNoAnswer, "UPnP: no answer"},
		{"more garbage", always(strings.Repeat("\x02\x81", 1000)), ErrNoAnswer, "PCP: no answer"},
		{"refused by PCP", change(3, 2), ErrRefused, "PCP: refused: not authorized"},
		{"refused by PCP for a reason of its own", change(3, 200), ErrRefused, "PCP: refused with code 200"},
		{"another nonce", change(24, 1, 2, 3, 4), ErrNoAnswer, "PCP: no answer"},
		{"another inner port", change(40, 0, 1), ErrNoAnswer, "PCP: no answer"},
		{"TCP", change(36, 6), ErrNoAnswer, "PCP: no answer"},
		{"no lifetime", change(4, 0, 0, 0, 0), ErrInvalid, "PCP: invalid answer: no lifetime"},
		{"outer port 0", change(42, 0, 0), ErrInvalid, "PCP: invalid answer: outer address 203.0.113.9:0"},
		{"outer IPv6", change(44, 0x20, 1), ErrInvalid, "PCP: invalid answer: outer address [2001:"},
		{"outer loopback", change(56, 127, 0, 0, 1), ErrInvalid, "PCP: invalid answer: outer address 127.0.0.1:"},
		{"outer multicast", change(56, 224, 0, 0, 1), ErrInvalid, "PCP: invalid answer"},
		{"outer reserved", change(56, 240, 0, 0, 1), ErrInvalid, "PCP: invalid answer"},
		{"outer zero net", change(56, 0, 1, 2, 3), ErrInvalid, "PCP: invalid answer"},
		{"outer link-local", change(56, 169, 254, 0, 1), ErrInvalid, "PCP: invalid answer"},
		{"refused by NAT-PMP", func(f *fake) {
			f.answerPMP = func(_, answer []byte) []byte { answer[3] = 3; return answer }
		}, ErrRefused, "NAT-PMP: refused: its own network has failed"},
		{"refused by NAT-PMP at last", func(f *fake) {
			f.answerPMP = func(request, answer []byte) []byte {
				if request[1] == pmpMapUDP {
					binary.BigEndian.PutUint16(answer[2:], 4)
				}
				return answer
			}
		}, ErrRefused, "NAT-PMP: refused: no resources"},
		{"NAT-PMP for another port", func(f *fake) {
			f.answerPMP = func(request, answer []byte) []byte {
				if request[1] == pmpMapUDP {
					answer[9]++
				}
				return answer
			}
		}, ErrNoAnswer, "NAT-PMP: no answer"},
		{"refused by UPnP", upnp(func(f *fake) {
			f.call = func(action string) string {
				if action == "AddPortMapping" {
					return soapFault(606)
				}
				return ""
			}
		}), ErrRefused, "UPnP: refused with code 606"},
		{"UPnP has no address", upnp(func(f *fake) {
			f.call = func(string) string { return "<u:x xmlns:u='y'><NewExternalIPAddress></NewExternalIPAddress></u:x>" }
		}), ErrInvalid, `UPnP: invalid answer: outer address ""`},
		{"described by somebody else", upnp(func(f *fake) {
			f.found = func(answer string) string { return strings.Replace(answer, "127.0.0.1", "198.51.100.1", 1) }
		}), ErrNoAnswer, "UPnP: no answer"},
		{"described at a name", upnp(func(f *fake) {
			f.found = func(answer string) string { return strings.Replace(answer, "127.0.0.1", "localhost", 1) }
		}), ErrNoAnswer, "UPnP: no answer"},
		{"controlled by somebody else", page(strings.Replace(description, "<device>", "<URLBase>http://198.51.100.1/</URLBase><device>", 1)), ErrInvalid, "UPnP: invalid answer: no service"},
		{"not a gateway", page(strings.ReplaceAll(description, "WANIPConnection", "Lamp")), ErrInvalid, "UPnP: invalid answer: no service"},
		{"no description", page("<html>not found"), ErrInvalid, "UPnP: invalid answer: description"},
		{"a long description", page("<!--" + strings.Repeat(" ", maxAnswer) + "-->" + strings.TrimPrefix(description, `<?xml version="1.0"?>`)), ErrInvalid, "UPnP: invalid answer: description"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f, m := newFake(t)
			m.ways.pause = 5 * time.Millisecond
			test.set(f)
			got, err := f.mapPort(m, inner)
			if !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.says) || got != (Mapping{}) {
				t.Errorf("got %+v, %v, want %q", got, err, test.says)
			}
			if err := f.unmapPort(m); err != nil {
				t.Errorf("nothing to delete: %v", err)
			}
		})
	}
}

// TestLifetime holds which lifetimes are believed.
func TestLifetime(t *testing.T) {
	for granted, want := range map[uint32]time.Duration{
		1: shortest, 119: shortest, 600: 10 * time.Minute, 7200: 2 * time.Hour, 1<<32 - 1: longest,
	} {
		f, m := newFake(t)
		f.speaksPCP()
		f.lifetime = granted
		if got, err := f.mapPort(m, inner); err != nil || got.Lifetime != want {
			t.Errorf("%d s: got %v, %v, want %v", granted, got.Lifetime, err, want)
		}
	}
}

// TestLease has a UPnP gateway that knows no leases, and one all of whose ports are taken.
func TestLease(t *testing.T) {
	f, m := newFake(t)
	f.speaksUPnP()
	calls := 0
	f.call = func(string) string {
		if calls++; calls == 2 {
			return soapFault(permanents)
		}
		return ""
	}
	if _, err := f.mapPort(m, inner); err != nil || !slices.Equal(f.leases, []string{"0"}) {
		t.Errorf("%v, leases %q", err, f.leases)
	}
	f, m = newFake(t)
	f.speaksUPnP()
	adds := 0
	f.call = func(action string) string {
		if action != "AddPortMapping" {
			return ""
		}
		adds++
		return soapFault(conflict)
	}
	if _, err := f.mapPort(m, inner); !errors.Is(err, ErrRefused) || adds != portTries {
		t.Errorf("%v after %d", err, adds)
	}
}

// TestLost sends a request again whose answer was lost.
func TestLost(t *testing.T) {
	f, m := newFake(t)
	times := 0
	f.answerPCP = func(_, answer []byte) []byte {
		if times++; times < sends {
			return nil
		}
		return answer
	}
	if got, err := f.mapPort(m, inner); err != nil || got.Protocol != "PCP" {
		t.Errorf("got %+v, %v", got, err)
	}
}

// TestUnreachable holds that nothing is waited for where nobody listens, or no gateway is.
func TestUnreachable(t *testing.T) {
	f, m := newFake(t)
	f.control.Close()
	m.ways.pause = time.Minute
	f.speaksUPnP()
	if got, err := f.mapPort(m, inner); err != nil || got.Protocol != "UPnP" {
		t.Errorf("nobody listens: %+v, %v", got, err)
	}
	if _, err := f.mapPort(m, netip.MustParseAddrPort("[2001:db8::1]:7")); !errors.Is(err, ErrOtherAddr) {
		t.Errorf("an IPv6 socket: %v", err)
	}
	m.gateway = func() (netip.Addr, error) { return netip.Addr{}, errors.New("lost") }
	if _, err := f.mapPort(m, inner); !errors.Is(err, ErrNoGateway) {
		t.Errorf("no gateway: %v", err)
	}
}

// TestAnyAddress maps a port that is open at all addresses.
func TestAnyAddress(t *testing.T) {
	f, m := newFake(t)
	f.speaksPCP()
	if got, err := f.mapPort(m, netip.MustParseAddrPort("[::]:40123")); err != nil || got.Inner != inner {
		t.Errorf("got %+v, %v", got, err)
	}
}

// TestMoved forgets a mapping of another gateway, or of another port.
func TestMoved(t *testing.T) {
	f, m := newFake(t)
	f.speaksPCP()
	if _, err := f.mapPort(m, inner); err != nil {
		t.Fatal(err)
	}
	f.answerPCP = nil
	m.ways.pause = time.Millisecond
	if _, err := f.mapPort(m, netip.AddrPortFrom(loopback, 7)); err == nil {
		t.Error("another port was mapped")
	}
	asked := len(f.asked)
	if err := f.unmapPort(m); err != nil || len(f.asked) != asked {
		t.Errorf("%v, asked %v", err, f.asked[asked:])
	}
}

// TestKept holds that a mapping that could not be renewed is still there to be deleted.
func TestKept(t *testing.T) {
	f, m := newFake(t)
	f.speaksPCP()
	if _, err := f.mapPort(m, inner); err != nil {
		t.Fatal(err)
	}
	m.ways.pause = 5 * time.Millisecond
	f.answerPCP = nil
	if _, err := f.mapPort(m, inner); !errors.Is(err, ErrNoAnswer) {
		t.Errorf("got %v", err)
	}
	f.speaksPCP()
	m.ways.pause = time.Second
	if err := f.unmapPort(m); err != nil || len(f.mapped) > 0 {
		t.Errorf("%v, the gateway has %v", err, f.mapped)
	}
}

// TestCancel ends calls that wait for a gateway, and those that wait for another call.
func TestCancel(t *testing.T) {
	f, m := newFake(t)
	f.mu.Unlock()
	defer f.mu.Lock()
	m.ways.pause = time.Minute
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	first := make(chan error, 1)
	go func() {
		_, err := m.Map(ctx, inner)
		first <- err
	}()
	err := m.Unmap(ctx)
	if got := <-first; !errors.Is(got, context.DeadlineExceeded) {
		t.Errorf("map: %v", got)
	}
	if err != nil && !errors.Is(err, context.DeadlineExceeded) { // nil: it was first
		t.Errorf("unmap: %v", err)
	}
}

// TestOver holds that calls whose context had ended before leave the mapper to others.
func TestOver(t *testing.T) {
	f, m := newFake(t)
	f.speaksPCP()
	if _, err := f.mapPort(m, inner); err != nil {
		t.Fatal(err)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	for range 20 {
		if _, err := m.Map(over, inner); !errors.Is(err, context.Canceled) {
			t.Fatalf("map: %v", err)
		}
		if err := m.Unmap(over); !errors.Is(err, context.Canceled) {
			t.Fatalf("unmap: %v", err)
		}
	}
	select {
	case m.turn <- struct{}{}:
		<-m.turn
	default:
		t.Fatal("a call that is over has the turn")
	}
	if err := f.unmapPort(m); err != nil || len(f.mapped) > 0 {
		t.Errorf("%v, the gateway has %v", err, f.mapped)
	}
}
