package client

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/conec-go/conec/actors"
	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
)

// cutTimeout is more than an actor takes to end a connection, which waits for
// nobody.
const cutTimeout = time.Second

// Close ends the client in order: its actors are stopped, what they sent is in
// mailboxes of the peers, what was sent on its channels is read by the peers, the name
// is given back, and everything that the client started has
// ended when Close returns. If ctx ends before, the rest is cut off and ctx's
// error returned. Later calls return the result of the first.
func (cl *Client) Close(ctx context.Context) error {
	return cl.end(func() error {
		kept := errors.Join(cl.remote.Close(ctx), cl.resumptions.drain(ctx), cl.leaveGroups(ctx))
		list, err := actors.Ask[*channelList](ctx, cl.sys, cl.pid, listChannels{})
		if err != nil {
			return errors.Join(err, kept)
		}
		errs := make([]error, len(list.pids))
		var all sync.WaitGroup
		for i, pid := range list.pids {
			all.Go(func() {
				result, err := actors.Ask[*actors.ChannelResult](ctx, cl.sys, pid, actors.DrainChannel{})
				switch {
				case err == nil && !result.Remote:
					errs[i] = result.Err
				case ctx.Err() != nil:
					errs[i] = ctx.Err()
				}
			})
		}
		all.Wait()
		if ctx.Err() != nil {
			cl.cut()
		}
		return errors.Join(append(errs, kept)...)
	})
}

// leaveGroups leaves all groups in order.
func (cl *Client) leaveGroups(ctx context.Context) error {
	list, err := actors.Ask[*groupList](ctx, cl.sys, cl.pid, listGroups{})
	if err != nil {
		return err
	}
	errs := make([]error, len(list.pids))
	var all sync.WaitGroup
	for i, pid := range list.pids {
		all.Go(func() {
			if _, err := actors.Ask[*joinResult](ctx, cl.sys, pid, leaveGroup{}); ctx.Err() != nil {
				errs[i] = err
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// Abort ends the client at once: what was sent and has not arrived is lost.
func (cl *Client) Abort() {
	_ = cl.end(func() error { cl.cut(); return nil }) // nothing was promised
}

// cut ends all channels at once. It waits until the peers have been told, for
// which nothing has to come back from them: over the relay that is possible only
// while the client is attached.
func (cl *Client) cut() {
	cl.cutting.Store(true) // no new ones, which nobody would end
	ctx, cancel := context.WithTimeout(context.Background(), cutTimeout)
	defer cancel()
	list, err := actors.Ask[*channelList](ctx, cl.sys, cl.pid, listChannels{})
	if err != nil {
		return
	}
	code, reason := messages.ToCode(messages.ErrReset)
	for _, pid := range list.pids {
		cl.sys.Root.Send(pid, &conecv1.AbortChannel{Code: code, Reason: reason})
	}
	for _, pid := range list.pids {
		_, _ = actors.Ask[*actors.ChannelResult](ctx, cl.sys, pid, actors.DrainChannel{}) // answered when it has ended, however
	}
}

// end ends the client once, after drain.
func (cl *Client) end(drain func() error) error {
	cl.closeOnce.Do(func() {
		close(cl.closed)
		cl.incoming.end(messages.ErrClosed)
		err := drain()
		cl.life.End()
		if cl.monitor != nil {
			cl.monitor.Close()
		}
		cl.resumptions.end(messages.ErrClosed)
		// Nothing from here on waits for the network, but to give a port at the gateway back, for up to half a second.
		err = errors.Join(err, cl.sys.Close(context.Background()))
		cl.events.end()
		cl.closeErr = errors.Join(err, cl.transport.Close())
	})
	return cl.closeErr
}
