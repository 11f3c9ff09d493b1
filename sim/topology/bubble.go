package topology

import (
	"flag"
	"os"
	"testing"

	"github.com/conec-go/conec/sim"
)

// inBubble runs a scenario outside of go test, once in a process. Bubbles need a
// *testing.T, and testing.Main, which is there "for other systems" than go test, is
// the way to get one. It would end the process when its test has ended, so the test
// of a scenario that went well does not end; it is one goroutine that waits for
// ever. If the scenario fails the test, package testing prints why, to stderr, and
// ends the process with 1.
func inBubble(o *sim.Options, scenario func(w *sim.World)) {
	testing.Init()
	_ = flag.CommandLine.Parse(nil) // the flags of package testing, all at their defaults
	os.Stdout = os.Stderr           // where package testing prints; the program has the real one already
	ended := make(chan struct{})
	tests := []testing.InternalTest{{Name: "simulation", F: func(t *testing.T) { //nolint:thelper // it is the test
		sim.Test(t, o, scenario)
		if !t.Failed() {
			close(ended)
			select {}
		}
	}}}
	go testing.Main(func(string, string) (bool, error) { return true, nil }, tests, nil, nil)
	<-ended
}
