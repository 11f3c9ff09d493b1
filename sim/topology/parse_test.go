package topology_test

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/sim"
	"github.com/conec-go/conec/sim/topology"
)

// whole uses every section, with units of every kind.
const whole = `
about: everything
seed: 7
duration: 1m
settle: 20s
lines:
  dsl: {latency: 15ms, jitter: 2ms, rate: 10Mbit/s, queue: 64KiB, mtu: 1492B, loss: 0.5%, down: {rate: 50Mbit/s}}
  worse: {like: dsl, loss: 30%, burst: {enter: 1%, leave: 0.2}}
coordinator: {line: {latency: 5ms}, relay-rate: 1MB/s}
gateways:
  flat: {at: carrier, nat: full-cone, count: 2}
  carrier: {nat: {like: symmetric, ports: random, timeout: 30s, hairpin: true}, inside: 100.64.0.0/10, line: dsl}
hosts:
  alice: {at: flat-2, line: worse, start: 2s, ipv6: true}
  bob: {relay-only: true}
groups:
  phones: {count: 3, at: flat, over: 3s}
traffic:
  chat: {kind: messages, from: phones, to: [alice, bob], peers: 1, path: relayed, rate: 6/m, size: 1KiB, start: 5s, stop: 50s}
  ask: {kind: requests, from: alice, to: bob, rate: 2/s, reply: 2kB}
  backup: {kind: transfer, from: bob, to: alice, path: direct, bytes: 10MB}
faults:
  - {at: 10s, for: 5s, cut: {from: alice, to: coordinator}}
  - {at: 20s, for: 1s..3s, crash: phones-*}
  - {random: 2/m, from: 10s, until: 40s, for: 2s, move: {host: phones, to: carrier, line: dsl}}
  - {at: 30s, partition: [[alice, phones], [bob]]}
  - {at: 31s, reboot: all}
  - {at: 32s, skew: {host: bob, by: -5m}}
expect:
  - {attached: all, by: 10s}
  - {delivered: 99.5%, of: chat}
  - {path: direct, from: bob, share: 50%}
  - {rtt-p99: 300ms}
  - {finished: all, by: 40s}
`

