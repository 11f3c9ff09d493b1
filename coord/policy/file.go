package policy

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Limits of a file.
const (
	maxFile   = 1 << 20 // bytes
	maxRules  = 1_000   // in a section
	maxErrors = 50      // that are told
)

// Error is one thing that is wrong with a file.
type Error struct {
	// File and Line say where it is.
	File string
	Line int
	// Text says what is wrong, and what is wanted.
	Text string
}

// Error reads like: policy.yaml:12: may: open is of no use without see; want both.
func (e *Error) Error() string { return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Text) }

// Load reads a policy file, and the certificates that it names, relative to its folder.
// Its error tells all that is wrong at once: each is an [*Error], joined in the order of
// the file.
func Load(name string) (*Rules, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	return Parse(name, data, func(other string) ([]byte, error) {
		if !filepath.IsAbs(other) {
			other = filepath.Join(filepath.Dir(name), other)
		}
		return os.ReadFile(other)
	})
}

// Parse reads a policy as [Load] does. The name is for errors; read returns the content of
// a file that the policy names.
func Parse(name string, data []byte, read func(string) ([]byte, error)) (*Rules, error) {
	f := &reading{file: name, read: read}
	content := f.document(data)
	if content == nil {
		return nil, f.err()
	}
	rules := f.rules(content)
	if err := f.err(); err != nil {
		return nil, err
	}
	return rules, nil
}

// What is in a file. A field that is not here is an error.
type (
	fileContent struct {
		Attach    []attachContent    `yaml:"attach"`
		Ban       []banContent       `yaml:"ban"`
		Peers     []peerContent      `yaml:"peers"`
		Groups    []groupContent     `yaml:"groups"`
		Introduce []introduceContent `yaml:"introduce"`
		Limits    []limitContent     `yaml:"limits"`

		lines map[string][]int // of the elements of each section
	}
	attachContent struct {
		Name         list  `yaml:"name"`
		Authorities  list  `yaml:"authorities"`
		Fingerprints list  `yaml:"fingerprints"`
		Tokens       list  `yaml:"tokens"`
		Open         *bool `yaml:"open"`
	}
	banContent struct {
		Name   string `yaml:"name"`
		Key    string `yaml:"key"`
		Addr   string `yaml:"addr"`
		Until  string `yaml:"until"`
		Reason string `yaml:"reason"`
	}
	peerContent struct {
		From list `yaml:"from"`
		To   list `yaml:"to"`
		May  list `yaml:"may"`
	}
	groupContent struct {
		Client list `yaml:"client"`
		Group  list `yaml:"group"`
		May    list `yaml:"may"`
	}
	introduceContent struct {
		By      list   `yaml:"by"`
		Between []list `yaml:"between"`
	}
	limitContent struct {
		Name      list   `yaml:"name"`
		Channels  number `yaml:"channels"`
		Pending   number `yaml:"pending"`
		Opens     number `yaml:"opens"`
		Joins     number `yaml:"joins"`
		RelayRate number `yaml:"relay-rate"`
		Clients   number `yaml:"clients"`
	}
)

// list is one word, or a list of words.
type list struct {
	words []string
	given bool
}

// UnmarshalYAML implements [yaml.Unmarshaler].
func (l *list) UnmarshalYAML(node *yaml.Node) error {
	l.given = true
	elements := []*yaml.Node{node}
	if node.Kind == yaml.SequenceNode {
		elements = node.Content
	}
	for _, element := range elements {
		if element.Kind != yaml.ScalarNode || element.ShortTag() == "!!null" {
			return &yaml.TypeError{Errors: []string{fmt.Sprintf("line %d: want a word, or a list of words", element.Line)}}
		}
		l.words = append(l.words, element.Value)
	}
	return nil
}

// number is a whole number.
type number struct {
	value int64
	given bool
	wrong bool // it was complained about
}

// UnmarshalYAML implements [yaml.Unmarshaler].
func (n *number) UnmarshalYAML(node *yaml.Node) error {
	n.given = true
	if err := node.Decode(&n.value); err != nil {
		n.wrong = true
		return &yaml.TypeError{Errors: []string{fmt.Sprintf("line %d: is %q; want a number", node.Line, node.Value)}}
	}
	return nil
}

// reading collects what is wrong with a file while it is read.
type reading struct {
	file string
	read func(string) ([]byte, error)
	errs []*Error
}

func (f *reading) fail(line int, format string, args ...any) {
	f.errs = append(f.errs, &Error{File: f.file, Line: line, Text: fmt.Sprintf(format, args...)})
}

