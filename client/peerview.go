package client

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/conec-go/conec/messages"
)

// Limits and times of a view.
const (
	maxViewed   = 100_000          // peers
	maxDeparted = 4096             // of these that the program was told have gone, to know them if they come back
	backWithin  = 30 * time.Second // after the coordinator was away, for peers to be back
)

// peerView is what a watch was told of peers, and what its program was told of that:
// who asks late hears the difference, so that nothing queues but names. It is plain
// state without goroutine or clock; [PeerWatch] runs it.
type peerView struct {
	peers map[string]*viewed
	queue []*viewed // that have changed since the program was told, in the order in which they did

	mark   PeerEvent     // PeersListed or CoordinatorAway, to be told; 0: none
	before int           // so many of the queue go before it
	marked PeerEventKind // the last one that was told

	round      uint64      // of the last list
	doubt      bool        // the coordinator was away: who is not in its list may be on the way back
	until      time.Time   // until then; zero while there is no complete list
	departures []departure // the oldest first
	departed   uint64      // the number of the last
}

// viewed is one peer of a view.
type viewed struct {
	name     string
	now      *PeerInfo // nil: it is not there
	told     *PeerInfo // what the program knows; nil: nothing
	departed uint64    // number of the departure that the program was told; 0: it knows that the peer is there
	round    uint64    // of the last list that it was in
	queued   bool
}

// departure is that the program was told that a peer has gone.
type departure struct {
	number uint64
	peer   *viewed
}

func newPeerView() *peerView { return &peerView{peers: map[string]*viewed{}} }

// begin begins a list.
func (v *peerView) begin() { v.round++ }

// there takes what is to be known of a peer that is there.
func (v *peerView) there(info *PeerInfo) error {
	p := v.peers[info.Name]
	if p == nil {
		if len(v.peers) >= maxViewed {
			return fmt.Errorf("%w: %d peers", messages.ErrLimit, len(v.peers))
		}
		p = &viewed{name: info.Name}
		v.peers[info.Name] = p
	}
	if p.now != nil && info.former == p.now.Key && p.now.former != "" {
		info.former = p.now.former // renewed twice before the program was told
	}
	p.now, p.round = info, v.round
	v.enqueue(p)
	return nil
}

// gone takes that a peer is not there any more.
func (v *peerView) gone(name string) {
	if p := v.peers[name]; p != nil {
		p.now = nil
		v.enqueue(p)
	}
}

// complete ends a list.
func (v *peerView) complete(now time.Time) {
	v.until = time.Time{}
	if v.doubt {
		v.until = now.Add(backWithin)
	} else {
		v.dropMissing()
	}
	v.note(PeerEvent{Kind: PeersListed})
}

// away takes that the coordinator was lost.
func (v *peerView) away(err error) {
	v.doubt, v.until = true, time.Time{}
	v.note(PeerEvent{Kind: CoordinatorAway, Err: err})
}

// note has the program told after what it is to be told already. It takes the place of
// a former note.
func (v *peerView) note(mark PeerEvent) {
	v.mark, v.before = PeerEvent{}, 0
	if mark.Kind != v.marked {
		v.mark, v.before = mark, len(v.queue)
	}
}

// dropMissing takes those that were in no message of the last list for gone.
func (v *peerView) dropMissing() {
	for _, name := range slices.Sorted(maps.Keys(v.peers)) {
		if p := v.peers[name]; p.now != nil && p.round != v.round {
			p.now = nil
			v.enqueue(p)
		}
	}
}

func (v *peerView) enqueue(p *viewed) {
	if !p.queued {
		p.queued = true
		v.queue = append(v.queue, p)
	}
}

// next returns what to tell the program now. If there is nothing, there may be at due,
// unless that is zero.
func (v *peerView) next(now time.Time) (event PeerEvent, ok bool, due time.Time) {
	if !v.until.IsZero() && !now.Before(v.until) {
		v.doubt, v.until = false, time.Time{}
		v.dropMissing()
	}
	for {
		switch {
		case v.mark.Kind != 0 && v.before == 0:
			event, v.mark, v.marked = v.mark, PeerEvent{}, v.mark.Kind
			return event, true, due
		case len(v.queue) == 0:
			return event, false, v.until
		}
		p := v.queue[0]
		v.queue[0], v.queue = nil, v.queue[1:]
		v.before = max(v.before-1, 0)
		p.queued = false
		if event, ok = v.tell(p); ok {
			return event, true, due
		}
	}
}

// tell returns the difference between what the program knows of a peer and what is.
func (v *peerView) tell(p *viewed) (event PeerEvent, ok bool) {
	now, told := p.now, p.told
	if now == nil {
		switch {
		case told == nil:
			delete(v.peers, p.name)
			return event, false
		case p.departed != 0:
			return event, false
		}
		v.depart(p)
		return PeerEvent{Kind: PeerGone, Peer: *told}, true
	}
	departed := p.departed
	p.told, p.departed = now, 0
	if told == nil {
		return PeerEvent{Kind: PeerPresent, Peer: *now}, true
	}
	sameKey := now.Key == told.Key
	same := (sameKey || departed == 0 && now.former == told.Key) && now.Instance == told.Instance
	switch {
	case departed != 0 || !same:
		return PeerEvent{Kind: PeerBack, Peer: *now, SameProcess: same && now.Instance != 0, SameKey: sameKey}, true
	case !sameKey || now.Accepting != told.Accepting || !maps.Equal(now.Metadata, told.Metadata):
		return PeerEvent{Kind: PeerChanged, Peer: *now}, true
	}
	return event, false
}

// depart remembers a peer that the program is told has gone, and forgets the oldest.
func (v *peerView) depart(p *viewed) {
	v.departed++
	p.departed = v.departed
	v.departures = append(v.departures, departure{v.departed, p})
	if len(v.departures) <= maxDeparted {
		return
	}
	oldest := v.departures[0]
	v.departures[0], v.departures = departure{}, v.departures[1:]
	if oldest.peer.departed != oldest.number {
		return // it has come back since
	}
	if oldest.peer.told = nil; !oldest.peer.queued {
		delete(v.peers, oldest.peer.name)
	}
}
