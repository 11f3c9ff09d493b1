package exampletest

import (
	"context"
	"io"
	"testing"
	"time"

	"github.com/conec-go/conec/examples/internal/program"
)

// Run is what the main function of an example calls.
type Run func(ctx context.Context, args []string, in io.Reader, out io.Writer) error

// Parts are a program's parts: the hub, and clients.
type Parts struct {
	// Hub serves the others.
	Hub *program.Process

	t    *testing.T
	ctx  context.Context //nolint:containedctx // of the test
	run  Run
	join func(name string) []string
}

// Serve starts a program's hub. At the end of the test it is interrupted, like all parts.
func Serve(t *testing.T, run Run) *Parts {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	p := &Parts{t: t, ctx: ctx, run: run}
	p.Hub = p.Start("-serve")
	var err error
	if p.join, err = p.Hub.JoinArgs(ctx); err != nil {
		t.Fatal(err)
	}
	return p
}

// Start starts a part with arguments.
func (p *Parts) Start(args ...string) *program.Process {
	p.t.Helper()
	part := program.Start(p.ctx, p.run, args...)
	p.t.Cleanup(func() { _ = part.Interrupt() }) // who has ended already has said why
	return part
}

// Join starts a client.
func (p *Parts) Join(name string) *program.Process {
	p.t.Helper()
	return p.Start(p.join(name)...)
}

// Expect waits until a part has printed a line with a text in it.
func (p *Parts) Expect(from *program.Process, text string) {
	p.t.Helper()
	if _, err := from.Await(p.ctx, text); err != nil {
		p.t.Fatal(err)
	}
}

// Type types lines.
func (p *Parts) Type(to *program.Process, lines ...string) {
	p.t.Helper()
	for _, line := range lines {
		if err := to.Type(line); err != nil {
			p.t.Fatal(err)
		}
	}
}

// EndInput has nothing more typed.
func (p *Parts) EndInput(of *program.Process) {
	p.t.Helper()
	if err := of.In.Close(); err != nil {
		p.t.Fatal(err)
	}
}
