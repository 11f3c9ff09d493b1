package netio

import (
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"
)

// routeMessage makes a netlink message; an rtmsg has bytes for family, prefix length, …, table, …, type, and flags.
func routeMessage(kind uint16, body ...byte) []byte {
	size := unix.SizeofNlMsghdr + len(body)
	b := make([]byte, (size+3)&^3)
	binary.NativeEndian.PutUint32(b, uint32(size))
	binary.NativeEndian.PutUint16(b[4:], kind)
	copy(b[unix.SizeofNlMsghdr:], body)
	return b
}

func route(prefix, table, kind byte, flags uint32) []byte {
	body := make([]byte, unix.SizeofRtMsg)
	body[0], body[1], body[4], body[7] = unix.AF_INET, prefix, table, kind
	binary.NativeEndian.PutUint32(body[8:], flags)
	return body
}

func TestRouteHint(t *testing.T) {
	all := route(0, unix.RT_TABLE_MAIN, unix.RTN_UNICAST, 0)
	for _, test := range []struct {
		name     string
		messages [][]byte
		hint     Hint
		relevant bool
	}{
		{"none", nil, Hint{}, false},
		{"an address comes", [][]byte{routeMessage(unix.RTM_NEWADDR, make([]byte, 24)...)}, Hint{}, true},
		{"an interface goes", [][]byte{routeMessage(unix.RTM_DELLINK)}, Hint{}, true},
		{"a neighbor", [][]byte{routeMessage(unix.RTM_NEWNEIGH, make([]byte, 12)...)}, Hint{}, false},
		{"a default route", [][]byte{routeMessage(unix.RTM_NEWROUTE, all...)}, Hint{Rerouted: true}, true},
		{"it goes", [][]byte{routeMessage(unix.RTM_DELROUTE, all...)}, Hint{Rerouted: true}, true},
		{"in a table of its own", [][]byte{routeMessage(unix.RTM_NEWROUTE, route(0, 100, unix.RTN_UNICAST, 0)...)}, Hint{Rerouted: true}, true},
		{"a network", [][]byte{routeMessage(unix.RTM_NEWROUTE, route(24, unix.RT_TABLE_MAIN, unix.RTN_UNICAST, 0)...)}, Hint{}, false},
		{"a local one", [][]byte{routeMessage(unix.RTM_NEWROUTE, route(0, unix.RT_TABLE_LOCAL, unix.RTN_LOCAL, 0)...)}, Hint{}, false},
		{"nowhere", [][]byte{routeMessage(unix.RTM_NEWROUTE, route(0, unix.RT_TABLE_MAIN, unix.RTN_UNREACHABLE, 0)...)}, Hint{}, false},
		{"a remembered one", [][]byte{routeMessage(unix.RTM_NEWROUTE, route(0, unix.RT_TABLE_MAIN, unix.RTN_UNICAST, unix.RTM_F_CLONED)...)}, Hint{}, false},
		{"several", [][]byte{routeMessage(unix.RTM_NEWNEIGH, 1), routeMessage(unix.RTM_NEWADDR, 1, 2, 3), routeMessage(unix.RTM_NEWROUTE, all...)}, Hint{Rerouted: true}, true},
		{"cut short", [][]byte{routeMessage(unix.RTM_NEWROUTE, all...)[:unix.SizeofNlMsghdr+8]}, Hint{}, false},
		{"no size", [][]byte{make([]byte, 64)}, Hint{}, false},
	} {
		var messages []byte
		for _, message := range test.messages {
			messages = append(messages, message...)
		}
		if hint, relevant := routeHint(messages); hint != test.hint || relevant != test.relevant {
			t.Errorf("%s: %+v, relevant %v, want %+v, %v", test.name, hint, relevant, test.hint, test.relevant)
		}
	}
}

func FuzzRouteHint(f *testing.F) {
	f.Add(routeMessage(unix.RTM_NEWROUTE, route(0, unix.RT_TABLE_MAIN, unix.RTN_UNICAST, 0)...))
	f.Add(routeMessage(unix.RTM_NEWADDR, 1)[:17])
	f.Fuzz(func(t *testing.T, messages []byte) {
		if hint, relevant := routeHint(messages); hint != (Hint{}) && !relevant || hint.Slept != 0 {
			t.Errorf("%+v, relevant %v", hint, relevant)
		}
	})
}
