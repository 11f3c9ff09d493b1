package actors

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/asynkron/protoactor-go/actor"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
)

// RemotePurpose is the purpose of streams that carry actor messages.
const RemotePurpose = "conec.actors"

// addressPrefix begins the address of every client's actors.
const addressPrefix = "conec/"

// maxRepliers is how many actors may be waiting for answers of one peer. Beyond,
// answers to the longest known are refused as dead letters.
const maxRepliers = 65_536

// Stream is a stream of whole messages, as package client has it.
type Stream interface {
	Send(ctx context.Context, message []byte) error
	Receive(ctx context.Context) ([]byte, error)
	Close()
}

// Remote lets the actors of a system send to those of other clients. A PID of
// another client ([Remote.PID]) is used like a local one: messages must be
// protobuf messages, arrive in order per sender and target while the stream
// under them lasts, and are dead letters with a logged reason if they can not be
// sent. Only what is exported can be reached, and who waits for an answer.
type Remote struct {
	sys  *System
	open func(ctx context.Context, peer string) (Stream, error)

	mu      sync.Mutex
	exports map[string]*actor.PID
	peers   map[string]*remotePeer
}

// remotePeer is the process behind all PIDs of one other client. It is one and
// the same for the life of the system, because proto.actor keeps it in PIDs.
type remotePeer struct {
	remote *Remote
	peer   string

	mu       sync.Mutex
	lane     *actor.PID // nil until something is sent
	repliers map[string]struct{}
}

// NewRemote connects a system with those of other clients. open opens a stream
// to a peer's. It must be called before actors are spawned that send to others.
func NewRemote(sys *System, open func(ctx context.Context, peer string) (Stream, error)) *Remote {
	r := &Remote{sys: sys, open: open, exports: map[string]*actor.PID{}, peers: map[string]*remotePeer{}}
	sys.ActorSystem().ProcessRegistry.RegisterAddressResolver(func(pid *actor.PID) (actor.Process, bool) {
		peer, ok := strings.CutPrefix(pid.GetAddress(), addressPrefix)
		if !ok || messages.CheckName(peer) != nil {
			return nil, false
		}
		return r.peerOf(peer), true
	})
	return r
}

// PID returns the PID of an actor that another client exports as name.
func (r *Remote) PID(peer, name string) *actor.PID { return actor.NewPID(addressPrefix+peer, name) }

// Export lets every peer send to a local actor under name. Exporting another
// actor under the same name replaces the first.
func (r *Remote) Export(name string, pid *actor.PID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.exports[name] = pid
}

func (r *Remote) peerOf(peer string) *remotePeer {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.peers[peer]
	if p == nil {
		p = &remotePeer{remote: r, peer: peer, repliers: map[string]struct{}{}}
		r.peers[peer] = p
	}
	return p
}

// SendUserMessage implements actor.Process. It does not block.
func (p *remotePeer) SendUserMessage(pid *actor.PID, message any) {
	header, body, sender := actor.UnwrapEnvelope(message)
	envelope, err := encode(pid, header, body, sender)
	if err != nil {
		p.deadLetter(pid, message, err)
		return
	}
	lane, err := p.laneFor(sender)
	if err != nil {
		p.deadLetter(pid, message, err)
		return
	}
	p.remote.sys.Root.Send(lane, envelope)
}

// laneFor returns the actor that sends to the peer, and notes who may be answered.
func (p *remotePeer) laneFor(sender *actor.PID) (*actor.PID, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if sender != nil && sender.GetId() != asksID {
		if len(p.repliers) >= maxRepliers {
			for id := range p.repliers {
				delete(p.repliers, id)
				break
			}
		}
		p.repliers[sender.GetId()] = struct{}{}
	}
	if p.lane == nil {
		pid, err := p.remote.sys.SpawnSupervised(laneProps(p), "lane-"+p.peer, Permanent())
		if err != nil {
			return nil, err
		}
		p.lane = pid
	}
	return p.lane, nil
}

// SendSystemMessage implements actor.Process. Watching across the network is not
// possible: the watcher is told that the address can not be reached.
func (p *remotePeer) SendSystemMessage(pid *actor.PID, message any) {
	if watch, ok := message.(*actor.Watch); ok {
		if process, ok := p.remote.sys.ActorSystem().ProcessRegistry.GetLocal(watch.GetWatcher().GetId()); ok {
			process.SendSystemMessage(watch.GetWatcher(), &actor.Terminated{Who: pid, Why: actor.TerminatedReason_AddressTerminated})
		}
		return
	}
	p.deadLetter(pid, message, fmt.Errorf("%T does not cross the network", message))
}

// Stop implements actor.Process. Actors of another client can not be stopped.
func (p *remotePeer) Stop(pid *actor.PID) {
	p.deadLetter(pid, &actor.Stop{}, fmt.Errorf("an actor of another client can not be stopped"))
}

