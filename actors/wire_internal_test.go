package actors

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/asynkron/protoactor-go/actor"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/conec-go/conec/messages"
)

// hostile is the stream of a peer that sends what it likes.
type hostile struct {
	in   chan []byte
	said chan []byte
	over chan struct{}
}

func newHostile() *hostile {
	return &hostile{in: make(chan []byte, 1<<16), said: make(chan []byte, 1<<16), over: make(chan struct{})}
}

func (h *hostile) Send(_ context.Context, message []byte) error {
	h.said <- append([]byte(nil), message...)
	return nil
}
func (h *hostile) TrySend(message []byte) error { return h.Send(context.Background(), message) }

func (h *hostile) Give(_ context.Context, b []byte, at int, used func()) error {
	return h.TryGive(b, at, used)
}

func (h *hostile) TryGive(b []byte, at int, used func()) error {
	err := h.TrySend(b[at:])
	if err == nil {
		used()
	}
	return err
}

func (h *hostile) TrySendIdle(message []byte, _ bool, _ func()) (bool, error) {
	return false, h.TrySend(message)
}

func (h *hostile) ReceiveAll(ctx context.Context, use func([]byte, bool) error) error {
	for {
		select {
		case b, ok := <-h.in:
			if !ok {
				return io.EOF
			}
			if err := use(b, true); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (h *hostile) Close()                                 {}
func (h *hostile) Reset()                                 { close(h.over) }
func (h *hostile) Answered(context.Context) (bool, error) { return false, nil }

func (h *hostile) Address() string { return "conec/mallory~m" }

// records returns what was said about frames.
func (h *hostile) records(t *testing.T) (all []record) {
	t.Helper()
	for len(h.said) > 0 {
		for b := <-h.said; len(b) > 0; {
			r, rest, err := cutRecord(b)
			if err != nil {
				t.Fatal(err)
			}
			all, b = append(all, r), rest
		}
	}
	return all
}

// besieged is a system that mallory sends to.
type besieged struct {
	*Remote
	*hostile
	tables tables
	got    chan string // what its actor "greeter" hears, and of whom
}

func newBesieged(t *testing.T, config RemoteConfig) *besieged {
	t.Helper()
	sys := NewSystem(&SystemConfig{Name: Address("bob", []byte("12345678")), MailboxLimit: 1000})
	config.Name = "bob"
	config.Open = func(context.Context, string, bool, bool) (LaneStream, error) { return nil, messages.ErrRefused }
	b := &besieged{Remote: NewRemote(sys, &config), hostile: newHostile(), got: make(chan string, 1000)}
	b.tables = newTables(newPasses())
	greeter, err := sys.Spawn(sys.Props(func() actor.Actor {
		return actor.ReceiveFunc(func(ctx actor.Context) {
			if text, ok := ctx.Message().(*wrapperspb.StringValue); ok {
				b.got <- text.GetValue() + " of " + ctx.Sender().GetAddress()
			}
		})
	}), "greeter")
	if err != nil {
		t.Fatal(err)
	}
	b.Export("greeter", greeter)
	served := make(chan struct{})
	go func() {
		b.Serve(context.Background(), "mallory", b.hostile)
		close(served)
	}()
	t.Cleanup(func() {
		close(b.in)
		<-served
		if err := sys.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return b
}

// told is a frame that is sent, and its body.
type told struct {
	frame
	body []byte
}

// tell sends a frame.
func (b *besieged) tell(f told) {
	f.kind = frameTell
	b.put(append(b.tables.appendFrame(nil, &f.frame), f.body...))
}

// put sends one frame.
func (b *besieged) put(raw []byte) {
	b.in <- append(binary.AppendUvarint(nil, uint64(len(raw))), raw...)
}

func text(s string) []byte {
	body, _ := proto.Marshal(wrapperspb.String(s))
	return body
}

const stringType = "google.protobuf.StringValue"

// What a peer can say wrongly is refused, counted, and has no effect on anybody else.
func TestHostileFrames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBesieged(t, RemoteConfig{})
		waiting, answer, err := b.sys.asks.begin() // for an answer of another peer
		if err != nil {
			t.Fatal(err)
		}
		b.sys.asks.sentTo(waiting, "alice")
		frames := []told{
			{frame{target: "greeter", typ: "no.such.Type"}, nil},
			{frame{target: "greeter", typ: stringType}, []byte{0xff}},
			{frame{target: "greeter", typ: "json:x"}, []byte("{}")},
			{frame{target: "nobody", typ: stringType}, text("hi")},
			{frame{target: "root", typ: stringType}, text("hi")},
			{frame{target: "eventstream", typ: stringType}, text("hi")},
			{frame{target: asksID, targetRequest: waiting, typ: stringType}, text("forged")},
			{frame{target: asksID + "/1", targetRequest: 1, typ: stringType}, text("forged")},
			{frame{target: "greeter#AAAAAAAAAAAAAA", typ: stringType}, text("hi")},
			{frame{target: newPasses().here("greeter"), typ: stringType}, text("hi")},
			{frame{target: newPasses().on(actor.NewPID("conec/carol", "x")), typ: stringType}, text("hi")},
		}
		for _, name := range []proto.Message{&actor.PoisonPill{}, &actor.Stop{}, &actor.Terminated{}, &actor.Watch{}} {
			frames = append(frames, told{frame{target: "greeter", typ: string(proto.MessageName(name))}, nil})
		}
		for _, f := range frames {
			b.tell(f)
		}
		b.put(append(b.tables.appendFrame(nil, &frame{kind: frameStop, target: "greeter"}), stopNow...))
		b.put(b.tables.appendFrame(nil, &frame{kind: frameUnwatch, target: "greeter"})) // of no effect
		b.put([]byte{frameFlush})
		synctest.Wait()
		refused := 0
		for _, r := range b.records(t) {
			if r.kind == recordRefused {
				refused++
			}
		}
		if want := len(frames) + 1; refused != want || b.RemoteStats().Refused != uint64(want) {
			t.Errorf("%d refused, counted %d; want %d", refused, b.RemoteStats().Refused, want)
		}
		b.tell(told{frame{target: "greeter", sender: "conec/carol/x", signed: true, typ: stringType}, text("hi")})
		synctest.Wait()
		if got := <-b.got; len(b.got) > 0 || got != "hi of conec/mallory~m" {
			t.Errorf("heard %q, and %d more", got, len(b.got))
		}
		if len(answer) > 0 {
			t.Error("mallory answered what alice was asked")
		}
	})
}

// What is no frame ends the stream.
func TestNoFrames(t *testing.T) {
	long := strings.Repeat("x", maxID+1)
	for name, raw := range map[string][]byte{
		"empty":              {},
		"unknown kind":       {0x0e},
		"no target":          {frameTell},
		"empty target":       {frameTell, 1, 0},
		"target never named": {frameTell, 2},
		"number out of turn": {frameTell, 3, 1, 'a', 1, 0},
		"long target":        append(appendText([]byte{frameTell, 1}, long), 1, 0),
		"no type":            {frameTell, 1, 1, 'a'},
		"no sender":          {frameTell | flagSender, 1, 1, 'a'},
		"no request":         {frameTell | flagRequest, 1, 1, 'a', 0xff, 0xff, 0xff, 0xff, 0xff, 1},
		"many headers":       {frameTell | flagHeaders, 1, 1, 'a', 1, 1, 'b', maxHeaders + 1},
		"large headers":      append(appendText(append([]byte{frameTell | flagHeaders, 1, 1, 'a', 1, 1, 'b', 1}, 1, 'k'), strings.Repeat("x", maxHeader)), 0),
	} {
		synctest.Test(t, func(t *testing.T) {
			b := newBesieged(t, RemoteConfig{})
			b.put(raw)
			synctest.Wait()
			select {
			case <-b.over:
			default:
				t.Errorf("%s: the stream goes on", name)
			}
		})
	}
}

// So does a message that ends within a frame.
func TestHalfAFrame(t *testing.T) {
	for _, raw := range [][]byte{{5, 1}, {0x80}} {
		synctest.Test(t, func(t *testing.T) {
			b := newBesieged(t, RemoteConfig{})
			b.in <- raw
			synctest.Wait()
			select {
			case <-b.over:
			default:
				t.Errorf("%v: the stream goes on", raw)
			}
		})
	}
}

// A peer that does not keep to its credit is cut off; what it may send is bounded.
func TestMoreThanWasGranted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBesieged(t, RemoteConfig{MaxMessage: 64 << 10})
		hold := make(chan struct{})
		defer close(hold)
		busy, err := b.sys.Spawn(b.sys.Props(func() actor.Actor {
			return actor.ReceiveFunc(func(ctx actor.Context) {
				if _, ok := ctx.Message().([]byte); ok {
					<-hold
				}
			})
		}), "busy")
		if err != nil {
			t.Fatal(err)
		}
		b.Export("busy", busy)
		for range 200 {
			b.tell(told{frame{target: "busy", typ: bytesType}, make([]byte, 1000)})
		}
		synctest.Wait()
		select {
		case <-b.over:
		default:
			t.Error("the stream goes on")
		}
		if got := b.RemoteStats().Received; got < 60 || got > 140 {
			t.Errorf("%d messages of 1,000 bytes were taken", got)
		}
	})
}

