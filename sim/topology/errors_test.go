package topology_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/conec-go/conec/sim/topology"
)

// badFiles are files with everything that is told about them.
var badFiles = []struct{ name, file, want string }{
	{"empty", "", "x.yaml:1: is empty; see conec sim example"},
	{
		"no YAML",
		`hosts:
  alice: {at: [}
`,
		`x.yaml:2: not YAML: did not find expected node content`,
	},
	{
		"two documents",
		`hosts: {alice: {}}
---
hosts: {bob: {}}
`,
		`x.yaml:2: a second document; want one in a file`,
	},
	{
		"a list",
		`- alice
`,
		`x.yaml:1: is a list; want fields: about, coordinator, duration, expect, faults, gateways, groups, hosts, lines, seed, settle, traffic`,
	},
	{
		"no clients",
		`seed: 3
`,
		`x.yaml:1: no clients; want hosts or groups`,
	},
	{
		"unknown section",
		`host:
  alice: {}
`,
		`x.yaml:1: host: no such field; did you mean hosts? want one of about, coordinator, duration, expect, faults, gateways, groups, hosts, lines, seed, settle, traffic`,
	},
	{
		"hosts",
		`gateways:
  home: {}
  cgn: {}
hosts:
  alice: {at: hme}
  Bob: {att: home}
  alice: {}
  carol: {start: 5, line: {latency: 20, rate: 20Mbit, loss: 150%, mtu: 100B, burst: {enter: x}}}
`,
		`x.yaml:5: hosts.alice.at: no gateway "hme"; want internet or one of home, cgn
x.yaml:6: hosts.Bob.att: no such field; did you mean at? want one of at, ipv6, line, relay-only, start
x.yaml:6: hosts.Bob: invalid name "Bob": use a-z, 0-9, and inside also -, _ and dots
x.yaml:7: hosts.alice: is given twice, first in line 5
x.yaml:8: hosts.carol.start: 5 has no unit; want a duration such as 20ms or 1m30s
x.yaml:8: hosts.carol.line.latency: 20 has no unit; want a duration such as 20ms or 1m30s
x.yaml:8: hosts.carol.line.rate: is "20Mbit"; want a rate such as 512kbit/s, 20Mbit/s or 1MB/s
x.yaml:8: hosts.carol.line.loss: is 150%; want a fraction such as 5% or 0.05, at most 100%
x.yaml:8: hosts.carol.line.mtu: is 100B; want 1200B to 65535B
x.yaml:8: hosts.carol.line.burst.enter: is "x"; want a fraction such as 5% or 0.05
x.yaml:8: hosts.carol.line.burst: leave is missing; want the probability per packet that it ends, such as 20%`,
	},
	{
		"lines",
		`lines: {a: {like: b}, b: {like: a}, c: d, e: {down: {down: {}}}}
hosts: {alice: {line: c}}
`,
		`x.yaml:1: lines.a.like: no line "b" above; there is none
x.yaml:1: lines.c: no line "d" above; did you mean a? want one of a, b
x.yaml:1: lines.e.down.down: no such field; want one of burst, corrupt, duplicate, jitter, latency, loss, mtu, queue, rate, reorder, reorder-by`,
	},
	{
		"gateways",
		`gateways: {a: {at: b}, b: {at: c}, c: {at: a}, d: {nat: symetric}, e: {nat: {mapping: some, ports: 7}}, f: {inside: 10.0.0.0/30, count: 0}}
groups: {p: {count: 99999}, q: {}, r: {count: 2, over: 2m}}
`,
		`x.yaml:1: gateways.d.nat: is "symetric"; want one of full-cone, address-restricted, port-restricted, symmetric, open-masquerade, firewall
x.yaml:1: gateways.e.nat.mapping: dependence "some": want one of endpoint-independent, address-dependent, address-and-port-dependent
x.yaml:1: gateways.e.nat.ports: port policy "7": want one of preserve, sequential, random
x.yaml:1: gateways.f.inside: is "10.0.0.0/30"; want an IPv4 network such as 192.168.1.0/24, /8 to /29
x.yaml:1: gateways.f.count: is 0; want 1 to 5000
x.yaml:1: gateways.a.at: a is behind itself; want a way out to the internet
x.yaml:2: groups.p.count: is 99999; want 1 to 5000
x.yaml:2: groups.q: count is missing; want how many clients the group has
x.yaml:2: groups.r.over: is 2m; want 0s to 1m`,
	},
	{
		"traffic",
		`hosts: {alice: , bob: {}, coordinator: {}}
traffic:
  t: {}
  u: {kind: message, from: alcie, to: []}
  v: {kind: transfer, from: alice, to: bob, rate: 5, path: relay}
  w: {kind: messages, from: alice, to: alice, bytes: 5MB, size: 10B}
  x: {kind: requests, from: alice, to: bob, start: 50s, stop: 40s}
  y: {kind: messages, from: z*, to: [bob, {a: b}]}
`,
		`x.yaml:1: hosts.alice: is nothing; want fields: at, ipv6, line, relay-only, start
x.yaml:1: hosts.coordinator: the name coordinator has a meaning of its own; want another
x.yaml:3: traffic.t: kind is missing; want messages, requests or transfer
x.yaml:3: traffic.t: from is missing; want who sends
x.yaml:3: traffic.t: to is missing; want who receives
x.yaml:4: traffic.u.kind: is "message"; want one of messages, requests, transfer
x.yaml:4: traffic.u.from: no host or group "alcie"; did you mean alice? want one of alice, bob, all
x.yaml:4: traffic.u.to: is an empty list; want a host or group, a list of them, or all
x.yaml:5: traffic.v.rate: 5 has no unit; want a frequency such as 10/s, 6/m or 1/h
x.yaml:5: traffic.v.path: is "relay"; want one of automatic, direct, relayed
x.yaml:5: traffic.v.rate: is not for transfer
x.yaml:5: traffic.v: bytes is missing; want how much is transferred, such as 10MB
x.yaml:6: traffic.w.size: is 10B; want 32B to 16MiB
x.yaml:6: traffic.w.bytes: is not for messages
x.yaml:6: traffic.w: is from alice to itself; want two clients
x.yaml:7: traffic.x: stops at 40s and starts at 50s; want a stop that is later, and both within the duration of 1m
x.yaml:8: traffic.y.from: no host or group "z*"; want one of alice, bob, all
x.yaml:8: traffic.y.to[2]: is fields; want a host or group, a list of them, or all`,
	},
	{
		"faults",
		`hosts: {alice: {}, bob: {}}
faults:
  - {}
  - {at: 10s}
  - {at: 10s, crash: alice, stop: bob}
  - {crash: alice}
  - {at: 10s, random: 1/m, crash: alice}
  - {at: 10m, reboot: home, for: 5s}
  - {at: 1s, cut: alice}
  - {at: 1s, cut: {from: alice}}
  - {at: 1s, partition: [alice]}
  - {at: 1s, start: alice, for: 3s}
  - {at: 1s, crash: alice, for: 3s..1s}
  - {at: 1s, from: 2s, crash: alice}
  - {random: 1/m, from: 20s, until: 10s, crash: alice}
  - crash
  - {at: 1s, crsh: alice}
`,
		`x.yaml:3: faults[1]: does nothing; want one of cut, block, partition, line, crash, stop, start, move, reboot, pause, skew, udp-blocked
x.yaml:3: faults[1]: want either at: TIME or random: FREQUENCY
x.yaml:4: faults[2]: does nothing; want one of cut, block, partition, line, crash, stop, start, move, reboot, pause, skew, udp-blocked
x.yaml:5: faults[3]: does several things: crash, stop; want a fault for each
x.yaml:6: faults[4]: want either at: TIME or random: FREQUENCY
x.yaml:7: faults[5]: want either at: TIME or random: FREQUENCY
x.yaml:8: faults[6].at: is 10m; want 0s to 1m
x.yaml:8: faults[6].reboot: no gateway "home"; there is none
x.yaml:8: faults[6].for: is not for reboot, which is over at once
x.yaml:9: faults[7].cut: is "alice"; want fields: from, to
x.yaml:10: faults[8].cut: to is missing; want one of from, to
x.yaml:11: faults[9].partition: has one group; want at least two
x.yaml:12: faults[10].for: is not for start, which is over at once
x.yaml:13: faults[11].for: is 3s..1s; want more than 0, at most 24h, the shorter one first
x.yaml:14: faults[12].from: is for random faults; want at alone
x.yaml:15: faults[13]: ends at 10s and begins at 20s; want until later than from
x.yaml:16: faults[14]: is "crash"; want fields: at, block, crash, cut, for, from, line, move, partition, pause, random, reboot, skew, start, stop, udp-blocked, until
x.yaml:17: faults[15].crsh: no such field; did you mean crash? want at, block, crash, cut, for, from, line, move, partition, pause, random, reboot, … (17 in all)`,
	},
	{
		"expectations",
		`hosts: {alice: {}, bob: {}}
traffic: {chat: {kind: messages, from: alice, to: bob}}
expect:
  - {}
  - {delivered: most}
  - {attached: alice, of: chat}
  - {rtt-p99: 3s}
  - {rtt-p99: 3s, of: chat}
  - {path: dirct}
  - {delivered: all, from: bob}
  - {repeated: -1}
  - {delivered: all, repeated: 0}
  - {delivered: all, of: chatt}
  - 7
`,
		`x.yaml:4: expect[1]: expects nothing; want one of attached, delivered, repeated, reordered, broken, path, longest-gap, throughput, latency-p50, latency-p99, rtt-p50, rtt-p99, finished
x.yaml:5: expect[2].delivered: is "most"; want a fraction such as 5% or 0.05
x.yaml:6: expect[3].of: is not for attached; beside it may stand by
x.yaml:7: expect[4]: no such traffic in the file: want some of kind requests
x.yaml:8: expect[5]: rtt-p99 of chat, whose kind is messages; want traffic of kind requests
x.yaml:9: expect[6].path: is "dirct"; want one of direct, relayed
x.yaml:10: expect[7]: no such traffic in the file: want some of kind messages or requests or transfer
x.yaml:11: expect[8].repeated: is -1; want 0 to 50000000
x.yaml:12: expect[9]: expects several things: delivered, repeated; want an element for each
x.yaml:13: expect[10].of: no traffic "chatt"; did you mean chat? want one of chat, all
x.yaml:13: expect[10]: no such traffic in the file: want some of kind messages or requests or transfer
x.yaml:14: expect[11]: is 7; want fields: attached, broken, by, delivered, finished, from, latency-p50, latency-p99, longest-gap, of, path, reordered, repeated, rtt-p50, rtt-p99, share, throughput, to`,
	},
	{
		"alias to something else",
		`hosts: &h {alice: {at: *h}}
`,
		`x.yaml:1: hosts.alice.at: is fields; want internet or a gateway`,
	},
	{
		"alias to itself",
		`a: &a [*a, *a]
hosts: *a
`,
		`x.yaml:1: a: no such field; want one of about, coordinator, duration, expect, faults, gateways, groups, hosts, lines, seed, settle, traffic
x.yaml:2: hosts: is a list; want names of hosts`,
	},
	{
		"top level",
		`seed: 1
seed: 2
duration: 1
settle: x
hosts: 5
? [a]
: b
`,
		`x.yaml:1: a field's name is a list; want a word
x.yaml:2: seed: is given twice, first in line 1
x.yaml:3: duration: 1 has no unit; want a duration such as 20ms or 1m30s
x.yaml:4: settle: is "x"; want a duration such as 20ms or 1m30s
x.yaml:5: hosts: is 5; want names of hosts`,
	},
	{
		"too much",
		`groups: {p: {count: 500}}
traffic: {mesh: {kind: messages, from: p, to: p, rate: 100/s}}
`,
		`x.yaml:2: traffic: makes 250000 pairs; want at most 20000 (peers: 1 gives each sender one)
x.yaml:2: traffic: makes 1500000000 messages; want at most 50000000`,
	},
	{
		"loop of gateways",
		`gateways: {a: {at: b}, b: {at: a}, c: {at: c}}
hosts: {alice: {at: a}, bob: {at: c}}
faults: [{at: 1s, reboot: a}]
`,
		`x.yaml:1: gateways.a.at: a is behind itself; want a way out to the internet
x.yaml:1: gateways.c.at: c is behind itself; want a way out to the internet`,
	},
	{
		"routed networks that overlap",
		`gateways:
  a: {nat: firewall}
  b: {nat: {like: symmetric, routed: true}}
  c: {nat: firewall, inside: 192.168.0.0/16}
  d: {nat: firewall, inside: 10.0.0.0/24, count: 2}
  e: {at: a, nat: firewall, inside: 192.168.1.0/24}
  f: {inside: 192.168.1.0/24}
  g: {at: d, nat: firewall, count: 2}
  h: {at: d, nat: firewall, count: 3, inside: 10.1.0.0/16}
hosts: {alice: {at: b}}
`,
		`x.yaml:3: gateways.b: 192.168.1.0/24 is routed at internet, as 192.168.1.0/24 of a is; want inside: a network of its own for each
x.yaml:4: gateways.c.inside: 192.168.0.0/16 is routed at internet, as 192.168.1.0/24 of a is; want inside: a network of its own for each
x.yaml:5: gateways.d.inside: 10.0.0.0/24 is routed at internet, as 10.0.0.0/24 of d-1 is; want inside: a network of its own for each
x.yaml:9: gateways.h.inside: 10.1.0.0/16 is routed at d-1, as 10.1.0.0/16 of h-1 is; want inside: a network of its own for each`,
	},
	{
		"no room",
		`gateways: {home: {}}
groups: {p: {count: 300, at: home}}
`,
		`x.yaml:1: gateways: 300 things may be behind home, and its inside has 253 addresses; want inside: 10.0.0.0/16 or so, or count: gateways`,
	},
	{
		"too many",
		"groups: {p: {count: 3000}, q: {count: 3000}}\nlines: {" + strings.Repeat("a: {}, ", 1001) + "}\n",
		"x.yaml:1: groups.q: makes 6000 clients; want at most 5000 in all\n" +
			"x.yaml:2: lines: has 1001 fields; want at most 1000",
	},
}

