package suite_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
)

// TestPingOnTheWire plays a peer: one that does not say whether it answers pings is not
// pinged, one that says so is, and gets answers itself. Answers to nothing do no harm.
func TestPingOnTheWire(t *testing.T) {
	everywhere(t, func(w *world) {
		w.begin()
		bob := w.client("bob")
		raw := w.rawClient("mallory")
		raw.say(open(1, "bob"))
		_, control := raw.connect(raw.hear().GetChannelIntroduced().GetIntroduction())
		channel, err := bob.AcceptChannel(w.ctx)
		if err != nil {
			w.Fatal(err)
		}
		say := func(message *conecv1.Control) {
			if err := control.Send(message); err != nil {
				w.Fatal(err)
			}
		}
		hear := func() *conecv1.Control {
			said, err := control.Receive()
			if err != nil {
				w.Fatal(err)
			}
			return said
		}
		offer := func(answers bool) *conecv1.Control {
			return &conecv1.Control{Said: &conecv1.Control_OfferCandidates{OfferCandidates: &conecv1.OfferCandidates{Tag: 1, AnswersPings: answers}}}
		}
		if said := hear(); !said.GetOfferCandidates().GetAnswersPings() {
			w.Errorf("bob says %v, want that it answers pings", said)
		}
		say(offer(false))
		soon, cancel := context.WithTimeout(w.ctx, 5*time.Second)
		defer cancel()
		if _, err := channel.Ping(soon); !errors.Is(err, messages.ErrVersion) {
			w.Errorf("ping of a peer that does not answer: %v", err)
		}
		say(&conecv1.Control{Said: &conecv1.Control_Pong{Pong: &conecv1.Pong{Request: 1 << 40}}})
		say(&conecv1.Control{Said: &conecv1.Control_Ping{Ping: &conecv1.Ping{Request: 7}}})
		if said := hear(); said.GetPong().GetRequest() != 7 || !said.GetPong().GetRelayed() {
			w.Errorf("bob says %v, want a pong over the relay", said)
		}
		say(offer(true))
		say(&conecv1.Control{Said: &conecv1.Control_Ping{Ping: &conecv1.Ping{Request: 8}}})
		_ = hear() // what was said before that has arrived, too
		type result struct {
			relayed bool
			err     error
		}
		done := make(chan result, 1)
		go func() {
			pong, err := channel.Ping(w.ctx)
			done <- result{pong.Relayed, err}
		}()
		ping := hear().GetPing()
		say(&conecv1.Control{Said: &conecv1.Control_Pong{Pong: &conecv1.Pong{Request: ping.GetRequest(), Relayed: true}}})
		say(&conecv1.Control{Said: &conecv1.Control_Pong{Pong: &conecv1.Pong{Request: ping.GetRequest()}}})
		if got := <-done; got.err != nil || !got.relayed {
			w.Errorf("ping gave %+v", got)
		}
	})
}
