package program

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
)

// maxLines is how many lines wait; more are lost, which the next one says.
const maxLines = 1024

// Lines are lines of text on their way from those who must not block, as actors, to who prints or awaits them: one goroutine.
type Lines struct {
	queue chan string
	lost  atomic.Int64
}

// NewLines returns an empty queue of lines.
func NewLines() *Lines { return &Lines{queue: make(chan string, maxLines)} }

// Printf adds a line. It does not block, and may be called from any goroutine.
func (l *Lines) Printf(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	lost := l.lost.Swap(0)
	if lost > 0 {
		line = fmt.Sprintf("[%d lines lost]\n%s", lost, line)
	}
	select {
	case l.queue <- line:
	default:
		l.lost.Add(lost + 1)
	}
}

// Write adds what is written at a time as a line: so lines are an io.Writer to print to and to await something from.
func (l *Lines) Write(text []byte) (int, error) {
	l.Printf("%s", strings.TrimSuffix(string(text), "\n"))
	return len(text), nil
}

// Await blocks until a line with a text in it was added, and returns that line. Lines before it are skipped. If ctx ends
// before, the error tells them.
func (l *Lines) Await(ctx context.Context, text string) (string, error) {
	var skipped []string
	for {
		line, err := l.next(ctx)
		switch {
		case err != nil:
			return "", fmt.Errorf("no line with %q, but %q: %w", text, skipped, err)
		case strings.Contains(line, text):
			return line, nil
		}
		skipped = append(skipped, line)
	}
}

// next blocks until there is a line, or there is none and ctx has ended.
func (l *Lines) next(ctx context.Context) (string, error) {
	select {
	case line := <-l.queue:
		return line, nil
	default:
	}
	select {
	case line := <-l.queue:
		return line, nil
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}

// Tell awaits a line with a text in it, and adds that to other lines.
func (l *Lines) Tell(ctx context.Context, to *Lines, text string) error {
	line, err := l.Await(ctx, text)
	if err == nil {
		to.Printf("%s", line)
	}
	return err
}

// printTo prints lines until the function that it returns is called, which waits until all are printed. Nobody may add any
// more then.
func (l *Lines) printTo(out io.Writer) (end func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for line := range l.queue {
			fmt.Fprintln(out, line)
		}
	}()
	return func() {
		close(l.queue)
		<-done
	}
}
