package actors

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	conecv1 "github.com/conec-go/conec/messages/conec/v1"
)

// TestPathReasons plays short stories, and asks why the path is what it is, and what
// became of the first candidate.
func TestPathReasons(t *testing.T) {
	offer := func(k *track, numbers ...int) {
		var addrs []netip.AddrPort
		for _, n := range numbers {
			addrs = append(addrs, at(n))
		}
		k.set.offer(k.now, addrs)
		k.next = k.now
	}
	pinged := func(k *track, d time.Duration) { // by the peer, all the time
		for end := k.now.Add(d); k.now.Before(end); k.run(100 * time.Millisecond) {
			k.set.seen(k.now, nil, at(1))
		}
	}
	died := func(k *track) *fakePath {
		k.sending = true
		p := k.path(1)
		offer(k, 1)
		k.until(1, time.Second)
		k.run(20 * time.Second)
		p.die()
		k.until(0, 2*time.Second)
		return p
	}
	const none = conecv1.CandidateState(-1)
	tests := []struct {
		name   string
		story  func(k *track)
		reason conecv1.PathReason
		state  conecv1.CandidateState
	}{
		{"only the relay is allowed", func(k *track) { k.set.allowDirect = false; offer(k, 1) }, conecv1.PathReason_PATH_REASON_RELAY_ONLY, none},
		{"the peer has said nothing", func(*track) {}, conecv1.PathReason_PATH_REASON_AWAITS_OFFER, none},
		{"the peer offers nothing", func(k *track) { offer(k) }, conecv1.PathReason_PATH_REASON_NOTHING_OFFERED, none},
		{
			"before the first probe", func(k *track) { offer(k, 1) },
			conecv1.PathReason_PATH_REASON_SEARCHING, conecv1.CandidateState_CANDIDATE_STATE_UNSPECIFIED,
		},
		{
			"in the first round", func(k *track) { offer(k, 1, 2); k.run(4 * time.Second) },
			conecv1.PathReason_PATH_REASON_SEARCHING, conecv1.CandidateState_CANDIDATE_STATE_SILENT,
		},
		{
			"after it", func(k *track) { offer(k, 1, 2); k.run(6 * time.Second) },
			conecv1.PathReason_PATH_REASON_NO_ANSWER, conecv1.CandidateState_CANDIDATE_STATE_SILENT,
		},
		{
			"one answer", func(k *track) { k.path(1); offer(k, 1); k.run(50 * time.Millisecond) },
			conecv1.PathReason_PATH_REASON_PROVING, conecv1.CandidateState_CANDIDATE_STATE_PROVING,
		},
		{
			"two answers", func(k *track) { k.path(1); offer(k, 1, 2); k.run(time.Second) },
			conecv1.PathReason_PATH_REASON_ONLY_DIRECT, conecv1.CandidateState_CANDIDATE_STATE_IN_USE,
		},
		{
			"two paths", func(k *track) {
				k.path(1)
				k.path(2).roundTrip = 60 * time.Millisecond
				offer(k, 1, 2)
				k.run(time.Second)
			},
			conecv1.PathReason_PATH_REASON_FASTEST, conecv1.CandidateState_CANDIDATE_STATE_IN_USE,
		},
		{
			"another one becomes a little faster", func(k *track) {
				k.path(1)
				k.path(2).roundTrip = 42 * time.Millisecond
				offer(k, 1, 2)
				k.until(1, time.Second)
				k.paths[at(2)].roundTrip = 30 * time.Millisecond
				k.run(20 * time.Second)
			},
			conecv1.PathReason_PATH_REASON_SMALL_GAIN, conecv1.CandidateState_CANDIDATE_STATE_IN_USE,
		},
		{
			"a spare one", func(k *track) {
				k.path(1).roundTrip = 60 * time.Millisecond
				k.path(2)
				offer(k, 1, 2)
				k.run(10 * time.Second)
			},
			conecv1.PathReason_PATH_REASON_FASTEST, conecv1.CandidateState_CANDIDATE_STATE_SPARE,
		},
		{
			"it died", func(k *track) { died(k) },
			conecv1.PathReason_PATH_REASON_DIED, conecv1.CandidateState_CANDIDATE_STATE_DEAD,
		},
		{
			"just after the peer was heard", func(k *track) {
				k.path(1)
				offer(k, 1)
				k.until(1, time.Second)
				k.sending = true
				k.run(20 * time.Second)
				k.set.seen(k.now, nil, at(1))
				k.paths[at(1)].die()
				k.until(0, 2*time.Second)
				k.run(3 * time.Second)
			},
			conecv1.PathReason_PATH_REASON_DIED, conecv1.CandidateState_CANDIDATE_STATE_DEAD,
		},
		{
			"it is back too soon", func(k *track) { died(k).probes = true; k.run(time.Second) },
			conecv1.PathReason_PATH_REASON_HELD_DOWN, conecv1.CandidateState_CANDIDATE_STATE_HELD_DOWN,
		},
		{
			"only the peer's probes come", func(k *track) { offer(k, 1); pinged(k, 3*time.Second) },
			conecv1.PathReason_PATH_REASON_ONE_WAY, conecv1.CandidateState_CANDIDATE_STATE_ONE_WAY,
		},
		{
			"they came long ago", func(k *track) { offer(k, 1); pinged(k, 3*time.Second); k.run(time.Minute) },
			conecv1.PathReason_PATH_REASON_NO_ANSWER, conecv1.CandidateState_CANDIDATE_STATE_SILENT,
		},
		{
			"nothing can be sent", func(k *track) {
				offer(k, 1)
				k.run(time.Second)
				k.set.noteUnsent(nil, at(1), errors.New("no network"))
			},
			conecv1.PathReason_PATH_REASON_UNSENT, conecv1.CandidateState_CANDIDATE_STATE_UNSENT,
		},
		{
			"to one of two", func(k *track) {
				offer(k, 1, 2)
				k.run(6 * time.Second)
				k.set.noteUnsent(nil, at(1), errors.New("no network"))
			},
			conecv1.PathReason_PATH_REASON_NO_ANSWER, conecv1.CandidateState_CANDIDATE_STATE_UNSENT,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			k := newTrack(t)
			test.story(k)
			if got := k.set.reason(k.now); got != test.reason {
				t.Errorf("reason is %v, want %v", got, test.reason)
			}
			state := none
			if len(k.set.candidates) > 0 {
				state = k.set.state(k.now, k.set.candidates[0])
			}
			if state != test.state {
				t.Errorf("state is %v, want %v", state, test.state)
			}
		})
	}
}

