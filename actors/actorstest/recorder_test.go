package actorstest_test

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/conec-go/conec/actors/actorstest"
)

// recorder is a testing.TB that notes how its test fails.
type recorder struct {
	mu       sync.Mutex
	failures []string
	cleanups []func()
}

func (r *recorder) Helper() {}

func (r *recorder) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failures = append(r.failures, fmt.Sprintf(format, args...))
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}

func (r *recorder) Cleanup(f func()) { r.cleanups = append(r.cleanups, f) }

// run runs a test, with its cleanup, and returns how it failed; "" if it did not.
func (r *recorder) run(test func(t actorstest.TB)) string {
	for _, part := range []func(){
		func() { test(r) },
		func() {
			for _, cleanup := range slices.Backward(r.cleanups) {
				cleanup()
			}
		},
	} {
		done := make(chan struct{})
		go func() {
			defer close(done)
			part()
		}()
		<-done
	}
	return strings.Join(r.failures, "\n")
}

// failure returns how a test fails.
func failure(test func(t actorstest.TB)) string { return (&recorder{}).run(test) }
