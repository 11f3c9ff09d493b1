package portmap_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
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
	if again, err := mapper.Map(ctx, inner); err != nil || again.Outer != first.Outer {
		return fmt.Errorf("renewed: %+v, %v, before %+v", again, err, first)
	}
	fmt.Printf("%s %v from %v to %v\n", first.Protocol, first.Outer, first.Inner, first.Lifetime)
	<-time.After(2 * time.Second)
	return mapper.Unmap(ctx)
}

// TestDaemon has miniupnpd map ports in the kernel, where that is installed.
func TestDaemon(t *testing.T) {
	daemon, err := exec.LookPath("miniupnpd")
	if err != nil {
		t.Skip(err)
	}
	for _, test := range []struct{ name, config, listens, want string }{
		{"PCP", "enable_upnp=no\nenable_natpmp=yes\n", ":5351 ", "PCP 9.9.9.9:40123 from 192.168.1.2:40123 to 1h0m0s\n"},
		{"UPnP", "enable_upnp=yes\nenable_natpmp=no\n", ":1900 ", "UPnP 9.9.9.9:40123 from 192.168.1.2:40123 to 1h0m0s\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			lab := netlab.New(t)
			gateway := lab.Gateway("home", lab.Internet(), sim.PortRestricted())
			alice := lab.Host("alice", gateway)
			if output, err := gateway.Run("nft", "add table inet filter; "+
				"add chain inet filter miniupnpd; add chain inet filter prerouting_miniupnpd; add chain inet filter postrouting_miniupnpd"); err != nil {
				t.Fatal(err, output)
			}
			folder := t.TempDir()
			config := filepath.Join(folder, "config")
			text := "ext_ifname=wan\next_ip=9.9.9.9\nlistening_ip=lan\nuuid=00000000-0000-0000-0000-000000000001\n" +
				"allow 1024-65535 192.168.1.0/24 1024-65535\n" + test.config
			if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			gateway.Serve(daemon, "-d", "-f", config, "-P", filepath.Join(folder, "pid"))

			for limit := time.Now().Add(10 * time.Second); ; {
				output, err := gateway.Run("ss", "-uln")
				if strings.Contains(output, test.listens) {
					break
				}
				if err != nil || time.Now().After(limit) {
					t.Fatal(err, output)
				}
			}
			said := make(chan string, 1)
			t.Setenv(onHost, "alice")
			go func() {
				output, err := alice.Run(os.Args[0])
				if err != nil {
					output += err.Error()
				}
				said <- output
			}()
			rules := func() string {
				output, err := gateway.Run("nft", "list ruleset")
				if err != nil {
					t.Error(err)
				}
				return output
			}
			seen := false
			for {
				select {
				case output := <-said:
					if output != test.want || !seen {
						t.Errorf("the host said %q; the gateway had a rule: %v", output, seen)
					}
					if after := rules(); strings.Contains(after, "40123") {
						t.Errorf("the gateway still has:\n%s", after)
					}
					return
				default:
					seen = seen || strings.Contains(rules(), "dnat ip to 192.168.1.2:40123")
				}
			}
		})
	}
}
