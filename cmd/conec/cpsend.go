package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
)

const (
	copyPiece    = 256 << 10 // bytes of a part
	planEntries  = 500       // in a message
	answerStates = 500       // in a message
)

// sending copies files to a peer. Its goroutines: run, which sends, and hear, which reads what the peer says.
type sending struct {
	stream   *client.Stream
	list     *fileList
	flags    *copyFlags
	screen   *console
	progress *copyProgress

	states map[uint64]*conecv1.CopyState // hear's until ready is closed
	ready  chan struct{}
	done   *conecv1.CopyDone // hear's until it has ended
}

func newSending(stream *client.Stream, list *fileList, flags *copyFlags, screen *console) *sending {
	return &sending{
		stream: stream, list: list, flags: flags, screen: screen, progress: newCopyProgress(stream, list),
		states: map[uint64]*conecv1.CopyState{}, ready: make(chan struct{}),
	}
}

// run copies everything, and returns when the peer has said that it is there.
func (s *sending) run(ctx context.Context) error {
	sendCtx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	heard := make(chan struct{}) // closed when hear has returned why
	var why error
	go func() {
		defer close(heard)
		if why = s.hear(sendCtx); why != nil {
			cancel(why)
		}
	}()
	sent := s.send(sendCtx)
	if sent == nil {
		s.stream.CloseSend()
		<-heard
		return why
	}
	if errors.Is(sent, messages.ErrReset) || errors.Is(sent, messages.ErrInDoubt) || sendCtx.Err() != nil {
		// The peer has ended the stream: what it said before counts.
		select {
		case <-heard:
			if why != nil && ctx.Err() == nil {
				return why
			}
		case <-time.After(abortTimeout):
		}
	}
	cancel(sent)
	<-heard
	return sent
}

// hear takes what the peer says until it is done. It returns why the copy can not go on.
func (s *sending) hear(ctx context.Context) error {
	isReady := false
	for {
		message, err := s.stream.Receive(ctx)
		if errors.Is(err, io.EOF) {
			err = fmt.Errorf("copy to %q: %w", s.flags.peer, io.ErrUnexpectedEOF)
		}
		if err != nil {
			return err
		}
		report := &conecv1.CopyReport{}
		if err := proto.Unmarshal(message, report); err != nil {
			return fmt.Errorf("copy to %q: %w: %w", s.flags.peer, messages.ErrProtocol, err)
		}
		switch {
		case report.GetRefused() != nil:
			return &messages.OpError{Op: "copy", Peer: s.flags.peer, Remote: true, Err: fromRefused(report.GetRefused())}
		case report.GetDone() != nil:
			s.done = report.GetDone()
			return nil
		case isReady:
			return fmt.Errorf("copy to %q: %w: states after the last", s.flags.peer, messages.ErrProtocol)
		}
		for _, state := range report.GetStates() {
			s.states[state.GetNumber()] = state
		}
		if isReady = report.GetReady(); isReady {
			close(s.ready)
		}
	}
}

func (s *sending) send(ctx context.Context) error {
	if err := s.plan(ctx); err != nil {
		return err
	}
	s.progress.say("waiting for " + s.flags.peer + " to look what is there")
	select {
	case <-s.ready:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	for number, entry := range s.list.entries {
		if entry.GetFolder() {
			continue
		}
		s.progress.say(entry.GetPath())
		if err := s.file(ctx, uint64(number), entry); err != nil {
			return err
		}
	}
	s.progress.say("waiting for " + s.flags.peer + " to finish")
	return nil
}

// plan sends the list.
func (s *sending) plan(ctx context.Context) error {
	for first := 0; ; first += planEntries {
		end := min(first+planEntries, len(s.list.entries))
		plan := &conecv1.CopyPlan{Entries: s.list.entries[first:end], Last: end == len(s.list.entries)}
		if first == 0 {
			plan.Target, plan.Overwrite = s.flags.target, s.flags.overwrite
		}
		if err := s.tell(ctx, &conecv1.CopyOrder{Order: &conecv1.CopyOrder_Plan{Plan: plan}}, 0); err != nil || plan.GetLast() {
			return err
		}
	}
}

// tell sends a message that has so many bytes of files in it.
func (s *sending) tell(ctx context.Context, order *conecv1.CopyOrder, size int) error {
	message, err := proto.Marshal(order)
	if err != nil {
		return err
	}
	if err := s.stream.Send(ctx, message); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return err
	}
	s.progress.sent(size)
	return nil
}

// file sends what the peer does not have of a file.
func (s *sending) file(ctx context.Context, number uint64, entry *conecv1.CopyEntry) error {
	file, err := s.list.open(entry)
	if err != nil {
		return err
	}
	defer file.Close()
	sum := sha256.New()
	offset, err := s.compare(file, sum, entry, s.states[number])
	if err != nil || offset < 0 {
		return err
	}
	buffer := make([]byte, min(copyPiece, int64(entry.GetSize())-offset))
	for {
		n, err := io.ReadFull(file, buffer[:min(int64(len(buffer)), int64(entry.GetSize())-offset)])
		if err != nil {
			return fmt.Errorf("%q: %w", s.list.path(entry), err)
		}
		sum.Write(buffer[:n])
		part := &conecv1.CopyPart{Number: number, Offset: uint64(offset), Data: buffer[:n]}
		offset += int64(n)
		last := offset == int64(entry.GetSize())
		if last {
			if err := s.list.unchanged(entry, file); err != nil {
				return err
			}
			part.Sha256 = sum.Sum(nil)
		}
		if err := s.tell(ctx, &conecv1.CopyOrder{Order: &conecv1.CopyOrder_Part{Part: part}}, n); err != nil || last {
			return err
		}
		if err := s.pace(ctx); err != nil {
			return err
		}
	}
}

// compare reads what the peer says it has of a file, and returns where to go on: -1 if it has all. sum has everything before.
func (s *sending) compare(file *os.File, sum hash.Hash, entry *conecv1.CopyEntry, state *conecv1.CopyState) (int64, error) {
	if state == nil || state.GetSize() > entry.GetSize() {
		return 0, nil
	}
	size := int64(state.GetSize())
	if _, err := io.CopyN(sum, file, size); err != nil {
		return 0, fmt.Errorf("%q: %w", s.list.path(entry), err)
	}
	name := entry.GetPath()
	if name == "" {
		name = s.flags.target
	}
	offset := resumeAt(entry, state, sum.Sum(nil))
	switch {
	case offset < 0:
		s.progress.skip(size, true)
	case offset > 0:
		s.progress.skip(size, false)
		fmt.Fprintf(s.screen, "%s goes on after %s\n", name, bytesText(float64(size)))
	default:
		if !state.GetComplete() {
			fmt.Fprintf(s.screen, "%s starts again: the partial file has other content\n", name)
		}
		sum.Reset()
		_, err := file.Seek(0, io.SeekStart)
		return 0, err
	}
	return offset, nil
}

// resumeAt says from where on a file is to be sent, of which the peer has something, and we the same up to sum: -1 if nothing is.
func resumeAt(entry *conecv1.CopyEntry, state *conecv1.CopyState, sum []byte) int64 {
	switch {
	case state.GetSize() > entry.GetSize() || !bytes.Equal(sum, state.GetSha256()):
		return 0
	case state.GetComplete() && state.GetSize() == entry.GetSize():
		return -1
	}
	return int64(state.GetSize())
}

// pace waits as long as the limit asks for.
func (s *sending) pace(ctx context.Context) error {
	if s.flags.limit == 0 {
		return nil
	}
	timer := time.NewTimer(s.progress.ahead(s.flags.limit))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
