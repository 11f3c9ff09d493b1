package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"unicode/utf8"

	conecv1 "github.com/conec-go/conec/messages/conec/v1"
)

// fileList is what is to be copied from here.
type fileList struct {
	root    string // file or folder
	entries []*conecv1.CopyEntry
	files   int
	bytes   int64 // of all files
}

// listFiles lists a file, or a folder and all that is in it. A symbolic link is followed if it is the root itself; inside it is an
// error, or left out if skip says so.
func listFiles(root string, skip bool, screen *console) (*fileList, error) {
	info, err := os.Stat(root)
	if err != nil {
		return nil, err
	}
	root, err = filepath.EvalSymlinks(root) // a walk would not follow it
	if err != nil {
		return nil, err
	}
	list := &fileList{root: root}
	if !info.IsDir() {
		return list, list.add(root, "", info)
	}
	return list, filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		if relative == "." {
			relative = ""
		}
		if skip && !entry.IsDir() && (!entry.Type().IsRegular() || isPartial(entry.Name())) {
			fmt.Fprintf(screen, "left out: %q\n", relative)
			return nil
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		return list.add(name, filepath.ToSlash(relative), info)
	})
}

// add takes the next entry up.
func (l *fileList) add(name, relative string, info fs.FileInfo) error {
	switch {
	case !info.IsDir() && !info.Mode().IsRegular():
		return refusal(errLink, "%q is neither a file nor a folder", name)
	case isPartial(info.Name()) && relative != "":
		return refusal(errLink, "%q is the partial file of a copy", name)
	case !utf8.ValidString(relative):
		return refusal(errUnsafe, "%q is no name in UTF-8", name)
	case len(l.entries) == maxEntries:
		return refusal(errTooMany, "more than %d files", maxEntries)
	}
	entry := &conecv1.CopyEntry{Path: relative, Folder: info.IsDir(), Mode: uint32(info.Mode().Perm()), Modified: info.ModTime().UnixNano()}
	if !info.IsDir() {
		entry.Size = uint64(info.Size())
		l.files++
		l.bytes += info.Size()
	}
	l.entries = append(l.entries, entry)
	return nil
}

// open opens the file of an entry, unless it has changed since it was listed.
func (l *fileList) open(entry *conecv1.CopyEntry) (*os.File, error) {
	file, err := os.Open(l.path(entry))
	if err != nil {
		return nil, err
	}
	if err := l.unchanged(entry, file); err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

func (l *fileList) path(entry *conecv1.CopyEntry) string {
	return filepath.Join(l.root, filepath.FromSlash(entry.GetPath()))
}

// unchanged reports that a file is no longer what was listed.
func (l *fileList) unchanged(entry *conecv1.CopyEntry, file *os.File) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() || info.Size() != int64(entry.GetSize()) || info.ModTime().UnixNano() != entry.GetModified() {
		return refusal(errDiffers, "%q has changed since the copy began", l.path(entry))
	}
	return nil
}
