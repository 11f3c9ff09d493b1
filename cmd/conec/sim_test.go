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

// TestRepeat holds that the command that repeats a run is one for a shell.
func TestRepeat(t *testing.T) {
	for file, want := range map[string]string{
		"a/b-1.yaml":       "a/b-1.yaml",
		"-":                "-",
		"größe.yaml":       "größe.yaml",
		"two words.yaml":   "'two words.yaml'",
		"it's $HOME.yaml":  `'it'\''s $HOME.yaml'`,
		"line\nbreak.yaml": "'line\nbreak.yaml'",
	} {
		if got, want := (&simFlags{file: file}).repeat(7), "conec sim run -seed 7 "+want; got != want {
			t.Errorf("%q: %s, want %s", file, got, want)
		}
	}
}
