package topology

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestLedger(t *testing.T) {
	const second = time.Second
	tests := []struct {
		name    string
		send    int
		arrive  []uint64 // a second after each other
		counts  counts
		missing int64
	}{
		{"all", 3, []uint64{0, 1, 2}, counts{Sent: 3, Received: 3, Bytes: 30, Gap: second}, 0},
		{"one lost", 3, []uint64{0, 2}, counts{Sent: 3, Received: 2, Bytes: 20, Gap: second}, 1},
		{"last lost", 3, []uint64{0, 1}, counts{Sent: 3, Received: 2, Bytes: 20, Gap: second}, 1},
		{"again", 3, []uint64{0, 1, 1, 2}, counts{Sent: 3, Received: 3, Repeated: 1, Bytes: 30, Gap: 2 * second}, 0},
		{"late", 3, []uint64{0, 2, 1}, counts{Sent: 3, Received: 3, Reordered: 1, Bytes: 30, Gap: second}, 0},
		{"late and again", 3, []uint64{2, 1, 1, 0, 2}, counts{Sent: 3, Received: 3, Repeated: 2, Reordered: 2, Bytes: 30, Gap: 2 * second}, 0},
		{"never sent", 1, []uint64{0, 7}, counts{Sent: 1, Received: 1, Damaged: 1, Bytes: 10, Gap: second}, 0},
		{"nothing", 2, nil, counts{Sent: 2}, 2},
		{"beyond a word", 130, []uint64{129, 0, 64, 129}, counts{Sent: 130, Received: 3, Repeated: 1, Reordered: 2, Bytes: 30, Gap: second}, 127},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var l ledger
			for range test.send {
				l.number(0)
			}
			now := time.Duration(0)
			for _, number := range test.arrive {
				now += second
				l.arrived(number, 10, now)
			}
			got, _ := l.read()
			if got != test.counts {
				t.Errorf("counts %+v\nwant %+v", got, test.counts)
			}
			if missing := got.Sent - got.Received; missing != test.missing {
				t.Errorf("%d missing, want %d", missing, test.missing)
			}
			l.end(now + time.Hour)
			if got, _ := l.read(); (got.Gap >= time.Hour) != (test.missing > 0) {
				t.Errorf("gap at the end is %v with %d missing", got.Gap, test.missing)
			}
		})
	}
}

func TestLedgerOfMessageThatWasNotSent(t *testing.T) {
	var l ledger
	l.number(0)
	l.number(0)
	l.unsent()
	if number := l.number(0); number != 1 {
		t.Errorf("the number after one that was taken back is %d, want 1", number)
	}
	if got, _ := l.read(); got.Sent != 2 {
		t.Errorf("%d sent, want 2", got.Sent)
	}
}

func TestThroughput(t *testing.T) {
	var l ledger
	l.number(10 * time.Second)
	l.number(11 * time.Second)
	l.arrived(0, 1000, 12*time.Second)
	l.arrived(1, 1000, 14*time.Second)
	if _, rate := l.read(); rate != 500 {
		t.Errorf("rate is %v, want 500: 2000 bytes in 4 seconds", rate)
	}
}

func TestMessageRoundTrip(t *testing.T) {
	for _, size := range []int{headerIs, minMessage, 1000} {
		buffer := make([]byte, size)
		compose(buffer, 3, 258, 5*time.Second)
		if got, ok := parse(buffer); !ok || got != (parsed{3, 258, 5 * time.Second}) {
			t.Errorf("size %d: parsed %+v, %v", size, got, ok)
		}
		for i := range buffer {
			buffer[i] ^= 0x10
			if _, ok := parse(buffer); ok {
				t.Errorf("size %d: damage of byte %d is not noticed", size, i)
			}
			buffer[i] ^= 0x10
		}
		if _, ok := parse(buffer[:size-1]); ok {
			t.Errorf("size %d: the last byte is missing, and that is not noticed", size)
		}
	}
}

// TestHistogram compares with the exact answer: quantiles are right to 1.6 %.
func TestHistogram(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	for _, scale := range []float64{10, 1e3, 1e6, 1e9, 1e12} {
		var h histogram
		var all []time.Duration
		for range 5000 {
			d := time.Duration(random.ExpFloat64() * scale)
			h.add(d)
			all = append(all, d)
		}
		slices.Sort(all)
		for _, part := range []float64{0, 0.5, 0.9, 0.99} {
			exact, got := all[int(part*5000)], h.quantile(part)
			if got < exact || float64(got) > 1.016*float64(exact)+1 {
				t.Errorf("scale %g: quantile %v is %v, exactly %v", scale, part, got, exact)
			}
		}
	}
	var h histogram
	if got := h.quantile(0.5); got != 0 {
		t.Errorf("the median of nothing is %v", got)
	}
	h.add(1<<63 - 1)
	h.add(-1)
	if got := h.quantile(0.99); got < 1<<62 {
		t.Errorf("the longest duration became %v", got)
	}
}

func TestPairs(t *testing.T) {
	tr := Traffic{From: []string{"a", "b"}, To: []string{"a", "b", "c", "d"}}
	random := rand.New(rand.NewPCG(1, 1))
	want := []Pair{{"a", "b"}, {"a", "c"}, {"a", "d"}, {"b", "a"}, {"b", "c"}, {"b", "d"}}
	if got := tr.pairs(random); !slices.Equal(got, want) {
		t.Errorf("pairs %v, want %v", got, want)
	}
	tr.Peers = 2
	seen := map[Pair]bool{}
	for range 50 {
		got := tr.pairs(random)
		if len(got) != 4 || got[0] == got[1] || got[2] == got[3] || got[0].From != "a" || got[2].From != "b" {
			t.Fatalf("pairs %v; want two partners each", got)
		}
		for _, pair := range got {
			seen[pair] = true
			if pair.From == pair.To {
				t.Errorf("%s talks to itself", pair.From)
			}
		}
	}
	if len(seen) != 6 {
		t.Errorf("%d different pairs in 50 draws, want all 6", len(seen))
	}
	again := func() []Pair { return tr.pairs(rand.New(rand.NewPCG(7, 1))) }
	if !slices.Equal(again(), again()) {
		t.Error("the same seed draws different pairs")
	}
}

func TestTexts(t *testing.T) {
	for want, got := range map[string]string{
		"1m30s":          brief(90 * time.Second),
		"2m":             brief(2 * time.Minute),
		"24h":            brief(24 * time.Hour),
		"40ms":           brief(40 * time.Millisecond),
		"64KiB":          sizeText(65536),
		"10MB":           sizeText(10_000_000),
		"1492B":          sizeText(1492),
		"20.0 Mbit/s":    rateText(2_500_000),
		"0 bit/s":        rateText(0),
		"1.5 MB":         amount(1_500_000),
		"12 B":           amount(12),
		"1.23s":          round(1_234_567_890).String(),
		"45.7ms":         round(45_678_901).String(),
		"a, b, c, … (5)": few([]string{"a", "b", "c", "d", "e"}),
		"a, b, c, d":     few([]string{"a", "b", "c", "d"}),
	} {
		if got != want {
			t.Errorf("text %q, want %q", got, want)
		}
	}
}
