package main

import (
	"context"
	"errors"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"
)

func TestRun(t *testing.T) {
	var out strings.Builder
	if err := run(t.Context(), &out); err != nil {
		t.Fatalf("run: %v\n%s", err, out.String())
	}
	text := out.String()
	at := 0
	for _, line := range []string{
		`coordinator  at 127\.0\.0\.1:\d+, sha256:[0-9a-f]{8}…\n`,
		`clients      alice at 127\.0\.0\.1:\d+, bob at 127\.0\.0\.1:\d+\n`,
		`relay only   path to 127\.0\.0\.1:\d+, relayed: true\n`,
		`             \d+ messages each way, now relayed 127\.0\.0\.1:\d+ → 127\.0\.0\.1:\d+ \([0-9.]+[µm]?s\)\n`,
		`automatic    path to 127\.0\.0\.1:\d+, relayed: true\n`,
		`automatic    path to 127\.0\.0\.1:\d+, relayed: false\n`,
		`             \d+ messages each way, now direct 127\.0\.0\.1:\d+ → 127\.0\.0\.1:\d+ \([0-9.]+[µm]?s\)\n`,
		`actors       alice asks bob's greeter: "Hello, alice!"\n`,
	} {
		found := regexp.MustCompile(line).FindStringIndex(text[at:])
		if found == nil {
			t.Fatalf("no line %q in the rest of\n%s", line, text)
		}
		at += found[1]
	}
	wantNoGoroutines(t)
}

func TestRunCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out strings.Builder
	if err := run(ctx, &out); !errors.Is(err, context.Canceled) {
		t.Errorf("run: %v, want context canceled\n%s", err, out.String())
	}
	wantNoGoroutines(t)
}

// wantNoGoroutines waits until no goroutine but the test's own is in code of conec or of what it uses.
func wantNoGoroutines(t *testing.T) {
	t.Helper()
	var left []string
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); runtime.Gosched() {
		stacks := make([]byte, 1<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		left = nil
		for stack := range strings.SplitSeq(string(stacks), "\n\n") {
			if strings.Contains(stack, "conec") && !strings.Contains(stack, "wantNoGoroutines") || strings.Contains(stack, "quic-go") {
				left = append(left, stack)
			}
		}
		if len(left) == 0 {
			return
		}
	}
	t.Errorf("%d goroutines left:\n%s", len(left), strings.Join(left, "\n\n"))
}
