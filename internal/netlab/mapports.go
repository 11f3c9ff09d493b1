package netlab

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// MappedAddr is the outer address of a gateway with [Gateway.MapPorts], by which those gateways reach it
// that [Gateway.Reach] says so for: those of the lab's internet are private ones to miniupnpd.
var MappedAddr = netip.MustParseAddr("9.9.9.9")

// MapPorts has the gateway map ports of MappedAddr for its inside on request, by UPnP if upnp, else by PCP and NAT-PMP. One
// gateway of a lab can. It takes miniupnpd (Debian package of that name) and ss; without them, the test is skipped.
func (g *Gateway) MapPorts(upnp bool) {
	g.lab.tb.Helper()
	daemon, err := exec.LookPath("miniupnpd")
	if err == nil {
		_, err = exec.LookPath("ss")
	}
	if err != nil {
		g.lab.tb.Skipf("no daemon that maps ports: %v", err)
	}
	g.lab.must(g.name, g.router.nft(`table inet filter {
		chain miniupnpd {}
		chain postrouting_miniupnpd {}
		chain prerouting_miniupnpd {}
		chain prerouting { type nat hook prerouting priority dstnat; jump prerouting_miniupnpd; }
	}
	table ip filter {
		chain forward { type filter hook forward priority filter; }
	}
	insert rule ip filter forward ct status dnat accept`))
	g.lab.must(g.name, g.router.ip(fmt.Sprintf("addr add %v/32 dev wan", MappedAddr)))
	listens, protocols := ":5351 ", "enable_upnp=no\nenable_natpmp=yes\n"
	if upnp {
		listens, protocols = ":1900 ", "enable_upnp=yes\nenable_natpmp=no\n"
	}
	folder := g.lab.tb.TempDir()
	config := filepath.Join(folder, "config")
	g.lab.must(g.name, os.WriteFile(config, fmt.Appendf(nil,
		"ext_ifname=wan\next_ip=%v\nlistening_ip=lan\nuuid=00000000-0000-0000-0000-000000000001\nallow 1024-65535 %v 1024-65535\n%s",
		MappedAddr, g.within.prefix, protocols), 0o600))
	g.serve(daemon, "-d", "-f", config, "-P", filepath.Join(folder, "pid"))
	for limit := time.Now().Add(patience); ; {
		var sockets bytes.Buffer
		g.lab.must(g.name, g.router.run("", &sockets, "ss", "-uln"))
		if strings.Contains(sockets.String(), listens) {
			return
		}
		if time.Now().After(limit) {
			g.lab.tb.Fatalf("%s: %s does not listen: %s", g.name, daemon, &sockets)
		}
	}
}

// Maps reports whether the gateway has a rule that leads a port to a host.
func (g *Gateway) Maps(to netip.AddrPort) bool {
	g.lab.tb.Helper()
	var rules bytes.Buffer
	g.lab.must(g.name, g.router.run("", &rules, "nft", "list", "ruleset"))
	return strings.Contains(rules.String(), fmt.Sprintf("dnat ip to %v", to))
}

// serve starts a program, which is killed when the test ends.
func (g *Gateway) serve(program string, args ...string) {
	g.lab.tb.Helper()
	var output bytes.Buffer
	command := exec.Command(program, args...)
	command.Stdout, command.Stderr = &output, &output
	g.lab.must(g.name, g.router.do(command.Start)) // the thread's namespace is the program's
	g.lab.tb.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
		if g.lab.tb.Failed() {
			g.lab.tb.Logf("%s: %s", program, &output)
		}
	})
}

// Reach has the gateway send to another one what is for MappedAddr.
func (g *Gateway) Reach(other *Gateway) {
	g.lab.tb.Helper()
	g.lab.must(g.name, g.router.ip(fmt.Sprintf("route add %v via %v", MappedAddr, other.addr)))
}
