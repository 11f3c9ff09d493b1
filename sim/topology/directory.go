package topology

import (
	"cmp"
	"path"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// directory knows the names of one sort of things, some of which stand for
// several: a group for its hosts.
type directory struct {
	what  string
	names []string            // in the order of the file
	of    map[string][]string // what a name stands for
	order map[string]int      // of the things themselves
}

func newDirectory(what string) *directory {
	return &directory{what: what, of: map[string][]string{}, order: map[string]int{}}
}

// add takes a name that the file gives, and what it stands for.
func (d *directory) add(name string, things ...string) {
	d.names = append(d.names, name)
	d.of[name] = things
	for _, thing := range things {
		if _, ok := d.order[thing]; !ok {
			d.order[thing] = len(d.order)
		}
		if d.of[thing] == nil {
			d.of[thing] = []string{thing}
		}
	}
}

// everything returns all things.
func (d *directory) everything() []string { return d.sorted(d.order) }

func (d *directory) sorted(found map[string]int) []string {
	list := make([]string, 0, len(found))
	for thing := range found {
		list = append(list, thing)
	}
	slices.SortFunc(list, func(a, b string) int { return cmp.Compare(d.order[a], d.order[b]) })
	return list
}

// selected reads names: one, or a list of them; a pattern with * or the word all
// stands for everything that fits. Other things in the directory are not hidden
// by it: special is a name that all does not mean.
func (d *directory) selected(v value, special ...string) []string {
	want := "a " + d.what + ", a list of them, or all"
	texts := []value{v}
	if v.at.Kind == yaml.SequenceNode {
		if texts = v.list(want); len(texts) == 0 {
			v.fail("is an empty list; want %s", want)
		}
	}
	found := map[string]int{}
	for _, text := range texts {
		name, ok := text.word(want)
		if !ok {
			continue
		}
		for _, thing := range d.lookUp(text, name, special) {
			found[thing] = d.order[thing]
		}
	}
	return d.sorted(found)
}

func (d *directory) lookUp(v value, name string, special []string) []string {
	switch {
	case name == all:
		return d.everything()
	case slices.Contains(special, name):
		return []string{name}
	case d.of[name] != nil:
		return d.of[name]
	case strings.Contains(name, "*"):
		var list []string
		for _, thing := range d.everything() {
			if ok, err := path.Match(name, thing); err == nil && ok {
				list = append(list, thing)
			}
		}
		if len(list) > 0 {
			return list
		}
	}
	allowed := slices.Concat(special, d.names)
	if len(d.names) > 0 {
		allowed = append(allowed, all)
	}
	v.fail("no %s %q%s", d.what, clip(name), wanted(name, allowed))
	return nil
}
