package main

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/conec-go/conec/client"
)

// pathKind is direct, relayed or none.
func pathKind(path client.Path) string {
	switch {
	case !path.Remote.IsValid():
		return "none"
	case path.Relayed:
		return "relayed"
	}
	return "direct"
}

// pathWords says which path it is, and why.
func pathWords(path client.Path, why string) string {
	switch pathKind(path) {
	case "none":
		return "no path: " + why
	case "relayed":
		return fmt.Sprintf("relayed via %v: %s", path.Remote, why)
	default:
		return fmt.Sprintf("direct %v: %s", path.Remote, why)
	}
}

// parseAddrPort returns an address, the zero one if the text has none.
func parseAddrPort(text string) netip.AddrPort {
	addr, err := netip.ParseAddrPort(text)
	if err != nil {
		return netip.AddrPort{}
	}
	return addr
}

// millis is a time in milliseconds.
func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// millisText says that for people.
func millisText(d time.Duration) string {
	if d < 10*time.Millisecond {
		return fmt.Sprintf("%.2f ms", millis(d))
	}
	return fmt.Sprintf("%.1f ms", millis(d))
}
