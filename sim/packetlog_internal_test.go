package sim

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"time"
)

// TestPacketLogLimit fills a log many times over: it keeps the newest packets, in
// order, and no more memory than it may.
func TestPacketLogLimit(t *testing.T) {
	const limit, size = 4 * packetChunk, 300
	log := newPacketLog(limit, -1)
	payload := make([]byte, size)
	const count = 5 * limit / size
	for i := range uint64(count) {
		binary.BigEndian.PutUint64(payload, i)
		log.see(Sight{Line: "a", At: time.Duration(i), From: addrPort("10.0.0.1:1"), To: addrPort("10.0.0.2:2"), Payload: payload})
	}
	memory := 0
	for _, chunk := range log.chunks {
		memory += cap(chunk.data)
	}
	if memory != limit {
		t.Errorf("%d bytes of memory, limit %d", memory, limit)
	}
	view := log.view()
	next := uint64(view.dropped)
	view.each(func(c *capture) {
		if got := binary.BigEndian.Uint64(c.payload); got != next || c.at != time.Duration(next) {
			t.Fatalf("packet %d at %v, want %d", got, c.at, next)
		}
		next++
	})
	if next != count || view.seen != count || view.dropped < count/2 {
		t.Errorf("the last packet is %d of %d; %d seen, %d dropped", next, count, view.seen, view.dropped)
	}
}

// TestPacketLogView holds that a view stays as it is while the log goes on.
func TestPacketLogView(t *testing.T) {
	log := newPacketLog(1, -1)
	sight := Sight{Line: "a", From: addrPort("10.0.0.1:1"), To: addrPort("10.0.0.2:2"), Payload: make([]byte, 1000)}
	fill := func(value byte, count int) {
		for i := range sight.Payload {
			sight.Payload[i] = value
		}
		for range count {
			log.see(sight)
		}
	}
	fill(1, 300) // a part of the second chunk, too
	view := log.view()
	fill(2, 10_000)
	count := 0
	view.each(func(c *capture) {
		count++
		if !bytes.Equal(c.payload, bytes.Repeat([]byte{1}, 1000)) {
			t.Fatalf("packet %d has changed", count)
		}
	})
	if count != 300 {
		t.Errorf("%d packets, want 300", count)
	}
}

// TestPacketLogRandom compares what comes out with what went in, for packets of
// all sizes.
func TestPacketLogRandom(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	log := newPacketLog(64<<20, -1)
	var want []Sight
	for range 100 {
		payload := make([]byte, random.IntN(1<<16))
		for i := range payload {
			payload[i] = byte(random.Uint32())
		}
		sight := Sight{
			Line: string(rune('a' + random.IntN(20))), Up: random.IntN(2) == 0, At: time.Duration(random.Int64()),
			From: addrPort("10.0.0.1:1"), To: addrPort("10.0.0.2:2"), Payload: payload, Fate: Fate(random.IntN(int(fates))),
		}
		if random.IntN(2) == 0 {
			sight.From, sight.To = addrPort("[2001:db8::1]:9"), addrPort("[2001:db8::2]:10")
		}
		want = append(want, sight)
		log.see(sight)
	}
	view := log.view()
	i := 0
	view.each(func(c *capture) {
		sight := want[i]
		if view.names[c.line] != sight.Line || c.up != sight.Up || c.at != sight.At || c.from != sight.From || c.to != sight.To ||
			c.fate != sight.Fate || c.length != len(sight.Payload) || !bytes.Equal(c.payload, sight.Payload) {
			t.Fatalf("packet %d: got %+v, want %+v", i, c, sight)
		}
		i++
	})
	if i != len(want) {
		t.Errorf("%d packets, want %d", i, len(want))
	}
}

func BenchmarkPacketLog(b *testing.B) {
	for _, bench := range []struct {
		name string
		size int
		snap int
	}{{"small", 60, 0}, {"large", 1400, 0}, {"whole", 1400, -1}} {
		b.Run(bench.name, func(b *testing.B) {
			log := newPacketLog(0, bench.snap)
			lines := []string{"alice/eth0", "bob/eth0", "gateway", "carol/eth0"}
			sight := Sight{From: addrPort("10.0.0.1:1"), To: addrPort("10.0.0.2:2"), Payload: make([]byte, bench.size)}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				sight.Line = lines[i%len(lines)]
				sight.At = time.Duration(i)
				log.see(sight)
			}
		})
	}
}
