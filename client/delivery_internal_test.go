package client

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	conecv1 "github.com/conec-go/conec/messages/conec/v1"
)

// TestOptions takes options over the wire and back.
func TestOptions(t *testing.T) {
	for _, options := range []StreamOptions{
		{},
		{Purpose: "p", OneWay: true, Urgency: Bulk},
		{Delivery: Unordered, Deadline: time.Second},
		{Delivery: Sequenced, Deadline: maxDeadline, Copies: true, CopyAfter: maxCopyAfter},
		{Delivery: Lossy, Copies: true, CopyAfter: defaultCopyAfter},
	} {
		open, err := options.terms()
		if err != nil {
			t.Fatal(err)
		}
		wire, err := proto.Marshal(open)
		if err != nil {
			t.Fatal(err)
		}
		got := &conecv1.OpenStream{}
		if err = proto.Unmarshal(wire, got); err != nil {
			t.Fatal(err)
		}
		if difference := cmp.Diff(options, optionsOf(got)); difference != "" {
			t.Error(difference)
		}
	}
	open, err := (&StreamOptions{Delivery: Lossy, Copies: true}).terms()
	if err != nil || optionsOf(open).CopyAfter != defaultCopyAfter {
		t.Error(open, err)
	}
}

func TestOptionsWrong(t *testing.T) {
	for _, wrong := range []struct {
		options StreamOptions
		want    string
	}{
		{StreamOptions{Purpose: strings.Repeat("x", 256)}, "purpose"},
		{StreamOptions{Delivery: 4}, "Delivery is 4"},
		{StreamOptions{Delivery: -1}, "Delivery is -1"},
		{StreamOptions{Urgency: 2}, "Urgency is 2"},
		{StreamOptions{Resumable: true, Delivery: Lossy}, "Resumable is for ordered"},
		{StreamOptions{Early: true, Delivery: Unordered}, "Early is for ordered"},
		{StreamOptions{Early: true, Deadline: time.Second}, "Early is for ordered"},
		{StreamOptions{Deadline: time.Second, Resumable: true}, "not for resumable"},
		{StreamOptions{Delivery: Lossy, Deadline: -1}, "Deadline is -1ns"},
		{StreamOptions{Delivery: Lossy, Deadline: 1}, "Deadline is 1ns"},
		{StreamOptions{Delivery: Lossy, Deadline: maxDeadline + 1}, "Deadline is 24h"},
		{StreamOptions{Delivery: Unordered, Copies: true}, "Copies are for"},
		{StreamOptions{CopyAfter: time.Second}, "Copies are for"},
		{StreamOptions{Delivery: Lossy, CopyAfter: time.Second}, "Copies is not"},
		{StreamOptions{Delivery: Lossy, Copies: true, CopyAfter: -time.Second}, "CopyAfter is -1s"},
		{StreamOptions{Delivery: Lossy, Copies: true, CopyAfter: maxCopyAfter + 1}, "CopyAfter is 10.0"},
	} {
		if _, err := wrong.options.terms(); err == nil || !strings.Contains(err.Error(), wrong.want) {
			t.Errorf("%+v: %v, want %q", wrong.options, err, wrong.want)
		}
	}
}
