package actors

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"sync"

	"github.com/asynkron/protoactor-go/actor"
)

// asksID is the name of the process that receives the answers to [Ask].
const asksID = "asks"

// Asker is a [System], or what contains one.
type Asker interface{ asking() *asks }

func (s *System) asking() *asks { return s.asks }

// Ask sends msg to an actor, near or far, and blocks until it responds, ctx ends, or the system is closed. It is for user code
// and pumps; Receive must not block. The actor answers with Respond, as it would answer a Future. msg may be anything if the
// actor is local; if not, what a [Remote] can send.
//
// The first answer counts; a later one is a dead letter. Errors name the actor and wrap [ErrDeadLetter] if it does not exist or
// stopped before it came to the message, [ErrOverflow] if [SystemConfig.AskLimit] asks are waiting, [ErrClosed], ctx's error,
// or the answer itself if that is an error. If the answer has another type than T, the error names both types. An actor that fails on the message
// does not answer: give ctx a deadline. What OpenTelemetry knows of ctx goes with the message (see package opentelemetry of
// proto.actor).
func Ask[T any](ctx context.Context, sys Asker, pid *actor.PID, msg any) (T, error) {
	var none T
	answer, err := sys.asking().ask(ctx, pid, msg)
	if err != nil {
		return none, fmt.Errorf("ask %q: %w", nameOf(pid), err)
	}
	if _, dead := answer.(*actor.DeadLetterResponse); dead { // before T, which may be any
		return none, fmt.Errorf("ask %q: %w", nameOf(pid), ErrDeadLetter)
	}
	switch answer := answer.(type) {
	case T:
		return answer, nil
	case error:
		return none, fmt.Errorf("ask %q: %w", nameOf(pid), answer)
	default:
		return none, fmt.Errorf("ask %q: the answer is a %T, not a %v", nameOf(pid), answer, reflect.TypeFor[T]())
	}
}

func nameOf(pid *actor.PID) string {
	if pid == nil {
		return ""
	}
	return pid.Address + "/" + pid.Id
}

// asks is the process that all answers go to, told apart by the RequestId of the PID that they are sent to. One mutex guards it.
type asks struct {
	as    *actor.ActorSystem
	limit int

	mu     sync.Mutex
	last   uint32
	open   map[uint32]openAsk
	spare  []chan any // empty channels for reuse: of this system, so of its synctest bubble
	closed bool
}

// openAsk is an ask without an answer yet.
type openAsk struct {
	answer chan any
	asked  string   // peer that was sent the question and may answer
	others []string // that were, too
}

// maxAsked is how many peers may answer the same question.
const maxAsked = 16

// question is one ask's envelope and the PID to answer to.
type question struct {
	envelope actor.MessageEnvelope
	sender   actor.PID
}

// maxSpare is how many channels are kept for reuse.
const maxSpare = 64

func (a *asks) ask(ctx context.Context, pid *actor.PID, msg any) (any, error) {
	if pid == nil || msg == nil {
		return nil, fmt.Errorf("nil PID or message: %w", ErrDeadLetter)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	id, answer, err := a.begin()
	if err != nil {
		return nil, err
	}
	q := &question{}
	q.envelope.Header, q.envelope.Message, _ = unwrapTraced(ctx, msg)
	q.sender.Address, q.sender.Id, q.sender.RequestId = a.as.Address(), asksID, id
	q.envelope.Sender = &q.sender
	a.as.Root.Send(pid, &q.envelope)
	select {
	case got := <-answer:
		return a.finish(answer, got)
	case <-ctx.Done():
		if a.take(id) == nil { // the answer is there, or about to be
			return a.finish(answer, <-answer)
		}
		_, _ = a.finish(answer, nil)
		return nil, ctx.Err()
	}
}

func (a *asks) begin() (uint32, chan any, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return 0, nil, ErrClosed
	}
	if len(a.open) >= a.limit {
		return 0, nil, fmt.Errorf("%d asks wait for answers: %w", len(a.open), ErrOverflow)
	}
	for used := true; used || a.last == 0; _, used = a.open[a.last] {
		a.last++
	}
	var answer chan any
	if n := len(a.spare); n > 0 {
		answer, a.spare = a.spare[n-1], a.spare[:n-1]
	} else {
		answer = make(chan any, 1)
	}
	a.open[a.last] = openAsk{answer: answer}
	return a.last, answer, nil
}

// take returns the channel that waits for an answer, once.
func (a *asks) take(id uint32) chan any {
	a.mu.Lock()
	defer a.mu.Unlock()
	answer := a.open[id].answer
	delete(a.open, id)
	return answer
}

// expects reports whether an ask waits for an answer from actors of this peer.
func (a *asks) expects(id uint32, peer string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	ask, ok := a.open[id]
	return ok && (ask.asked == peer || slices.Contains(ask.others, peer))
}

// sentTo notes that a question was sent to a peer, by whomever, so that it may answer.
func (a *asks) sentTo(id uint32, peer string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	ask, ok := a.open[id]
	switch {
	case !ok || ask.asked == peer || len(ask.others) >= maxAsked-1 || slices.Contains(ask.others, peer):
		return
	case ask.asked == "":
		ask.asked = peer
	default:
		ask.others = append(ask.others, peer)
	}
	a.open[id] = ask
}

// fail ends an ask whose question did not reach its actor.
func (a *asks) fail(id uint32, why error) {
	if answer := a.take(id); answer != nil {
		answer <- unanswered{why}
	}
}

// unanswered is why a question was not answered.
type unanswered struct{ why error }

// finish gives the channel back. It is empty, and nobody else has it.
func (a *asks) finish(answer chan any, got any) (any, error) {
	a.mu.Lock()
	if len(a.spare) < maxSpare {
		a.spare = append(a.spare, answer)
	}
	a.mu.Unlock()
	if failed, ok := got.(unanswered); ok {
		return nil, failed.why
	}
	return got, nil
}

// close ends all asks.
func (a *asks) close() {
	a.mu.Lock()
	open := a.open
	a.open, a.closed = nil, true
	a.mu.Unlock()
	for _, ask := range open {
		ask.answer <- unanswered{ErrClosed}
	}
}

func (a *asks) len() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.open)
}

// SendUserMessage receives an answer. It runs on the goroutine of who answers, and does not block.
func (a *asks) SendUserMessage(pid *actor.PID, message any) {
	bare := actor.UnwrapEnvelopeMessage(message)
	if answer := a.take(pid.RequestId); answer != nil {
		answer <- bare
		return
	}
	if _, ok := bare.(*actor.DeadLetterResponse); !ok {
		a.as.DeadLetter.SendUserMessage(pid, bare)
	}
}

// SendSystemMessage ignores the message: an ask can be neither watched nor stopped.
func (a *asks) SendSystemMessage(*actor.PID, any) {}

// Stop does nothing.
func (a *asks) Stop(*actor.PID) {}
