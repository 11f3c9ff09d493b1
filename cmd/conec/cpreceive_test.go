package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	conecv1 "github.com/conec-go/conec/messages/conec/v1"
)

// receivingInto is a copy of a folder "in" with files a and b of 6 bytes, of which states says what there is.
func receivingInto(t *testing.T, dir string, overwrite bool, steps ...step) *receiving {
	t.Helper()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	if err := root.Mkdir("in", 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		t.Fatal(err)
	}
	r := &receiving{desk: newDesk(root, "", streams{}), prefixes: map[uint64]prefix{}, steps: append([]step{stepKeep}, steps...)}
	t.Cleanup(r.closeFile)
	entries := []*conecv1.CopyEntry{{Folder: true, Mode: 0o700}, {Path: "a", Size: 6, Mode: 0o640}, {Path: "b", Size: 6, Mode: 0o640}}
	if err := r.list.add(&conecv1.CopyPlan{Target: "in", Overwrite: overwrite, Entries: entries, Last: true}); err != nil {
		t.Fatal(err)
	}
	return r
}

func part(number, offset uint64, data, whole string) *conecv1.CopyPart {
	p := &conecv1.CopyPart{Number: number, Offset: offset, Data: []byte(data)}
	if whole != "" {
		sum := sha256.Sum256([]byte(whole))
		p.Sha256 = sum[:]
	}
	return p
}

// contents returns the files of a folder, hidden ones too.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, entry := range entries {
		data, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			t.Fatal(err)
		}
		found[entry.Name()] = string(data)
	}
	return found
}