// err joins what was found, in the order of the file.
func (f *reading) err() error {
	slices.SortStableFunc(f.errs, func(a, b *Error) int { return cmp.Compare(a.Line, b.Line) })
	var errs []error
	for i, err := range f.errs {
		if i == maxErrors {
			errs = append(errs, fmt.Errorf("%s: and %d more", f.file, len(f.errs)-maxErrors))
			break
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// document decodes the one YAML document of a file, or returns nil.
func (f *reading) document(data []byte) *fileContent {
	if len(data) > maxFile {
		f.fail(1, "%d bytes; want at most %d", len(data), maxFile)
		return nil
	}
	var tree, next yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	switch err := decoder.Decode(&tree); {
	case errors.Is(err, io.EOF):
		f.fail(1, "is empty: nobody could attach; want at least the section attach")
		return nil
	case err != nil:
		f.failYAML(err)
		return nil
	}
	if err := decoder.Decode(&next); !errors.Is(err, io.EOF) {
		f.fail(max(next.Line, 1), "a second document; want one in a file")
		return nil
	}
	content := &fileContent{lines: map[string][]int{}}
	if !f.plain(&tree) {
		return nil
	}
	if root := tree.Content[0]; root.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(root.Content); i += 2 {
			for _, element := range root.Content[i+1].Content {
				content.lines[root.Content[i].Value] = append(content.lines[root.Content[i].Value], element.Line)
			}
		}
	}
	decoder = yaml.NewDecoder(bytes.NewReader(data))
	decoder.KnownFields(true)
	if err := decoder.Decode(content); err != nil {
		f.failYAML(err)
	}
	return content
}

// plain refuses what makes a file larger than it looks.
func (f *reading) plain(node *yaml.Node) bool {
	if node.Kind == yaml.AliasNode || node.Anchor != "" {
		f.fail(max(node.Line, 1), "anchors and aliases (& and *) are not supported; a pattern that begins with * needs quotes: \"*\"")
		return false
	}
	for _, inner := range node.Content {
		if !f.plain(inner) {
			return false
		}
	}
	return true
}

// failYAML takes what the YAML package says: one thing, or a list.
func (f *reading) failYAML(err error) {
	texts := []string{strings.TrimPrefix(err.Error(), "yaml: ")}
	if typed, ok := errors.AsType[*yaml.TypeError](err); ok {
		texts = typed.Errors
	}
	for _, text := range texts {
		line := 1
		if rest, found := strings.CutPrefix(text, "line "); found {
			if digits, message, found := strings.Cut(rest, ": "); found {
				if n, err := strconv.Atoi(digits); err == nil {
					line, text = n, message
				}
			}
		}
		if strings.Contains(text, "unknown anchor") || strings.Contains(text, "expected alphabetic or numeric character") {
			text = `a pattern that begins with * needs quotes: "*"`
		}
		f.fail(line, "%s", plainer(text))
	}
}

// plainer says in our words what the YAML package says in Go's.
func plainer(text string) string {
	if field, rest, ok := strings.Cut(text, " not found in type policy."); ok {
		return "no " + field + "; want one of " + strings.Join(fieldsOf[rest], ", ")
	}
	text = strings.ReplaceAll(text, "!!", "")
	for of, want := range map[string]string{
		"bool": "true or false", "string": "a word", "[]policy.list": "a list of two patterns",
		"policy.fileContent": "the sections " + strings.Join(fieldsOf["fileContent"], ", "),
	} {
		if head, ok := strings.CutSuffix(text, " into "+of); ok {
			return strings.Replace(head, "cannot unmarshal", "is", 1) + "; want " + want
		}
	}
	if head, kind, ok := strings.Cut(text, " into policy."); ok {
		return strings.Replace(head, "cannot unmarshal", "is", 1) + "; want fields: " + strings.Join(fieldsOf[kind], ", ")
	}
	if head, _, ok := strings.Cut(text, " into []policy."); ok {
		return strings.Replace(head, "cannot unmarshal", "is", 1) + "; want a list of rules"
	}
	return text
}

// fieldsOf are the names of fields, by what has them.
var fieldsOf = map[string][]string{
	"fileContent":      {"attach", "ban", "peers", "groups", "introduce", "limits"},
	"attachContent":    {"name", "authorities", "fingerprints", "tokens", "open"},
	"banContent":       {"name", "key", "addr", "until", "reason"},
	"peerContent":      {"from", "to", "may"},
	"groupContent":     {"client", "group", "may"},
	"introduceContent": {"by", "between"},
	"limitContent":     {"name", "channels", "pending", "opens", "relay-rate"},
}
