package actorstest

import (
	"context"
	"fmt"
	"runtime/pprof"
	"strings"
	"time"

	"github.com/conec-go/conec/actors"
)

// labelKey is the pprof label of goroutines that run actors of a net, and so of those that
// these start: its value is the net.
const labelKey = "actorstest"

func labelValue(n *Net) string { return fmt.Sprintf("%p", n) }

// labelOf is the [actors.SystemConfig.Label] of a system of a net.
func labelOf(n *Net, name string) func() {
	return actors.LabelOf(pprof.WithLabels(context.Background(), pprof.Labels(labelKey, labelValue(n), "system", name)))
}

// awaitNone waits until no goroutine has the label of a net, and otherwise returns the
// stacks of those that have.
func awaitNone(n *Net, patience time.Duration) (stacks string) {
	for pause := time.Millisecond; ; pause *= 2 {
		if stacks = labeled(labelValue(n)); stacks == "" || pause > patience {
			return stacks
		}
		<-time.After(pause)
	}
}

// labeled returns the stacks of goroutines with a label.
func labeled(value string) string {
	var all strings.Builder
	if err := pprof.Lookup("goroutine").WriteTo(&all, 1); err != nil {
		return ""
	}
	var found []string
	for stack := range strings.SplitSeq(all.String(), "\n\n") {
		if strings.Contains(stack, fmt.Sprintf("%q:%q", labelKey, value)) {
			found = append(found, stack)
		}
	}
	return strings.Join(found, "\n\n")
}
