package actors

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/asynkron/protoactor-go/actor"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/conec-go/conec/messages"
)

// Codec turns messages that are no protobuf messages into bytes, and back at the
// peer, which must have one of the same name ([RemoteConfig]). Its methods are
// called by several goroutines. PIDs in such messages are sent as they are: of use at
// the receiver are only those that [Remote.PID] returns. [JSON] is one.
type Codec interface {
	// Name tells the codecs of a system apart: a few letters, without a colon.
	Name() string
	// Encode returns the name of the message's type and its bytes appended to b, or
	// false if the message is none of this codec's.
	Encode(b []byte, message any) (typ string, body []byte, ok bool, err error)
	// Decode returns a message of a type. It must not keep body.
	Decode(typ string, body []byte) (message any, err error)
}

// ownBytes is the size from which on a []byte that came is not copied: it is most of the
// memory that it came in.
const ownBytes = 16 << 10

// Sizes in bytes of what small []byte messages are copied into together, and of the largest of these. A message that is kept
// keeps its neighbors.
const (
	slabBytes = 1 << 10
	slabShare = 128
)

// slab is memory for []byte messages, which small ones share. Its zero value is ready.
type slab struct {
	keeps bool // what a message came in may be kept
	free  []byte
}

// own returns b for a message that may be kept: a copy, unless it is large and may be kept as it is.
func (s *slab) own(b []byte) []byte {
	switch {
	case s.keeps && len(b) >= ownBytes:
		return b
	case len(b) > slabShare:
		return slices.Clone(b)
	}
	if len(s.free) < len(b) {
		s.free = make([]byte, slabBytes)
	}
	own := s.free[:len(b):len(b)]
	s.free = s.free[len(b):]
	copy(own, b)
	return own
}

// noHost is the address that proto.actor takes for its own in any process.
const noHost = "nonhost"

// bytesType is the type of messages that are a []byte.
const bytesType = "bytes:"

// runtimePrefix begins the names of proto.actor's own messages: to stop, watch and so on.
const runtimePrefix = "actor."

// crossing are those of them that cross the network: a PID as a message, word that a
// message reached nobody, and the question whether an actor is there.
var crossing = map[protoreflect.FullName]bool{
	proto.MessageName(&actor.PID{}):                true,
	proto.MessageName(&actor.DeadLetterResponse{}): true,
	proto.MessageName(&actor.Touch{}):              true,
	proto.MessageName(&actor.Touched{}):            true,
}

// mayCross keeps the runtime's own messages inside their process: what a peer may
// not do to an actor, it may not do by a message of that type either.
func mayCross(name protoreflect.FullName) error {
	if strings.HasPrefix(string(name), runtimePrefix) && !crossing[name] {
		return fmt.Errorf("%w: %s does not cross the network", messages.ErrRefused, name)
	}
	return nil
}

// codecs encodes and decodes messages. Protobuf messages and []byte need no Codec.
type codecs struct {
	local  string  // address of the system
	passes *passes // for the PIDs in protobuf messages
	list   []Codec
	byName map[string]Codec
	types  sync.Map // of protobuf messages: protoreflect.FullName → *protoType
}

// protoType is what is known of a protobuf type.
type protoType struct {
	name string
	make protoreflect.MessageType
	err  error // why it does not cross the network
	pids bool  // a message may have PIDs in it
}

func newCodecs(local string, passes *passes, list []Codec) *codecs {
	c := &codecs{local: local, passes: passes, list: list, byName: map[string]Codec{}}
	for _, codec := range list {
		c.byName[codec.Name()] = codec
	}
	return c
}

// typeOf returns what is known of the type of a protobuf message.
func (c *codecs) typeOf(descriptor protoreflect.MessageDescriptor, made protoreflect.MessageType) *protoType {
	if known, ok := c.types.Load(descriptor.FullName()); ok {
		return known.(*protoType) //nolint:forcetypeassert // nothing else is stored
	}
	t := &protoType{name: string(descriptor.FullName()), make: made, pids: hasPIDs(descriptor)}
	t.err = mayCross(descriptor.FullName())
	known, _ := c.types.LoadOrStore(descriptor.FullName(), t)
	return known.(*protoType) //nolint:forcetypeassert // nothing else is stored
}

// encode appends the bytes of a message to b, and returns the name of its type. The
// PIDs in it get passes, so that the peer, and whom it gives them to, can use them. A
// message that panics when it is encoded is an error.
func (c *codecs) encode(b []byte, message any) (typ string, body []byte, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("encode %T: %w", message, faultOf(r))
		}
	}()
	switch message := message.(type) {
	case proto.Message:
		reflected := message.ProtoReflect()
		t := c.typeOf(reflected.Descriptor(), reflected.Type())
		if t.err != nil {
			return "", nil, t.err
		}
		if t.pids && len(c.ours(reflected)) > 0 {
			message = proto.Clone(message) // others may have it
			for _, pid := range c.ours(message.ProtoReflect()) {
				c.passes.away(pid)
			}
		}
		b = bodies.grow(b, proto.Size(message))
		body, err = proto.MarshalOptions{UseCachedSize: true}.MarshalAppend(b, message)
		return t.name, body, err
	case []byte:
		return bytesType, append(bodies.grow(b, len(message)), message...), nil
	}
	for _, codec := range c.list {
		typ, body, ok, err := codec.Encode(b, message)
		if ok || err != nil {
			return codec.Name() + ":" + typ, body, err
		}
	}
	return "", nil, fmt.Errorf("%T is no protobuf message, and no codec knows it", message)
}

