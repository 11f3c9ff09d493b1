package netio

import (
	"errors"
	"testing"

	"github.com/conec-go/conec/messages"
)

// TestIntakeAttachments: only the present attachment delivers, and only what it
// delivers is counted.
func TestIntakeAttachments(t *testing.T) {
	k := newIntake(1 << 20)
	k.journal = newJournal(nil, 1<<20, 1<<20, k)
	former, present := newInbox(nil, 1, nil), newInbox(nil, 1, nil)
	former.tell, present.tell = func() {}, func() {}
	one := run{frames: appendFrame(nil, fieldMessages, []byte("x"))}
	k.attach(former)
	if err := k.deliver(former, one, 1); err != nil {
		t.Fatal(err)
	}
	if taken := k.attach(present); taken != 1 {
		t.Errorf("taken %d, want 1", taken)
	}
	if err := k.deliver(former, one, 1); !errors.Is(err, errLeft) {
		t.Errorf("the former attachment delivers: %v", err)
	}
	if err := k.control(former, fieldEnd, appendUint(nil, 1, 1)); !errors.Is(err, errLeft) {
		t.Errorf("the former attachment ends the stream: %v", err)
	}
	if err := k.control(former, fieldAck, nil); !errors.Is(err, errLeft) {
		t.Errorf("the former attachment acknowledges: %v", err)
	}
	if _, ok := k.grant(former); ok {
		t.Error("the former attachment has credit")
	}
	if taken, _ := k.state(); taken != 1 {
		t.Errorf("taken %d, want 1", taken)
	}
	k.stopTimer()
}

// TestJournalRepeatsStop: that no more is received is said on every attachment.
func TestJournalRepeatsStop(t *testing.T) {
	k := newIntake(1 << 20)
	j := newJournal(nil, 1<<20, 1<<20, k)
	k.journal = j
	j.pumping = true // by this test
	k.stop(messages.ErrClosed)
	for attachment := range 3 {
		if err := j.attach(&Stream{}, 0, 0, 0, nil); err != nil {
			t.Fatal(err)
		}
		want := appendAck(nil, 0, false, true)
		if got, _ := j.nextFrames(nil); string(got) != string(want) {
			t.Errorf("attachment %d: frames %x, want %x", attachment, got, want)
		}
		if got, _ := j.nextFrames(nil); got != nil {
			t.Errorf("attachment %d: said twice: %x", attachment, got)
		}
	}
}
