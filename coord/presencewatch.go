package coord

import (
	"fmt"
	"slices"
	"sort"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
)

// Sizes in bytes of what watches are told.
const (
	firstGrant = 64 << 10 // that may be told to a client before it has said that it has some of it
	maxTold    = 8 << 10  // in one message
	toldHead   = 16       // of a message, at most, without peers
)

// watcher is an attached client, with its watches.
type watcher struct {
	client  *attachment
	watches []*watch
	sent    uint64 // bytes told
	limit   uint64 // that may be told
}

// watch is what a client wants to hear, and was told.
type watch struct {
	of      *watcher
	number  uint64
	pattern string
	at      uint64   // version up to which it was told
	swept   uint64   // version up to which it was looked whether that is still what it may see; at: all of it
	until   uint64   // version with which the list is complete
	listing bool     // the list is not complete yet
	begins  bool     // nor has it begun
	told    []uint64 // by slot, one bit: it was told that this one is there
	starved bool     // it waits for a grant
	queued  bool
	ended   bool
}

// watch begins a watch, or says why not. An error ends the connection.
func (p *presence) watch(id uint64, msg *conecv1.WatchPeers) ([]say, error) {
	of := p.watchers[id]
	taken := slices.ContainsFunc(of.watches, func(w *watch) bool { return w.number == msg.GetWatch() })
	if taken || msg.GetWatch() == 0 {
		return nil, fmt.Errorf("%w: watch %d is 0 or in use", messages.ErrProtocol, msg.GetWatch())
	}
	refuse := func(err error) ([]say, error) {
		code, reason := messages.ToCode(err)
		return []say{{id, &conecv1.Control{Said: &conecv1.Control_WatchEnded{WatchEnded: &conecv1.WatchEnded{
			Watch: msg.GetWatch(), Code: code, Reason: reason,
		}}}}}, nil
	}
	if err := messages.CheckPattern(msg.GetPattern()); err != nil {
		return refuse(fmt.Errorf("%w: %w", messages.ErrRefused, err))
	}
	if len(of.watches) >= p.limits.WatchesPerClient {
		return refuse(fmt.Errorf("%w: %d watches of a client", messages.ErrLimit, len(of.watches)))
	}
	w := &watch{of: of, number: msg.GetWatch(), pattern: msg.GetPattern()}
	of.watches, p.watches = append(of.watches, w), append(p.watches, w)
	p.restart(w)
	return nil, nil
}

// restart has a watch told the whole list again.
func (p *presence) restart(w *watch) {
	p.untell(w)
	w.at, w.swept, w.until, w.listing, w.begins = 0, 0, p.version, true, true
	p.enqueue(w)
}

// restartSlowest does so with the watch that has most to catch up with.
func (p *presence) restartSlowest() {
	var slowest *watch
	for _, w := range p.watches {
		if !w.ended && len(w.told) > 0 && (slowest == nil || w.at < slowest.at) {
			slowest = w
		}
	}
	p.restart(slowest) // somebody has to hear of those that have gone, or they were forgotten
}

// untell forgets what a watch was told.
func (p *presence) untell(w *watch) {
	for i, word := range w.told {
		for bit := 0; word != 0; bit, word = bit+1, word>>1 {
			if word&1 != 0 {
				s := p.slots[i*64+bit]
				s.told--
				p.forgetUnseen(s)
			}
		}
	}
	w.told = nil
}

// grant lets the coordinator tell a client more.
func (p *presence) grant(id uint64, msg *conecv1.GrantPeers) {
	of := p.watchers[id]
	of.limit = max(of.limit, min(msg.GetLimit(), of.sent+firstGrant))
	for _, w := range of.watches {
		if w.starved {
			w.starved = false
			p.enqueue(w)
		}
	}
}

// endWatch ends a watch, if it is still there.
func (p *presence) endWatch(id uint64, msg *conecv1.EndWatch) {
	of := p.watchers[id]
	of.watches = slices.DeleteFunc(of.watches, func(w *watch) bool {
		if w.number != msg.GetWatch() {
			return false
		}
		p.end(w)
		return true
	})
}

func (p *presence) end(w *watch) {
	w.ended = true
	p.untell(w)
	const least = 64
	if p.ended++; p.ended > len(p.watches)/2+least {
		p.dropEnded()
	}
}

func (p *presence) dropEnded() {
	p.watches = slices.DeleteFunc(p.watches, func(w *watch) bool { return w.ended })
	p.ended = 0
}

// reevaluate has all watches told what they may see by the policy of now.
func (p *presence) reevaluate() {
	for _, w := range p.watches {
		w.swept = 0
		p.enqueue(w)
	}
}

