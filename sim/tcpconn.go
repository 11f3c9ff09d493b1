package sim

import (
	"net"
	"net/netip"
	"syscall"
	"time"
)

// Sizes in bytes, times and numbers of TCP connections.
const (
	tcpSize     = 1200            // of the data of a segment: fits every line of 1,280 bytes
	tcpBuffer   = 256 << 10       // that wait to be sent, and to be read
	tcpFirst    = 10              // segments that are sent at once at first (RFC 6928)
	tcpRTO      = time.Second     // until a segment is repeated, while no round trip is known (RFC 6298)
	tcpLateRTO  = 3 * time.Second // the same, if the SYN had to be repeated
	tcpLeastRTO = 200 * time.Millisecond
	tcpMostRTO  = 10 * time.Second
	tcpTries    = 10          // times that one is repeated until the connection is given up
	tcpLinger   = time.Minute // that a closed connection waits for the other side to close it
)

type tcpState uint8

const (
	synSent tcpState = iota
	synReceived
	established
	tcpOver
)

// tcpConn is one end of a TCP connection (RFC 9293), with NewReno's congestion control (RFC 6582). It implements
// [net.Conn]. Its fields are under the network's mu.
type tcpConn struct {
	host          *Host
	local, remote netip.AddrPort
	listener      *tcpListener // that it is for, until it is open
	state         tcpState
	err           error // why it is over; nil if both sides have closed it

	una, next uint32 // of the sequence: the first that is not acknowledged, and the first that was not sent
	buffer    []byte // from una on
	closing   bool   // the end of buffer is the end of all
	finished  bool   // the FIN was sent
	window    int    // of the other side, from una on
	congested int    // window in bytes…
	threshold int    // …and from where on it grows slowly
	repeats   int    // acknowledgments of the same in a row
	repairs   bool   // a loss is repaired…
	recover   uint32 // …until this is acknowledged
	smoothed  time.Duration
	varies    time.Duration
	rto       time.Duration
	timed     uint32        // the segment before this one is timed…
	timedAt   time.Duration // …and was sent then, on the network's clock; 0: none is
	tries     int
	due       time.Duration // when to repeat; 0: not
	looks     time.Duration // when an event looks at that; 0: none does

	expected uint32 // of the other side's sequence
	received []byte // to be read
	early    map[uint32][]byte
	fin      uint32 // of the other side's sequence: where it ends
	hasFin   bool
	ended    bool // everything before that was received
	told     int  // the window that was told last
	closed   bool // by its program

	readable, writable, changed chan struct{}
	reads, writes               expiry
}

func (h *Host) newConn(local, remote netip.AddrPort) *tcpConn {
	c := &tcpConn{
		host: h, local: local, remote: remote, congested: tcpFirst * tcpSize, threshold: tcpBuffer / 4, rto: tcpRTO,
		early: map[uint32][]byte{}, readable: make(chan struct{}, 1), writable: make(chan struct{}, 1), changed: make(chan struct{}, 1),
	}
	h.crashed = false
	h.flows[flowKey{local, remote}] = c
	return c
}

// begin sends the first segment.
func (c *tcpConn) begin(state tcpState) {
	c.state, c.next = state, c.una+1
	c.timed, c.timedAt = c.next, c.host.network.elapsed()
	c.sent(c.una, tcpSegment{flags: tcpSYN})
	c.arm()
}

// sent sends a segment that begins at seq.
func (c *tcpConn) sent(seq uint32, s tcpSegment) {
	s.seq, s.window = seq, tcpBuffer-len(c.received)
	if c.state != synSent {
		s.flags |= tcpACK
		s.ack = c.expected
	}
	c.told = s.window
	c.host.sendSegment(c.local, c.remote, s)
}

// inFlight is how much was sent and not acknowledged.
func (c *tcpConn) inFlight() int { return int(c.next - c.una) }

// push sends what may be sent.
func (c *tcpConn) push() {
	if c.state != established {
		return
	}
	for {
		flight := c.inFlight()
		rest := len(c.buffer) - flight
		room := min(c.congested, c.window) - flight
		switch {
		case rest > 0 && room > 0 && (room >= min(rest, tcpSize) || flight == 0):
			n := min(rest, room, tcpSize)
			if c.timedAt == 0 && c.tries == 0 {
				c.timed, c.timedAt = c.next+uint32(n), c.host.network.elapsed()
			}
			c.sent(c.next, tcpSegment{data: c.buffer[flight : flight+n]})
			c.next += uint32(n)
		case rest == 0 && c.closing && !c.finished:
			c.sent(c.next, tcpSegment{flags: tcpFIN})
			c.next++
			c.finished = true
		default:
			if c.inFlight() > 0 || rest > 0 {
				c.arm()
			}
			return
		}
	}
}

