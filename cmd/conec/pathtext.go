package main

import (
	"encoding/json"
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

// pathOf is the path that an event tells of.
func pathOf(event client.PathChanged) client.Path {
	remote, _ := netip.ParseAddrPort(event.Remote) // empty: none
	return client.Path{Relayed: event.Relayed, Remote: remote, Reason: event.Reason}
}

// millis is a time that is shown in milliseconds.
type millis time.Duration

func (m millis) number() float64 { return float64(m) / float64(time.Millisecond) }

// MarshalJSON returns the number of milliseconds.
func (m millis) MarshalJSON() ([]byte, error) { return json.Marshal(m.number()) }

// String says it for people.
func (m millis) String() string {
	if time.Duration(m) < 10*time.Millisecond {
		return fmt.Sprintf("%.2f ms", m.number())
	}
	return fmt.Sprintf("%.1f ms", m.number())
}
