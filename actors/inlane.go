package actors

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
)

// When a lane says without being asked what was handled.
const (
	handledFrames = 256                   // after so many frames
	handledDelay  = 20 * time.Millisecond // after the first that it said nothing of
)

// maxRefusals is how many refusals may wait to be told: a peer that does not hear them
// is not listened to.
const maxRefusals = 1 << 12

// inlane takes the frames of one lane of a peer and gives them to the actors here.
//
// Its pump, [Remote.Serve], owns what comes first; the rest is under mu, which is also
// taken by actors that have used up messages.
type inlane struct {
	remote  *Remote
	from    *peer
	stream  LaneStream
	address string // of the peer's actors
	tables  tables
	targets []*inflow // by the number of the target
	run     deliveryRun
	slab    slab       // for []byte messages
	watcher *actor.PID // of this lane as a process, nil until it watches

	mu         sync.Mutex
	watched    inwatches
	handled    uint64
	told       uint64
	due        bool // what was handled is to be told
	timer      *time.Timer
	waits      bool // timer runs
	grants     []*inflow
	refusals   []record
	terminated []record
	pumping    bool
	over       bool
}

// inflow is one actor of this system that the peer has named on a lane.
type inflow struct {
	lane   *inlane
	id     string
	number uint32
	come   uint64 // cost; for the pump

	target  *actor.PID
	mailbox *Mailbox // nil if it has none of ours
	epoch   uint64   // of the exports, when target was looked up
	request uint32   // of the question that it is the answer to, if its name says so

	used  atomic.Uint64 // cost that the actor has taken
	limit atomic.Uint64 // what the peer may send; written under mu of lane

	window uint64 // how much more than used it was granted last; under mu of lane, with the rest
	told   bool   // a grant is on the list
	over   bool   // the number is another's
}

// deliveryRun is what consecutive frames have for one mailbox: it is posted in one go.
type deliveryRun struct {
	flow  *inflow
	list  []posted
	cost  int
	flush bool // what was handled is to be told then
}

// maxRun is how many deliveries are in a run at most.
const maxRun = 64

// Serve takes what a peer sends on a stream that it opened, until the stream or ctx
// ends. It blocks: call it in a pump.
func (r *Remote) Serve(ctx context.Context, name string, stream LaneStream) {
	from := r.peer(name)
	if from == nil {
		r.sys.Logger().Warn("peer refused: too many were known already", "peer", name, "limit", maxPeers)
		stream.Reset()
		return
	}
	l := &inlane{remote: r, from: from, stream: stream, address: stream.Address(), tables: newTables(nil)}
	from.met(l.address)
	defer l.end()
	if err := stream.ReceiveAll(ctx, l.takeAll); errors.Is(err, messages.ErrProtocol) {
		r.sys.Logger().Warn("peer sent what is no actor message", "peer", name, "err", err)
		stream.Reset()
	}
}

// takeAll handles the frames of a message. keep says whether its memory may be kept.
func (l *inlane) takeAll(raw []byte, keep bool) error {
	l.slab.keeps = keep
	l.from.answers.Store(true)
	for len(raw) > 0 {
		size, rest, ok := cutUvarint(raw)
		if !ok || size > uint64(len(rest)) {
			return fmt.Errorf("%w: length of an actor frame", messages.ErrProtocol)
		}
		if err := l.take(rest[:size:size]); err != nil {
			_ = l.post() // the lane ends with err in any case
			return err
		}
		raw = rest[size:]
	}
	return l.post()
}

// take handles one frame, or adds it to the run.
func (l *inlane) take(raw []byte) error {
	f, number, body, err := l.tables.parseFrame(raw)
	if err != nil {
		return err
	}
	var flow *inflow
	if f.kind != frameFlush {
		flow = l.flow(f.target, number)
	}
	if l.run.flow != nil && (flow != l.run.flow || f.kind != frameTell || len(l.run.list) == maxRun) {
		if err := l.post(); err != nil {
			return err
		}
	}
	switch f.kind {
	case frameTell:
		if err = l.deliver(flow, &f, body); err == nil && l.run.flow != nil {
			l.run.flush = l.run.flush || f.flush
			return nil
		}
	case frameWatch:
		err = l.watch(flow)
	case frameUnwatch:
		l.unwatch(f.target)
	case frameStop:
		err = l.remote.kinds.stop(l.from.name, f.target, string(body) == stopAfter)
	}
	if errors.Is(err, messages.ErrProtocol) {
		return err
	}
	if late := l.post(); late != nil { // a message of the run that was refused comes after it
		return late
	}
	return l.note(1, err, f.flush || f.kind == frameFlush)
}

