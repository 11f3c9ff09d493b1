package coord

import (
	"fmt"
	"testing"
	"time"

	"github.com/conec-go/conec/coord/policy"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
)

// crowded is presence with 10,000 clients, of which so many watch all and know it.
func crowded(b *testing.B, watchers int) *presence {
	b.Helper()
	p := newPresence((*Config)(nil).withDefaults().Limits, policy.AllowAll{}.See)
	for i := range uint64(10_000) {
		p.attach(time.Unix(0, 0), &attachment{id: i + 1, name: fmt.Sprintf("client-%05d", i), key: []byte("key"), accepts: true}, i, nil)
	}
	for i := range uint64(watchers) {
		begin(b, p, i+1)
	}
	return p
}

// begin has a client watch all, and take what it is told.
func begin(b *testing.B, p *presence, id uint64) {
	b.Helper()
	if _, err := p.watch(id, &conecv1.WatchPeers{Watch: 1, Pattern: "*"}); err != nil {
		b.Fatal(err)
	}
	told := 0
	for {
		says, _, more := p.flush(time.Unix(1, 0), flushBudget)
		for _, said := range says {
			told += len(said.message.GetPeersChanged().GetPeers())
			p.grant(said.to, &conecv1.GrantPeers{Limit: 1 << 60})
		}
		if !more && len(p.queue) == 0 {
			break
		}
	}
	if told != 9_999 {
		b.Fatalf("told %d", told)
	}
}

// BenchmarkList has one of 10,000 clients told who is there: what it costs the coordinator, but for the network.
func BenchmarkList(b *testing.B) {
	p := crowded(b, 0)
	for b.Loop() {
		begin(b, p, 1)
		p.endWatch(1, &conecv1.EndWatch{Watch: 1})
	}
}

// BenchmarkChange has 1,000 watches told of a change among 10,000 clients.
func BenchmarkChange(b *testing.B) {
	p := crowded(b, 1000)
	now, n := time.Unix(2, 0), 0
	for b.Loop() {
		n++
		now = now.Add(time.Second)
		p.setMetadata(now, 5000, &conecv1.SetMetadata{Metadata: []*conecv1.Label{{Key: "n", Value: fmt.Sprint(n)}}})
		told := 0
		for more := true; more; {
			var says []say
			says, _, more = p.flush(now, flushBudget)
			for _, said := range says {
				p.grant(said.to, &conecv1.GrantPeers{Limit: 1 << 60})
			}
			told += len(says)
		}
		if told != 1000 {
			b.Fatalf("told %d", told)
		}
	}
}
