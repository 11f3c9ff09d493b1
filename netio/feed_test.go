package netio_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/conec-go/conec/messages"
	"github.com/conec-go/conec/netio"
)

// feedBody is the body of message n of a feed under test.
func feedBody(n uint64, size int) []byte {
	return append(binary.BigEndian.AppendUint64(nil, n), make([]byte, size)...)
}

// skipped says that messages are missing: a body too short for a number.
func skipped(from, to uint64) ([]byte, error) {
	return binary.BigEndian.AppendUint32(nil, uint32(to-from)), nil
}

// TestFeed has streams send one feed: those that are read get everything, one that is read
// late gets what is kept and is told exactly what it missed, one that begins late begins there.
func TestFeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, cb := connectEnds(t, nil, &netio.Config{Limits: netio.Limits{ReceiveBuffer: 64 << 10}})
		ctx := within(t)
		feed := netio.NewFeed(64<<10, false)
		const count, size = 1000, 500
		const readers = 3
		const apart = 25 // messages by which the readers may be behind
		var reading sync.WaitGroup
		read := make(chan struct{})
		for i := range readers {
			out, in := openStream(t, ca, cb)
			if err := out.Follow(feed, 0, skipped); err != nil {
				t.Fatal(err)
			}
			reading.Go(func() {
				for want := range uint64(count) {
					message, err := in.Receive(ctx)
					if err != nil || len(message) < 8 || binary.BigEndian.Uint64(message) != want {
						t.Errorf("stream %d: message %d is %v, %v", i, want, message[:min(len(message), 8)], err)
						return
					}
					if want%apart == 0 {
						read <- struct{}{}
					}
				}
			})
		}
		slow, late := openStream(t, ca, cb)
		missed := uint64(0)
		if err := slow.Follow(feed, 0, func(from, to uint64) ([]byte, error) {
			missed += to - from
			return skipped(from, to)
		}); err != nil {
			t.Fatal(err)
		}
		random := rand.New(rand.NewPCG(1, 1))
		for n := range uint64(count) {
			if number, err := feed.Add(ctx, feedBody(n, 0)[:4], feedBody(n, random.IntN(2*size))[4:], nil); number != n || err != nil {
				t.Fatal(number, err)
			}
			if n%apart == 0 {
				for range readers {
					<-read
				}
			}
		}
		reading.Wait()
		first, next := feed.Range()
		if next != count || first == 0 {
			t.Fatalf("the feed has %d to %d, want some of %d", first, next, count)
		}
		want, got := uint64(0), uint64(0)
		for want < count {
			message, err := late.Receive(ctx)
			switch {
			case err != nil:
				t.Fatal(err)
			case len(message) == 4:
				want += uint64(binary.BigEndian.Uint32(message))
			case binary.BigEndian.Uint64(message) != want:
				t.Fatalf("message %d, want %d", binary.BigEndian.Uint64(message), want)
			default:
				want++
				got++
			}
		}
		if got+missed != count || missed == 0 {
			t.Errorf("the slow stream got %d and missed %d, of %d", got, missed, count)
		}
		newcomer, in := openStream(t, ca, cb)
		if err := newcomer.Follow(feed, first, skipped); err != nil {
			t.Fatal(err)
		}
		if message, err := in.Receive(ctx); err != nil || binary.BigEndian.Uint64(message) != first {
			t.Errorf("the newcomer begins with %v, %v, want %d", message, err, first)
		}
	})
}

// TestFeedWaits shows that a feed that waits loses nothing: who adds waits for the slowest, and
// for nobody once that has left.
func TestFeedWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, cb := connectEnds(t, nil, nil)
		ctx := within(t)
		feed := netio.NewFeed(64<<10, true)
		slow, in := openStream(t, ca, cb)
		if err := slow.Follow(feed, 0, skipped); err != nil {
			t.Fatal(err)
		}
		added := uint64(0)
		fill := func() {
			for {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				_, err := feed.Add(ctx, nil, feedBody(added, 1000), nil)
				cancel()
				if errors.Is(err, context.DeadlineExceeded) {
					return
				}
				if err != nil || added > 10_000 {
					t.Fatal(added, err)
				}
				added++
			}
		}
		fill()
		before := added
		for want := range before / 2 {
			message, err := in.Receive(ctx)
			if err != nil || binary.BigEndian.Uint64(message) != want {
				t.Fatal(want, message[:8], err)
			}
		}
		if fill(); added == before {
			t.Error("what was received makes no room")
		}
		slow.Close()
		in.Close()
		for range 1000 {
			if _, err := feed.Add(ctx, nil, feedBody(added, 1000), nil); err != nil {
				t.Fatal(err)
			}
		}
		feed.Close(fmt.Errorf("%w: test", messages.ErrClosed))
		if _, err := feed.Add(t.Context(), nil, nil, nil); !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
}

// TestFeedWaitsNotForEver adds without waiting while the slowest stands still: there is a limit to that, too, and then it is
// left behind.
func TestFeedWaitsNotForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, cb := connectEnds(t, nil, nil)
		const limit = 64 << 10
		feed := netio.NewFeed(limit, true)
		slow, _ := openStream(t, ca, cb)
		if err := slow.Follow(feed, 0, skipped); err != nil {
			t.Fatal(err)
		}
		for n := range uint64(2000) {
			if _, err := feed.TryAdd(nil, feedBody(n, 1000), nil); err != nil {
				t.Fatal(err)
			}
		}
		if first, next := feed.Range(); (next-first)*1000 > 3*limit {
			t.Errorf("the feed keeps %d messages of 1,000 bytes, its limit is %d bytes", next-first, limit)
		}
	})
}

// TestFeedRefusesSlow shows that a stream which may not be left behind ends with the reason.
func TestFeedRefusesSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, cb := connectEnds(t, nil, nil)
		ctx := within(t)
		feed := netio.NewFeed(64<<10, false)
		slow, in := openStream(t, ca, cb)
		if err := slow.Follow(feed, 0, func(from, to uint64) ([]byte, error) {
			return nil, fmt.Errorf("%w: %d messages behind", messages.ErrLimit, to-from)
		}); err != nil {
			t.Fatal(err)
		}
		for n := range uint64(1000) {
			if _, err := feed.Add(ctx, nil, feedBody(n, 1000), nil); err != nil {
				t.Fatal(err)
			}
		}
		for {
			if _, err := in.Receive(ctx); err != nil {
				if !errors.Is(err, messages.ErrLimit) {
					t.Errorf("the stream ends with %v", err)
				}
				return
			}
		}
	})
}

// TestFeedNoted has a feed tell of a message before a stream can send or miss it, and not of one that is not added.
func TestFeedNoted(t *testing.T) {
	feed := netio.NewFeed(1000, false)
	var noted []uint64
	note := func(number uint64) { noted = append(noted, number) }
	for range 3 {
		if _, err := feed.Add(t.Context(), nil, []byte("x"), nil); err != nil {
			t.Fatal(err)
		}
		if _, err := feed.Add(t.Context(), []byte("x"), []byte("y"), note); err != nil {
			t.Fatal(err)
		}
	}
	feed.Close(messages.ErrShutdown)
	if _, err := feed.Add(t.Context(), nil, nil, note); !errors.Is(err, messages.ErrShutdown) {
		t.Error("added to a feed that is closed:", err)
	}
	if !slices.Equal(noted, []uint64{1, 3, 5}) {
		t.Errorf("noted %v", noted)
	}
}
