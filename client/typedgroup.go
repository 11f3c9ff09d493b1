package client

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/conec-go/conec/messages"
)

// TypedGroup is a [Group] of protobuf messages of one type M, or of any type if M is
// proto.Message: then each is sent as a google.protobuf.Any. All members have to use the
// same M.
type TypedGroup[M proto.Message] struct{ *Group }

// TypedMessage is a message of a [TypedGroup].
type TypedMessage[M proto.Message] struct {
	// From is the member that sent it; its name is authenticated.
	From Member
	// Message is the message.
	Message M
	// Missed is how many messages were missed since the one before.
	Missed uint64
}

// Typed makes a typed group of one that was joined.
func Typed[M proto.Message](g *Group) *TypedGroup[M] { return &TypedGroup[M]{g} }

// Send sends a message. It blocks like [Group.Send].
func (t *TypedGroup[M]) Send(ctx context.Context, message M) error {
	body, err := encodeTyped(message)
	if err != nil {
		return t.cl.groupError(ctx, "send to", t.name, err)
	}
	return t.Group.Send(ctx, body)
}

// Receive returns the next message. It blocks like [Group.Receive]. A message that is none
// of M is an error that matches [messages.ErrProtocol] and names who sent it; the group
// stays usable.
func (t *TypedGroup[M]) Receive(ctx context.Context) (TypedMessage[M], error) {
	raw, err := t.Group.Receive(ctx)
	if err != nil {
		return TypedMessage[M]{}, err
	}
	message, err := decodeTyped[M](raw.Data)
	if err != nil {
		err = t.malformed(raw.From, err)
	}
	return TypedMessage[M]{From: raw.From, Message: message, Missed: raw.Missed}, err
}

func (g *Group) malformed(from Member, err error) error {
	return &messages.OpError{
		Op: fmt.Sprintf("receive from group %q", g.name), Peer: from.Name, Remote: true,
		Err: fmt.Errorf("%w: %w", messages.ErrProtocol, err),
	}
}

func encodeTyped[M proto.Message](message M) ([]byte, error) {
	if _, wraps := any((*M)(nil)).(*proto.Message); !wraps {
		return proto.Marshal(message)
	}
	wrapped, err := anypb.New(message)
	if err != nil {
		return nil, err
	}
	return proto.Marshal(wrapped)
}

func decodeTyped[M proto.Message](body []byte) (message M, err error) {
	if _, wraps := any((*M)(nil)).(*proto.Message); !wraps {
		fresh := message.ProtoReflect().New().Interface()
		if err := proto.Unmarshal(body, fresh); err != nil {
			return message, err
		}
		return fresh.(M), nil //nolint:forcetypeassert // it was made of M
	}
	wrapped := &anypb.Any{}
	if err := proto.Unmarshal(body, wrapped); err != nil {
		return message, err
	}
	inner, err := wrapped.UnmarshalNew()
	if err != nil {
		return message, err
	}
	return inner.(M), nil //nolint:forcetypeassert // M is proto.Message
}
