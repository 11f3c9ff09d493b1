package portmap_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/conec-go/conec/internal/netlab"
	"github.com/conec-go/conec/netio/portmap"
	"github.com/conec-go/conec/sim"
)

// onHost has the test binary be a program on a host whose gateway runs a daemon: for HTTP, all its threads must be there.
const onHost = "CONEC_PORTMAP_HOST"

// TestMain runs the tests, or that program.
func TestMain(m *testing.M) {
	if os.Getenv(onHost) == "" {
		os.Exit(m.Run())
	}
	if err := keep(); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// keep maps a port, renews it, says what came of it, and deletes it after 2 seconds.
func keep() error {
	ctx, cancel := context.WithTimeout(context.Background(), portmap.Patience)
	defer cancel()
	mapper, inner := portmap.New(), netip.MustParseAddrPort("0.0.0.0:40123")
	first, err := mapper.Map(ctx, inner)
	if err != nil {
		return err
	}
	again, err := mapper.Map(ctx, inner)
	if err == nil && again != first {
		err = fmt.Errorf("%+v became %+v", first, again)
	}
	if err != nil {
		return fmt.Errorf("renew: %w", err)
	}
	fmt.Printf("%s %v from %v to %v\n", first.Protocol, first.Outer, first.Inner, first.Lifetime)
	<-time.After(2 * time.Second)
	return mapper.Unmap(ctx)
}

// TestDaemon has miniupnpd map ports in the kernel, where that is installed.
func TestDaemon(t *testing.T) {
	for protocol, upnp := range map[string]bool{"PCP": false, "UPnP": true} {
		t.Run(protocol, func(t *testing.T) {
			lab := netlab.New(t)
			gateway := lab.Gateway("home", lab.Internet(), sim.PortRestricted())
			alice := lab.Host("alice", gateway)
			gateway.MapPorts(upnp)
			inner := netip.AddrPortFrom(alice.Addr(), 40123)
			want := fmt.Sprintf("%s %v:40123 from %v to 1h0m0s\n", protocol, netlab.MappedAddr, inner)
			said := make(chan string, 1)
			t.Setenv(onHost, "alice")
			go func() {
				output, err := alice.Run(os.Args[0])
				if err != nil {
					output += err.Error()
				}
				said <- output
			}()
			for seen := false; ; {
				select {
				case output := <-said:
					if output != want || !seen || gateway.Maps(inner) {
						t.Errorf("the host said %q, want %q; the gateway had a rule: %v, and has one: %v", output, want, seen, gateway.Maps(inner))
					}
					return
				default:
					seen = seen || gateway.Maps(inner)
				}
			}
		})
	}
}