// The memory that one peer's messages take is bounded, however many actors they are for.
func TestMailboxesOfAPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBesieged(t, RemoteConfig{Limits: RemoteLimits{PeerMailboxes: 100_000}})
		hold := make(chan struct{})
		for i := range 100 {
			id := fmt.Sprint("busy", i)
			busy, err := b.sys.Spawn(b.sys.Props(func() actor.Actor {
				return actor.ReceiveFunc(func(ctx actor.Context) {
					if _, ok := ctx.Message().([]byte); ok {
						<-hold
					}
				})
			}), id)
			if err != nil {
				t.Fatal(err)
			}
			b.Export(id, busy)
			for range 5 {
				b.tell(told{frame{target: id, typ: bytesType}, make([]byte, 1000)})
			}
		}
		synctest.Wait()
		if stats := b.RemoteStats(); stats.Received+stats.Refused != 500 || stats.Received > 200 || stats.Received < 90 {
			t.Errorf("%+v", stats)
		}
		close(hold)
		synctest.Wait()
		if left := b.peer("mallory").inward.waiting.Load(); left != 0 {
			t.Errorf("%d bytes are counted, and no message is left", left)
		}
		b.tell(told{frame{target: "greeter", typ: stringType}, text("hi")})
		<-b.got
	})
}

