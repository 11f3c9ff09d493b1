package netio

import (
	"context"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	conecv1 "github.com/conec-go/conec/messages/conec/v1"
)

// goneRun is messages with consecutive numbers that are not sent, or no longer.
type goneRun struct {
	first, count uint64
	cost         uint64 // of the credit that was used for them: those of one flight, of which all come or none
}

// Limits of what is told of messages that were given up.
const (
	mostRuns = 1000 // in one frame
	mostGone = 4096 // messages in one run
)

// giveUp counts messages that were not sent, and has the receiver told. Called with mu
// held.
func (l *loose) giveUp(gone []item) {
	for _, it := range gone {
		l.stats.GivenUp++
		if l.terms.datagrams() {
			continue // the end tells what is lost
		}
		runs := l.out.gone
		if last := len(runs) - 1; last >= 0 && runs[last].cost == 0 && runs[last].first+runs[last].count == it.number && runs[last].count < mostGone {
			runs[last].count++
			continue
		}
		l.out.gone = append(runs, goneRun{first: it.number, count: 1})
	}
	l.tellGone()
}

// giveUpFlight does so for messages that are on their way. Called with mu held.
func (l *loose) giveUpFlight(f *flight) {
	f.raw.CancelWrite(resetCode)
	run := goneRun{first: f.items[0].number, count: uint64(len(f.items))}
	for _, it := range f.items {
		run.cost += uint64(it.cost())
	}
	l.stats.GivenUp += run.count
	l.out.gone = append(l.out.gone, run)
	l.tellGone()
}

// tellGone starts the pump that tells what was given up. While the head has no room,
// it gathers. Called with mu held.
func (l *loose) tellGone() {
	if len(l.out.gone) > 0 && !l.out.telling && l.over == nil {
		l.out.telling = true
		go l.tellRuns()
	}
}

// tellRuns is that pump.
func (l *loose) tellRuns() {
	for {
		l.mu.Lock()
		runs := l.out.gone[:min(len(l.out.gone), mostRuns)]
		l.out.gone = l.out.gone[len(runs):]
		if len(runs) == 0 || l.over != nil {
			l.out.gone, l.out.telling = nil, false
			l.endHead()
			l.mu.Unlock()
			return
		}
		l.mu.Unlock()
		news := &conecv1.DeliveryNews{}
		for _, run := range runs {
			news.GivenUp = append(news.GivenUp, &conecv1.GivenUp{Number: run.first, Count: run.count, Credit: run.cost})
		}
		body, err := proto.Marshal(news)
		if err == nil {
			err = l.head.out.send(context.Background(), body) // ends with the stream
		}
		if err != nil {
			l.mu.Lock()
			l.out.telling = false
			l.mu.Unlock()
			return
		}
	}
}

// dropLate gives up what waits and is too late, so that others need not wait behind it,
// and returns when the next one is. Called with mu held.
func (l *loose) dropLate(now time.Duration) (next time.Duration) {
	o := &l.out
	var gone []item
	o.waiting = slices.DeleteFunc(o.waiting, func(it item) bool {
		switch {
		case !it.late(now):
			if at := it.at + it.within; it.within > 0 && (next == 0 || at < next) {
				next = at
			}
			return false
		case !it.copied:
			gone = append(gone, it)
		}
		o.size -= it.cost()
		return true
	})
	l.giveUp(gone)
	o.space.wake()
	return next
}