// TestParseErrors holds the exact texts: each with line, field and what is allowed.
func TestParseErrors(t *testing.T) {
	for _, test := range badFiles {
		t.Run(test.name, func(t *testing.T) {
			got, err := topology.Parse("x.yaml", []byte(test.file))
			if err == nil {
				t.Fatalf("no error; want\n%s", test.want)
			}
			if got != nil {
				t.Error("a topology beside the error")
			}
			gotLines, wantLines := strings.Split(err.Error(), "\n"), strings.Split(test.want, "\n")
			for i := range max(len(gotLines), len(wantLines)) {
				switch {
				case i >= len(gotLines):
					t.Errorf("not told: %s", wantLines[i])
				case i >= len(wantLines):
					t.Errorf("also told: %s", gotLines[i])
				case gotLines[i] != wantLines[i]:
					t.Errorf("told %s\nwant %s", gotLines[i], wantLines[i])
				}
			}
			if _, ok := errors.AsType[*topology.Error](err); !ok {
				t.Errorf("%T is no *topology.Error", err)
			}
		})
	}
}

// TestManyErrors holds that a file that is wrong all over does not fill the screen.
func TestManyErrors(t *testing.T) {
	file := "hosts:\n" + strings.Repeat("  Wrong: {}\n", 1000)
	_, err := topology.Parse("x.yaml", []byte(file))
	if err == nil {
		t.Fatal("no error")
	}
	list := strings.Split(err.Error(), "\n")
	if want := "x.yaml: and 950 more"; len(list) != 51 || list[50] != want {
		t.Errorf("%d lines, the last %q; want 51 and %q", len(list), list[len(list)-1], want)
	}
}

func TestTooLarge(t *testing.T) {
	_, err := topology.Parse("x.yaml", make([]byte, 1<<20+1))
	if want := "x.yaml:1: 1048577 bytes; want at most 1MiB"; err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
}
