package messages_test

import (
	"bytes"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
)

// FuzzGroupData holds the short way of encoding and decoding the message of a group against protobuf's own.
func FuzzGroupData(f *testing.F) {
	for _, entry := range []*conecv1.GroupEntry{
		{Sender: 7, Data: []byte("hello")},
		{Sender: 1 << 40, Data: []byte{}},
		{Data: []byte("nobody")},
		{Joined: &conecv1.GroupMember{Number: 3, Name: "alice"}},
		{Sender: 3},
		{},
	} {
		body, err := proto.Marshal(entry)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		sender, data, ok := messages.CutGroupData(body)
		entry := &conecv1.GroupEntry{}
		if err := proto.Unmarshal(body, entry); err != nil && ok {
			t.Fatalf("%x is no entry, and has message %x", body, data)
		}
		if !ok {
			return
		}
		if entry.GetSender() != sender || !bytes.Equal(entry.GetData(), data) || entry.Data == nil {
			t.Fatalf("%x is %d, %x, want %v", body, sender, data, entry)
		}
		again := append(messages.AppendGroupData(nil, sender, data), data...)
		if sender2, data2, ok := messages.CutGroupData(again); !ok || sender2 != sender || !bytes.Equal(data2, data) {
			t.Fatalf("%x comes back as %d, %x", again, sender2, data2)
		}
	})
}

func TestIsSealedControl(t *testing.T) {
	for _, test := range []struct {
		name  string
		entry *conecv1.SealedEntry
		want  bool
	}{
		{"message", &conecv1.SealedEntry{Entry: &conecv1.SealedEntry_Message{Message: &conecv1.SealedMessage{}}}, false},
		{"keys", &conecv1.SealedEntry{Entry: &conecv1.SealedEntry_Keys{Keys: &conecv1.SealedKeys{}}}, true},
		{"want", &conecv1.SealedEntry{Entry: &conecv1.SealedEntry_Want{Want: &conecv1.SealedWant{Members: []uint64{1}}}}, true},
		{"heard", &conecv1.SealedEntry{Entry: &conecv1.SealedEntry_Heard{Heard: &conecv1.SealedHeard{Before: 7}}}, true},
		{"nothing", &conecv1.SealedEntry{}, false},
	} {
		body, err := proto.Marshal(test.entry)
		if err != nil {
			t.Fatal(err)
		}
		if got := messages.IsSealedControl(body); got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
	}
	if messages.IsSealedControl([]byte{0x80}) || messages.IsSealedControl([]byte("\x10\x01")) {
		t.Error("what is nothing is about keys")
	}
}
