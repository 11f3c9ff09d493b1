package client

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/conec-go/conec/actors"
	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
	"github.com/conec-go/conec/netio"
)

// Delivery is what a stream promises of its messages.
type Delivery int

// The modes of delivery.
const (
	// Ordered streams deliver every message, unless its deadline passes, in order.
	Ordered Delivery = iota
	// Unordered streams deliver every message, unless its deadline passes, as each
	// arrives: a loss holds up only what was lost.
	Unordered
	// Sequenced streams never deliver an older message after a newer one. Messages
	// may be lost, and have to fit into a datagram.
	Sequenced
	// Lossy streams deliver messages as they arrive, none twice. Messages may be
	// lost, and have to fit into a datagram.
	Lossy
)

// String returns "ordered", "unordered", "sequenced" or "lossy".
func (d Delivery) String() string {
	switch d {
	case Ordered:
		return "ordered"
	case Unordered:
		return "unordered"
	case Sequenced:
		return "sequenced"
	case Lossy:
		return "lossy"
	}
	return "delivery " + strconv.Itoa(int(d))
}

// Urgency says what goes first on a channel. Streams of the same urgency take
// turns.
type Urgency int

// The urgencies, the first first.
const (
	// Interactive is for small messages that somebody waits for.
	Interactive Urgency = iota
	// Bulk is for what may wait for all others.
	Bulk
)

// String returns "interactive" or "bulk".
func (u Urgency) String() string {
	switch u {
	case Interactive:
		return "interactive"
	case Bulk:
		return "bulk"
	}
	return "urgency " + strconv.Itoa(int(u))
}

// defaultCopyAfter is when the copy of a message is sent, unless options say it.
const defaultCopyAfter = 20 * time.Millisecond

// Limits of options, as on the wire.
const (
	maxDeadline  = 24 * time.Hour
	maxCopyAfter = 10 * time.Second
)

// Offer is a stream that a peer opens.
type Offer struct {
	// Peer is the authenticated name of the peer.
	Peer string
	// StreamOptions are what the peer wants. Accepting them is agreeing to them.
	StreamOptions
}

// terms returns what the options are on the wire, or everything that is wrong with
// them.
func (o *StreamOptions) terms() (*conecv1.OpenStream, error) {
	if err := checkPurpose(o.Purpose); err != nil {
		return nil, err
	}
	datagrams := o.Delivery == Sequenced || o.Delivery == Lossy
	var wrong string
	switch {
	case o.Delivery < Ordered || o.Delivery > Lossy:
		wrong = fmt.Sprintf("Delivery is %d", o.Delivery)
	case o.Urgency < Interactive || o.Urgency > Bulk:
		wrong = fmt.Sprintf("Urgency is %d", o.Urgency)
	case o.Resumable && o.Delivery != Ordered:
		wrong = fmt.Sprintf("Resumable is for ordered streams, Delivery is %v", o.Delivery)
	case o.Resumable && o.Deadline != 0:
		wrong = "Deadline is not for resumable streams"
	case o.Early && (o.Delivery != Ordered || o.Deadline != 0):
		wrong = fmt.Sprintf("Early is for ordered streams without a deadline, Delivery is %v and Deadline %v", o.Delivery, o.Deadline)
	case o.Deadline < 0 || o.Deadline > 0 && o.Deadline < time.Microsecond || o.Deadline > maxDeadline:
		wrong = fmt.Sprintf("Deadline is %v: want up to %v", o.Deadline, maxDeadline)
	case (o.Copies || o.CopyAfter != 0) && !datagrams:
		wrong = fmt.Sprintf("Copies are for sequenced and lossy streams, Delivery is %v", o.Delivery)
	case o.CopyAfter != 0 && !o.Copies:
		wrong = "CopyAfter is set, and Copies is not"
	case o.CopyAfter < 0 || o.CopyAfter > 0 && o.CopyAfter < time.Microsecond || o.CopyAfter > maxCopyAfter:
		wrong = fmt.Sprintf("CopyAfter is %v: want up to %v", o.CopyAfter, maxCopyAfter)
	}
	if wrong != "" {
		return nil, fmt.Errorf("stream options: %s", wrong)
	}
	open := &conecv1.OpenStream{Purpose: o.Purpose, OneWay: o.OneWay, Urgency: conecv1.Urgency(o.Urgency)}
	if o.Delivery != Ordered || o.Deadline != 0 {
		open.Delivery = &conecv1.Delivery{
			Mode: conecv1.DeliveryMode(o.Delivery), Deadline: uint64(o.Deadline / time.Microsecond),
		}
		if o.Copies {
			after := o.CopyAfter
			if after == 0 {
				after = defaultCopyAfter
			}
			open.Delivery.CopyAfter = uint64(after / time.Microsecond)
		}
	}
	return open, nil
}

