package netlab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/conec-go/conec/sim"
)

// firstIndex is above the indices that interfaces get by themselves.
const firstIndex = 10_000

// patience is how long ip or nft may take.
const patience = 20 * time.Second

// internet is the network that stands for all public addresses (RFC 5737).
var internet = netip.MustParsePrefix("203.0.113.0/24")

// Lab is an internet with what is plugged into it. It ends with its test.
type Lab struct {
	tb         testing.TB
	namespaces []*namespace
	ports      int // of all bridges, to name them
	wan        *network
	cuts       []cut
}

// cut is a direction on the internet in which nothing passes.
type cut struct{ from, to netip.Addr }

// network is a bridge in a namespace, with the addresses that it gives away.
type network struct {
	inside *namespace
	bridge string
	prefix netip.Prefix
	router netip.Addr // the default route of who is plugged in; invalid for none
	last   netip.Addr // the last address that it gave away
	public netip.Addr // of the gateway to the internet; invalid there
}

// Place is where hosts and gateways are plugged in: the internet, or the inside
// of a gateway.
type Place interface{ network() *network }

func (n *network) network() *network { return n }

// Available returns why there can be no lab here, nil if there can be one.
func Available() error { return available() }

var available = sync.OnceValue(func() error {
	for _, program := range []string{"ip", "nft"} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("%w (Debian packages iproute2 and nftables)", err)
		}
	}
	n, err := newNamespace()
	if err != nil {
		return err
	}
	defer n.close()
	if err := n.forward(time.Minute); err != nil {
		return err
	}
	rules, err := ruleset(sim.FullCone(), netip.MustParseAddr("203.0.113.2"), netip.MustParsePrefix("10.0.0.0/8"), 1)
	return errors.Join(err, n.nft(rules), n.ip("link add lan type bridge", "link add wan type veth peer name other"), n.nft(separation(nil)))
})

// New makes an empty lab. If there can be none, it skips the test, or fails it if
// CONEC_NETLAB is "require".
func New(tb testing.TB) *Lab {
	tb.Helper()
	if err := Available(); err != nil {
		if os.Getenv("CONEC_NETLAB") == "require" {
			tb.Fatalf("no network namespaces: %v", err)
		}
		tb.Skipf("no network namespaces: %v", err)
	}
	l := &Lab{tb: tb}
	tb.Cleanup(func() {
		for _, n := range l.namespaces {
			n.close()
		}
	})
	inside := l.namespace()
	l.wan = &network{inside: inside, bridge: "internet", prefix: internet, last: internet.Addr()}
	l.must("internet", inside.bridge(l.wan.bridge))
	return l
}

// Internet is where public hosts and gateways are plugged in.
func (l *Lab) Internet() Place { return l.wan }

func (l *Lab) namespace() *namespace {
	l.tb.Helper()
	n, err := newNamespace()
	if err != nil {
		l.tb.Fatal(err)
	}
	l.namespaces = append(l.namespaces, n)
	return n
}

func (l *Lab) must(who string, err error) {
	l.tb.Helper()
	if err != nil {
		l.tb.Fatalf("%s: %v", who, err)
	}
}

// plug connects an interface of a namespace with a network, at its next address. Its default route counts after those
// of less metric.
func (l *Lab) plug(n *namespace, name string, to *network, metric int) (netip.Addr, error) {
	to.last = to.last.Next()
	if !to.prefix.Contains(to.last) {
		return netip.Addr{}, fmt.Errorf("no address left in %v", to.prefix)
	}
	l.ports++
	port := fmt.Sprintf("port%d", l.ports)
	// If both ends had the same index, Linux would not see at once that they are
	// up, but once per second (linkwatch_urgent_event).
	err := to.inside.ip(
		fmt.Sprintf("link add %s index %d type veth peer name %s netns %s", port, firstIndex+l.ports, name, n.path()),
		fmt.Sprintf("link set %s master %s up", port, to.bridge))
	if err == nil {
		err = n.ip(append([]string{
			"link set lo up", fmt.Sprintf("addr add %v/%d dev %s", to.last, to.prefix.Bits(), name),
		}, to.use(name, metric)...)...)
	}
	if err == nil {
		err = to.forwards(port)
	}
	return to.last, err
}

// forwards waits until a bridge lets packets through a port. Those before would
// wait for a second for the address resolution to try again.
func (n *network) forwards(port string) error {
	for limit := time.Now().Add(patience); ; {
		var state bytes.Buffer
		err := n.inside.run("", &state, "ip", "-details", "link", "show", port)
		switch {
		case err != nil, strings.Contains(state.String(), "state forwarding"):
			return err
		case time.Now().After(limit):
			return fmt.Errorf("the bridge does not forward for %s: %s", port, &state)
		}
	}
}

// use are the commands that set an interface up which is plugged in here, and the
// default route with it.
func (n *network) use(name string, metric int) []string {
	commands := []string{"link set " + name + " up"}
	if n.router.IsValid() {
		commands = append(commands, fmt.Sprintf("route replace default via %v dev %s metric %d", n.router, name, metric))
	}
	return commands
}

// bridge adds a bridge, and does something with it.
func (n *namespace) bridge(name string, then ...string) error {
	return n.ip(append([]string{"link add " + name + " type bridge", "link set " + name + " up"}, then...)...)
}

// forward makes the namespace a router whose idle mappings last that long.
func (n *namespace) forward(timeout time.Duration) error {
	seconds := fmt.Sprint(max(1, int(timeout.Seconds())))
	return n.do(func() error {
		for _, set := range [][2]string{
			{"ipv4/ip_forward", "1"},
			{"netfilter/nf_conntrack_udp_timeout", seconds},
			{"netfilter/nf_conntrack_udp_timeout_stream", seconds},
		} {
			if err := os.WriteFile("/proc/sys/net/"+set[0], []byte(set[1]), 0o600); err != nil {
				return err
			}
		}
		return nil
	})
}

func (n *namespace) ip(commands ...string) error {
	return n.run(strings.Join(commands, "\n"), new(bytes.Buffer), "ip", "-batch", "-")
}

func (n *namespace) nft(rules string) error { return n.run(rules, new(bytes.Buffer), "nft", "-f", "-") }

// run runs a program in the namespace.
func (n *namespace) run(input string, output *bytes.Buffer, program string, args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	command := exec.CommandContext(ctx, program, args...)
	command.Stdin, command.Stdout, command.Stderr = strings.NewReader(input), output, output
	err := n.do(command.Start) // the thread's namespace is the program's
	if err == nil {
		err = command.Wait()
	}
	if err != nil {
		return fmt.Errorf("%s: %w: %s\n%s", program, err, output, input)
	}
	return nil
}