// arm sets the timer, if it does not run.
func (c *tcpConn) arm() {
	if c.due == 0 {
		c.rearm()
	}
}

func (c *tcpConn) rearm() {
	c.wait(c.rto)
}

// wait sets the timer. There is one event for it, which is only replaced by an earlier one.
func (c *tcpConn) wait(d time.Duration) {
	c.due = c.host.network.elapsed() + d
	if c.looks != 0 && c.looks <= c.due {
		return
	}
	at := c.due
	c.looks = at
	c.host.network.schedule(event{at: at, step: stepRun, run: func() {
		if c.looks == at {
			c.looked()
		}
	}})
}

// looked is called by the network, with its mu held.
func (c *tcpConn) looked() {
	c.looks = 0
	switch left := c.due - c.host.network.elapsed(); {
	case c.due == 0:
	case left > 0:
		c.wait(left)
	default:
		c.due = 0
		c.expired()
	}
}

// expired repeats what was not acknowledged.
func (c *tcpConn) expired() {
	switch {
	case c.closed && c.inFlight() == 0 && (len(c.buffer) == 0 || c.finished):
		c.end(nil) // the other side does not close it
		return
	case c.tries == tcpTries:
		c.end(syscall.ETIMEDOUT)
		return
	}
	c.rto, c.timedAt = min(2*c.rto, tcpMostRTO), 0
	switch {
	case c.state != established:
		c.tries++
		c.sent(c.una, tcpSegment{flags: tcpSYN})
		c.arm()
	case c.inFlight() == 0: // there is no window: ask whether there is one now
		if c.closed { // nobody else gives it up
			c.tries++
		}
		c.sent(c.una-1, tcpSegment{})
		c.arm()
	default:
		c.tries++
		c.threshold = max(c.inFlight()/2, 2*tcpSize)
		c.congested, c.repeats, c.repairs = tcpSize, 0, false
		c.next, c.finished = c.una, false
		c.window = max(c.window, tcpSize)
		c.push()
		c.arm()
	}
}

// take acts on a segment.
func (c *tcpConn) take(s tcpSegment) {
	switch {
	case s.flags&tcpRST != 0:
		if c.state == synSent {
			c.end(syscall.ECONNREFUSED)
		} else {
			c.end(syscall.ECONNRESET)
		}
		return
	case c.state == tcpOver:
		return
	case c.state == synSent:
		if s.flags&(tcpSYN|tcpACK) != tcpSYN|tcpACK || s.ack != c.next {
			return
		}
		c.expected = s.seq + 1
		c.open(s)
		c.sent(c.next, tcpSegment{})
		return
	case s.flags&tcpSYN != 0: // our answer was lost
		if c.state == synReceived {
			c.sent(c.una, tcpSegment{flags: tcpSYN})
		} else {
			c.sent(c.next, tcpSegment{})
		}
		return
	case c.state == synReceived && c.listener.closed:
		c.abort(true)
		return
	case c.state == synReceived && s.ack == c.next:
		c.open(s)
		c.listener.opening--
		c.listener.waiting = append(c.listener.waiting, c)
		raise(c.listener.ready)
		c.listener = nil
	case c.state == synReceived:
		return
	}
	c.acknowledged(s)
	if s.length() > 0 || int32(s.seq-c.expected) < 0 {
		c.hear(s)
		c.sent(c.next, tcpSegment{})
	}
	if c.ended && c.closing && c.inFlight() == 0 && c.finished {
		c.end(nil)
		return
	}
	c.push()
}

// open makes a connection of what the other side has answered to.
func (c *tcpConn) open(s tcpSegment) {
	c.state, c.una, c.window = established, s.ack, s.window
	c.due, c.tries, c.rto = 0, 0, tcpLateRTO
	c.measure()
	raise(c.changed)
	c.push()
}

