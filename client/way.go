package client

import (
	"sync"

	"github.com/conec-go/conec/netio"
)

// way is what leads to the coordinator: the UDP socket, or a TCP link. The home
// channel and the relay take it. Who dials the home channel begins a round; in between
// the client actor changes it. Safe for concurrent use.
type way struct {
	sw  *netio.Switch
	udp netio.Link

	dialing chan struct{} // holds one while somebody dials the home channel

	mu      sync.Mutex     // guards the fields below
	round   uint64         // of dialing the home channel
	tcp     *netio.TCPLink // nil: UDP
	blocked bool           // UDP did not work when it was tried last
}

func newWay(sw *netio.Switch, udp netio.Link) *way {
	sw.SetRawLink(udp)
	return &way{sw: sw, udp: udp, dialing: make(chan struct{}, 1)}
}

// begin forgets the former TCP link and says whether UDP did not work last time.
func (w *way) begin() (round uint64, blocked bool) {
	w.mu.Lock()
	w.round++
	former := w.tcp
	w.tcp = nil
	w.sw.SetRawLink(w.udp)
	round, blocked = w.round, w.blocked
	w.mu.Unlock()
	if former != nil {
		w.sw.RemoveLink(former)
	}
	return round, blocked
}

// take changes the way, to UDP if link is nil. The former TCP link, if any, is the
// caller's to remove. It fails if another round has begun.
func (w *way) take(round uint64, link *netio.TCPLink) (former *netio.TCPLink, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if round != w.round {
		return nil, false
	}
	former, w.tcp, w.blocked = w.tcp, link, link != nil
	if link == nil {
		w.sw.SetRawLink(w.udp)
	} else {
		w.sw.AddLink(link)
		w.sw.SetRawLink(link)
	}
	return former, true
}

// now says what the way is.
func (w *way) now() (link netio.Link, tcp *netio.TCPLink, round uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.tcp != nil {
		return w.tcp, w.tcp, w.round
	}
	return w.udp, nil, w.round
}