func TestParts(t *testing.T) {
	for _, row := range []struct {
		name  string
		parts []*conecv1.CopyPart
		want  error             // of the last one, or of the end
		left  map[string]string // in the folder
	}{
		{"whole", []*conecv1.CopyPart{part(1, 0, "aaa", ""), part(1, 3, "AAA", "aaaAAA"), part(2, 0, "bbbBBB", "bbbBBB")}, nil, map[string]string{"a": "aaaAAA", "b": "bbbBBB"}},
		{"other content", []*conecv1.CopyPart{part(1, 0, "aaaAAA", "aaaAAB")}, errDiffers, map[string]string{}},
		{"a gap", []*conecv1.CopyPart{part(1, 0, "aaa", ""), part(1, 4, "AAA", "aaaAAA")}, errDiffers, map[string]string{".a.conec-part": "aaa"}},
		{"from the middle", []*conecv1.CopyPart{part(1, 3, "aaaAAA", "aaaAAA")}, errDiffers, map[string]string{".a.conec-part": ""}},
		{"too long", []*conecv1.CopyPart{part(1, 0, "aaaAAA", ""), part(1, 6, "A", "aaaAAAA")}, errDiffers, map[string]string{".a.conec-part": "aaaAAA"}},
		{"too short", []*conecv1.CopyPart{part(1, 0, "aaa", "aaa")}, errDiffers, map[string]string{".a.conec-part": ""}},
		{"not ended", []*conecv1.CopyPart{part(1, 0, "aaa", ""), part(2, 0, "bbbBBB", "bbbBBB")}, errDiffers, map[string]string{".a.conec-part": "aaa"}},
		{"backward", []*conecv1.CopyPart{part(2, 0, "bbbBBB", "bbbBBB"), part(1, 0, "aaaAAA", "aaaAAA")}, errDiffers, map[string]string{"b": "bbbBBB"}},
		{"twice", []*conecv1.CopyPart{part(1, 0, "aaaAAA", "aaaAAA"), part(1, 0, "bbbBBB", "bbbBBB")}, errDiffers, map[string]string{"a": "aaaAAA"}},
		{"a folder", []*conecv1.CopyPart{part(0, 0, "aaaAAA", "aaaAAA")}, errDiffers, map[string]string{}},
		{"no entry", []*conecv1.CopyPart{part(3, 0, "aaaAAA", "aaaAAA")}, errDiffers, map[string]string{}},
		{"one is missing", []*conecv1.CopyPart{part(1, 0, "aaaAAA", "aaaAAA")}, errDiffers, map[string]string{"a": "aaaAAA"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			dir := t.TempDir()
			r := receivingInto(t, dir, false, stepReceive, stepReceive)
			var err error
			for i, p := range row.parts {
				if err = r.part(p); err != nil && i < len(row.parts)-1 {
					t.Fatalf("part %d: %v", i, err)
				}
			}
			if err == nil {
				err = r.finish()
			}
			if !errors.Is(err, row.want) {
				t.Errorf("got %v, want %v", err, row.want)
			}
			r.closeFile()
			if diff := cmp.Diff(row.left, contents(t, filepath.Join(dir, "in"))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestPartialFileGoesOn(t *testing.T) {
	for _, row := range []struct {
		name, partial string
		parts         []*conecv1.CopyPart
		want          error
	}{
		{"after it", "aaa", []*conecv1.CopyPart{part(1, 3, "AAA", "aaaAAA")}, nil},
		{"all was there", "aaaAAA", []*conecv1.CopyPart{part(1, 6, "", "aaaAAA")}, nil},
		{"from the start", "xxx", []*conecv1.CopyPart{part(1, 0, "aaaAAA", "aaaAAA")}, nil},
		{"after what is wrong", "xxx", []*conecv1.CopyPart{part(1, 3, "AAA", "aaaAAA")}, errDiffers},
	} {
		t.Run(row.name, func(t *testing.T) {
			dir := t.TempDir()
			r := receivingInto(t, dir, false, stepReceive, stepKeep)
			if err := os.WriteFile(filepath.Join(dir, "in", ".a.conec-part"), []byte(row.partial), 0o600); err != nil {
				t.Fatal(err)
			}
			state, err := r.state(context.Background(), 1, r.list.entries[1])
			sum := sha256.Sum256([]byte(row.partial))
			if err != nil || state.GetComplete() || state.GetSize() != uint64(len(row.partial)) || [32]byte(state.GetSha256()) != sum {
				t.Fatalf("state %v, %v", state, err)
			}
			for _, p := range row.parts {
				err = r.part(p)
			}
			if !errors.Is(err, row.want) {
				t.Fatalf("got %v, want %v", err, row.want)
			}
			want := map[string]string{"a": "aaaAAA"}
			if row.want != nil {
				want = map[string]string{}
			}
			if diff := cmp.Diff(want, contents(t, filepath.Join(dir, "in"))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// What came to the place after all was decided is not replaced.
func TestNothingIsReplacedUnasked(t *testing.T) {
	dir := t.TempDir()
	r := receivingInto(t, dir, false, stepReceive, stepCompare)
	place := filepath.Join(dir, "in", "a")
	if err := os.WriteFile(place, []byte("other"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.part(part(1, 0, "aaaAAA", "aaaAAA")); !errors.Is(err, errExists) {
		t.Errorf("got %v, want %v", err, errExists)
	}
	r.current = nil
	if err := r.part(part(2, 0, "bbbBBB", "bbbBBB")); !errors.Is(err, errExists) {
		t.Errorf("of one that was there: got %v, want %v", err, errExists)
	}
	if got := contents(t, filepath.Join(dir, "in"))["a"]; got != "other" {
		t.Errorf("%q is there", got)
	}
}

// A file that is being replaced is not done because another one was there before.
func TestReplacingIsNotDoneBefore(t *testing.T) {
	r := receivingInto(t, t.TempDir(), true, stepCompare, stepKeep)
	if err := r.part(part(1, 0, "aaa", "")); err != nil {
		t.Fatal(err)
	}
	if err := r.finish(); !errors.Is(err, errDiffers) {
		t.Errorf("got %v, want %v", err, errDiffers)
	}
}

func TestPercentile(t *testing.T) {
	var row benchRow
	times := make([]int64, 0, 200)
	for i := range int64(200) {
		times = append(times, (i*7)%200+1)
	}
	row.percentiles(durations(times))
	if row.Pings != 200 || row.P50 != 100 || row.P90 != 180 || row.P99 != 198 {
		t.Errorf("got %+v", row)
	}
	row.percentiles(durations([]int64{3}))
	if row.P50 != 3 || row.P99 != 3 {
		t.Errorf("of one: %+v", row)
	}
	row = benchRow{}
	if row.percentiles(nil); row != (benchRow{}) {
		t.Errorf("of none: %+v", row)
	}
}
