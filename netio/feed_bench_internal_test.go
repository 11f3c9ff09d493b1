package netio

import (
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/quic-go/quic-go"
)

// discard takes everything, and counts it.
type discard struct{ bytes atomic.Int64 }

func (d *discard) Write(b []byte) (int, error) {
	d.bytes.Add(int64(len(b)))
	return len(b), nil
}

func (d *discard) TryWriteAll([]byte) error { return quic.ErrWouldBlock }
func (d *discard) Close() error             { return nil }

// BenchmarkFeed adds messages to a feed that many streams send, without QUIC under them.
func BenchmarkFeed(b *testing.B) {
	const size = 1 << 10
	for _, count := range []int{1, 50, 1000} {
		b.Run(strconv.Itoa(count), func(b *testing.B) {
			feed := NewFeed(1<<20, true)
			streams, raws := make([]*Stream, count), make([]discard, count)
			for i := range streams {
				streams[i] = &Stream{out: newOutbox(&raws[i], nil, 1<<16)}
				if err := streams[i].Follow(feed, 0, nil); err != nil {
					b.Fatal(err)
				}
			}
			head, body := make([]byte, 8), make([]byte, size)
			b.ReportAllocs()
			b.SetBytes(int64(count * size))
			for b.Loop() {
				if _, err := feed.Add(b.Context(), head, body, nil); err != nil {
					b.Fatal(err)
				}
			}
			for _, stream := range streams {
				stream.out.closeSend()
				<-stream.out.done
			}
		})
	}
}
