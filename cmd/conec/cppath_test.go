package main

import (
	"bytes"
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	conecv1 "github.com/conec-go/conec/messages/conec/v1"
)

func TestCheckPath(t *testing.T) {
	for name, safe := range map[string]bool{
		"a": true, "a/b.txt": true, "..a": true, "a..": true, "with space": true, ".hidden": true, "ü": true,
		strings.Repeat("n", maxName): true,
		"":                           false, ".": false, "..": false, "/": false, "/a": false, "a/": false, "a//b": false, "./a": false, "a/./b": false,
		"../a": false, "a/..": false, "a/../b": false, "a/../../b": false, "a\x00b": false, "a\xff": false,
		strings.Repeat("n", maxName+1):   false,
		strings.Repeat("a/", 2500) + "a": false,
		".a.conec-part":                  false, "a/.b.conec-part": false, ".a.conec-part/b": false,
	} {
		err := checkPath(name)
		if safe != (err == nil) || err != nil && !errors.Is(err, errUnsafe) {
			t.Errorf("%.40q: got %v, want safe: %v", name, err, safe)
		}
	}
}

func TestPartialPath(t *testing.T) {
	long := strings.Repeat("n", maxName)
	for name, want := range map[string]string{"a": ".a.conec-part", "a/b/c": "a/b/.c.conec-part"} {
		if got := partialPath(name); got != want {
			t.Errorf("%q: got %q, want %q", name, got, want)
		}
	}
	got := partialPath("a/" + long)
	if base, ok := strings.CutPrefix(got, "a/"); !ok || len(base) > maxName || !isPartial(base) || got == partialPath("a/"+long[1:]+"m") {
		t.Errorf("partial file of a long name: %q", got)
	}
}

func TestTargetOf(t *testing.T) {
	for _, row := range []struct{ where, want string }{
		{"", "base"},
		{"name", "name"},
		{"in/", "in/base"},
		{"./x", "x"},
		{"in//to/", "in/to/base"},
		{"/", "/base"},
		{"../", "../base"},
		{"a/../../b", "../b"}, // refused there
	} {
		if got := targetOf(row.where, "base"); got != row.want {
			t.Errorf("%q: got %q, want %q", row.where, got, row.want)
		}
	}
}

func file(path string, size uint64) *conecv1.CopyEntry {
	return &conecv1.CopyEntry{Path: path, Size: size}
}

func folder(path string) *conecv1.CopyEntry { return &conecv1.CopyEntry{Path: path, Folder: true} }

func TestListing(t *testing.T) {
	for _, row := range []struct {
		name    string
		target  string
		entries []*conecv1.CopyEntry
		want    error
	}{
		{"file", "a", []*conecv1.CopyEntry{file("", 1)}, nil},
		{"folder", "a/b", []*conecv1.CopyEntry{folder(""), file("x", 1), folder("y"), file("y/z", 1)}, nil},
		{"nothing", "a", nil, errUnsafe},
		{"outside", "../a", []*conecv1.CopyEntry{file("", 1)}, errUnsafe},
		{"no root", "a", []*conecv1.CopyEntry{file("x", 1)}, errUnsafe},
		{"two roots", "a", []*conecv1.CopyEntry{folder(""), folder("")}, errUnsafe},
		{"below a file", "a", []*conecv1.CopyEntry{file("", 1), file("x", 1)}, errUnsafe},
		{"no folder", "a", []*conecv1.CopyEntry{folder(""), file("y/z", 1)}, errUnsafe},
		{"folder after", "a", []*conecv1.CopyEntry{folder(""), file("y/z", 1), folder("y")}, errUnsafe},
		{"twice", "a", []*conecv1.CopyEntry{folder(""), file("x", 1), file("x", 1)}, errUnsafe},
		{"entry outside", "a", []*conecv1.CopyEntry{folder(""), folder(".."), file("../x", 1)}, errUnsafe},
		{"entry absolute", "a", []*conecv1.CopyEntry{folder(""), file("/x", 1)}, errUnsafe},
		{"partial", "a", []*conecv1.CopyEntry{folder(""), file(".x.conec-part", 1)}, errUnsafe},
		{"too large", "a", []*conecv1.CopyEntry{file("", 1<<63)}, errUnsafe},
	} {
		t.Run(row.name, func(t *testing.T) {
			l := &listing{}
			if err := l.add(&conecv1.CopyPlan{Target: row.target, Entries: row.entries, Last: true}); !errors.Is(err, row.want) {
				t.Errorf("got %v, want %v", err, row.want)
			}
		})
	}
}

func TestListingHasALimit(t *testing.T) {
	l := &listing{size: maxListing - entryCost}
	if err := l.add(&conecv1.CopyPlan{Target: "a", Entries: []*conecv1.CopyEntry{folder(""), file("x", 1)}}); !errors.Is(err, errTooMany) {
		t.Errorf("got %v, want %v", err, errTooMany)
	}
}

