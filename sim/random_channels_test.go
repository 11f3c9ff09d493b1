package sim_test

import (
	"context"
	"time"

	"github.com/conec-go/conec/client"
)

// use does a step that uses a stream.
func (p *play) use(s step) {
	side := 0
	if s.back {
		side = 1
	}
	p.mu.Lock()
	stream := p.streams[s.stream]
	var end *client.Stream
	if stream != nil {
		end = stream.ends[side]
	}
	p.mu.Unlock()
	switch {
	case stream == nil:
	case s.do == doSend || s.do == doTry || s.do == doCloseSend || s.do == doClose:
		stream.orders[side].add(s, false)
	case end == nil:
	case s.do == doReset:
		p.troubleStream(stream, stream.from, stream.to)
		back := stream.flows[1-side]
		back.set(func() { back.dropped = true })
		end.Reset()
	case s.do == doStall:
		p.mu.Lock()
		stream.stalled[side] = p.w.Elapsed() + s.last
		p.mu.Unlock()
	case s.do == doDrain:
		p.w.Go(func() { p.drain(stream, side, end) })
	case s.do == doAbort:
		p.troubleChannel(stream, forgetTakes)
		end.Channel().Abort()
	}
}

// troubleStream notes that a stream may break from now on.
func (p *play) troubleStream(s *playedStream, a, b int) {
	t := p.trouble(a, b, time.Hour, true)
	p.mu.Lock()
	defer p.mu.Unlock()
	t.stream = s.number
}

// troubleChannel notes that all streams of a channel may break.
func (p *play) troubleChannel(s *playedStream, lasts time.Duration) *trouble {
	t := p.trouble(s.from, s.to, lasts, true)
	p.mu.Lock()
	defer p.mu.Unlock()
	t.mode = s.mode
	return t
}

// drain closes a channel in order. If that succeeds, everything that was sent on it
// from this side must have arrived.
func (p *play) drain(s *playedStream, side int, end *client.Stream) {
	trouble := p.troubleChannel(s, time.Hour)
	who := s.from
	if side == 1 {
		who = s.to
	}
	channel := end.Channel()
	promises := p.promise(who, func(other *client.Stream) bool { return *other.Channel() == *channel })
	ctx, cancel := context.WithTimeout(context.Background(), drainWithin)
	defer cancel()
	began := p.w.Elapsed()
	err := channel.Close(ctx)
	if took := p.w.Elapsed() - began; took > drainWithin+time.Second {
		p.fault("slow", "closing the channel of stream %d took %v: %v", s.number, took, err)
	}
	if err == nil {
		p.keep(promises)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	trouble.until = p.w.Elapsed() + forgetTakes
}

// promise is how many messages of a direction must arrive.
type promise struct {
	stream *playedStream
	flow   *sequence
	count  int
}

// promise notes what a client has sent on some of its streams, which are about to
// end in order.
func (p *play) promise(who int, some func(*client.Stream) bool) (list []promise) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.inOrder() {
		for side, end := range s.ends {
			if end == nil || []int{s.from, s.to}[side] != who || !some(end) {
				continue
			}
			flow := s.flows[side]
			flow.set(func() {
				flow.ending = true
				list = append(list, promise{s, flow, len(flow.sent)})
			})
		}
	}
	return list
}

// keep makes promises count.
func (p *play) keep(promises []promise) {
	for _, made := range promises {
		if !p.mayHaveBroken(made.stream) {
			made.flow.set(func() { made.flow.promised = max(made.flow.promised, made.count) })
		}
	}
}

// mayHaveBroken reports whether anything else may have broken a stream than one
// ending in order.
func (p *play) mayHaveBroken(s *playedStream) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	count := 0
	for _, t := range p.troubles {
		if t.until >= s.asked && t.hits(s.from, s.to) {
			count++
		}
	}
	return count > 1
}
