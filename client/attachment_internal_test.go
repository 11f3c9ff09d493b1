package client

import (
	"testing"
	"time"
)

func TestReadClock(t *testing.T) {
	now := time.UnixMicro(1_000_000_000)
	for _, test := range []struct {
		name  string
		shown uint64
		took  time.Duration
		want  *clockReading
	}{
		{"the same", 999_980_000, 40 * time.Millisecond, &clockReading{0, 20 * time.Millisecond}},
		{"ahead", 1_000_980_000, 40 * time.Millisecond, &clockReading{time.Second, 20 * time.Millisecond}},
		{"behind", 998_980_000, 40 * time.Millisecond, &clockReading{-time.Second, 20 * time.Millisecond}},
		{"not told", 0, 40 * time.Millisecond, nil},
		{"nonsense", 1 << 60, 40 * time.Millisecond, nil},
	} {
		got := readClock(test.shown, now, test.took)
		if (got == nil) != (test.want == nil) || got != nil && *got != *test.want {
			t.Errorf("%s: got %v, want %v", test.name, got, test.want)
		}
	}
}
