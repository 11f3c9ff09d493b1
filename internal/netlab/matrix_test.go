package netlab_test

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/conec-go/conec/internal/netlab"
	"github.com/conec-go/conec/netio"
	"github.com/conec-go/conec/sim"
)

// gateways are the kinds that the matrix is about, in the order of its rows and columns.
var gateways = []struct {
	name string
	nat  sim.NAT
}{
	{"full", sim.FullCone()},
	{"address", sim.AddressRestricted()},
	{"port", sim.PortRestricted()},
	{"open", sim.OpenMasquerade()},
	{"symmetric", sim.Symmetric()},
}

// orders say who sends its first packet when.
var orders = []string{"A first", "B first", "at once"}

// matrix says whether plain packets find a way through two gateways, A's in rows
// and B's in columns: + or - for each of the orders.
//
// What lets anything in from a port, or from an address that was spoken to,
// always does. Two that filter by address and port need the ports that the other
// side expects: a symmetric gateway never sends from it, and an open masquerade
// that hears before it has spoken gives its later packets another one.
const matrix = `
           full  address  port  open  symmetric
full       +++   +++      +++   +++   +++
address    +++   +++      +++   +++   +++
port       +++   +++      +++   -++   ---
open       +++   +++      +-+   --+   ---
symmetric  +++   +++      ---   ---   ---
`

// ground is a world with a host behind each kind of gateway on either side.
type ground struct {
	listen func(side, kind int, port uint16) (netio.Link, error)
	public [2]func() (netio.Link, error) // sockets of two hosts with public addresses
	echo   netip.AddrPort
	// atOnce has two hosts send when neither's packets have reached the other's
	// gateway.
	atOnce func(a, b int, send func() error) error
}

// TestMatrix has plain packets punch through each pair of gateways, in the
// simulator and in the kernel.
func TestMatrix(t *testing.T) { grounds(t, play) }

// grounds calls a test in the simulator and in the kernel.
func grounds(t *testing.T, test func(t *testing.T, g ground)) {
	t.Helper()
	t.Run("simulator", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { test(t, simulated(t)) })
	})
	t.Run("kernel", func(t *testing.T) { test(t, inKernel(t)) })
}

