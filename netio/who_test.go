package netio_test

import (
	"encoding/binary"
	"testing"
	"testing/synctest"
	"time"

	"github.com/conec-go/conec/netio"
)

// TestWho: that the coordinator does not know us is believed only if it comes from its address and names an attachment of ours.
func TestWho(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n fakeNet
		link := n.link("10.0.0.1:1")
		told := make(chan [2]uint64, 8)
		s := newSwitch(t, netio.SwitchConfig{OnUnknown: func(id, sequence uint64) { told <- [2]uint64{id, sequence} }}, link)
		s.AllowRaw(coordinatorAddr)
		s.SetBindKey(7, [32]byte{1})
		frame := func(id uint64, size int) []byte {
			b := binary.BigEndian.AppendUint64([]byte{38}, id)
			return append(binary.BigEndian.AppendUint64(b, 3), make([]byte, size-17)...)
		}
		size := len(netio.EncodeBind(nil, 7, 3, [32]byte{1}))
		go func() { _, _, _ = s.ReadFrom(make([]byte, 2000)) }()
		link.deliver(strangerAddr, frame(7, size))
		link.deliver(coordinatorAddr, frame(8, size))
		link.deliver(coordinatorAddr, frame(7, size-1))
		time.Sleep(time.Second)
		if want := (netio.Drops{Unproven: 1, Unknown: 1, Malformed: 1}); len(told) > 0 || s.Stats().Dropped != want {
			t.Errorf("told %d times, dropped %+v, want never and %+v", len(told), s.Stats().Dropped, want)
		}
		link.deliver(coordinatorAddr, frame(7, size))
		time.Sleep(time.Second)
		if got := <-told; got != [2]uint64{7, 3} {
			t.Errorf("told %v, want client 7 and sequence 3", got)
		}
		_ = s.Close()
	})
}