func TestParse(t *testing.T) {
	got, err := topology.Parse("whole.yaml", []byte(whole))
	if err != nil {
		t.Fatal(err)
	}
	dsl := sim.Line{
		Latency: 15 * time.Millisecond, Jitter: 2 * time.Millisecond, Rate: 1_250_000, Queue: 64 << 10, MTU: 1492, Loss: 0.005,
	}
	down := dsl
	down.Rate = 6_250_000
	dsl.Down = &down
	worse := dsl
	worse.Loss, worse.Burst = 0.3, &sim.Burst{Enter: 0.01, Leave: 0.2}
	usual := sim.Line{Latency: 10 * time.Millisecond}
	carrier := topology.Gateway{Name: "carrier", At: "internet", NAT: sim.Symmetric(), Line: dsl}
	carrier.NAT.Ports, carrier.NAT.Timeout, carrier.NAT.Hairpin = sim.RandomPorts, 30*time.Second, true
	carrier.NAT.Inside = netip.MustParsePrefix("100.64.0.0/10")
	phones := []string{"phones-1", "phones-2", "phones-3"}
	want := &topology.Topology{
		About: "everything", Seed: 7, Duration: time.Minute, Settle: 20 * time.Second,
		Coordinator: topology.Coordinator{Line: sim.Line{Latency: 5 * time.Millisecond}, RelayRate: 1_000_000},
		Gateways: []topology.Gateway{
			carrier,
			{Name: "flat-1", At: "carrier", NAT: sim.FullCone(), Line: usual},
			{Name: "flat-2", At: "carrier", NAT: sim.FullCone(), Line: usual},
		},
		Hosts: []topology.Host{
			{Name: "alice", At: "flat-2", Line: worse, Start: 2 * time.Second, IPv6: true},
			{Name: "bob", At: "internet", Line: usual, RelayOnly: true},
			{Name: "phones-1", At: "flat-1", Line: usual},
			{Name: "phones-2", At: "flat-2", Line: usual, Start: time.Second},
			{Name: "phones-3", At: "flat-1", Line: usual, Start: 2 * time.Second},
		},
		Traffic: []topology.Traffic{
			{
				Name: "chat", Kind: topology.Messages, From: phones, To: []string{"alice", "bob"}, Peers: 1, Mode: client.RelayOnly,
				Start: 5 * time.Second, Stop: 50 * time.Second, Rate: 0.1, Size: 1024, Reply: 200,
			},
			{
				Name: "ask", Kind: topology.Requests, From: []string{"alice"}, To: []string{"bob"},
				Stop: time.Minute, Rate: 2, Size: 200, Reply: 2000,
			},
			{
				Name: "backup", Kind: topology.Transfer, From: []string{"bob"}, To: []string{"alice"}, Mode: client.DirectOnly,
				Stop: time.Minute, Rate: 1, Size: 32 << 10, Reply: 200, Bytes: 10_000_000,
			},
		},
		Faults: []topology.Fault{
			{Act: topology.Cut, At: 10 * time.Second, For: span(5*time.Second, 5*time.Second), Until: time.Minute, Hosts: []string{"alice"}, To: []string{"coordinator"}},
			{Act: topology.Crash, At: 20 * time.Second, For: span(time.Second, 3*time.Second), Until: time.Minute, Hosts: phones},
			{
				Act: topology.Move, For: span(2*time.Second, 2*time.Second), Random: 2. / 60, From: 10 * time.Second, Until: 40 * time.Second,
				Hosts: phones, Line: &dsl, Place: []string{"carrier"},
			},
			{Act: topology.Partition, At: 30 * time.Second, Until: time.Minute, Groups: [][]string{append([]string{"alice"}, phones...), {"bob"}}},
			{Act: topology.Reboot, At: 31 * time.Second, Until: time.Minute, Hosts: []string{"carrier", "flat-1", "flat-2"}},
			{Act: topology.Skew, At: 32 * time.Second, Until: time.Minute, Hosts: []string{"bob"}, By: -5 * time.Minute},
		},
		Expect: []topology.Expectation{
			{Line: 30, Check: topology.Attached, Text: "attached: all, by: 10s", Hosts: append([]string{"alice", "bob"}, phones...), By: 10 * time.Second, Fraction: 1},
			{Line: 31, Check: topology.Delivered, Text: "delivered: 99.5%, of: chat", Of: []string{"chat"}, Fraction: 0.995},
			{Line: 32, Check: topology.PathIs, Text: "path: direct, from: bob, share: 50%", Of: []string{"backup"}, From: []string{"bob"}, Fraction: 0.5},
			{Line: 33, Check: topology.RTT99, Text: "rtt-p99: 300ms", Of: []string{"ask"}, Limit: 300 * time.Millisecond, Fraction: 1},
			{Line: 34, Check: topology.Finished, Text: "finished: all, by: 40s", Of: []string{"backup"}, By: 40 * time.Second, Fraction: 1},
		},
	}
	same(t, got, want)
}

// same compares two values field by field.
func same(t *testing.T, got, want any) {
	t.Helper()
	g, w := lines(t, got), lines(t, want)
	for i := range max(len(g), len(w)) {
		if i >= len(g) || i >= len(w) || g[i] != w[i] {
			t.Fatalf("first difference in line %d:\n got %s\nwant %s", i, strings.Join(g[min(i, len(g)):min(i+5, len(g))], "\n"), strings.Join(w[min(i, len(w)):min(i+5, len(w))], "\n"))
		}
	}
}

func lines(t *testing.T, of any) []string {
	t.Helper()
	text, err := json.MarshalIndent(of, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(string(text), "\n")
}

func span(least, most time.Duration) topology.Span { return topology.Span{Least: least, Most: most} }

func TestExampleNeedsNothing(t *testing.T) {
	if _, err := topology.Parse("example.yaml", []byte(topology.Example())); err != nil {
		t.Error(err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(whole))
	f.Add([]byte(topology.Example()))
	for _, bad := range badFiles {
		f.Add([]byte(bad.file))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := topology.Parse("x.yaml", data)
		switch {
		case err == nil && len(got.Hosts) == 0:
			t.Error("a topology without clients")
		case err != nil && got != nil:
			t.Error("a topology beside an error")
		case err != nil:
			for line := range strings.SplitSeq(err.Error(), "\n") {
				if !strings.HasPrefix(line, "x.yaml:") {
					t.Errorf("a line of an error without file: %q of %q", line, err)
				}
			}
		}
	})
}
