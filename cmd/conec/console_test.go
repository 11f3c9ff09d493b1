package main

import (
	"bytes"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

func durations(milliseconds []int64) []time.Duration {
	var all []time.Duration
	for _, n := range milliseconds {
		all = append(all, time.Duration(n)*time.Millisecond)
	}
	return all
}

func TestConsole(t *testing.T) {
	for _, row := range []struct {
		name     string
		terminal bool
		want     string
	}{
		{"terminal", true, "\r\x1b[K1%\r\x1b[Kline\n1%\r\x1b[K2%\r\x1b[K"},
		{"plain", false, "line\n1%\n2%\n"},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var out bytes.Buffer
				c := newConsole(&out)
				c.terminal = row.terminal
				percent := 0
				stop := c.follow(false, func() string { percent++; return fmt.Sprintf("%d%%", percent) })
				every := plainEvery
				if row.terminal {
					every = terminalEvery
					time.Sleep(every)
					synctest.Wait()
				}
				fmt.Fprintln(c, "line")
				if !row.terminal {
					time.Sleep(every)
				}
				time.Sleep(every)
				synctest.Wait()
				stop() // in a bubble, a goroutine that stays is an error
				if got := out.String(); got != row.want {
					t.Errorf("got %q, want %q", got, row.want)
				}
			})
		})
	}
}

func TestTexts(t *testing.T) {
	for n, want := range map[float64]string{0: "0 B", 999: "999 B", 1000: "1.0 KiB", 1 << 20: "1.0 MiB", 1000 << 30: "1.0 TiB", 1 << 50: "1024.0 TiB"} {
		if got := bytesText(n); got != want {
			t.Errorf("%v bytes: %q, want %q", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{0: "0:00", 1: "0:01", 61 * time.Second: "1:01", 3661 * time.Second: "1:01:01"} {
		if got := timeText(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
	if got, want := bar(1, 4, 8), "[##------]"; got != want {
		t.Errorf("bar %q, want %q", got, want)
	}
	for text, want := range map[string]int64{"1": 1, "64K": 65536, "10M": 10 << 20, "1G": 1 << 30, "": 0, "0": 0, "-1": 0, "M": 0, "1T": 0} {
		if got, err := parseBytes(text); got != want || (err == nil) != (want > 0) {
			t.Errorf("%q: %d, %v, want %d", text, got, err, want)
		}
	}
}