// optionsOf is the reverse of terms.
func optionsOf(open *conecv1.OpenStream) StreamOptions {
	delivery := open.GetDelivery()
	return StreamOptions{
		Purpose: open.GetPurpose(), Resumable: open.GetResume() != nil, OneWay: open.GetOneWay(), Urgency: Urgency(open.GetUrgency()),
		Delivery: Delivery(delivery.GetMode()), Deadline: time.Duration(delivery.GetDeadline()) * time.Microsecond,
		Copies: delivery.GetCopyAfter() > 0, CopyAfter: time.Duration(delivery.GetCopyAfter()) * time.Microsecond,
	}
}

// admit asks the program about a stream that a peer opens, unless it is one that is only
// attached again; about one that carries actor messages, only who may.
func (cl *Client) admit(in actors.Incoming, to *streamQueue) error {
	if len(in.Resume.GetPeer()) > 0 {
		return nil
	}
	if err := cl.authorizeStream(in); err != nil || in.Purpose == actors.RemotePurpose {
		return err
	}
	offer := Offer{Peer: in.Peer, StreamOptions: optionsOf(in.Stream.Terms())}
	offer.Mode = Mode(in.Channel.Mode)
	for _, admit := range []func(Offer) error{cl.config.Admit, to.admit} {
		if admit == nil {
			continue
		}
		if err := admit(offer); err != nil {
			return fmt.Errorf("%w: %w", messages.ErrRefused, err)
		}
	}
	return nil
}

// Options returns what both sides agreed on when the stream opened. Mode is that
// of the channel.
func (s *Stream) Options() StreamOptions {
	options := optionsOf(s.terms)
	options.Resumable = s.resumable != nil
	options.Mode = Mode(s.channel.ref.Mode)
	return options
}

// Delivery returns what the stream promises of its messages.
func (s *Stream) Delivery() Delivery { return Delivery(s.terms.GetDelivery().GetMode()) }

// SendWithin is Send with a deadline for this message alone. The stream must have
// been opened with a Deadline ([messages.ErrNoDeadline] if not), which is the longest
// that there is.
func (s *Stream) SendWithin(ctx context.Context, message []byte, within time.Duration) error {
	err := messages.ErrNoDeadline
	if raw, ok := s.raw.(*netio.Stream); ok {
		err = raw.SendWithin(ctx, message, within)
	}
	if err != nil {
		return s.opError("send", err)
	}
	return nil
}

// TrySend is Send if there is space for the message at once; else it returns an
// error that matches [messages.ErrWouldBlock], and nothing is sent.
func (s *Stream) TrySend(message []byte) error {
	if err := s.raw.TrySend(message); err != nil {
		return s.opError("send", err)
	}
	return nil
}

// TryReceive is Receive if there is a message, or the end, at once; else it returns
// an error that matches [messages.ErrWouldBlock].
func (s *Stream) TryReceive() ([]byte, error) {
	message, err := s.raw.TryReceive()
	return message, s.receiveError(err)
}

// ResetWith is Reset with a code of the program's: the peer's calls fail with
// [*messages.ResetError], which has it.
func (s *Stream) ResetWith(code uint16) { s.raw.Reset(&messages.ResetError{Code: code}) }

// StreamStats count the messages of a stream; see [netio.DeliveryStats].
type StreamStats = netio.DeliveryStats

// Stats returns how many messages the stream has carried so far. They stay after
// its end.
func (s *Stream) Stats() StreamStats { return s.raw.Stats() }
