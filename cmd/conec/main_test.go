package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/conec-go/conec/messages"
)

// TestMain lets scripts run conec: this binary again, as a process of its own.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"conec": main})
}

func TestScripts(t *testing.T) {
	out, err := exec.Command("go", "env", "GOCACHE", "GOMODCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	goEnv := strings.Fields(string(out))
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			env.Values[processesKey{}] = map[string]*process{}
			root, err := filepath.Abs("../..")
			env.Setenv("ROOT", root)
			env.Setenv("GOCACHE", goEnv[0])
			env.Setenv("GOMODCACHE", goEnv[1])
			return err
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"start": startCommand, "await": awaitCommand, "write": writeCommand, "signal": signalCommand, "finish": finishCommand, "join": joinCommand,
			"random": randomCommand, "same": sameCommand, "mode": modeCommand, "certify": certifyCommand, "modified": modifiedCommand,
		},
		RequireExplicitExec: true,
	})
}

// TestOperations holds that each command in docs/operations.md is tried by a script, which says so in a comment.
func TestOperations(t *testing.T) {
	text, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	var tried []string
	for _, name := range []string{"operations", "admin"} {
		script, err := os.ReadFile("testdata/script/" + name + ".txtar")
		if err != nil {
			t.Fatal(err)
		}
		tried = append(tried, strings.Split(string(script), "\n")...)
	}
	commands, inside := 0, false
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "```"):
			inside = line == "```sh"
		case inside && line != "":
			commands++
			if !slices.Contains(tried, "# $ "+line) {
				t.Errorf("no script tries %q", line)
			}
		}
	}
	if commands == 0 {
		t.Error("no command found")
	}
}

func TestHints(t *testing.T) {
	for i, row := range hints {
		op := row.op
		if op == "" {
			op = "receive"
		}
		err := fmt.Errorf("outer: %w", &messages.OpError{Op: op, Peer: "bob", Err: fmt.Errorf("inner: %w", row.err)})
		if got := hintFor(err); got != row.say {
			t.Errorf("row %d: hint for %v is %q, want %q", i, err, got, row.say)
		}
	}
	if got := hintFor(fmt.Errorf("something else")); got != "" {
		t.Errorf("hint for an unknown error: %q", got)
	}
	if got := hintFor(fmt.Errorf("%w x.yaml: %w", errPlay, syscall.EADDRINUSE)); got != "" {
		t.Errorf("hint for an address that is taken in a simulated network: %q", got)
	}
}