// acknowledged takes what the other side has received.
func (c *tcpConn) acknowledged(s tcpSegment) {
	fresh := int32(s.ack - c.una)
	switch {
	case s.flags&tcpACK == 0 || fresh < 0 || int(fresh) > max(c.inFlight(), len(c.buffer)+1):
		return
	case fresh == 0:
		same := s.window == c.window && len(s.data) == 0 && c.inFlight() > 0
		c.window = s.window
		if !same {
			return
		}
		if c.repeats++; c.repeats == 3 && !c.repairs {
			c.threshold = max(c.inFlight()/2, 2*tcpSize)
			c.congested, c.repairs, c.recover, c.timedAt = c.threshold, true, c.next, 0
			c.again()
		}
		return
	}
	c.window, c.repeats, c.tries = s.window, 0, 0
	all := int(fresh) > len(c.buffer) // the FIN, too
	c.buffer = c.buffer[min(int(fresh), len(c.buffer)):]
	if c.una = s.ack; int32(c.next-c.una) < 0 {
		c.next = c.una // what was to be repeated has arrived
		c.finished = all
	}
	c.measure()
	c.repairs = c.repairs && int32(c.una-c.recover) < 0
	switch {
	case c.repairs:
		c.again() // the next one is missing, too
	case c.congested < c.threshold:
		c.congested += int(fresh)
	default:
		c.congested += max(1, tcpSize*tcpSize/c.congested)
	}
	c.due = 0
	if c.inFlight() > 0 {
		c.rearm()
	} else if c.closed && c.finished {
		c.wait(tcpLinger)
	}
	raise(c.writable)
}

// again sends the first segment that is missing.
func (c *tcpConn) again() {
	if n := min(len(c.buffer), c.inFlight(), tcpSize); n > 0 {
		c.sent(c.una, tcpSegment{data: c.buffer[:n]})
	} else if c.finished && c.inFlight() > 0 {
		c.sent(c.una, tcpSegment{flags: tcpFIN})
	}
}

// measure takes the round trip of the timed segment, if that was acknowledged (RFC 6298).
func (c *tcpConn) measure() {
	if c.timedAt == 0 || int32(c.una-c.timed) < 0 {
		return
	}
	took := c.host.network.elapsed() - c.timedAt
	c.timedAt = 0
	if c.smoothed == 0 {
		c.smoothed, c.varies = took, took/2
	} else {
		c.varies += ((took - c.smoothed).Abs() - c.varies) / 4
		c.smoothed += (took - c.smoothed) / 8
	}
	c.rto = min(max(c.smoothed+4*c.varies, tcpLeastRTO), tcpMostRTO)
}

// hear takes what the other side sends.
func (c *tcpConn) hear(s tcpSegment) {
	if s.flags&tcpFIN != 0 {
		c.fin, c.hasFin = s.seq+uint32(len(s.data)), true
	}
	ahead := int(int32(s.seq - c.expected))
	switch {
	case ahead > 0 && ahead+len(s.data) <= tcpBuffer-len(c.received):
		c.early[s.seq] = append([]byte(nil), s.data...)
	case ahead <= 0:
		c.put(s.seq, s.data)
		for more := true; more; {
			more = false
			for seq, data := range c.early {
				if int32(seq-c.expected) <= 0 {
					delete(c.early, seq)
					c.put(seq, data)
					more = true
				}
			}
		}
	}
	if c.hasFin && c.fin == c.expected && !c.ended {
		c.expected++
		c.ended = true
		raise(c.readable)
	}
}

// put appends what is new of some data that begins where something is expected, or before.
func (c *tcpConn) put(seq uint32, data []byte) {
	old := int(c.expected - seq)
	if old >= len(data) {
		return
	}
	data = data[old:]
	data = data[:min(len(data), tcpBuffer-len(c.received))]
	c.expected += uint32(len(data))
	if !c.closed { // else nobody reads it
		c.received = append(c.received, data...)
		raise(c.readable)
	}
}

// abort ends a connection at once, and tells the other side.
func (c *tcpConn) abort(tell bool) {
	if tell && c.state != tcpOver {
		c.sent(c.next, tcpSegment{flags: tcpRST})
	}
	c.end(net.ErrClosed)
}

// end ends a connection.
func (c *tcpConn) end(why error) {
	if c.state == tcpOver {
		return
	}
	if c.listener != nil {
		c.listener.opening--
	}
	c.state, c.err, c.due, c.listener = tcpOver, why, 0, nil
	delete(c.host.flows, flowKey{c.local, c.remote})
	raise(c.readable)
	raise(c.writable)
	raise(c.changed)
}
