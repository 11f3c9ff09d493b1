package client

import (
	"context"
	"slices"

	"github.com/conec-go/conec/messages"
	"github.com/conec-go/conec/netio"
)

// The part of a membership that is about what the program sends.

// unconfirmedBytes is how much of what a member sends may wait for the coordinator to
// confirm it.
const unconfirmedBytes = 1 << 20

// eachUnconfirmed is what a message counts for beside its bytes.
const eachUnconfirmed = 64

// outgoing is what waits to be sent, or to be confirmed.
type outgoing struct {
	body    []byte
	size    int  // that it counts for: of the program's message
	control bool // it is about keys
	sealed  bool // it is encrypted: once, so that it is the same when it is sent again
}

// send queues a message.
func (m *membership) send(ctx context.Context, message []byte) error {
	m.mu.Lock()
	size := len(message) + eachUnconfirmed
	for m.err == nil && !m.leaving && len(message) <= m.maxMessage && m.bytes > 0 && m.bytes+size > unconfirmedBytes {
		space := m.space
		m.mu.Unlock()
		select {
		case <-space:
		case <-ctx.Done():
			return ctx.Err()
		}
		m.mu.Lock()
	}
	defer m.mu.Unlock()
	switch {
	case m.err != nil:
		return m.doubt()
	case m.leaving:
		return messages.ErrClosed
	case len(message) > m.maxMessage:
		return &messages.SizeError{Size: len(message), Limit: m.maxMessage}
	}
	m.queue = append(m.queue, outgoing{body: slices.Clone(message), size: size})
	m.texts++
	m.bytes += size
	signal(m.wake)
	return nil
}

// doubt returns why the membership is over, and what of it may be lost. Called with mu
// held.
func (m *membership) doubt() error {
	if m.texts == 0 {
		return m.err
	}
	return &messages.DoubtError{Confirmed: m.first - m.controls, InDoubt: uint64(m.texts), Err: m.err}
}

// confirm waits until nothing is unconfirmed.
func (m *membership) confirm(ctx context.Context) error {
	for {
		m.mu.Lock()
		done, err, space := m.texts == 0, m.err, m.space
		if !done && err != nil {
			err = m.doubt()
		}
		m.mu.Unlock()
		switch {
		case done:
			return nil
		case err != nil:
			return err
		}
		select {
		case <-space:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// confirmed hears that the coordinator has so many messages of the stream.
func (m *membership) confirmed(count uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forget(m.began + count)
}

// forget drops messages up to a number. Called with mu held.
func (m *membership) forget(until uint64) {
	n := 0
	for n < len(m.queue) && m.first < until {
		if m.bytes -= m.queue[n].size; m.queue[n].control {
			m.controls++
		} else {
			m.texts--
		}
		m.queue[n] = outgoing{}
		m.first++
		n++
	}
	if n == 0 {
		return
	}
	m.queue = m.queue[n:]
	m.given = max(m.given-n, 0)
	close(m.space)
	m.space = make(chan struct{})
}

// give sends what is queued on a stream until that ends, or ctx does, or the membership was
// left and everything was sent: then it ends sending and waits for the other side's end.
func (m *membership) give(ctx context.Context, stream *netio.Stream) {
	for {
		m.mu.Lock()
		message, some, err := m.take()
		leaving := m.leaving
		m.mu.Unlock()
		switch {
		case err != nil:
			stream.Reset(err)
		case some:
			if stream.Send(ctx, message) == nil {
				continue
			}
		case leaving:
			stream.CloseSend()
		default:
			select {
			case <-m.wake:
				continue
			case <-stream.Ended():
			case <-stream.ReceiveEnded(): // it failed, or the group has ended it
			case <-ctx.Done():
			}
			return
		}
		select {
		case <-stream.ReceiveEnded():
		case <-ctx.Done():
		}
		return
	}
}

// take returns what is to be sent next, if there is something. Called with mu held.
func (m *membership) take() (message []byte, some bool, err error) {
	if m.sealed != nil {
		if err := m.takeSealed(); err != nil {
			return nil, false, err
		}
	}
	if m.given == len(m.queue) {
		return nil, false, nil
	}
	m.given++
	return m.queue[m.given-1].body, true, nil
}
