package client

import (
	"context"
	"fmt"

	"github.com/conec-go/conec/messages"
)

// Listener takes the streams that peers open with one purpose.
type Listener struct {
	cl      *Client
	purpose string
	queue   *streamQueue
}

// ListenOptions say what a [Listener] takes. A nil *ListenOptions and zero fields
// mean the defaults.
type ListenOptions struct {
	// Admit decides about each stream, after Config.Admit: an error refuses it, with
	// its text as the reason. It is called by several goroutines; while it blocks, the
	// opener waits. If nil, all are admitted.
	Admit func(Offer) error
	// Backlog is how many streams may wait for Accept; more are refused with
	// [messages.ErrBusy]. If zero, that of the client's Config.
	Backlog int
}

// Listen takes the streams that peers open with a purpose from now on: AcceptStream
// of the client and of its channels does not return them. There may be one listener
// for a purpose at a time.
func (cl *Client) Listen(purpose string, options *ListenOptions) (*Listener, error) {
	if options == nil {
		options = &ListenOptions{}
	}
	l := &Listener{cl, purpose, &streamQueue{backlog: options.Backlog, admit: options.Admit}}
	if l.queue.backlog == 0 {
		l.queue.backlog = cl.config.Backlog
	}
	err := checkPurpose(purpose)
	switch {
	case err != nil:
	case options.Backlog < 0:
		err = fmt.Errorf("listen options: Backlog is %d: want 0 for the default, or more", options.Backlog)
	default:
		err = cl.incoming.listen(purpose, l.queue)
	}
	if err != nil {
		return nil, cl.opError(context.Background(), "listen", "", err)
	}
	return l, nil
}

// Accept returns the next stream. It blocks until there is one, ctx ends, or the
// listener or the client is closed.
func (l *Listener) Accept(ctx context.Context) (*Stream, error) {
	return l.cl.acceptStream(ctx, l.queue, nil)
}

// Close ends the listener: streams that were not accepted are reset, and who opens
// one with this purpose later gets what AcceptStream gives. It does not block.
func (l *Listener) Close() {
	for _, in := range l.cl.incoming.unlisten(l.purpose, l.queue) {
		l.cl.incomingStream(in).raw.Reset(fmt.Errorf("%w: nobody listens any more", messages.ErrRefused))
	}
}

// incomingStream is a stream that a peer opened, for the program.
func (cl *Client) incomingStream(in arrival) *Stream {
	ref := &channelRef{in.Channel, in.Channel.PID()}
	stream := &Stream{raw: in.Stream, resumable: in.resumable, peer: in.Peer, terms: in.Stream.Terms(), channel: &Channel{cl: cl, ref: ref}}
	if in.resumable != nil {
		stream.raw = in.resumable
	}
	return stream
}
