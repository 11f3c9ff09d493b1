package netlab

import (
	"bytes"
	"os/exec"
)

// Run runs a program on the host, for 20 seconds at most, and returns what it wrote.
func (h *Host) Run(program string, args ...string) (string, error) {
	var output bytes.Buffer
	err := h.inside.run("", &output, program, args...)
	return output.String(), err
}

// Run is that of [Host.Run], on the gateway.
func (g *Gateway) Run(program string, args ...string) (string, error) {
	var output bytes.Buffer
	err := g.router.run("", &output, program, args...)
	return output.String(), err
}

// Serve starts a program on the gateway, which is killed when the test ends.
func (g *Gateway) Serve(program string, args ...string) {
	g.lab.tb.Helper()
	var output bytes.Buffer
	command := exec.Command(program, args...)
	command.Stdout, command.Stderr = &output, &output
	g.lab.must(g.name, g.router.do(command.Start)) // the thread's namespace is the program's
	g.lab.tb.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
		if g.lab.tb.Failed() {
			g.lab.tb.Logf("%s: %s", program, &output)
		}
	})
}
