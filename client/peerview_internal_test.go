package client

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/conec-go/conec/messages"
)

// looking is a view and its program, which knows what it was told.
type looking struct {
	t     *testing.T
	v     *peerView
	now   time.Time
	told  []string
	knows map[string]PeerInfo
}

func newLooking(t *testing.T) *looking {
	t.Helper()
	return &looking{t: t, v: newPeerView(), now: time.Unix(1e9, 0), knows: map[string]PeerInfo{}}
}

// there has the coordinator say that peers are there, as that process, and what they publish.
func (l *looking) there(process uint64, metadata string, names ...string) {
	l.t.Helper()
	for _, name := range names {
		info := &PeerInfo{Name: name, Accepting: true, Instance: process, Key: name}
		if metadata != "" {
			info.Metadata = map[string]string{"is": metadata}
		}
		if err := l.v.there(info); err != nil {
			l.t.Fatal(err)
		}
	}
}

// list has it say that these are all that are there, as process 1.
func (l *looking) list(names ...string) {
	l.v.begin()
	l.there(1, "", names...)
	l.v.complete(l.now)
}

// hear has the program hear so many events, or all if that is negative.
func (l *looking) hear(n int) {
	for ; n != 0; n-- {
		event, ok, _ := l.v.next(l.now)
		if !ok {
			return
		}
		l.hears(event)
	}
}

// hears holds that the event fits what the program knows.
func (l *looking) hears(event PeerEvent) {
	name := event.Peer.Name
	known, knows := l.knows[name]
	text := event.Kind.String()
	switch event.Kind {
	case PeerPresent:
		if knows {
			l.t.Errorf("%s is present, and was", name)
		}
	case PeerChanged, PeerGone:
		if !knows || known.Instance != event.Peer.Instance {
			l.t.Errorf("%s %v, known: %t, as %v", name, event.Kind, knows, known)
		}
	case PeerBack:
		text += fmt.Sprintf(" process %t key %t", event.SameProcess, event.SameKey)
		if knows && event.SameProcess {
			l.t.Errorf("%s is back, and was never away", name)
		}
	case PeersListed, CoordinatorAway:
	}
	if name != "" {
		text = name + " " + text
		if l.knows[name] = event.Peer; event.Kind == PeerGone {
			delete(l.knows, name)
		}
	}
	l.told = append(l.told, text)
}

func (l *looking) expect(what string, want ...string) {
	l.t.Helper()
	l.hear(-1)
	if !slices.Equal(l.told, want) {
		l.t.Errorf("%s: told %q, want %q", what, l.told, want)
	}
	l.told = nil
}

func (l *looking) after(d time.Duration) { l.now = l.now.Add(d) }

var errLost = errors.New("lost")

func TestPeerView(t *testing.T) {
	l := newLooking(t)
	l.list("a", "b")
	l.expect("a list", "a present", "b present", "listed")
	l.there(1, "x", "a")
	l.there(1, "", "b")
	l.expect("one has changed", "a changed")
	l.v.gone("a")
	l.v.gone("nobody")
	l.there(1, "", "c")
	l.expect("gone, and another", "a gone", "c present")
	l.there(1, "", "a")
	l.there(2, "", "b")
	l.v.gone("c")
	l.expect("back", "a back process true key true", "b back process false key true", "c gone")
	if err := l.v.there(&PeerInfo{Name: "c", Instance: 3, Key: "another"}); err != nil {
		t.Fatal(err)
	}
	l.expect("somebody else", "c back process false key false")
	l.v.gone("d")
	l.there(1, "", "d")
	l.v.gone("d")
	l.expect("there and gone before anybody asked")
	l.v.gone("a")
	l.there(1, "", "a")
	l.expect("gone and there before anybody asked")
	l.v.gone("a")
	l.there(5, "", "a")
	l.there(5, "y", "a")
	l.expect("another process before anybody asked", "a back process false key true")
}

