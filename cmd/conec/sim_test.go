package main

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/conec-go/conec/sim/topology"
)

// TestSimulationPage holds that the files in docs/simulation.md are right, and that each of its commands is tried by a
// script, which says so in a comment.
func TestSimulationPage(t *testing.T) {
	text, err := os.ReadFile("../../docs/simulation.md")
	if err != nil {
		t.Fatal(err)
	}
	script, err := os.ReadFile("testdata/script/sim.txtar")
	if err != nil {
		t.Fatal(err)
	}
	tried := strings.Split(string(script), "\n")
	files, commands := 0, 0
	for _, block := range blocks(string(text)) {
		switch language, body, _ := strings.Cut(block, "\n"); language {
		case "yaml":
			files++
			if _, err := topology.Parse("simulation.md", []byte(body)); err != nil {
				t.Error(err)
			}
		case "sh":
			for line := range strings.Lines(body) {
				commands++
				if line = strings.TrimSpace(line); !slices.Contains(tried, "# $ "+line) {
					t.Errorf("no script tries %q", line)
				}
			}
		}
	}
	if files == 0 || commands == 0 {
		t.Errorf("%d files and %d commands", files, commands)
	}
}

// blocks returns what is between fences, its language in the first line.
func blocks(text string) (list []string) {
	for i, part := range strings.Split(text, "```") {
		if i%2 == 1 {
			list = append(list, part)
		}
	}
	return list
}
