package client

import (
	"context"
	"errors"

	"github.com/conec-go/conec/actors"
	"github.com/conec-go/conec/messages"
)

// remoteError carries that the other side decided.
type remoteError struct{ error }

// Unwrap returns the error itself.
func (r remoteError) Unwrap() error { return r.error }

func asRemote(err error, remote bool) error {
	if err != nil && remote {
		return remoteError{err}
	}
	return err
}

// opError says what was being done, and whose decision it was that it failed.
func (cl *Client) opError(ctx context.Context, op, peer string, err error) error {
	var remote remoteError
	switch {
	case errors.As(err, &remote):
		err = remote.error
	case ctx.Err() != nil:
		err = ctx.Err()
	case cl.isClosed():
		err = messages.ErrClosed
	case errors.Is(err, actors.ErrDeadLetter): // its actor stopped in between
		err = messages.ErrClosed
	}
	return &messages.OpError{Op: op, Peer: peer, Remote: remote.error != nil, Err: err}
}
