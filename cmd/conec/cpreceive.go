package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"time"

	conecv1 "github.com/conec-go/conec/messages/conec/v1"
)

// syncFrom is how large a file is that is written to the disk for sure before it gets its name. For small ones that would take longer
// than all the rest.
const syncFrom = 1 << 20

// prefix is a partial file that was there, and the hash that has read it.
type prefix struct {
	size int64
	sum  hash.Hash
}

// incomingFile is the file that parts are written to now.
type incomingFile struct {
	number uint64
	name   string // its place
	file   *os.File
	sum    hash.Hash
	size   int64 // so far
}

// prepare decides about all entries before anything is changed, makes the folders, and says what there is of the files.
func (r *receiving) prepare(ctx context.Context) error {
	for _, entry := range r.list.entries {
		name := r.list.place(entry)
		there, err := r.stat(name)
		if err != nil {
			return err
		}
		todo, err := decide(entry, name, there, r.list.overwrite)
		if err != nil {
			return err
		}
		r.steps = append(r.steps, todo)
	}
	if parent := path.Dir(r.list.target); parent != "." {
		if err := r.desk.root.MkdirAll(filepath.FromSlash(parent), 0o777); err != nil {
			return storage(parent, err)
		}
	}
	for i, entry := range r.list.entries {
		if r.steps[i] == stepMake {
			name := r.list.place(entry)
			if err := r.desk.root.Mkdir(filepath.FromSlash(name), os.FileMode(entry.GetMode()&0o777)|0o700); err != nil {
				return storage(name, err)
			}
		}
	}
	return r.answer(ctx)
}

// stat returns what is at a path, itself and not what it links to, or nil.
func (r *receiving) stat(name string) (fs.FileInfo, error) {
	info, err := r.desk.root.Lstat(filepath.FromSlash(name))
	switch {
	case err == nil:
		return info, nil
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	}
	return nil, storage(name, err)
}

// answer says what there is of the files.
func (r *receiving) answer(ctx context.Context) error {
	report := &conecv1.CopyReport{}
	for i, entry := range r.list.entries {
		if entry.GetFolder() {
			continue
		}
		state, err := r.state(ctx, uint64(i), entry)
		if err != nil {
			return err
		}
		if state == nil {
			continue
		}
		if report.States = append(report.States, state); len(report.GetStates()) == answerStates {
			if err := r.tell(ctx, report); err != nil {
				return err
			}
			report = &conecv1.CopyReport{}
		}
	}
	report.Ready = true
	return r.tell(ctx, report)
}

// state reads what there is of a file: nil is nothing.
func (r *receiving) state(ctx context.Context, number uint64, entry *conecv1.CopyEntry) (*conecv1.CopyState, error) {
	name, sum := r.list.place(entry), sha256.New()
	there, err := r.stat(partialPath(name))
	if err != nil {
		return nil, err
	}
	if there != nil && !there.Mode().IsRegular() {
		return nil, refusal(errExists, "%q is there and no ordinary file", partialPath(name))
	}
	goesOn := there != nil && there.Size() > 0 && there.Size() <= int64(entry.GetSize())
	if r.steps[number] == stepCompare && (!goesOn || !r.list.overwrite) {
		size, err := r.read(ctx, name, sum)
		if err != nil {
			return nil, err
		}
		return &conecv1.CopyState{Number: number, Size: uint64(size), Sha256: sum.Sum(nil), Complete: true}, nil
	}
	if !goesOn {
		return nil, nil
	}
	size, err := r.read(ctx, partialPath(name), sum)
	if err != nil {
		return nil, err
	}
	r.prefixes[number] = prefix{size, sum}
	return &conecv1.CopyState{Number: number, Size: uint64(size), Sha256: sum.Sum(nil)}, nil
}

func (r *receiving) read(ctx context.Context, name string, sum hash.Hash) (int64, error) {
	file, err := r.desk.root.Open(filepath.FromSlash(name))
	if err != nil {
		return 0, storage(name, err)
	}
	defer file.Close()
	size, err := io.Copy(sum, &contextReader{ctx, file})
	if err != nil {
		return 0, storage(name, err)
	}
	return size, nil
}

// part writes a part to its file.
func (r *receiving) part(part *conecv1.CopyPart) error {
	if r.current == nil || r.current.number != part.GetNumber() {
		if err := r.begin(part); err != nil {
			return err
		}
	}
	c := r.current
	entry := r.list.entries[c.number]
	last := len(part.GetSha256()) > 0
	switch end := c.size + int64(len(part.GetData())); {
	case int64(part.GetOffset()) != c.size:
		return refusal(errDiffers, "%q: a part at %d instead of %d", c.name, part.GetOffset(), c.size)
	case end > int64(entry.GetSize()) || last && end != int64(entry.GetSize()):
		return refusal(errDiffers, "%q: %d bytes instead of %d", c.name, end, entry.GetSize())
	}
	if _, err := c.file.Write(part.GetData()); err != nil {
		return storage(c.name, err)
	}
	c.sum.Write(part.GetData())
	c.size += int64(len(part.GetData()))
	r.bytes += int64(len(part.GetData()))
	if last {
		return r.place(entry, part.GetSha256())
	}
	return nil
}

