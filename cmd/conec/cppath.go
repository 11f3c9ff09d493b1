package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"strings"

	conecv1 "github.com/conec-go/conec/messages/conec/v1"
)

// Limits of what is copied at once. The receiver keeps the list in memory.
const (
	maxPath    = 4096      // bytes of a path
	maxName    = 255       // bytes of one name in it
	maxEntries = 1_000_000 // files and folders
	maxListing = 256 << 20 // bytes of all paths, and entryCost for each
	entryCost  = 64
)

// partialSuffix is how the name of a partial file ends; it begins with a dot.
const partialSuffix = ".conec-part"

// checkPath reports why a path may not be written to. What it lets through names something below the folder, by names with
// slashes between them, and no partial file. That no symbolic link leads outside is up to os.Root.
func checkPath(name string) error {
	switch {
	case !fs.ValidPath(name) || name == ".":
		return refusal(errUnsafe, "%q does not lead into the folder", name)
	case len(name) > maxPath:
		return refusal(errUnsafe, "path of %d bytes: at most %d", len(name), maxPath)
	}
	if _, err := filepath.Localize(name); err != nil {
		return refusal(errUnsafe, "%q is no path there", name)
	}
	for part := range strings.SplitSeq(name, "/") {
		if len(part) > maxName {
			return refusal(errUnsafe, "name of %d bytes: at most %d", len(part), maxName)
		}
		if isPartial(part) {
			return refusal(errUnsafe, "%q is the name of a partial file", part)
		}
	}
	return nil
}

func isPartial(name string) bool {
	return strings.HasPrefix(name, ".") && strings.HasSuffix(name, partialSuffix)
}

// partialPath is where a file is until it is whole: beside its place.
func partialPath(name string) string {
	dir, base := path.Split(name)
	if len(base)+1+len(partialSuffix) > maxName {
		sum := sha256.Sum256([]byte(base))
		base = hex.EncodeToString(sum[:])
	}
	return dir + "." + base + partialSuffix
}

// targetOf says where at the peer a file or folder named base goes, if the user wrote where: a path that ends with a slash is the
// folder that it goes into.
func targetOf(where, base string) string {
	if where == "" || strings.HasSuffix(where, "/") {
		where += base
	}
	return path.Clean(where)
}

// listing is what a peer wants to copy.
type listing struct {
	target    string
	overwrite bool
	entries   []*conecv1.CopyEntry
	last      bool

	size  int64           // of paths
	kinds map[string]bool // by path: folders are true
}

// add takes the next plan over, if it is a good one.
func (l *listing) add(plan *conecv1.CopyPlan) error {
	if l.kinds == nil {
		l.kinds = map[string]bool{}
		l.target, l.overwrite = plan.GetTarget(), plan.GetOverwrite()
		if err := checkPath(l.target); err != nil {
			return err
		}
	}
	for _, entry := range plan.GetEntries() {
		l.size += int64(len(entry.GetPath()) + entryCost)
		if len(l.entries) == maxEntries || l.size > maxListing {
			return refusal(errTooMany, "more than %d files, or their names too long", maxEntries)
		}
		if err := l.check(entry); err != nil {
			return err
		}
		l.kinds[entry.GetPath()] = entry.GetFolder()
		l.entries = append(l.entries, entry)
	}
	l.last = plan.GetLast()
	if l.last && len(l.entries) == 0 {
		return refusal(errUnsafe, "nothing to copy")
	}
	return nil
}

// check reports what is wrong with the next entry: the first is the target itself, the others are in folders before them.
func (l *listing) check(entry *conecv1.CopyEntry) error {
	name := entry.GetPath()
	if entry.GetSize() > 1<<62 || entry.GetFolder() && entry.GetSize() > 0 {
		return refusal(errUnsafe, "%q has an impossible size", name)
	}
	if len(l.entries) == 0 {
		if name != "" {
			return refusal(errUnsafe, "the first entry is %q", name)
		}
		return nil
	}
	if err := checkPath(l.place(entry)); err != nil {
		return err
	}
	if _, twice := l.kinds[name]; twice {
		return refusal(errUnsafe, "%q comes twice", name)
	}
	parent := path.Dir(name)
	if parent == "." {
		parent = ""
	}
	if !l.kinds[parent] {
		return refusal(errUnsafe, "%q is in no folder of the list", name)
	}
	return nil
}

// place is where an entry goes, below the receiver's folder.
func (l *listing) place(entry *conecv1.CopyEntry) string {
	if entry.GetPath() == "" {
		return l.target
	}
	return l.target + "/" + entry.GetPath()
}

// sum tells one listing from others.
func (l *listing) sum() [sha256.Size]byte {
	hash := sha256.New()
	fmt.Fprintf(hash, "%q %t\n", l.target, l.overwrite)
	for _, entry := range l.entries {
		fmt.Fprintf(hash, "%q %t %d %o %d\n", entry.GetPath(), entry.GetFolder(), entry.GetSize(), entry.GetMode(), entry.GetModified())
	}
	return [sha256.Size]byte(hash.Sum(nil))
}

// step is what is to be done about an entry.
type step int

const (
	stepMake    step = iota // a folder that is not there
	stepKeep                // a folder that is
	stepReceive             // a file
	stepCompare             // a file, but one of the same size is there
)

// decide says what is to be done about an entry of which there is info, or nil if nothing is there.
func decide(entry *conecv1.CopyEntry, name string, there fs.FileInfo, overwrite bool) (step, error) {
	switch {
	case entry.GetFolder() && there == nil:
		return stepMake, nil
	case entry.GetFolder() && there.IsDir():
		return stepKeep, nil
	case entry.GetFolder():
		return 0, refusal(errExists, "%q is there and no folder", name)
	case there == nil:
		return stepReceive, nil
	case there.IsDir():
		return 0, refusal(errFolder, "%q is a folder there", name)
	case !there.Mode().IsRegular():
		return 0, refusal(errExists, "%q is there and no ordinary file", name)
	case there.Size() == int64(entry.GetSize()):
		return stepCompare, nil
	case overwrite:
		return stepReceive, nil
	}
	return 0, refusal(errExists, "%q is there already, with other content", name)
}
