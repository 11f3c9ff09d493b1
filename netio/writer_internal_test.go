package netio

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go"
)

// arrives is a QUIC stream: what is written has come at once.
type arrives struct {
	w     *writer
	bytes int
	most  int // in one write
}

func (a *arrives) TryWriteAll([]byte) error { return quic.ErrWouldBlock }
func (a *arrives) Close() error             { return nil }

func (a *arrives) Write(b []byte) (int, error) {
	a.bytes += len(b)
	a.most = max(a.most, len(b))
	a.w.came(uint64(a.bytes))
	return len(b), nil
}

// TestBulkWriter writes much at once while nothing is interactive, and little as soon as something is, whenever that begins.
// What it has not written holds it up in no case.
func TestBulkWriter(t *testing.T) {
	const size = 3<<20 + 5
	for begins := range 200 { // at which look at the clock
		synctest.Test(t, func(t *testing.T) {
			start, looks := time.Now(), 0
			p := &pace{}
			p.now = func() time.Duration {
				now := time.Since(start)
				if looks++; looks > begins {
					p.prompt.Store(max(int64(now), 1))
				}
				return now
			}
			w := &writer{bulk: true, pace: p}
			raw := &arrives{w: w}
			w.raw = raw
			if err := w.write(make([]byte, size), true); err != nil || raw.bytes != size {
				t.Fatalf("wrote %d bytes: %v", raw.bytes, err)
			}
			if took := time.Since(start); took != 0 || p.flying != 0 || p.probe.taken != size/paceUnit || p.probe.came != size/paceUnit {
				t.Errorf("it took %v; %+v", took, p.probe)
			}
			if largest := raw.most; largest > freeWrite || begins == 0 && largest > paceUnit {
				t.Errorf("%d bytes were written at once", largest)
			}
		})
	}
}