// begin opens the partial file for the first part of an entry.
func (r *receiving) begin(part *conecv1.CopyPart) error {
	number := part.GetNumber()
	if r.current != nil || number < r.next || number >= uint64(len(r.list.entries)) || r.list.entries[number].GetFolder() {
		return refusal(errDiffers, "part of entry %d at the wrong time", number)
	}
	name := r.list.place(r.list.entries[number])
	if r.steps[number] == stepCompare && !r.list.overwrite {
		return refusal(errExists, "%q is there already, with other content", name)
	}
	c := &incomingFile{number: number, name: name, sum: sha256.New()}
	flags := os.O_WRONLY | os.O_CREATE | os.O_EXCL
	if had, ok := r.prefixes[number]; ok && part.GetOffset() > 0 {
		c.sum, c.size, flags = had.sum, had.size, os.O_WRONLY|os.O_APPEND
	} else if err := r.desk.root.Remove(filepath.FromSlash(partialPath(name))); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return storage(name, err)
	}
	file, err := r.desk.root.OpenFile(filepath.FromSlash(partialPath(name)), flags, 0o600)
	if err != nil {
		return storage(name, err)
	}
	c.file, r.current, r.next, r.steps[number] = file, c, number+1, stepReceive
	if info, err := file.Stat(); err != nil || info.Size() != c.size {
		return storage(name, fmt.Errorf("the partial file has changed meanwhile: %w", fs.ErrInvalid))
	}
	return nil
}

// place verifies the current file and gives it its name.
func (r *receiving) place(entry *conecv1.CopyEntry, sum []byte) error {
	c := r.current
	partial := filepath.FromSlash(partialPath(c.name))
	if !bytes.Equal(c.sum.Sum(nil), sum) {
		r.closeFile()
		return errors.Join(refusal(errDiffers, "%q: the SHA-256 of what arrived is not that of the file", c.name), r.desk.root.Remove(partial))
	}
	var err error
	if c.size >= syncFrom {
		err = c.file.Sync()
	}
	err = errors.Join(err, c.file.Chmod(os.FileMode(entry.GetMode()&0o777)), c.file.Close())
	r.current = nil
	modified := time.Unix(0, entry.GetModified())
	if err = errors.Join(err, r.desk.root.Chtimes(partial, modified, modified)); err != nil {
		return storage(c.name, err)
	}
	if !r.list.overwrite { // what came there meanwhile stays
		if there, err := r.stat(c.name); err != nil || there != nil {
			return errors.Join(err, refusal(errExists, "%q is there already", c.name))
		}
	}
	if err := r.desk.root.Rename(partial, filepath.FromSlash(c.name)); err != nil {
		return storage(c.name, err)
	}
	r.steps[c.number] = stepKeep
	return nil
}

// finish holds that nothing is missing, and gives the folders their modes and times.
func (r *receiving) finish() error {
	for i, entry := range r.list.entries {
		switch {
		case entry.GetFolder():
		case r.steps[i] == stepReceive:
			return refusal(errDiffers, "%q did not come, or not all of it", r.list.place(entry))
		default:
			r.files++
		}
	}
	for _, entry := range slices.Backward(r.list.entries) { // a folder after what is in it
		if !entry.GetFolder() {
			continue
		}
		name, modified := filepath.FromSlash(r.list.place(entry)), time.Unix(0, entry.GetModified())
		if err := errors.Join(r.desk.root.Chmod(name, os.FileMode(entry.GetMode()&0o777)), r.desk.root.Chtimes(name, modified, modified)); err != nil {
			return storage(name, err)
		}
	}
	return nil
}

// closeFile leaves the partial file for another time.
func (r *receiving) closeFile() {
	if r.current != nil {
		r.current.file.Close()
		r.current = nil
	}
}

// storage says which file it was, without the path of the folder.
func storage(name string, err error) error {
	if failed, ok := errors.AsType[*fs.PathError](err); ok {
		err = failed.Err
	}
	if err.Error() == "path escapes from parent" { // of package os, which has no name for it
		return refusal(errUnsafe, "%q leads outside of the folder", name)
	}
	return &copyError{kind: fmt.Errorf("%w: %w", errStorage, err), text: fmt.Sprintf("%q: %v", name, err)}
}

// contextReader reads until ctx ends.
type contextReader struct {
	ctx  context.Context //nolint:containedctx // lives as long as one call
	from io.Reader
}

func (c *contextReader) Read(data []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.from.Read(data)
}