// post puts the run into its mailbox.
func (l *inlane) post() error {
	run := &l.run
	if run.flow == nil {
		return nil
	}
	l.from.inward.waiting.Add(int64(run.cost))
	taken, refused := run.flow.mailbox.postRemote(run.list)
	l.remote.stats.received.Add(uint64(taken))
	err := l.note(taken, nil, run.flush)
	for ; taken < len(run.list) && err == nil; taken++ {
		err = l.note(1, refused, run.flush)
	}
	clear(run.list)
	l.run = deliveryRun{list: run.list[:0]}
	return err
}

// note counts frames as handled, and has it told why they were refused, if they were.
func (l *inlane) note(frames int, refused error, now bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if refused != nil {
		if len(l.refusals) >= maxRefusals {
			return fmt.Errorf("%w: %d refusals were not heard", messages.ErrProtocol, len(l.refusals))
		}
		l.remote.stats.refused.Add(1)
		code, reason := messages.ToCode(refused)
		l.refusals = append(l.refusals, record{kind: recordRefused, number: l.handled, code: code, text: reason})
	}
	l.handled += uint64(frames)
	switch {
	case now || l.handled-l.told >= handledFrames:
		l.due = true
		l.pump()
	case !l.waits:
		l.waits = true
		if l.timer == nil {
			l.timer = time.AfterFunc(handledDelay, l.timeout)
		} else {
			l.timer.Reset(handledDelay)
		}
	}
	return nil
}

func (l *inlane) timeout() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waits = false
	if l.handled > l.told {
		l.due = true
		l.pump()
	}
}

// flow returns what is known of a target. A number that was told anew is another's.
func (l *inlane) flow(id string, number uint32) *inflow {
	for int(number) >= len(l.targets) {
		l.targets = append(l.targets, nil)
	}
	former := l.targets[number]
	if former != nil && former.id == id {
		return former
	}
	flow := &inflow{lane: l, id: id, number: number, window: firstCredit}
	flow.limit.Store(firstCredit)
	l.targets[number] = flow
	if former != nil {
		l.mu.Lock()
		former.over = true
		l.mu.Unlock()
	}
	return flow
}

// find looks up the actor behind a target. It returns an error if the peer may not
// reach it or it is not there.
func (f *inflow) find() error {
	r := f.lane.remote
	epoch := r.epoch.Load()
	if f.target != nil && f.epoch == epoch && (f.mailbox == nil || !f.mailbox.isStopped()) {
		return nil
	}
	from, local := f.lane.from, r.sys.as.Address()
	f.target, f.mailbox, f.epoch = r.exported(from.name, f.id), nil, epoch
	switch {
	case f.target != nil:
	case f.id == peerID:
		f.target = r.peerActor(from.name)
	case f.id == asksID:
		f.target = actor.NewPID(local, asksID)
	default:
		if f.target = r.passes.redeem(f.id, local); f.target != nil && f.target.Address == local {
			f.target.Id, f.request = cutAsk(f.target.Id)
		}
	}
	if f.target == nil {
		return messages.ErrNoSuchActor
	}
	if f.mailbox = mailboxOf(r.sys.as, f.target); f.mailbox != nil || f.target.Address != local {
		return nil
	}
	if _, ok := r.sys.as.ProcessRegistry.GetLocal(f.target.Id); !ok {
		f.target = nil
		return messages.ErrNoSuchActor
	}
	return nil
}

// deliver gives a message to its actor, or adds it to the run. An error that matches
// ErrProtocol ends the lane, any other refuses the frame.
func (l *inlane) deliver(flow *inflow, f *frame, body []byte) error {
	r := l.remote
	cost := f.cost(len(body))
	if flow.come > flow.limit.Load()+uint64(r.config.MaxMessage) {
		return fmt.Errorf("%w: more for actor %q than was granted", messages.ErrProtocol, flow.id)
	}
	flow.come += uint64(cost)
	var err error
	if l.run.flow == nil { // else it was just found
		err = flow.find()
	}
	waiting := int64(l.run.cost) + l.from.inward.waiting.Load()
	if err == nil && waiting > int64(r.config.Limits.PeerMailboxes) {
		err = fmt.Errorf("%w: %d bytes of this peer's messages wait", messages.ErrBusy, r.config.Limits.PeerMailboxes)
	}
	var message any
	if err == nil {
		message, err = r.codecs.decode(f.typ, body, &l.slab)
	}
	if err != nil {
		l.from.inward.waiting.Add(int64(cost))
		flow.use(cost)
		return err
	}
	if spawn, ok := message.(*conecv1.SpawnActor); ok {
		message = spawnFor{lane: l, want: spawn}
	}
	if f.headers != nil || f.sender != "" {
		message = l.envelope(f, message)
	}
	if flow.mailbox != nil {
		l.run.flow, l.run.list = flow, append(l.run.list, posted{message: message, flow: flow, cost: cost})
		l.run.cost += cost
		return nil
	}
	l.from.inward.waiting.Add(int64(cost))
	r.stats.received.Add(1)
	flow.use(cost)
	return l.hand(flow, f.targetRequest, message)
}