func (p *presence) enqueue(w *watch) {
	if !w.queued && !w.ended {
		w.queued = true
		p.queue = append(p.queue, w)
	}
}

// wants reports whether flush might have something to do, now or later.
func (p *presence) wants() bool { return len(p.queue) > 0 || p.spread < p.version || !p.due.IsZero() }

// flush returns what to tell the watches, having looked at about so many sights. If
// more is left it is to be called again soon, else after wait, or never if that is 0.
func (p *presence) flush(now time.Time, budget int) (says []say, wait time.Duration, more bool) {
	p.publishDue(now)
	if p.spread < p.version && !now.Before(p.nextAt) {
		for _, w := range p.watches {
			p.enqueue(w)
		}
		p.spread, p.nextAt = p.version, now.Add(spreadEvery)
	}
	for ; len(p.queue) > 0 && budget > 0; budget-- {
		w := p.queue[0]
		p.queue = p.queue[1:]
		w.queued = false
		if w.ended {
			continue
		}
		msg, again := p.next(w, &budget)
		if msg != nil {
			w.of.sent += uint64(proto.Size(msg))
			says = append(says, say{w.of.client.id, &conecv1.Control{Said: &conecv1.Control_PeersChanged{PeersChanged: msg}}})
		}
		if again {
			p.enqueue(w)
		}
	}
	if p.spread < p.version {
		wait = max(p.nextAt.Sub(now), 1)
	}
	if !p.due.IsZero() && (wait == 0 || p.due.Sub(now) < wait) {
		wait = max(p.due.Sub(now), 1)
	}
	return says, wait, len(p.queue) > 0
}

// next returns what to tell a watch next, nil if nothing, and whether there is more
// that it has credit for.
func (p *presence) next(w *watch, budget *int) (msg *conecv1.PeersChanged, again bool) {
	credit := int(w.of.limit - w.of.sent)
	room := min(maxTold, credit) - toldHead
	if room < 0 {
		w.starved = true
		return nil, false
	}
	msg = &conecv1.PeersChanged{Watch: w.number}
	for at := p.place(w); at < len(p.log); at, *budget = at+1, *budget-1 {
		entry := p.log[at]
		if w.swept < w.at && entry.version > w.at {
			w.swept = w.at
		}
		state := p.tell(w, entry)
		if state != nil {
			size := entrySize(state)
			if room -= size; room < 0 {
				again = credit > maxTold
				w.starved = !again
				break
			}
			msg.Peers = append(msg.Peers, state)
			p.note(w, entry.sight, !state.GetGone())
		}
		if w.swept == w.at {
			w.at = entry.version
		}
		w.swept = entry.version
		if *budget <= 0 {
			again = true
			break
		}
	}
	if !again && !w.starved { // all was looked at
		w.at, w.swept = p.version, p.version
	}
	if w.listing && w.at >= w.until {
		msg.Complete, w.listing = true, false
	}
	if len(msg.Peers) == 0 && !msg.Complete {
		return nil, again
	}
	msg.Begins, w.begins = w.begins, false
	return msg, again
}

// place is where in the log a watch goes on.
func (p *presence) place(w *watch) int {
	from := min(w.swept, w.at)
	return sort.Search(len(p.log), func(i int) bool { return p.log[i].version > from })
}

// tell returns what to tell a watch because of an entry of the log, nil if nothing.
func (p *presence) tell(w *watch, entry logged) *conecv1.PeerState {
	s := entry.sight
	if s.version != entry.version {
		return nil
	}
	told, visible := w.has(s.slot), p.visible(w, s)
	switch {
	case visible && (!told || entry.version > w.at):
		return s.state
	case told && !visible:
		return &conecv1.PeerState{Name: s.name, Gone: true}
	}
	return nil
}

// visible reports whether a watch is to know that a client is there.
func (p *presence) visible(w *watch, s *sight) bool {
	who := w.of.client
	return s.client != nil && s.name != who.name && messages.MatchName(w.pattern, s.name) &&
		p.see(&who.subject, &s.client.subject) == nil
}

// has reports whether a watch was told that somebody is there.
func (w *watch) has(slot int) bool {
	return slot/64 < len(w.told) && w.told[slot/64]&(1<<(slot%64)) != 0
}

// note remembers what a watch was told.
func (p *presence) note(w *watch, s *sight, there bool) {
	if there == w.has(s.slot) {
		return
	}
	if need := s.slot/64 + 1; need > len(w.told) {
		w.told = append(w.told, make([]uint64, need-len(w.told))...)
	}
	w.told[s.slot/64] ^= 1 << (s.slot % 64)
	if there {
		s.told++
		return
	}
	s.told--
	p.forgetUnseen(s)
}