// FuzzListing holds that what a listing lets through stays in the folder.
func FuzzListing(f *testing.F) {
	for _, plan := range []*conecv1.CopyPlan{
		{Target: "a", Entries: []*conecv1.CopyEntry{folder(""), file("x", 1), folder("y"), file("y/z", 1)}, Last: true},
		{Target: "../a", Entries: []*conecv1.CopyEntry{file("", 1)}},
		{Target: "a", Entries: []*conecv1.CopyEntry{folder(""), folder(".."), file("../x", 1)}},
	} {
		data, err := proto.Marshal(plan)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		plan := &conecv1.CopyPlan{}
		if proto.Unmarshal(data, plan) != nil {
			return
		}
		l := &listing{}
		_ = l.add(plan) // what came before the error counts
		for _, entry := range l.entries {
			if name := l.place(entry); !filepath.IsLocal(filepath.FromSlash(name)) || !filepath.IsLocal(filepath.FromSlash(partialPath(name))) {
				t.Errorf("%q leads outside", name)
			}
		}
	})
}

// info is a file of some kind.
type info struct {
	mode fs.FileMode
	size int64
}

func (i info) Name() string       { return "x" }
func (i info) Size() int64        { return i.size }
func (i info) Mode() fs.FileMode  { return i.mode }
func (i info) ModTime() time.Time { return time.Time{} }
func (i info) IsDir() bool        { return i.mode.IsDir() }
func (i info) Sys() any           { return nil }

func TestDecide(t *testing.T) {
	for _, row := range []struct {
		name      string
		entry     *conecv1.CopyEntry
		there     fs.FileInfo
		overwrite bool
		want      step
		err       error
	}{
		{"new folder", folder("x"), nil, false, stepMake, nil},
		{"folder there", folder("x"), info{fs.ModeDir, 0}, false, stepKeep, nil},
		{"folder instead of a file", folder("x"), info{0, 5}, true, 0, errExists},
		{"folder instead of a link", folder("x"), info{fs.ModeSymlink, 5}, true, 0, errExists},
		{"new file", file("x", 5), nil, false, stepReceive, nil},
		{"same size", file("x", 5), info{0, 5}, false, stepCompare, nil},
		{"same size, overwrite", file("x", 5), info{0, 5}, true, stepCompare, nil},
		{"other size", file("x", 5), info{0, 6}, false, 0, errExists},
		{"other size, overwrite", file("x", 5), info{0, 6}, true, stepReceive, nil},
		{"file instead of a folder", file("x", 5), info{fs.ModeDir, 5}, true, 0, errFolder},
		{"file instead of a link", file("x", 5), info{fs.ModeSymlink, 5}, true, 0, errExists},
		{"file instead of a pipe", file("x", 5), info{fs.ModeNamedPipe, 5}, true, 0, errExists},
	} {
		t.Run(row.name, func(t *testing.T) {
			got, err := decide(row.entry, "x", row.there, row.overwrite)
			if got != row.want || !errors.Is(err, row.err) {
				t.Errorf("got %v, %v, want %v, %v", got, err, row.want, row.err)
			}
		})
	}
}

func TestResumeAt(t *testing.T) {
	right, wrong := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)
	for _, row := range []struct {
		name  string
		state *conecv1.CopyState
		want  int64
	}{
		{"part", &conecv1.CopyState{Size: 4, Sha256: right}, 4},
		{"part with other content", &conecv1.CopyState{Size: 4, Sha256: wrong}, 0},
		{"part without a sum", &conecv1.CopyState{Size: 4}, 0},
		{"all, in the partial file", &conecv1.CopyState{Size: 9, Sha256: right}, 9},
		{"complete", &conecv1.CopyState{Size: 9, Sha256: right, Complete: true}, -1},
		{"complete, other content", &conecv1.CopyState{Size: 9, Sha256: wrong, Complete: true}, 0},
		{"too much", &conecv1.CopyState{Size: 10, Sha256: right}, 0},
	} {
		if got := resumeAt(file("x", 9), row.state, right); got != row.want {
			t.Errorf("%s: got %d, want %d", row.name, got, row.want)
		}
	}
}

func TestOverlap(t *testing.T) {
	for _, row := range []struct {
		a, b string
		want bool
	}{{"a", "a", true}, {"a", "a/b", true}, {"a/b", "a", true}, {"A", "a/b", true}, {"a", "ab", false}, {"a/b", "a/c", false}} {
		if got := overlap(row.a, row.b); got != row.want {
			t.Errorf("%q, %q: got %v", row.a, row.b, got)
		}
	}
}

func TestEveryReasonThereAndBack(t *testing.T) {
	for _, row := range reasons {
		refused := toRefused(refusal(row.err, "why\x1b[2J"))
		err := fromRefused(refused)
		if !errors.Is(err, row.err) || !strings.Contains(err.Error(), "why?[2J") {
			t.Errorf("%v: became %v", row.reason, err)
		}
	}
	if err := fromRefused(toRefused(errors.New("why"))); !errors.Is(err, errEnded) {
		t.Errorf("an unknown reason became %v", err)
	}
}
