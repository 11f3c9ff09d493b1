package actors_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/conec-go/conec/actors"
	"github.com/conec-go/conec/messages"
)

// lookout tells bob's system which peers are there.
type lookout struct {
	patterns []string
	says     chan actors.Sighted
}

func (l *lookout) sight(ctx context.Context, pattern string, tell func(actors.Sighted)) error {
	l.patterns = append(l.patterns, pattern)
	for {
		select {
		case s := <-l.says:
			tell(s)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// is says that a peer is there, as a process with that number.
func (l *lookout) is(peer string, process byte, metadata string) {
	s := actors.Sighted{Peer: peer, Present: true, Address: actors.Address(peer, []byte{process, 0, 0, 0, 0, 0, 0, 0})}
	if metadata != "" {
		s.Metadata = map[string]string{"is": metadata}
	}
	l.says <- s
}

func (l *lookout) gone(peer string) { l.says <- actors.Sighted{Peer: peer} }

func TestPeersByPresence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		look := &lookout{says: make(chan actors.Sighted)}
		bob, log := newLandWith(t, actors.RemoteConfig{Sight: look.sight}, "bob").of("bob"), &peerLog{}
		config := log.config()
		config.Present, config.Who = "*", func(peer string) bool { return peer != "mallory" }
		if err := bob.OnPeer(config); err != nil {
			t.Fatal(err)
		}
		look.is("alice", 1, "here")
		look.is("mallory", 1, "")
		log.expect(t, "there", "alice present, again: false, restarted: false", "alice publishes map[is:here]")
		look.is("alice", 1, "there")
		log.expect(t, "metadata", "alice publishes map[is:there]")
		bob.Notice(actors.Noticed{Peer: "alice", Up: true})
		look.gone("alice")
		time.Sleep(time.Hour)
		log.expect(t, "there is a channel yet")
		bob.Notice(actors.Noticed{Peer: "alice", Down: true, Err: errCable})
		log.expect(t, "gone", "alice absent: cable cut")
		time.Sleep(59 * time.Second)
		look.is("alice", 1, "there")
		time.Sleep(time.Hour)
		log.expect(t, "back", "alice present, again: true, restarted: false")
		bob.Notice(actors.Noticed{Peer: "alice", Up: true})
		bob.Notice(actors.Noticed{Peer: "alice", Down: true, Err: errCable})
		log.expect(t, "a channel comes and goes")
		look.is("alice", 2, "there")
		log.expect(t, "another process", "alice present, again: true, restarted: true")
		look.gone("alice")
		look.gone("nobody")
		time.Sleep(61 * time.Second)
		log.expect(t, "gone for good", "alice absent: no such peer", "alice left", "alice stopped")
		look.is("alice", 2, "")
		log.expect(t, "another life", "alice present, again: false, restarted: false")
		bob.Notice(actors.Noticed{Peer: "carol", Up: true})
		log.expect(t, "a channel is enough", "carol present, again: false, restarted: false")
		if !slices.Equal(look.patterns, []string{"*"}) {
			t.Errorf("looked for %q", look.patterns)
		}
	})
}

// A restart that both a message and the presence of a peer show is told once.
func TestPeerRestartToldOnce(t *testing.T) {
	for _, presenceFirst := range []bool{false, true} {
		t.Run(fmt.Sprint("presence first: ", presenceFirst), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				look := &lookout{says: make(chan actors.Sighted)}
				l, log := newLandWith(t, actors.RemoteConfig{Sight: look.sight}, "alice", "bob"), &peerLog{}
				config := log.config()
				config.Present = "a*"
				if err := l.of("bob").OnPeer(config); err != nil {
					t.Fatal(err)
				}
				speak := func(text string) {
					if _, err := l.ask("alice", l.of("alice").PID("bob", "peer"), text); err != nil {
						t.Error(err)
					}
				}
				see := func(process byte) { // of the net, which numbers them
					look.says <- actors.Sighted{Peer: "alice", Present: true, Address: actors.Address("alice", []byte{7: process})}
				}
				see(1)
				speak("one")
				log.expect(t, "first words", "alice present, again: false, restarted: false", "alice says one")
				if presenceFirst {
					see(3)
					synctest.Wait()
				}
				l.Restart("alice")
				speak("two")
				see(3)
				synctest.Wait()
				log.mu.Lock()
				slices.Sort(log.told) // its first words may be faster than the news
				log.mu.Unlock()
				log.expect(t, "another process", "alice present, again: true, restarted: true", "alice says two")
			})
		})
	}
}

func TestNoPresence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		props := func(string) *actor.Props { return actor.PropsFromFunc(func(actor.Context) {}) }
		if err := newLand(t, "bob").of("bob").OnPeer(actors.PeerConfig{Props: props, Present: "*"}); err == nil {
			t.Error("nobody tells who is there, and OnPeer does not mind")
		}
		look := &lookout{}
		bob := newLandWith(t, actors.RemoteConfig{Sight: look.sight}, "bob").of("bob")
		if err := bob.OnPeer(actors.PeerConfig{Props: props, Present: "["}); !errors.Is(err, messages.ErrPatternInvalid) {
			t.Errorf("pattern [: %v", err)
		}
	})
}
