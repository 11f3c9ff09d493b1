package main

import (
	"fmt"
	"net/netip"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/conec-go/conec/client"
)

// Bytes around a packet of QUIC on its way: the switch's, and those of UDP and IP.
const (
	switchHead = 5
	udpHead    = 28
)

// advise collects what to do about what was found.
func (d *diagnosis) advise() {
	say := func(advice string) {
		if advice != "" {
			d.Advice = append(d.Advice, advice)
		}
	}
	if !d.Attached {
		return // the error has a hint of its own
	}
	if d.NAT == "yes" && d.Mapping == client.EndpointDependent.String() && d.PortMap != client.PortMapped.String() {
		say(doctorHints.hardNAT)
	}
	if d.MaxPacket > 0 && d.MaxPacket < fullPacket {
		say(doctorHints.narrow)
	}
	if d.ClockKnown && time.Duration(d.Clock).Abs() > clockLimit {
		say(doctorHints.clock)
	}
	if d.Peer != nil && d.Peer.report != nil && d.Peer.Path != "direct" {
		say(pathHints[d.Peer.report.Reason])
	}
}

// String is the diagnosis for people.
func (d *diagnosis) String() string {
	var b strings.Builder
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	row := func(what, format string, args ...any) {
		fmt.Fprintf(table, "%s\t%s\n", what, fmt.Sprintf(format, args...))
	}
	if !d.Attached {
		row("coordinator", "%s, not attached", d.Coordinator)
		row("UDP", "%s", map[bool]string{true: "yes, the coordinator answers", false: "no answer"}[d.UDP])
		_ = table.Flush() // a strings.Builder takes everything
		return b.String()
	}
	row("coordinator", "%s, attached", d.Coordinator)
	how := "yes"
	if !d.UDP {
		how = "no: attached over TCP; every channel is relayed, but to peers in the same network"
	}
	row("UDP", "%s, round trip %v", how, d.RTT)
	row("IPv4", "%s", addrList(d.IPv4))
	row("IPv6", "%s", addrList(d.IPv6))
	row("seen as", "%s", d.Observed)
	row("NAT", "%s", d.nat())
	row("hairpin", "%s", map[string]string{
		"yes": "yes", "no": "no: clients behind the same NAT reach each other by inner addresses only", "unneeded": "not needed",
	}[d.Hairpin])
	row("mapped port", "%s", d.mappedPort())
	row("MTU", "%s", d.mtu())
	row("clock", "%s", d.clock())
	_ = table.Flush() // as above
	if d.Peer != nil {
		b.WriteString("\n" + d.Peer.String())
	}
	for _, advice := range d.Advice {
		fmt.Fprintf(&b, "\nadvice: %s\n", advice)
	}
	return b.String()
}

// addrList is the addresses with commas.
func addrList(addrs []netip.Addr) string {
	if len(addrs) == 0 {
		return "no address"
	}
	texts := make([]string, len(addrs))
	for i, addr := range addrs {
		texts[i] = addr.String()
	}
	return strings.Join(texts, ", ")
}

func (d *diagnosis) nat() string {
	if d.NAT != "yes" {
		return "none: the coordinator sees an address of this host"
	}
	port := "changes the port"
	if d.PortKept {
		port = "keeps the port"
	}
	return "yes, " + port + ", mapping " + d.Mapping
}

func (d *diagnosis) mappedPort() string {
	switch d.PortMap {
	case client.PortMapped.String():
		text := fmt.Sprintf("%s, by %s", d.PortMapAddr, d.PortMapProtocol)
		outer, err := netip.ParseAddrPort(d.PortMapAddr)
		observed, err2 := netip.ParseAddrPort(d.Observed)
		if err == nil && err2 == nil && observed.Addr().Is4() && outer.Addr() != observed.Addr() {
			text += "; the gateway is behind another NAT"
		}
		return text
	case client.PortNotMapped.String():
		return "none: " + strings.ReplaceAll(d.PortMapError, "\n", "; ")
	case client.PortMapUnneeded.String():
		return "not needed"
	}
	return d.PortMap
}

func (d *diagnosis) mtu() string {
	switch {
	case d.MaxPacket == 0:
		return "not known"
	case d.MaxPacket >= fullPacket:
		return fmt.Sprintf("at least %d bytes: full packets pass over the relay", d.MaxPacket+switchHead+udpHead)
	}
	return fmt.Sprintf("%d bytes found over the relay, less than usual", d.MaxPacket+switchHead+udpHead)
}

func (d *diagnosis) clock() string {
	if !d.ClockKnown {
		return "the coordinator does not tell its own"
	}
	ahead, word := time.Duration(d.Clock), "behind"
	if ahead < 0 {
		word = "ahead of"
	}
	if ahead.Abs() <= time.Duration(d.ClockError) {
		return fmt.Sprintf("right, to %v", d.ClockError)
	}
	if ahead.Abs() < time.Second {
		return fmt.Sprintf("%v %s the coordinator's, to %v", millis(ahead.Abs()), word, d.ClockError)
	}
	return fmt.Sprintf("%v %s the coordinator's", ahead.Abs().Round(100*time.Millisecond), word)
}

// String is the way to a peer for people: the path, and a line for each candidate.
func (p *peerDiagnosis) String() string {
	if p.report == nil {
		return p.Name + ": " + p.Error + "\n"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n", p.Name, pathWords(p.report.Path, p.Why))
	fmt.Fprintf(&b, "round trip %v, %.1f%% lost, packets of %d bytes", p.RTT, 100*p.Loss, p.MaxPacket)
	if p.DirectAfter > 0 {
		fmt.Fprintf(&b, ", direct after %.2f s", p.DirectAfter)
	}
	b.WriteString("\n")
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, c := range p.Candidates {
		note := ""
		if c.Unsent != "" {
			note = "not sent: " + c.Unsent
		}
		rtt := "-"
		if c.RTT > 0 {
			rtt = c.RTT.String()
		}
		fmt.Fprintf(table, "  %s\t%v\t%v\t%d probes\t%d answers\t%s\t%s\n", c.Addr, c.Kind, c.State, c.Probes, c.Answers, rtt, note)
	}
	_ = table.Flush() // a strings.Builder takes everything
	return b.String()
}