func TestSpawnAndRefusalFloods(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBesieged(t, RemoteConfig{})
		err := b.ExportKind("worker", KindConfig{Limit: 3, Props: func(string, any) (*actor.Props, error) {
			return actor.PropsFromFunc(func(actor.Context) {}), nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		before := b.sys.Stats().Actors
		body := []byte("\x0a\x06worker") // SpawnActor{kind: "worker"}
		for range 500 {
			b.tell(told{frame{target: kindsID, sender: "me", signed: true, typ: "conec.v1.SpawnActor"}, body})
			b.tell(told{frame{target: "nobody", typ: stringType}, text("hi")})
		}
		synctest.Wait()
		if got := b.sys.Stats().Actors - before; got != 3 {
			t.Errorf("%d actors spawned, want 3", got)
		}
		b.tell(told{frame{target: "greeter", typ: stringType}, text("hi")})
		<-b.got
	})
}

func TestFrames(t *testing.T) {
	there, here := newTables(newPasses()), newTables(nil)
	for i := range 3 * maxTypes {
		f := frame{
			kind: frameTell, target: fmt.Sprint("t", i%7), targetRequest: uint32(i % 2), sender: fmt.Sprint("s", i%5), signed: true,
			senderRequest: uint32(i % 3), typ: fmt.Sprint("y", i), flush: i%4 == 0,
		}
		if i%3 == 0 {
			f.headers = map[string]string{"a": "b", "c": ""}
		}
		got, _, body, err := here.parseFrame(append(there.appendFrame(nil, &f), byte(i)))
		f.signed = false
		if err != nil || !reflect.DeepEqual(got, f) || string(body) != string([]byte{byte(i)}) {
			t.Fatalf("sent %+v, got %+v, %v", f, got, err)
		}
	}
	if len(here.types.list) != maxTypes || len(there.types.byName) != maxTypes {
		t.Errorf("%d and %d names of types are kept, want %d", len(here.types.list), len(there.types.byName), maxTypes)
	}
}

func FuzzFrame(f *testing.F) {
	tables := newTables(newPasses())
	f.Add(append(tables.appendFrame(nil, &frame{
		kind: frameTell, target: "greeter", sender: "me", senderRequest: 3, typ: stringType, headers: map[string]string{"a": "b"},
	}), text("hi")...))
	f.Add(tables.appendFrame(nil, &frame{kind: frameWatch, target: "greeter"}))
	f.Add([]byte{frameFlush})
	f.Fuzz(func(t *testing.T, raw []byte) {
		tables := newTables(nil)
		for range 2 { // the second time with its names
			parsed, _, _, err := tables.parseFrame(raw)
			if err != nil && !errors.Is(err, messages.ErrProtocol) {
				t.Errorf("error is %v", err)
			}
			if err == nil && parsed.kind == frameTell && parsed.target == "" {
				t.Error("no target")
			}
		}
	})
}

func FuzzRecords(f *testing.F) {
	for _, r := range []record{
		{kind: recordHandled, number: 300},
		{kind: recordGranted, number: 2, limit: 1 << 30},
		{kind: recordRefused, number: 1, code: 3, text: "why"},
		{kind: recordTerminated, text: "greeter", why: 2},
	} {
		f.Add(appendRecord(nil, r))
	}
	f.Add([]byte{recordRefused, 48, 0x83, 0x8e, 0x8e, 0x8e, 0x8e, 0, 1, '0'}) // a code beyond any
	f.Fuzz(func(t *testing.T, raw []byte) {
		for b := raw; len(b) > 0; {
			r, rest, err := cutRecord(b)
			if err != nil {
				break
			}
			again, _, err := cutRecord(appendRecord(nil, r))
			if err != nil || again != r {
				t.Fatalf("%+v became %+v, %v", r, again, err)
			}
			b = rest
		}
		sys := NewSystem(nil)
		p := newPeer(NewRemote(sys, &RemoteConfig{Name: "x"}), "mallory")
		l := &lane{peer: p, tables: newTables(p.remote.passes)}
		p.lanes[0] = l
		if err := l.hear(raw); err != nil && !errors.Is(err, messages.ErrProtocol) {
			t.Errorf("error is %v", err)
		}
		_ = sys.Close(context.Background())
	})
}
