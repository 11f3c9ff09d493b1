package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
)

const (
	maxCopies   = 16              // at the same time
	tellTimeout = 5 * time.Second // to tell a peer how it ended
)

// desk receives copies into a folder. Each copy has a goroutine, and holds its target until it has ended.
type desk struct {
	root *os.Root
	peer string // who may copy; empty is everybody
	std  streams
	busy chan struct{} // one for each copy

	mu     sync.Mutex
	copies map[*receiving]struct{} // that have their target
}

func newDesk(root *os.Root, peer string, std streams) *desk {
	return &desk{root: root, peer: peer, std: std, busy: make(chan struct{}, maxCopies), copies: map[*receiving]struct{}{}}
}

// admit lets only copies in, and only those of the peer that is wanted.
func (d *desk) admit(offer client.Offer) error {
	switch {
	case offer.Purpose != copyPurpose || !offer.Resumable:
		return errors.New("this is conec cp -accept")
	case d.peer != "" && d.peer != offer.Peer:
		return errors.New("copies are accepted of somebody else only")
	case len(d.busy) == maxCopies:
		return fmt.Errorf("%d copies go on", maxCopies)
	}
	return nil
}

// run receives copies until ctx ends, or once one has ended if that is asked for.
func (d *desk) run(ctx context.Context, cl *client.Client, once bool) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var copies sync.WaitGroup
	defer copies.Wait()
	ended := make(chan error, 1) // the result of the first one
	for {
		stream, err := cl.AcceptStream(ctx)
		if err != nil {
			select {
			case result := <-ended:
				if once {
					return result
				}
			default:
			}
			return err
		}
		select {
		case d.busy <- struct{}{}:
		default: // more than one was admitted at once
			stream.Reset()
			continue
		}
		copies.Go(func() {
			err := d.receive(ctx, stream)
			<-d.busy
			if once {
				select {
				case ended <- err:
				default:
				}
				cancel(nil)
			}
		})
	}
}

// receive carries one copy to its end, and says how it went.
func (d *desk) receive(ctx context.Context, stream *client.Stream) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r := &receiving{desk: d, stream: stream, cancel: cancel, ended: make(chan struct{}), started: time.Now(), prefixes: map[uint64]prefix{}}
	err := r.run(ctx)
	r.closeFile()
	d.mu.Lock()
	delete(d.copies, r)
	d.mu.Unlock()
	close(r.ended) // the next may have the target
	if err == nil {
		fmt.Fprintf(d.std.out, "%s: %q: %s, %s in %.1f s\n", stream.Peer(), r.list.target, filesText(r.files), bytesText(float64(r.bytes)), time.Since(r.started).Seconds())
		return nil
	}
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	fmt.Fprintf(d.std.err, "%s: %q: %v\n", stream.Peer(), printable(r.list.target), err)
	telling, stop := context.WithTimeout(context.WithoutCancel(ctx), tellTimeout)
	defer stop()
	if !errors.Is(err, messages.ErrReset) && r.tell(telling, &conecv1.CopyReport{Refused: toRefused(err)}) == nil {
		_ = stream.Confirm(telling) // or it does not get there
	}
	stream.Reset()
	return err
}

// claim gives a copy its target. Another copy that has it, or something in it, is in the way; but the same copy, made again, takes its
// place: its sender was started again.
func (d *desk) claim(ctx context.Context, r *receiving) error {
	for {
		other, same := d.tryClaim(r)
		if other == nil {
			return nil
		}
		if !same {
			return refusal(errBusy, "%q is being copied now", other.list.target)
		}
		other.cancel(refusal(errBusy, "the same copy was started again"))
		select {
		case <-other.ended:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (d *desk) tryClaim(r *receiving) (other *receiving, same bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for other := range d.copies {
		if overlap(other.list.target, r.list.target) {
			return other, other.sum == r.sum
		}
	}
	d.copies[r] = struct{}{}
	return nil, false
}

// overlap reports whether one path is the other, or in it. Case does not count: it may not at the receiver's disk.
func overlap(a, b string) bool {
	a, b = strings.ToLower(a)+"/", strings.ToLower(b)+"/"
	return strings.HasPrefix(a, b) || strings.HasPrefix(b, a)
}

// receiving is one copy that is received. Owned by its goroutine, but for what the desk needs: cancel, ended, and list and sum from
// its claim on.
type receiving struct {
	desk    *desk
	stream  *client.Stream
	cancel  context.CancelCauseFunc
	ended   chan struct{}
	started time.Time

	list     listing
	sum      [sha256.Size]byte
	steps    []step
	prefixes map[uint64]prefix // partial files, by entry
	current  *incomingFile
	next     uint64 // the entries before have been received, or will not be
	files    int    // in their place
	bytes    int64  // received
}

// run takes the plan, says what is there, takes the parts, and says that it is done.
func (r *receiving) run(ctx context.Context) error {
	for !r.list.last {
		order, err := r.order(ctx)
		if err != nil {
			return err
		}
		if order.GetPlan() == nil {
			return fmt.Errorf("%w: a part before the end of the plan", messages.ErrProtocol)
		}
		if err := r.list.add(order.GetPlan()); err != nil {
			return err
		}
	}
	r.sum = r.list.sum()
	if err := r.desk.claim(ctx, r); err != nil {
		return err
	}
	if err := r.prepare(ctx); err != nil {
		return err
	}
	for {
		order, err := r.order(ctx)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if order.GetPart() == nil {
			return fmt.Errorf("%w: a plan after the last", messages.ErrProtocol)
		}
		if err := r.part(order.GetPart()); err != nil {
			return err
		}
	}
	if err := r.finish(); err != nil {
		return err
	}
	if err := r.tell(ctx, &conecv1.CopyReport{Done: &conecv1.CopyDone{Files: uint64(r.files)}}); err != nil {
		return err
	}
	r.stream.CloseSend()
	telling, stop := context.WithTimeout(ctx, tellTimeout)
	defer stop()
	_ = r.stream.Confirm(telling) // the files are there, whether the peer hears of it or not
	return nil
}

func (r *receiving) order(ctx context.Context) (*conecv1.CopyOrder, error) {
	message, err := r.stream.Receive(ctx)
	if err != nil {
		return nil, err
	}
	order := &conecv1.CopyOrder{}
	if err := proto.Unmarshal(message, order); err != nil {
		return nil, fmt.Errorf("%w: %w", messages.ErrProtocol, err)
	}
	return order, nil
}

func (r *receiving) tell(ctx context.Context, report *conecv1.CopyReport) error {
	message, err := proto.Marshal(report)
	if err != nil {
		return err
	}
	return r.stream.Send(ctx, message)
}