// envelope makes the envelope of a message. The sender's address is the peer's, whatever
// it says.
func (l *inlane) envelope(f *frame, message any) *actor.MessageEnvelope {
	if f.sender == "" {
		return &actor.MessageEnvelope{Header: f.headers, Message: message}
	}
	both := &struct {
		envelope actor.MessageEnvelope
		sender   actor.PID
	}{}
	both.sender.Address, both.sender.Id, both.sender.RequestId = l.address, f.sender, f.senderRequest
	both.envelope.Header, both.envelope.Message, both.envelope.Sender = f.headers, message, &both.sender
	return &both.envelope
}

// hand gives a message to what is no actor with a mailbox of ours.
func (l *inlane) hand(flow *inflow, request uint32, message any) error {
	as := l.remote.sys.as
	pid := &actor.PID{Address: flow.target.Address, Id: flow.target.Id, RequestId: request}
	if pid.Address != as.Address() {
		as.Root.Send(pid, message)
		return nil
	}
	if pid.Id == asksID && (flow.request != request || flow.request == 0) && !l.remote.sys.asks.expects(request, l.from.name) {
		return messages.ErrNoSuchActor
	}
	process, _ := as.ProcessRegistry.GetLocal(pid.Id)
	process.SendUserMessage(pid, message)
	return nil
}

// use counts cost as used up, and has the peer told when half of its credit was. It
// does not block.
func (f *inflow) use(cost int) {
	l := f.lane
	waiting := l.from.inward.waiting.Add(-int64(cost))
	used := f.used.Add(uint64(cost))
	if limit := f.limit.Load(); used < limit && limit-used > firstCredit/2 && used%(firstCredit/2) > uint64(cost) {
		return // by far the most
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	limit := f.limit.Load()
	if f.over || used+f.window/2 < limit {
		return
	}
	f.window = min(2*f.window, fullCredit)
	if waiting > int64(l.remote.config.Limits.PeerMailboxes)/2 {
		f.window = firstCredit
	}
	f.limit.Store(max(limit, used+f.window))
	if !f.told && !l.over {
		f.told = true
		l.grants = append(l.grants, f)
		l.pump()
	}
}

// pump has what is due told. Called with mu held.
func (l *inlane) pump() {
	if !l.pumping && !l.over {
		l.pumping = true
		l.remote.sys.Pumps.Go(l.say)
	}
}

// say is a pump: it tells what is due until nothing is.
func (l *inlane) say() {
	for {
		l.mu.Lock()
		b := l.records()
		if b == nil || l.over {
			l.pumping = false
			l.mu.Unlock()
			return
		}
		l.mu.Unlock()
		if err := l.stream.Send(context.Background(), b); err != nil { // ends with the stream
			l.stream.Reset() // else the peer would wait for what was lost
			l.mu.Lock()
			l.over = true
			l.mu.Unlock()
		}
	}
}

// recordBytes is from which size on records go in the next message.
const recordBytes = 16 << 10

// records takes what is due, as much as goes in a message. Called with mu held.
func (l *inlane) records() (b []byte) {
	said := false
	for len(l.refusals) > 0 && len(b) < recordBytes { // before it is said that these frames were handled
		b = appendRecord(b, l.refusals[0])
		l.refusals, said = l.refusals[1:], true
	}
	if l.due || said {
		if l.told, l.due = l.handled, len(l.refusals) > 0; l.due {
			l.told = l.refusals[0].number
		}
		b = appendRecord(b, record{kind: recordHandled, number: l.told})
	}
	for len(l.grants) > 0 && len(b) < recordBytes {
		f := l.grants[0]
		l.grants = l.grants[1:]
		if f.told = false; !f.over {
			b = appendRecord(b, record{kind: recordGranted, number: uint64(f.number), limit: f.limit.Load()})
		}
	}
	for len(l.terminated) > 0 && len(b) < recordBytes {
		b = appendRecord(b, l.terminated[0])
		l.terminated = l.terminated[1:]
	}
	return b
}

// end forgets what the peer had on the lane.
func (l *inlane) end() {
	l.mu.Lock()
	l.over = true
	if l.timer != nil {
		l.timer.Stop()
	}
	l.mu.Unlock()
	l.unwatchAll()
	if l.watcher != nil {
		l.remote.sys.as.ProcessRegistry.Remove(l.watcher)
	}
	l.remote.kinds.laneOver(l)
	l.stream.Close()
}

// isOver reports whether nothing comes on the lane any more.
func (l *inlane) isOver() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.over
}
