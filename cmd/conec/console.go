package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
)

// How often progress is shown.
const (
	terminalEvery = 200 * time.Millisecond
	plainEvery    = 5 * time.Second
	verboseEvery  = 500 * time.Millisecond // plain, with -v
)

// console is where a command tells people what happens: lines, and below them on a terminal one that changes.
type console struct {
	terminal bool

	mu   sync.Mutex
	out  io.Writer
	line string // that changes
}

func newConsole(out io.Writer) *console {
	c := &console{out: out}
	if file, ok := out.(*os.File); ok {
		info, err := file.Stat()
		c.terminal = err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb"
	}
	return c
}

// Write writes whole lines above the one that changes.
func (c *console) Write(lines []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.line == "" {
		return c.out.Write(lines)
	}
	if _, err := fmt.Fprintf(c.out, "\r\x1b[K%s%s", lines, c.line); err != nil {
		return 0, err
	}
	return len(lines), nil
}

// show changes the line; "" takes it away.
func (c *console) show(line string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if line != c.line {
		fmt.Fprintf(c.out, "\r\x1b[K%s", line)
		c.line = line
	}
}

// follow shows what text returns, again and again, until the function that it returns is called: on a terminal in the line that
// changes, elsewhere in lines of their own.
func (c *console) follow(verbose bool, text func() string) (stop func()) {
	every := plainEvery
	switch {
	case c.terminal:
		every = terminalEvery
	case verbose:
		every = verboseEvery
	}
	ctx, cancel := context.WithCancel(context.Background())
	var ended sync.WaitGroup
	ended.Go(func() {
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				if c.terminal {
					c.show(text())
				} else {
					fmt.Fprintln(c, text())
				}
			case <-ctx.Done():
				return
			}
		}
	})
	return func() {
		cancel()
		ended.Wait()
		if c.terminal {
			c.show("")
		}
	}
}

// bar draws how far something has come.
func bar(done, total int64, width int) string {
	filled := width
	if total > 0 {
		filled = int(min(max(float64(done)/float64(total), 0), 1) * float64(width))
	}
	return "[" + strings.Repeat("#", filled) + strings.Repeat("-", width-filled) + "]"
}

// bytesText says a number of bytes for people.
func bytesText(n float64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	unit := 0
	for n >= 1000 && unit < len(units)-1 { // four digits are hard to read
		n /= 1024
		unit++
	}
	if unit == 0 {
		return fmt.Sprintf("%.0f B", n)
	}
	return fmt.Sprintf("%.1f %s", n, units[unit])
}

// timeText says a time for people, in seconds.
func timeText(d time.Duration) string {
	seconds := int64((d + time.Second - 1) / time.Second)
	if seconds < 3600 {
		return fmt.Sprintf("%d:%02d", seconds/60, seconds%60)
	}
	return fmt.Sprintf("%d:%02d:%02d", seconds/3600, seconds/60%60, seconds%60)
}
