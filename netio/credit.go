package netio

// grant is what a receiver tells its sender.
type grant struct {
	limit    uint64 // bytes of messages frames that may be sent, since the QUIC stream began
	come     uint64 // bytes that have come
	messages uint64 // messages that have come
}

// creditor is what of a stream has to do with credit: it is different for plain
// ordered streams, for those that carry a resumable one, and for others.
type creditor interface {
	// startLimit is what the other side may send from the beginning.
	startLimit() uint64
	// grant is what the other side is to be told; false if it need not be any more.
	grant() (grant, bool)
	// granted takes over what the other side lets this one send.
	granted(grant)
	// wanted hears that the other side, which has sent put bytes, has a frame of n bytes
	// that it may not send yet.
	wanted(put uint64, n int)
	// refuse ends the stream because the other side wants what can not be.
	refuse(why error)
}

// creditor returns who that is.
func (s *Stream) creditor() creditor {
	if r := s.carries.Load(); r != nil {
		return attachment{r, s}
	}
	if l := s.loose.Load(); l != nil {
		return l
	}
	return plainStream{s}
}

// plainStream is the creditor of an ordered stream that carries its own messages.
type plainStream struct{ *Stream }

func (p plainStream) startLimit() uint64 {
	p.in.mu.Lock()
	defer p.in.mu.Unlock()
	return p.in.window.start()
}

func (p plainStream) grant() (grant, bool)     { return p.in.grant(), true }
func (p plainStream) granted(g grant)          { p.out.granted(g) }
func (p plainStream) wanted(put uint64, n int) { p.in.wanted(put, n) }
func (p plainStream) refuse(why error)         { p.Reset(why) }

// attachment is the creditor of a stream that carries a resumable one.
type attachment struct {
	r *Resumable
	s *Stream
}

func (a attachment) startLimit() uint64   { return a.r.intake.again(a.s.in) }
func (a attachment) grant() (grant, bool) { return a.r.intake.grant(a.s.in) }
func (a attachment) granted(g grant)      { a.r.journal.granted(a.s, g) }
func (a attachment) refuse(why error)     { a.r.lost(a.s, why) }

// wanted keeps what comes before the answer that attaches the stream.
func (a attachment) wanted(put uint64, n int) {
	in := a.s.in
	in.mu.Lock()
	if in.intake.Load() == nil {
		in.early = wantedFrame{put, n}
		in.mu.Unlock()
		return
	}
	in.mu.Unlock()
	a.r.intake.wanted(in, put, n)
}

// wantedFrame is a frame that the other side can not send.
type wantedFrame struct {
	put uint64
	n   int
}

// isAnswered reports whether the other side knows the stream for sure.
func (s *Stream) isAnswered() bool {
	select {
	case <-s.answered:
		return true
	default:
		return false
	}
}

// credit is what the sender of one direction of an ordered stream may send.
//
// A plain value, under the lock of what it is part of.
type credit struct {
	stream *Stream // nil: there is no limit
	limit  uint64
	put    uint64 // bytes that were handed to QUIC
	wanted uint64 // put when the receiver was asked for more, and 1
	grant  grant  // the last
}

// cut returns how many bytes of frames may be sent now: whole frames only, so that
// what is no message can always follow.
func (c *credit) cut(frames []byte) int {
	if c.stream == nil {
		return len(frames)
	}
	room := c.limit - c.put
	if uint64(len(frames)) <= room {
		return len(frames)
	}
	at := 0
	for {
		header, _, _ := parseFrameHeader(frames[at:]) // our own
		size := header.size + header.body
		if uint64(at+size) > room {
			break
		}
		at += size
	}
	if at == 0 && c.wanted != c.put+1 && c.stream.isAnswered() {
		header, _, _ := parseFrameHeader(frames)
		c.wanted = c.put + 1
		c.stream.carriers.want(c.stream, c.put, header.size+header.body)
	}
	return at
}

// take takes over what the receiver told.
func (c *credit) take(g grant) {
	c.limit = max(c.limit, g.limit)
	c.grant.come = max(c.grant.come, min(g.come, c.put))
	c.grant.messages = max(c.grant.messages, g.messages)
}
