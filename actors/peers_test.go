package actors_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/conec-go/conec/actors"
)

// peerLog is what the actors of peers were told.
type peerLog struct {
	mu   sync.Mutex
	told []string
}

// config returns what has an actor for each peer that notes what it is told.
func (p *peerLog) config() actors.PeerConfig {
	return actors.PeerConfig{Leave: time.Minute, Props: func(peer string) *actor.Props {
		return actor.PropsFromFunc(func(ctx actor.Context) {
			switch msg := ctx.Message().(type) {
			case *actors.PeerPresent:
				p.note("%s present, again: %t, restarted: %t", msg.Peer, msg.Again, msg.Restarted)
			case *actors.PeerPath:
				p.note("%s relayed: %t", msg.Peer, msg.Relayed)
			case *actors.PeerAbsent:
				p.note("%s absent: %v", msg.Peer, msg.Err)
			case *actors.PeerMetadata:
				p.note("%s publishes %v", msg.Peer, msg.Metadata)
			case *actors.PeerLeft:
				p.note("%s left", msg.Peer)
			case *actor.Stopped:
				p.note("%s stopped", peer)
			case *wrapperspb.StringValue:
				if msg.GetValue() == "crash" {
					panic("told to")
				}
				p.note("%s says %s", peer, msg.GetValue())
				ctx.Respond(msg)
			}
		})
	}}
}

func (p *peerLog) note(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.told = append(p.told, fmt.Sprintf(format, args...))
}

// expect waits until all is quiet, and checks what was told since.
func (p *peerLog) expect(t *testing.T, what string, want ...string) {
	t.Helper()
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	if !slices.Equal(p.told, want) {
		t.Errorf("%s: told %q, want %q", what, p.told, want)
	}
	p.told = nil
}

var errCable = errors.New("cable cut")

func TestOneActorForEachPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLand(t, "bob")
		bob, log := l.of("bob"), &peerLog{}
		config := log.config()
		config.Who = actors.Match("alice", "carol")
		if err := bob.OnPeer(config); err != nil {
			t.Fatal(err)
		}
		if err := bob.OnPeer(config); !errors.Is(err, actor.ErrNameExists) {
			t.Errorf("again: %v", err)
		}
		up := func(peer string) { bob.Notice(actors.Noticed{Peer: peer, Up: true}) }
		down := func(peer string) { bob.Notice(actors.Noticed{Peer: peer, Down: true, Err: errCable}) }
		up("mallory")
		log.expect(t, "a peer that it is not for")
		up("alice")
		bob.Notice(actors.Noticed{Peer: "alice", Path: &actors.PeerPath{Peer: "alice", Relayed: true}})
		up("alice")
		log.expect(t, "two channels", "alice present, again: false, restarted: false", "alice relayed: true")
		if pid := bob.PeerActor("alice"); pid == nil || bob.PeerActor("carol") != nil {
			t.Errorf("alice has %v, carol %v", pid, bob.PeerActor("carol"))
		}
		down("alice")
		log.expect(t, "one lost")
		down("alice")
		time.Sleep(59 * time.Second)
		log.expect(t, "both lost", "alice absent: cable cut")
		up("alice")
		time.Sleep(time.Hour)
		log.expect(t, "back", "alice present, again: true, restarted: false")
		down("alice")
		time.Sleep(61 * time.Second)
		log.expect(t, "gone for good", "alice absent: cable cut", "alice left", "alice stopped")
		if pid := bob.PeerActor("alice"); pid != nil {
			t.Errorf("alice has %v", pid)
		}
		up("alice")
		log.expect(t, "another life", "alice present, again: false, restarted: false")
	})
}

func TestPeerSpeaksToItsActor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLand(t, "alice", "bob")
		bob, log := l.of("bob"), &peerLog{}
		channel := func(up bool) { bob.Notice(actors.Noticed{Peer: "alice", Up: up, Down: !up}) }
		channel(true)
		bob.Notice(actors.Noticed{Peer: "carol", Up: true})
		bob.Notice(actors.Noticed{Peer: "carol", Down: true})
		if err := bob.OnPeer(log.config()); err != nil {
			t.Fatal(err)
		}
		log.expect(t, "whose channel is up", "alice present, again: false, restarted: false")
		mine := l.of("alice").PID("bob", "peer")
		if got, err := l.ask("alice", mine, "hi"); err != nil || got != "hi" {
			t.Errorf("got %q, %v", got, err)
		}
		log.expect(t, "first words", "alice says hi")
		l.of("alice").Root.Send(mine, wrapperspb.String("crash"))
		time.Sleep(time.Second) // its supervisor restarts it
		if _, err := l.ask("alice", mine, "still there"); err != nil {
			t.Errorf("after its crash: %v", err)
		}
		log.expect(t, "crash", "alice says still there")
		channel(false)
		l.Restart("alice")
		synctest.Wait()
		channel(true)
		if _, err := l.ask("alice", l.of("alice").PID("bob", "peer"), "back"); err != nil {
			t.Error(err)
		}
		log.expect(t, "restart", "alice absent: <nil>", "alice present, again: true, restarted: true", "alice says back")
		channel(false)
		time.Sleep(30 * time.Second)
		log.expect(t, "absence", "alice absent: <nil>")
		time.Sleep(2 * time.Minute)
		log.expect(t, "leave", "alice left", "alice stopped")
		if _, err := l.ask("alice", l.of("alice").PID("bob", "peer"), "again"); err != nil {
			t.Error(err)
		}
		log.expect(t, "it speaks again", "alice present, again: false, restarted: false", "alice says again")
		time.Sleep(2 * time.Minute)
		log.expect(t, "no channel was noticed", "alice left", "alice stopped")
	})
}
