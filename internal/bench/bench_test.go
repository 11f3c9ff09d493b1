package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestMain is also the main of the processes that the test starts.
func TestMain(m *testing.M) {
	if role := os.Getenv(roleVar); role != "" {
		if err := runChild(role); err != nil {
			fmt.Fprintln(os.Stderr, role+":", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// TestRows runs everything for a moment. What it measures is of no use, but that it measures is.
func TestRows(t *testing.T) {
	before := runtime.NumGoroutine()
	for _, e := range experiments() {
		t.Run(e.name, func(t *testing.T) {
			if testing.Short() && e.name != "relayed" && e.name != idleName {
				t.Skip("the others differ in numbers only")
			}
			opts, err := parseFlags([]string{"-rows", e.name, "-pairs", "1", "-seconds", "0.2", "-clients", "5"}, t.Output())
			if err != nil {
				t.Fatal(err)
			}
			var table bytes.Buffer
			if err := run(t.Context(), &table, opts); err != nil {
				t.Fatal(err)
			}
			t.Logf("\n%s", &table)
			for _, r := range e.rows {
				if !strings.Contains(table.String(), "\n"+r.what+"  ") {
					t.Errorf("the table has no row %q", r.what)
				}
			}
			if strings.Contains(table.String(), "NaN") || strings.Contains(table.String(), "Inf") {
				t.Error("a figure is missing")
			}
		})
	}
	awaitGoroutines(t, before)
}

// awaitGoroutines waits until what reads from children has ended too.
func awaitGoroutines(t *testing.T, want int) {
	t.Helper()
	for range 500 {
		if runtime.NumGoroutine() <= want {
			return
		}
		<-time.After(10 * time.Millisecond)
	}
	stacks := make([]byte, 1<<20)
	t.Errorf("goroutines are left over:\n%s", stacks[:runtime.Stack(stacks, true)])
}

func TestParseFlags(t *testing.T) {
	for _, args := range []string{"-rows nothing", "-pairs 0", "-seconds 0", "-clients 0", "-unknown"} {
		if _, err := parseFlags(strings.Fields(args), io.Discard); err == nil {
			t.Errorf("%s: no error", args)
		}
	}
}

func TestJudge(t *testing.T) {
	list := func(values ...float64) (all []figures) {
		for _, v := range values {
			all = append(all, figures{"x": v})
		}
		return all
	}
	tests := []struct {
		name       string
		row        row
		ours, bare []figures
		ratio      float64
		verdict    string
	}{
		{"reached", row{target: 2}, list(4, 6, 4), list(2, 2, 2), 2, "ok"},
		{"below", row{target: 2}, list(4, 3, 3), list(2, 2, 2), 1.5, "MISSED"},
		{"within", row{target: 2, atMost: true}, list(4, 3), list(2, 2), 1.75, "ok"},
		{"above", row{target: 1.5, atMost: true}, list(4, 3, 4), list(2, 2, 2), 2, "MISSED"},
		{"median of ratios, not ratio of medians", row{target: 1}, list(1, 10, 20), list(2, 2, 40), 0.5, "MISSED"},
		{"alone", row{target: 5, alone: true, scale: 1}, list(4, 6, 7), list(0, 0, 0), 6, "ok"},
		{"nothing promised", row{}, list(4), list(2), 2, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			test.row.figure = "x"
			got := test.row.judge(test.ours, test.bare)
			if got.ratio != test.ratio || got.verdict() != test.verdict {
				t.Errorf("ratio %v, %q, want %v, %q", got.ratio, got.verdict(), test.ratio, test.verdict)
			}
		})
	}
}

// TestDrain holds that a run in which something went wrong gives no figure.
func TestDrain(t *testing.T) {
	const size = 64
	tests := []struct {
		name   string
		spoil  func(sent [][]byte) [][]byte
		failed string // part of the error, empty if there is none
	}{
		{"whole", func(sent [][]byte) [][]byte { return sent }, ""},
		{"lost", func(sent [][]byte) [][]byte { return append(sent[:5], sent[6:]...) }, "message 5 "},
		{"twice", func(sent [][]byte) [][]byte { return append(sent[:6:6], sent[5:]...) }, "message 6 "},
		{"short", func(sent [][]byte) [][]byte { sent[7] = sent[7][:63]; return sent }, "has 63 bytes"},
		{"damaged", func(sent [][]byte) [][]byte { sent[stride][9]++; return sent }, "message 64 is damaged"},
		{"nothing", func([][]byte) [][]byte { return nil }, "0 messages"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var sent [][]byte
			for n := range int64(4 * stride) {
				message := newMessage(size)
				number(message, n)
				sent = append(sent, message)
			}
			got, err := drain(t.Context(), &list{test.spoil(sent)}, Drain{Kind: Kind{Size: size}})
			if test.failed == "" {
				if err != nil || got.Messages != 4*stride || got.Counted != got.Messages-stride-1 {
					t.Errorf("drained %+v, %v", got, err)
				}
			} else if err == nil || !strings.Contains(err.Error(), test.failed) {
				t.Errorf("error %v, want one with %q", err, test.failed)
			}
		})
	}
}

// list is a pipe that has messages.
type list struct{ messages [][]byte }

func (l *list) send(context.Context, []byte) error { return nil }

func (l *list) receive(context.Context) ([]byte, error) {
	if len(l.messages) == 0 {
		return nil, io.EOF
	}
	first := l.messages[0]
	l.messages = l.messages[1:]
	return first, nil
}

func (l *list) finish() error { return nil }
func (l *list) relayed() bool { return false }