// TestPathReportCounts holds the figures of a report to what was sent and answered.
func TestPathReportCounts(t *testing.T) {
	k := newTrack(t)
	k.path(1)
	k.set.size = 1300
	k.set.offer(k.now, []netip.AddrPort{at(1), at(2)})
	k.set.seen(k.now, nil, at(3))
	k.run(12 * time.Second)
	k.set.seen(k.now, nil, at(4)) // its probe is faster than its offer
	k.set.offer(k.now, []netip.AddrPort{at(1), at(2), at(4)})
	k.next = k.now
	k.run(time.Second)
	told := k.set.describe(k.now)
	if !told.GetHeard() || told.GetOffered() != 3 || told.GetProbeSize() != 1300 || told.GetDied() != nil || len(told.GetCandidates()) != 4 {
		t.Fatalf("report is %v", told)
	}
	for i, c := range told.GetCandidates() {
		if n := i + 1; c.GetAddress() != at(n).String() || int(c.GetProbes()) != len(k.pings(n, k.began)) || c.GetReflexive() != (n == 3) {
			t.Errorf("candidate %d with %d probes is %v", n, len(k.pings(n, k.began)), c)
		}
	}
	first, second := told.GetCandidates()[0], told.GetCandidates()[1]
	if first.GetAnswers() != first.GetProbes() || first.GetRtt().AsDuration() != 40*time.Millisecond || first.GetLargest() != 1300 {
		t.Errorf("answered candidate is %v", first)
	}
	if second.GetAnswers() != 0 || second.GetRtt() != nil || second.GetAnswered() != nil || second.GetLargest() != 0 {
		t.Errorf("silent candidate is %v", second)
	}
	k.paths[at(1)].die()
	k.run(10 * time.Second)
	told = k.set.describe(k.now)
	if ago := k.now.Sub(told.GetDied().AsTime()); told.GetDiedAt() != at(1).String() || ago <= 0 || ago > 10*time.Second {
		t.Errorf("path died, report is %v", told)
	}
}
