package netlab

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/conec-go/conec/sim"
)

// home is the network behind a gateway that names none: the same behind each.
var home = netip.MustParsePrefix("192.168.1.0/24")

// size of the maps and sets that a gateway keeps.
const size = 65_535

// lifetime is how long an idle mapping lasts (RFC 4787 section 4.3, REQ-5).
func lifetime(nat sim.NAT) time.Duration {
	if nat.Timeout > 0 {
		return nat.Timeout
	}
	return 2 * time.Minute
}

// ruleset writes a gateway for nft. It replaces the one that is there, and puts
// all connections into a zone of conntrack's.
func ruleset(nat sim.NAT, outside netip.Addr, inside netip.Prefix, zone int) (string, error) {
	r := rules{nat: nat, outside: outside, inside: inside}
	r.line("flush ruleset")
	r.line("table ip zone {")
	r.line("	chain pre { type filter hook prerouting priority raw; ct zone set %d; }", zone)
	r.line("	chain out { type filter hook output priority raw; ct zone set %d; }", zone)
	r.line("}")
	if nat.NoUDP {
		r.line("table ip blocked {")
		r.line("	chain forward { type filter hook forward priority filter - 1; meta l4proto udp drop; }")
		r.line("}")
	}
	preserving := nat.Ports == sim.PreservePorts
	cone := preserving && nat.Mapping == sim.EndpointIndependent
	symmetric := nat.Mapping == sim.AddressAndPortDependent
	strict := nat.Filtering == sim.AddressAndPortDependent
	var err error
	switch {
	case nat.OutboundRefresh || nat.Routed || nat.Limit != 0:
		err = errors.New("nft: OutboundRefresh, Routed and Limit are for package sim")
	case nat.Hairpin && (!cone || nat.Filtering != sim.EndpointIndependent), nat.EarlyTakes && !strict:
		err = fmt.Errorf("nft: no rules for %+v", nat)
	case cone && !strict:
		r.cone()
	case strict && preserving && (cone || symmetric): // the same until two want one port
		r.masquerade("masquerade")
	case strict && symmetric && nat.Ports == sim.RandomPorts:
		r.masquerade("meta l4proto udp masquerade random,fully-random")
	default:
		err = fmt.Errorf("nft: no rules for %+v", nat)
	}
	return r.text.String(), err
}

type rules struct {
	text    strings.Builder
	nat     sim.NAT
	outside netip.Addr
	inside  netip.Prefix
}

func (r *rules) line(format string, args ...any) {
	fmt.Fprintf(&r.text, format+"\n", args...)
}

// masquerade lets conntrack decide what comes in: what answers something that
// went out. A packet that does not is for the gateway itself, which drops it,
// and so forgets it; one that accepted it would have taken note of it
// (sim.NAT.EarlyTakes).
func (r *rules) masquerade(statement string) {
	if !r.nat.EarlyTakes {
		r.line("table ip filter {")
		r.input()
		r.line(`	chain forward { type filter hook forward priority filter;`)
		r.line(`		iifname "wan" ct state established,related accept; iifname "wan" drop; }`)
		r.line("}")
	}
	r.line("table ip nat {")
	r.line("	chain pre { type nat hook prerouting priority dstnat; }")
	r.line(`	chain post { type nat hook postrouting priority srcnat; oifname "wan" %s; }`, statement)
	r.line("}")
}

// cone remembers which host uses a port, whatever it is used for, and with
// address-dependent filtering to whom it has spoken.
func (r *rules) cone() {
	seconds := max(1, int(lifetime(r.nat).Seconds()))
	r.line("table ip filter {")
	r.input()
	if r.nat.Filtering == sim.AddressDependent {
		r.line("	set talked { type ipv4_addr . inet_service . ipv4_addr; flags dynamic,timeout; timeout %ds; size %d; }", seconds, size)
		r.line("	chain forward { type filter hook forward priority filter;")
		r.line(`		oifname "wan" meta l4proto udp update @talked { ip saddr . udp sport . ip daddr timeout %ds };`, seconds)
		r.line(`		iifname "wan" meta l4proto udp ip daddr . udp dport . ip saddr @talked accept;`)
		r.line(`		iifname "wan" ct state established,related accept; iifname "wan" drop; }`)
	}
	r.line("}")
	r.line("table ip nat {")
	r.line("	map hosts { type inet_service : ipv4_addr . inet_service; flags dynamic,timeout; timeout %ds; size %d; }", seconds, size)
	r.line("	chain pre { type nat hook prerouting priority dstnat;")
	from := `iifname "wan" `
	if r.nat.Hairpin {
		from = ""
	}
	r.line(`		%sip daddr %v meta l4proto udp dnat ip to udp dport map @hosts; }`, from, r.outside)
	r.line("	chain post { type nat hook postrouting priority srcnat;")
	if r.nat.Hairpin {
		// Also the inside must see the outside address (RFC 4787 REQ-9).
		r.line(`		ip saddr %v oifname "lan" ct status dnat snat to %v;`, r.inside.Masked(), r.outside)
	}
	r.line(`		oifname "wan" meta l4proto udp update @hosts { udp sport timeout %ds : ip saddr . udp sport };`, seconds)
	r.line(`		oifname "wan" snat to %v; }`, r.outside)
	r.line("}")
}

// input drops what comes to the gateway itself from outside.
func (r *rules) input() {
	r.line(`	chain in { type filter hook input priority filter;`)
	r.line(`		iifname "wan" ct state established,related accept; iifname "wan" drop; }`)
}
