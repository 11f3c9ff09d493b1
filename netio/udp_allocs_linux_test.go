//go:build !race

package netio

import "testing"

// TestUDPLinkDoesNotAllocate is not for the race detector, under which a sync.Pool drops some of what it gets.
func TestUDPLinkDoesNotAllocate(t *testing.T) {
	a, b := udpPair(t, "127.0.0.1:0")
	data, header, got := make([]byte, 6000), []byte("12345"), Batch{}
	if n := testing.AllocsPerRun(50, func() {
		if err := a.Write(b.LocalAddr(), Packets{Header: header, Data: data, Segment: 1200, ECN: 2}, true); err != nil {
			t.Fatal(err)
		}
		if err := b.Read(&got); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
