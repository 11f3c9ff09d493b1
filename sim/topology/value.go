package topology

import (
	"cmp"
	"encoding"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/conec-go/conec/messages"
)

// Error is one thing that is wrong with a topology file.
type Error struct {
	// File and Line say where it is.
	File string
	Line int
	// Field is the way to it, such as "hosts.alice.at"; empty for the whole file.
	Field string
	// Text says what is wrong, and what is allowed.
	Text string
}

// Error reads like: home.yaml:12: hosts.alice.at: no gateway "hme"; want internet, or one of home, cgn.
func (e *Error) Error() string {
	if e.Field == "" {
		return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Text)
	}
	return fmt.Sprintf("%s:%d: %s: %s", e.File, e.Line, e.Field, e.Text)
}

// maxErrors is how many errors of a file are told.
const maxErrors = 50

// reader collects what is wrong with a file.
type reader struct {
	file string
	errs []*Error
}

// err joins what was found, in the order of the file.
func (r *reader) err() error {
	slices.SortStableFunc(r.errs, func(a, b *Error) int { return cmp.Compare(a.Line, b.Line) })
	var errs []error
	for i, err := range r.errs {
		if i == maxErrors {
			errs = append(errs, fmt.Errorf("%s: and %d more", r.file, len(r.errs)-maxErrors))
			break
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

var (
	yamlLine = regexp.MustCompile(`(?s)^(?:yaml: )?line (\d+): (.*)$`)
	// What the YAML package's parser complains about, unlike its scanner, has lines that count from zero.
	fromZero = regexp.MustCompile(`^did not find expected (node content|key|'-' indicator|',' or|<)`)
)

// failYAML takes what the YAML parser says.
func (r *reader) failYAML(err error) {
	text, line := strings.TrimPrefix(err.Error(), "yaml: "), 1
	if found := yamlLine.FindStringSubmatch(err.Error()); found != nil {
		line, _ = strconv.Atoi(found[1]) // it is all digits; a number too large is no line of ours
		text = found[2]
		if fromZero.MatchString(text) {
			line++
		}
	}
	r.errs = append(r.errs, &Error{File: r.file, Line: line, Text: "not YAML: " + text})
}

// value is a place in a file: what is there, and the way to it.
type value struct {
	r     *reader
	at    *yaml.Node
	line  int // where it is used; an alias has its value elsewhere
	field string
}

func (v value) fail(format string, args ...any) {
	v.r.errs = append(v.r.errs, &Error{File: v.r.file, Line: v.line, Field: v.field, Text: fmt.Sprintf(format, args...)})
}

// under is what is at a place below v.
func (v value) under(at *yaml.Node, name string) value {
	field := name
	if v.field != "" {
		if strings.HasPrefix(name, "[") {
			field = v.field + name
		} else {
			field = v.field + "." + name
		}
	}
	line := at.Line
	for at.Kind == yaml.AliasNode && at.Alias != nil {
		at = at.Alias
	}
	return value{v.r, at, line, field}
}

// kind names what is there, for errors.
func (v value) kind() string {
	switch {
	case v.at.Kind == yaml.MappingNode:
		return "fields"
	case v.at.Kind == yaml.SequenceNode:
		return "a list"
	case v.at.Kind == yaml.ScalarNode && v.at.ShortTag() == "!!null":
		return "nothing"
	case v.at.Kind == yaml.ScalarNode && (v.at.ShortTag() == "!!int" || v.at.ShortTag() == "!!float"):
		return clip(v.at.Value)
	case v.at.Kind == yaml.ScalarNode:
		return strconv.Quote(clip(v.at.Value))
	}
	return "nothing"
}

// maxEntries limits what is in a list or mapping of a file.
const maxEntries = 1_000

// entry is a named value.
type entry struct {
	name string
	value
}

// entries returns what is under the names of a mapping. Each name is given once.
func (v value) entries(want string) []entry {
	if v.at.Kind != yaml.MappingNode {
		v.fail("is %s; want %s", v.kind(), want)
		return nil
	}
	if len(v.at.Content) > 2*maxEntries {
		v.fail("has %d fields; want at most %d", len(v.at.Content)/2, maxEntries)
		return nil
	}
	var list []entry
	first := map[string]int{}
	for i := 0; i+1 < len(v.at.Content); i += 2 {
		key := v.under(v.at.Content[i], "")
		if key.at.Kind != yaml.ScalarNode {
			v.fail("a field's name is %s; want a word", key.kind())
			continue
		}
		name := key.at.Value
		inner := v.under(v.at.Content[i+1], name)
		if line, again := first[name]; again {
			inner.line = key.line
			inner.fail("is given twice, first in line %d", line)
			continue
		}
		if inner.at.Kind != yaml.ScalarNode || inner.at.ShortTag() == "!!null" {
			inner.line = key.line // what is wrong with all of it is told where its name is
		}
		first[name] = key.line
		list = append(list, entry{name, inner})
	}
	return list
}

// fields says what reads the fields of an object, by their names.
type fields map[string]func(value)

// object reads fields, and returns those that are there, nil if it is no object.
// Others are refused.
func (v value) object(allowed fields) map[string]value {
	var names []string
	for name := range allowed {
		names = append(names, name)
	}
	slices.Sort(names)
	list := v.entries("fields: " + strings.Join(names, ", "))
	if v.at.Kind != yaml.MappingNode {
		return nil
	}
	there := map[string]value{}
	for _, e := range list {
		read, ok := allowed[e.name]
		if !ok {
			e.fail("no such field%s", wanted(e.name, names))
			continue
		}
		there[e.name] = e.value
		if read != nil {
			read(e.value)
		}
	}
	return there
}

// need complains about a field that is not there.
func (v value) need(there map[string]value, name, want string) {
	if _, ok := there[name]; !ok && there != nil {
		v.fail("%s is missing; want %s", name, want)
	}
}

// list returns the elements of a list.
func (v value) list(want string) []value {
	if v.at.Kind != yaml.SequenceNode {
		v.fail("is %s; want a list of %s", v.kind(), want)
		return nil
	}
	if len(v.at.Content) > maxEntries {
		v.fail("has %d elements; want at most %d", len(v.at.Content), maxEntries)
		return nil
	}
	var list []value
	for i, at := range v.at.Content {
		list = append(list, v.under(at, "["+strconv.Itoa(i+1)+"]"))
	}
	return list
}

// word returns a scalar, and whether it is one.
func (v value) word(want string) (string, bool) {
	if v.at.Kind != yaml.ScalarNode || v.at.ShortTag() == "!!null" {
		v.fail("is %s; want %s", v.kind(), want)
		return "", false
	}
	return v.at.Value, true
}

// checkName complains about a name that is none.
func (e entry) checkName() bool {
	if err := messages.CheckName(e.name); err != nil {
		e.fail("%v", err)
		return false
	}
	return true
}

// isWord tells that there is a single word, or nothing.
func (v value) isWord() bool { return v.at.Kind != yaml.MappingNode && v.at.Kind != yaml.SequenceNode }

// get returns a field of an object before the object is read.
func (v value) get(name string) (value, bool) {
	if v.at.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(v.at.Content); i += 2 {
			if v.at.Content[i].Value == name {
				return v.under(v.at.Content[i+1], name), true
			}
		}
	}
	return value{}, false
}

// choice returns one of some words.
func (v value) choice(allowed ...string) string {
	text, ok := v.word(oneOf(allowed))
	if ok && !slices.Contains(allowed, text) {
		v.fail("is %s; want %s", v.kind(), oneOf(allowed))
		return ""
	}
	return text
}

// flat writes a word or a list of words in one line.
func (v value) flat() string {
	if v.at.Kind != yaml.SequenceNode {
		return v.at.Value
	}
	var words []string
	for _, element := range v.list("") {
		words = append(words, element.at.Value)
	}
	return "[" + strings.Join(words, ", ") + "]"
}

// unmarshal reads a word that its type knows.
func (v value) unmarshal(into encoding.TextUnmarshaler) {
	if text, ok := v.word("a word"); ok {
		if err := into.UnmarshalText([]byte(text)); err != nil {
			v.fail("%v", err)
		}
	}
}

// flag returns true or false.
func (v value) flag() bool { return v.choice("true", "false") == "true" }

// oneOf lists what is allowed, not all of it if that is long.
func oneOf(allowed []string) string {
	const most = 12
	list := allowed
	if len(list) > most {
		list = list[:most]
	}
	text := strings.Join(list, ", ")
	switch {
	case len(allowed) > most:
		return fmt.Sprintf("%s, … (%d in all)", text, len(allowed))
	case len(allowed) == 1:
		return text
	}
	return "one of " + text
}

// orOneOf lists what is allowed besides something else.
func orOneOf(allowed []string) string {
	if len(allowed) == 0 {
		return ""
	}
	return " or " + oneOf(allowed)
}

// clip shortens what a file says, for errors.
func clip(text string) string { return messages.Clip(text, 40) }

// wanted suggests the nearest name, or lists what is allowed.
func wanted(name string, allowed []string) string {
	const most = 200 // names that are compared
	if len(allowed) == 0 {
		return "; there is none"
	}
	best, distance := "", max(2, len(name)/3)+1
	for _, candidate := range allowed[:min(len(allowed), most)] {
		if d := editDistance(name, candidate); d < distance {
			best, distance = candidate, d
		}
	}
	if best != "" {
		return fmt.Sprintf("; did you mean %s? want %s", best, oneOf(allowed))
	}
	return "; want " + oneOf(allowed)
}

// editDistance counts the characters to insert, remove or replace (Levenshtein).
func editDistance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}