// decode makes a message of a type and bytes that came from a peer, which nobody else has.
func (c *codecs) decode(typ string, body []byte, memory *slab) (message any, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("decode %q: %w", typ, faultOf(r))
		}
	}()
	if typ == bytesType {
		return memory.own(body), nil
	}
	if name, rest, ok := strings.Cut(typ, ":"); ok {
		codec := c.byName[name]
		if codec == nil {
			return nil, fmt.Errorf("%w: no codec %q", messages.ErrRefused, name)
		}
		return codec.Decode(rest, body)
	}
	t, err := c.find(protoreflect.FullName(typ))
	if err != nil {
		return nil, err
	}
	made := t.make.New().Interface()
	if err = proto.Unmarshal(body, made); err == nil && t.pids {
		for _, pid := range c.ours(made.ProtoReflect()) {
			if !c.passes.home(pid) {
				return nil, fmt.Errorf("%w: PID of an actor here that was not given away", messages.ErrRefused)
			}
		}
	}
	return made, err
}

// ours returns the PIDs in a message that are of this system.
func (c *codecs) ours(message protoreflect.Message) []*actor.PID {
	return slices.DeleteFunc(appendPIDs(nil, message), func(pid *actor.PID) bool {
		return pid.GetAddress() != c.local && pid.GetAddress() != noHost
	})
}

// find returns a protobuf type by the name that a peer says.
func (c *codecs) find(name protoreflect.FullName) (*protoType, error) {
	if known, ok := c.types.Load(name); ok {
		t := known.(*protoType) //nolint:forcetypeassert // nothing else is stored
		return t, t.err
	}
	if err := mayCross(name); err != nil {
		return nil, err
	}
	found, err := protoregistry.GlobalTypes.FindMessageByName(name)
	if err != nil {
		return nil, fmt.Errorf("%w: message type %q is not known", messages.ErrRefused, name)
	}
	return c.typeOf(found.Descriptor(), found), nil
}

// pidName is the type of PIDs in messages.
var pidName = proto.MessageName(&actor.PID{})

// hasPIDs reports whether a message of this type may have PIDs in it.
func hasPIDs(descriptor protoreflect.MessageDescriptor) bool {
	seen := map[protoreflect.FullName]bool{}
	var look func(d protoreflect.MessageDescriptor) bool
	look = func(d protoreflect.MessageDescriptor) bool {
		if d.FullName() == pidName {
			return true
		}
		if seen[d.FullName()] {
			return false
		}
		seen[d.FullName()] = true
		for i := range d.Fields().Len() {
			if message := d.Fields().Get(i).Message(); message != nil && look(message) {
				return true
			}
		}
		return false
	}
	return look(descriptor)
}

// appendPIDs appends the PIDs in a message.
func appendPIDs(pids []*actor.PID, message protoreflect.Message) []*actor.PID {
	if pid, ok := message.Interface().(*actor.PID); ok {
		return append(pids, pid)
	}
	message.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch {
		case field.IsMap():
			if field.MapValue().Message() != nil {
				value.Map().Range(func(_ protoreflect.MapKey, value protoreflect.Value) bool {
					pids = appendPIDs(pids, value.Message())
					return true
				})
			}
		case field.Message() == nil:
		case field.IsList():
			for i := range value.List().Len() {
				pids = appendPIDs(pids, value.List().Get(i).Message())
			}
		default:
			pids = appendPIDs(pids, value.Message())
		}
		return true
	})
	return pids
}

// jsonCodec is [JSON].
type jsonCodec struct {
	names map[reflect.Type]string
	types map[string]reflect.Type
}

// JSON returns a [Codec] for messages of the types of these values, which are sent as
// JSON (encoding/json) under the names of their types, without packages. Of a struct
// or a pointer to one, the pointer is what arrives. Two types of one name are an error.
func JSON(examples ...any) (Codec, error) {
	c := &jsonCodec{names: map[reflect.Type]string{}, types: map[string]reflect.Type{}}
	for _, example := range examples {
		t := reflect.TypeOf(example)
		if t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		if _, taken := c.types[t.Name()]; taken || t.Name() == "" {
			return nil, fmt.Errorf("JSON codec: %v: every type needs a name of its own", t)
		}
		c.names[t], c.names[reflect.PointerTo(t)] = t.Name(), t.Name()
		c.types[t.Name()] = t
	}
	return c, nil
}

func (c *jsonCodec) Name() string { return "json" }

func (c *jsonCodec) Encode(b []byte, message any) (typ string, body []byte, ok bool, err error) {
	typ, ok = c.names[reflect.TypeOf(message)]
	if !ok {
		return "", nil, false, nil
	}
	text, err := json.Marshal(message)
	return typ, append(b, text...), true, err
}

func (c *jsonCodec) Decode(typ string, body []byte) (any, error) {
	t, ok := c.types[typ]
	if !ok {
		return nil, fmt.Errorf("%w: JSON type %q is not known", messages.ErrRefused, typ)
	}
	made := reflect.New(t)
	if err := json.Unmarshal(body, made.Interface()); err != nil {
		return nil, err
	}
	if t.Kind() != reflect.Struct {
		made = made.Elem()
	}
	return made.Interface(), nil
}
