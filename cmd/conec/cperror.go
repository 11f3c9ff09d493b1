package main

import (
	"errors"
	"fmt"

	conecv1 "github.com/conec-go/conec/messages/conec/v1"
)

// Why a copy can not go on.
var (
	errExists  = errors.New("exists")
	errFolder  = fmt.Errorf("%w as a folder", errExists)
	errUnsafe  = errors.New("unsafe path")
	errDiffers = errors.New("content differs")
	errBusy    = errors.New("another copy goes on")
	errTooMany = errors.New("too many files")
	errStorage = errors.New("storage")
	errEnded   = errors.New("ended early")
	errLink    = errors.New("neither file nor folder")
)

// reasons are the errors that a peer is told, the more special first.
var reasons = []struct {
	reason conecv1.CopyReason
	err    error
}{
	{conecv1.CopyReason_COPY_REASON_EXISTS, errExists},
	{conecv1.CopyReason_COPY_REASON_UNSAFE, errUnsafe},
	{conecv1.CopyReason_COPY_REASON_DIFFERS, errDiffers},
	{conecv1.CopyReason_COPY_REASON_BUSY, errBusy},
	{conecv1.CopyReason_COPY_REASON_LIMIT, errTooMany},
	{conecv1.CopyReason_COPY_REASON_STORAGE, errStorage},
}

// copyError is why a copy can not go on, in words.
type copyError struct {
	kind error
	text string
}

func (e *copyError) Error() string { return e.text }
func (e *copyError) Unwrap() error { return e.kind }

func refusal(kind error, format string, args ...any) error {
	return &copyError{kind: kind, text: fmt.Sprintf(format, args...)}
}

// toRefused is what the peer is told about an error.
func toRefused(err error) *conecv1.CopyRefused {
	refused := &conecv1.CopyRefused{Text: err.Error()}
	if errors.Is(err, errFolder) {
		refused.Text += "; to copy into it, end PATH with /"
	}
	for _, row := range reasons {
		if errors.Is(err, row.err) {
			refused.Reason = row.reason
			break
		}
	}
	return refused
}

// fromRefused is the reverse of toRefused.
func fromRefused(refused *conecv1.CopyRefused) error {
	kind := errEnded
	for _, row := range reasons {
		if row.reason == refused.GetReason() {
			kind = row.err
		}
	}
	return &copyError{kind: kind, text: fmt.Sprintf("%v: %s", kind, printable(refused.GetText()))}
}
