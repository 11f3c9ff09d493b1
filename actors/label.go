package actors

import (
	"context"
	"runtime/pprof"
)

// LabelOf returns a function that gives a goroutine the pprof labels that ctx has:
// profiles and stacks then tell whose goroutine it is, in a program with several
// systems. It is nil if ctx has none.
func LabelOf(ctx context.Context) func() {
	var pairs []string
	pprof.ForLabels(ctx, func(key, value string) bool {
		pairs = append(pairs, key, value)
		return true
	})
	if pairs == nil {
		return nil
	}
	labels := pprof.WithLabels(context.Background(), pprof.Labels(pairs...)) // without what else ctx holds
	return func() { pprof.SetGoroutineLabels(labels) }
}
