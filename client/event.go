package client

import (
	"sync/atomic"
	"time"
)

// Event is something that happened to a client: one of [Attached], [HomeMoved],
// [Detached], [ChannelOpened], [ChannelClosed], [PathChanged], [PeerRefused], [NetworkChanged].
type Event interface{ event() }

// Attached says that the coordinator has the client's name and can relay to it.
type Attached struct {
	// Observed is the client's address as the coordinator sees it.
	Observed string
	// TCP tells that the client is attached over TCP, because UDP does not get through.
	TCP bool
}

// HomeMoved says that a client goes on over TCP, because UDP does not get through any
// more, or over UDP, because it does again. It stays attached, and its channels go on.
type HomeMoved struct {
	// Observed is the client's address as the coordinator sees it now.
	Observed string
	// TCP tells that it is TCP now.
	TCP bool
}

// Detached says that the coordinator was lost, or refused the client. Channels
// go on; the client attaches again unless Final.
type Detached struct {
	// Err is why.
	Err error
	// Final tells that the client does not try again, because it could not
	// succeed: the name is taken over by a newer attachment.
	Final bool
}

// ChannelOpened says that a channel is connected, also after a restart.
type ChannelOpened struct {
	// Peer is the other side's name.
	Peer string
}

// ChannelClosed says that a channel was lost or closed.
type ChannelClosed struct {
	// Peer is the other side's name.
	Peer string
	// Err is why.
	Err error
	// Restarting tells that the channel will be connected again.
	Restarting bool
}

// PathChanged says that a channel's packets take another path.
type PathChanged struct {
	// Peer is the other side's name.
	Peer string
	// Relayed tells whether they go over the coordinator's relay.
	Relayed bool
	// Remote is where they go to; empty if there is no path now.
	Remote string
	// Reason is why.
	Reason PathReason
	// Link is the one of Config.Links that they take; empty if it is none of these.
	Link string
}

// PeerRefused says that a peer wants a channel, or has one, and its certificate is not
// trusted: it is not the expected one, revoked, or nobody vouches for it. The peer was told
// no more than that it is not trusted.
type PeerRefused struct {
	// Peer is the name that the coordinator gives it.
	Peer string
	// Err is why.
	Err error
}

// NetworkChanged says that the addresses of this host have changed, or its way to
// others, or that it has slept. The client tells the coordinator and looks for other
// paths by itself.
type NetworkChanged struct {
	// Former and Addrs are the addresses at which the host could and can be
	// reached; they are the same if packets only take another way.
	Former, Addrs []string
	// Slept is for how long the host was asleep, or the process stopped; zero if it
	// was not.
	Slept time.Duration
}

func (Attached) event()       {}
func (HomeMoved) event()      {}
func (Detached) event()       {}
func (ChannelOpened) event()  {}
func (ChannelClosed) event()  {}
func (PathChanged) event()    {}
func (PeerRefused) event()    {}
func (NetworkChanged) event() {}

// maxEvents is how many events wait for the program.
const maxEvents = 256

// events hands events to the program without holding up who has them.
type events struct {
	queue chan Event // nil if nobody listens
	lost  atomic.Int64
	done  chan struct{} // closed when the pump has ended
}

// newEvents starts a pump that calls tell.
func newEvents(tell func(Event)) *events {
	e := &events{done: make(chan struct{})}
	if tell == nil {
		close(e.done)
		return e
	}
	e.queue = make(chan Event, maxEvents)
	go func() {
		defer close(e.done)
		for event := range e.queue {
			tell(event)
		}
	}()
	return e
}

// put queues an event. It does not block. Only the client actor calls it.
func (e *events) put(event Event) {
	if e.queue == nil {
		return
	}
	select {
	case e.queue <- event:
	default:
		e.lost.Add(1)
	}
}

// end lets the pump tell what waits, and waits for it.
func (e *events) end() {
	if e.queue != nil {
		close(e.queue)
	}
	<-e.done
}