func simulated(t *testing.T) ground {
	t.Helper()
	n := sim.NewNetwork(1)
	t.Cleanup(n.Close)
	line := sim.Line{Latency: time.Millisecond}
	host := func(name string, at sim.Place) *sim.Host {
		h, err := n.Host(name, at, line)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	var hosts [2][]*sim.Host
	for side := range hosts {
		for _, kind := range gateways {
			name := fmt.Sprint(kind.name, side)
			g, err := n.Gateway("gateway "+name, n.Internet(), kind.nat, line)
			if err != nil {
				t.Fatal(err)
			}
			hosts[side] = append(hosts[side], host(name, g))
		}
	}
	return ground{
		echo: echo(t, host("echo", n.Internet()).Listen),
		listen: func(side, kind int, port uint16) (netio.Link, error) {
			return hosts[side][kind].Listen(netip.AddrPortFrom(netip.IPv4Unspecified(), port))
		},
		public: [2]func() (netio.Link, error){
			opener(host("public 1", n.Internet()).Listen), opener(host("public 2", n.Internet()).Listen),
		},
		atOnce: func(_, _ int, send func() error) error { return send() }, // they take two milliseconds
	}
}

func inKernel(t *testing.T) ground {
	t.Helper()
	lab := netlab.New(t)
	var hosts [2][]*netlab.Host
	for side := range hosts {
		for _, kind := range gateways {
			name := fmt.Sprint(kind.name, side)
			hosts[side] = append(hosts[side], lab.Host(name, lab.Gateway("gateway "+name, lab.Internet(), kind.nat)))
		}
	}
	return ground{
		echo: echo(t, lab.Host("echo", lab.Internet()).Listen),
		listen: func(side, kind int, port uint16) (netio.Link, error) {
			return hosts[side][kind].Listen(netip.AddrPortFrom(netip.IPv4Unspecified(), port))
		},
		public: [2]func() (netio.Link, error){
			opener(lab.Host("public 1", lab.Internet()).Listen), opener(lab.Host("public 2", lab.Internet()).Listen),
		},
		atOnce: func(a, b int, send func() error) error { // as if their packets were lost half way
			defer lab.Cut(hosts[0][a], hosts[1][b])()
			defer lab.Cut(hosts[1][b], hosts[0][a])()
			return send()
		},
	}
}

func opener(listen func(netip.AddrPort) (netio.Link, error)) func() (netio.Link, error) {
	return func() (netio.Link, error) { return listen(netip.AddrPort{}) }
}

// play fills in a matrix and compares it with what is expected.
func play(t *testing.T, g ground) {
	t.Helper()
	var got strings.Builder
	got.WriteString("\n          ")
	for _, kind := range gateways {
		fmt.Fprintf(&got, " %-9s", kind.name)
	}
	port := uint16(40_000) // each pair has ports of its own, so that no gateway has heard of them
	for a, kind := range gateways {
		fmt.Fprintf(&got, "\n%-10s", kind.name)
		for b := range gateways {
			cell := ""
			for _, order := range orders {
				port++
				found, err := g.punch(a, b, order, port)
				if err != nil {
					t.Fatalf("%s, %s, %s: %v", kind.name, gateways[b].name, order, err)
				}
				cell += map[bool]string{false: "-", true: "+"}[found]
			}
			fmt.Fprintf(&got, " %-9s", cell)
		}
	}
	want, found := strings.Fields(matrix), strings.Fields(got.String())
	if strings.Join(want, " ") != strings.Join(found, " ") {
		t.Errorf("A's gateway in rows, B's in columns, %s:%s\nwant%s", strings.Join(orders, ", "), got.String(), matrix)
	}
}

// punch opens a socket behind a gateway on each side, and tells whether they can
// talk in the end.
func (g ground) punch(a, b int, order string, port uint16) (bool, error) {
	var ends [2]end
	for side, kind := range []int{a, b} {
		link, err := g.listen(side, kind, port)
		if err != nil {
			return false, err
		}
		defer link.Close()
		defer time.AfterFunc(time.Minute, func() { link.Close() }).Stop()
		ends[side] = end{link: link, echo: g.echo}
		if err := ends[side].settle(); err != nil {
			return false, err
		}
	}
	ends[0].peer, ends[1].peer = ends[1].seen, ends[0].seen
	var first error
	turns := []*end{&ends[0], &ends[1]}
	switch order {
	case "B first":
		turns[0], turns[1] = turns[1], turns[0]
	case "at once":
		first = g.atOnce(a, b, func() error {
			return errors.Join(ends[0].say(), ends[1].say(), ends[0].settle(), ends[1].settle())
		})
	}
	for range 4 {
		for _, e := range turns {
			if err := errors.Join(e.settle(), e.say(), e.settle()); err != nil {
				return false, err
			}
		}
	}
	return ends[0].answered && ends[1].answered, first
}

// end is one side that punches: a socket, without a goroutine.
type end struct {
	link     netio.Link
	echo     netip.AddrPort
	seen     netip.AddrPort // its own address, as the echo sees it
	peer     netip.AddrPort // where to send: where the last packet came from
	heard    bool           // a packet of the peer's came
	answered bool           // one came that the peer sent when it had heard one
	asked    int
	received netio.Batch
}

// say sends a packet to the peer.
func (e *end) say() error {
	return e.link.Write(e.peer, netio.Packets{Data: fmt.Appendf(nil, "peer %t", e.heard)}, true)
}

// settle asks the echo for this end's address, and reads everything until the
// answer. What this end sent before has then arrived wherever it goes, since it
// has left before the question on a way that is no longer; and what had been sent
// to it before has been read.
func (e *end) settle() error {
	e.asked++
	question := fmt.Sprintf("echo %d ", e.asked)
	if err := e.link.Write(e.echo, netio.Packets{Data: []byte(question)}, true); err != nil {
		return err
	}
	for {
		if err := e.link.Read(&e.received); err != nil {
			return err
		}
		from := e.received.From
		for text := range pieces(&e.received) {
			answer, ok := strings.CutPrefix(text, question)
			switch {
			case from == e.echo && ok:
				e.seen = netip.MustParseAddrPort(answer)
				return nil
			case strings.HasPrefix(text, "peer "):
				e.peer, e.heard = from, true
				e.answered = e.answered || text == "peer true"
			default:
				return fmt.Errorf("got %q from %v", text, from)
			}
		}
	}
}

// pieces are the datagrams of a batch.
func pieces(b *netio.Batch) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for at := 0; at < b.N; at += b.Segment {
			if !yield(string(b.Buf[at:min(at+b.Segment, b.N)])) {
				return
			}
		}
	}
}

// echo answers each packet with its content and where it came from, until the
// test ends.
func echo(t *testing.T, listen func(netip.AddrPort) (netio.Link, error)) netip.AddrPort {
	t.Helper()
	link, err := listen(netip.AddrPort{})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		var b netio.Batch
		for link.Read(&b) == nil {
			for text := range pieces(&b) {
				_ = link.Write(b.From, netio.Packets{Data: fmt.Append([]byte(text), b.From)}, true)
			}
		}
	}()
	t.Cleanup(func() {
		link.Close()
		<-done
	})
	return link.Addrs()[0]
}
