package main

import (
	"fmt"
	"path"
	"sync"
	"time"

	"github.com/conec-go/conec/client"
)

// rateWindow is the time over which the rate is measured that the progress shows.
const rateWindow = 5 * time.Second

// copyProgress knows how far a copy has come: what counts is what the peer's client has. Safe for concurrent use.
type copyProgress struct {
	stream *client.Stream
	list   *fileList
	start  time.Time

	mu      sync.Mutex
	doing   string
	sizes   []int    // of the messages since text was called last and those that are not confirmed, in bytes of files
	settled uint64   // messages that are confirmed
	handed  int64    // bytes sent, confirmed or not
	bytes   int64    // confirmed
	skipped int64    // bytes that were there
	same    int      // files that were there
	points  []sample // of the last rateWindow
}

type sample struct {
	at    time.Time
	bytes int64
}

func newCopyProgress(stream *client.Stream, list *fileList) *copyProgress {
	now := time.Now()
	return &copyProgress{stream: stream, list: list, start: now, points: []sample{{now, 0}}}
}

// say sets what is being done.
func (p *copyProgress) say(doing string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.doing = doing
}

// sent counts a message with so many bytes of files.
func (p *copyProgress) sent(size int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sizes = append(p.sizes, size)
	p.handed += int64(size)
}

// skip counts bytes that the peer had, and the file if it had all of it.
func (p *copyProgress) skip(size int64, all bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.skipped += size
	if all {
		p.same++
	}
}

// settle takes up what was confirmed since. Called with mu held.
func (p *copyProgress) settle() {
	n := min(int(p.stream.Confirmed()-p.settled), len(p.sizes))
	for _, size := range p.sizes[:n] {
		p.bytes += int64(size)
	}
	p.settled += uint64(n)
	p.sizes = append(p.sizes[:0], p.sizes[n:]...)
}

// ahead returns how long to wait so that no more than limit bytes per second are sent.
func (p *copyProgress) ahead(limit int64) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Duration(float64(p.handed)/float64(limit)*float64(time.Second)) - time.Since(p.start)
}

// rate takes a sample, and returns the bytes per second of the last ones. Called with mu held.
func (p *copyProgress) rate(now time.Time) float64 {
	p.points = append(p.points, sample{now, p.bytes})
	for len(p.points) > 2 && now.Sub(p.points[0].at) > rateWindow {
		p.points = p.points[1:]
	}
	first := p.points[0]
	if passed := now.Sub(first.at).Seconds(); passed > 0 {
		return float64(p.bytes-first.bytes) / passed
	}
	return 0
}

// text is a line of at most 79 characters.
func (p *copyProgress) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.settle()
	done, total := p.bytes+p.skipped, p.list.bytes
	percent := int64(100)
	if total > 0 {
		percent = done * 100 / total
	}
	rate := p.rate(time.Now())
	left := "?"
	if rate > 0 {
		left = timeText(time.Duration(float64(total-done) / rate * float64(time.Second)))
	}
	doing := []rune(printable(path.Base(p.doing)))
	if len(doing) > 16 {
		doing = append(doing[:15], '…')
	}
	if p.doing == "" {
		doing = nil
	}
	return fmt.Sprintf("%3d%% %s %s of %s %s/s %s left %s", percent, bar(done, total, 12),
		bytesText(float64(done)), bytesText(float64(total)), bytesText(rate), left, string(doing))
}

// summary says at the end what was done.
func (p *copyProgress) summary() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	passed := time.Since(p.start)
	text := fmt.Sprintf("copied and verified: %s, %s in %.1f s, %s/s", filesText(p.list.files), bytesText(float64(p.list.bytes)),
		passed.Seconds(), bytesText(float64(p.handed)/passed.Seconds()))
	if p.skipped > 0 || p.same > 0 {
		text += fmt.Sprintf("; %s were there, %s whole", bytesText(float64(p.skipped)), filesText(p.same))
	}
	return text
}

func filesText(n int) string {
	if n == 1 {
		return "1 file"
	}
	return fmt.Sprintf("%d files", n)
}