func (p *remotePeer) deadLetter(pid *actor.PID, message any, why error) {
	p.remote.sys.Logger().Warn("message to a peer is a dead letter", "peer", p.peer, "actor", pid.GetId(),
		"message", fmt.Sprintf("%T", message), "err", why)
	p.remote.sys.ActorSystem().DeadLetter.SendUserMessage(pid, message)
}

// encode makes an envelope of a message.
func encode(pid *actor.PID, header actor.ReadonlyMessageHeader, body any, sender *actor.PID) (*conecv1.Envelope, error) {
	message, ok := body.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("%T is no protobuf message", body)
	}
	if err := mayCross(proto.MessageName(message)); err != nil {
		return nil, err
	}
	payload, err := proto.Marshal(message)
	if err != nil {
		return nil, err
	}
	envelope := &conecv1.Envelope{
		Target: pid.GetId(), TargetRequest: pid.GetRequestId(),
		Sender: sender.GetId(), SenderRequest: sender.GetRequestId(),
		Type: string(proto.MessageName(message)), Payload: payload,
	}
	if header != nil && header.Length() > 0 {
		envelope.Headers = header.ToMap()
	}
	return envelope, nil
}

// runtimePrefix begins the names of proto.actor's own messages: to stop, watch and so on.
const runtimePrefix = "actor."

// mayCross keeps the runtime's own messages inside their process: what a peer may
// not do to an actor, it may not do by a message of that type either. Only word
// that a message reached nobody passes.
func mayCross(name protoreflect.FullName) error {
	if strings.HasPrefix(string(name), runtimePrefix) && name != proto.MessageName(&actor.DeadLetterResponse{}) {
		return fmt.Errorf("%w: %s does not cross the network", messages.ErrRefused, name)
	}
	return nil
}

// Serve delivers what a peer sends on a stream, until the stream or ctx ends. It
// blocks: call it in a pump.
func (r *Remote) Serve(ctx context.Context, peer string, stream Stream) {
	defer stream.Close()
	for {
		raw, err := stream.Receive(ctx)
		if err != nil {
			return
		}
		envelope := &conecv1.Envelope{}
		if err := proto.Unmarshal(raw, envelope); err != nil {
			r.sys.Logger().Warn("peer sent what is no actor message", "peer", peer, "err", err)
			return
		}
		if err := r.deliver(peer, envelope); err != nil {
			r.sys.Logger().Warn("actor message from a peer refused", "peer", peer, "actor", envelope.GetTarget(), "err", err)
			r.refuse(peer, envelope)
		}
	}
}

// deliver gives a message to the local actor that it is for.
func (r *Remote) deliver(peer string, envelope *conecv1.Envelope) error {
	target, err := r.target(peer, envelope)
	if err != nil {
		return err
	}
	if err := mayCross(protoreflect.FullName(envelope.GetType())); err != nil {
		return err
	}
	kind, err := protoregistry.GlobalTypes.FindMessageByName(protoreflect.FullName(envelope.GetType()))
	if err != nil {
		return fmt.Errorf("message type %q: %w", envelope.GetType(), err)
	}
	message := kind.New().Interface()
	if err := proto.Unmarshal(envelope.GetPayload(), message); err != nil {
		return err
	}
	wrapped := &actor.MessageEnvelope{Message: message, Header: envelope.GetHeaders()}
	if envelope.GetSender() != "" { // the address is the peer's, whatever it says
		wrapped.Sender = &actor.PID{Address: addressPrefix + peer, Id: envelope.GetSender(), RequestId: envelope.GetSenderRequest()}
	}
	r.sys.Root.Send(target, wrapped)
	return nil
}

// target decides what a peer may reach: what is exported, and who waits for its
// answer.
func (r *Remote) target(peer string, envelope *conecv1.Envelope) (*actor.PID, error) {
	id := envelope.GetTarget()
	r.mu.Lock()
	exported := r.exports[id]
	r.mu.Unlock()
	if exported != nil {
		return exported, nil
	}
	if id == asksID {
		if !r.sys.asks.expects(envelope.GetTargetRequest(), addressPrefix+peer) {
			return nil, messages.ErrNoSuchActor
		}
		return &actor.PID{Address: r.sys.Address(), Id: id, RequestId: envelope.GetTargetRequest()}, nil
	}
	r.mu.Lock()
	p := r.peers[peer]
	r.mu.Unlock()
	if p == nil {
		return nil, messages.ErrNoSuchActor
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, waits := p.repliers[id]; waits {
		return actor.NewPID(r.sys.Address(), id), nil
	}
	return nil, messages.ErrNoSuchActor
}

// refuse tells the sender of a message, if it waits for an answer, that it
// reached nobody.
func (r *Remote) refuse(peer string, envelope *conecv1.Envelope) {
	if envelope.GetSender() == "" || envelope.GetType() == string(proto.MessageName(&actor.DeadLetterResponse{})) {
		return
	}
	sender := &actor.PID{Address: addressPrefix + peer, Id: envelope.GetSender(), RequestId: envelope.GetSenderRequest()}
	r.sys.Root.Send(sender, &actor.DeadLetterResponse{Target: actor.NewPID(r.sys.Address(), envelope.GetTarget())})
}
