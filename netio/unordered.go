package netio

import (
	"context"
	"encoding/binary"
	"slices"
	"time"

	"github.com/quic-go/quic-go"
)

// flight is a QUIC stream of unordered messages that is to be reset after their
// deadline, or when everything is.
type flight struct {
	raw     *quic.SendStream
	items   []item // without their bytes
	expires time.Duration
}

// nextBatch takes what shares the next QUIC stream. It gives up what is too late.
// Called with mu held.
func (l *loose) nextBatch() (batch []item) {
	o := &l.out
	var now time.Duration
	if l.terms.deadline > 0 {
		now = l.carriers.now()
	}
	var gone []item
	size := 0
	for len(o.waiting) > 0 && o.err == nil {
		it := o.waiting[0]
		if it.late(now) {
			gone = append(gone, it)
		} else {
			if len(batch) > 0 && size+len(it.bytes) > packetSize || !l.mayFly(it) {
				break
			}
			if len(batch) > 0 && (it.number != batch[0].number+uint64(len(batch)) || it.within != batch[0].within) {
				break
			}
			batch = append(batch, it)
			size += len(it.bytes)
			o.sent += uint64(it.cost())
		}
		o.waiting[0] = item{}
		o.waiting = o.waiting[1:]
		o.size -= it.cost()
	}
	if len(o.waiting) == 0 {
		o.waiting = nil
	}
	l.giveUp(gone)
	o.space.wake()
	return batch
}

// pump sends unordered messages until none may be sent.
func (l *loose) pump(ctx context.Context) {
	for {
		l.mu.Lock()
		batch := l.nextBatch()
		if len(batch) == 0 {
			l.out.pumping = false
			l.out.cancel()
			if len(l.out.waiting) == 0 {
				l.sayEnd()
			}
			l.mu.Unlock()
			return
		}
		l.mu.Unlock()
		raw, err := l.carriers.raw.OpenUniStreamSync(ctx)
		if err != nil {
			l.mu.Lock()
			l.out.pumping = false
			l.out.cancel()
			l.mu.Unlock()
			if ctx.Err() == nil { // or sending is over
				l.fail(fromQUIC(err), false)
			}
			return
		}
		l.launch(raw, batch)
	}
}

// fly puts a flight on the list, which is in the order in which they expire.
func (o *looseOut) fly(f *flight) {
	at := len(o.flights)
	for at > 0 && f.expires > 0 && (o.flights[at-1].expires == 0 || o.flights[at-1].expires > f.expires) {
		at--
	}
	o.flights = slices.Insert(o.flights, at, f)
}

// launch writes a batch to a QUIC stream of its own.
func (l *loose) launch(raw *quic.SendStream, batch []item) {
	l.touch()
	raw.SetPriority(l.terms.quicUrgency(), false) // all unordered messages together take turns with each stream
	head := make([]byte, 0, 2*binary.MaxVarintLen64+packetSize)
	head = binary.AppendUvarint(head, l.head.ID())
	head = binary.AppendUvarint(head, batch[0].number)
	large := len(batch[0].bytes) > packetSize
	f := &flight{raw: raw}
	if last := batch[len(batch)-1]; last.within > 0 {
		f.expires = last.at + last.within
	}
	l.mu.Lock()
	if l.out.err != nil {
		l.mu.Unlock()
		raw.CancelWrite(resetCode)
		return
	}
	track := large || f.expires > 0
	if track {
		f.items = slices.Clone(batch)
		for i := range f.items {
			f.items[i].bytes = nil
		}
		l.out.fly(f)
		l.setTimer()
	}
	if large {
		l.out.writing++
	}
	l.mu.Unlock()
	if !large {
		for i := range batch {
			head = append(head, batch[i].bytes...)
			batch[i].bytes = nil
		}
		_, _ = raw.Write(head) // the head tells why it failed, if it did
		_ = raw.Close()
		return
	}
	body := batch[0].bytes
	batch[0].bytes = nil
	if len(body) > writeInLine {
		go l.write(f, head, body)
	} else {
		l.write(f, head, body)
	}
}

// write writes a large message.
func (l *loose) write(f *flight, head, body []byte) {
	_, err := f.raw.Write(head)
	if err == nil {
		_, err = f.raw.Write(body)
	}
	if err == nil {
		_ = f.raw.Close()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.out.writing--
	if f.expires == 0 {
		if at := slices.Index(l.out.flights, f); at >= 0 {
			l.out.flights = slices.Delete(l.out.flights, at, at+1)
		}
	}
	l.startPump()
}
