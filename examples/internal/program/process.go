package program

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
)

// errEnded ends the wait for a line that will not come.
var errEnded = errors.New("the program has ended")

// Process is a program that runs beside others in this process, by the same arguments as in one of its own.
type Process struct {
	// In is what its user types, Out what it prints.
	In  io.WriteCloser
	Out *Lines

	cancel context.CancelFunc
	done   context.Context //nolint:containedctx // ends with the program; its cause says why
	err    error           // valid when done
}

// Start starts a program.
func Start(
	ctx context.Context, run func(ctx context.Context, args []string, in io.Reader, out io.Writer) error, args ...string,
) *Process {
	ctx, cancel := context.WithCancel(ctx)
	in, typed := io.Pipe()
	done, end := context.WithCancelCause(context.Background())
	p := &Process{In: typed, Out: NewLines(), cancel: cancel, done: done}
	go func() {
		p.err = run(ctx, args, in, p.Out)
		_ = in.Close() // always nil (package io)
		end(fmt.Errorf("%w: %w", errEnded, cmp.Or(p.err, io.EOF)))
	}()
	return p
}

// Type types a line. It blocks until the program has read it, or has ended.
func (p *Process) Type(line string) error {
	_, err := fmt.Fprintln(p.In, line)
	return err
}

// Await blocks until the program has printed a line with a text in it, and returns that line. It is an error if the program
// ends before, or ctx does.
func (p *Process) Await(ctx context.Context, text string) (string, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(p.done, func() { cancel(context.Cause(p.done)) })()
	return p.Out.Await(ctx, text)
}

// JoinArgs awaits the line in which the hub tells how to join it, and returns the arguments to do so under a name.
func (p *Process) JoinArgs(ctx context.Context) (args func(name string) []string, err error) {
	line, err := p.Await(ctx, joinWith)
	_, flags, _ := strings.Cut(line, joinWith)
	return func(name string) []string { return append(strings.Fields(flags), "-name", name) }, err
}

// Wait blocks until the program has ended by itself, and returns its error.
func (p *Process) Wait() error {
	<-p.done.Done()
	return p.err
}

// Interrupt ends it, as its user may, and waits for that.
func (p *Process) Interrupt() error {
	p.cancel()
	return p.Wait()
}