// After the coordinator was away, peers have half a minute to be back.
func TestPeerViewAway(t *testing.T) {
	l := newLooking(t)
	l.list("a", "b", "c", "d")
	l.hear(-1)
	l.told = nil
	l.v.away(errLost)
	l.v.away(errLost)
	l.expect("away, said once", "coordinator away")
	l.list("a", "e")
	l.expect("a new list", "e present", "listed")
	l.there(1, "", "b")
	l.there(2, "", "c")
	l.after(backWithin - 1)
	l.expect("those that are back", "c back process false key true")
	l.after(1)
	l.expect("one is not", "d gone")
	l.list("a", "b")
	l.expect("a new list while attached", "c gone", "e gone")
	l.v.away(errLost)
	l.list("a", "b", "c")
	l.expect("away while nobody asked", "c back process false key true")
	l.v.away(errLost)
	l.list("b")
	l.after(backWithin / 2)
	l.v.away(errLost)
	l.after(time.Hour)
	l.expect("away again before all were back", "coordinator away")
	l.list("b")
	l.after(backWithin - 1)
	l.expect("the time begins anew", "listed")
	if _, ok, due := l.v.next(l.now); ok || due != l.now.Add(1) {
		t.Errorf("due in %v", due.Sub(l.now))
	}
	l.after(1)
	l.expect("it ends", "a gone", "c gone")
}

// What a watch holds is bounded, whatever the coordinator says and whoever does not ask.
func TestPeerViewLimits(t *testing.T) {
	l := newLooking(t)
	l.list()
	l.hear(-1)
	for i := range 10 * maxDeparted {
		name := fmt.Sprint("p", i)
		l.there(1, "", name)
		if i%2 == 0 {
			l.hear(-1)
		}
		l.v.gone(name)
		l.hear(-1)
		l.told = nil
	}
	if len(l.v.peers) > maxDeparted || len(l.v.departures) > maxDeparted || len(l.v.queue) > 0 {
		t.Errorf("%d peers, %d departures, %d wait", len(l.v.peers), len(l.v.departures), len(l.v.queue))
	}
	l.there(1, "", "p0", fmt.Sprint("p", 10*maxDeparted-2))
	l.expect("one is forgotten", "p0 present", fmt.Sprintf("p%d back process true key true", 10*maxDeparted-2))
	for range 1000 {
		l.there(1, "", "x")
		l.v.gone("x")
		l.v.away(errLost)
		l.v.begin()
		l.v.complete(l.now)
	}
	if len(l.v.queue) > 3 {
		t.Errorf("%d wait", len(l.v.queue))
	}
	var err error
	for i := 0; err == nil && i <= maxViewed; i++ {
		err = l.v.there(&PeerInfo{Name: fmt.Sprint("q", i)})
	}
	if !errors.Is(err, messages.ErrLimit) {
		t.Errorf("too many peers: %v", err)
	}
}

// TestPeerViewRandom has the coordinator say random things to a program that asks now and then; each event fits what the program
// knows, and when it has heard all, it knows what is.
func TestPeerViewRandom(t *testing.T) {
	for seed := range uint64(500) {
		random := rand.New(rand.NewPCG(seed, 1))
		l := newLooking(t)
		truth := map[string]PeerInfo{}
		say := func() {
			names := slices.Sorted(maps.Keys(truth))
			l.v.begin()
			for _, name := range names {
				info := truth[name]
				_ = l.v.there(&info)
			}
			l.v.complete(l.now)
		}
		say()
		for range 200 {
			name := fmt.Sprint("p", random.IntN(6))
			info, there := truth[name]
			switch action := random.IntN(10); {
			case action == 0:
				l.v.away(errLost)
				for range random.IntN(4) {
					delete(truth, fmt.Sprint("p", random.IntN(6)))
				}
				say()
			case action <= 2 && there:
				delete(truth, name)
				l.v.gone(name)
			case action <= 6:
				if !there || random.IntN(4) == 0 {
					info = PeerInfo{Name: name, Instance: 1 + uint64(random.IntN(3)), Key: fmt.Sprint(random.IntN(2))}
				}
				info.Metadata = map[string]string{"is": fmt.Sprint(random.IntN(3))}
				truth[name] = info
				_ = l.v.there(&info)
			case action == 7:
				l.after(time.Duration(random.IntN(40)) * time.Second)
			default:
				l.hear(random.IntN(5))
			}
		}
		l.after(backWithin)
		l.hear(-1)
		if !maps.EqualFunc(l.knows, truth, func(a, b PeerInfo) bool {
			return a.Instance == b.Instance && a.Key == b.Key && maps.Equal(a.Metadata, b.Metadata)
		}) {
			t.Fatalf("seed %d: the program knows %v, there are %v", seed, l.knows, truth)
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}
