// Package sim runs conec's own client and coordinator over a simulated packet
// network, on virtual time: NATs, loss, rates, cuts, hosts that move, crash and
// sleep, in milliseconds of real time, and the same again from the same seed.
//
// # Use
//
// In a test, build a world and let things happen to it:
//
//	sim.Test(t, nil, func(w *sim.World) {
//		w.Coordinator(w.Host("coordinator", w.Internet(), sim.Line{}), nil)
//		home := w.Gateway("home", w.Internet(), sim.PortRestricted(), sim.Line{Latency: 10 * time.Millisecond})
//		alice := w.Client(w.Host("alice", home, sim.Line{Latency: time.Millisecond}), nil)
//		bob := w.Client(w.Host("bob", w.Internet(), sim.Line{Loss: 0.01}), nil)
//		w.After(3*time.Second, home.Reboot)
//		heal := w.Add(sim.Block(alice.Host(), bob.Host())) // a fault is a rule; heal takes it back
//		… // run your program on alice.Client and bob.Client, and say what must hold
//	})
//
// w.T is the test of the scenario: what fails goes there, not to the t around it.
// [Seeds] plays a scenario with many seeds, [Replay] twice with the same and
// compares every packet. A [World] has a [Network], which can also be used alone.
// Package topology plays files instead of Go code; conec sim run is its command.
//
// # The network
//
// Hosts and gateways are plugged in at a [Place], each by a [Line]: at the
// [Internet] or behind a [Gateway], which may itself be behind another. A packet
// takes the sender's line up, is translated and filtered by the gateways on its
// way, and takes the receiver's line down. The lines have all faults of the
// packets; a [Rule] sees each packet when it is sent, and lets it pass, drops it,
// or delivers it after a time of its choice. [NAT] says what a gateway does, in the
// terms of RFC 4787. What a place does not limit, nothing limits: the core of the
// internet has any capacity.
//
// # Repeatability
//
// Each direction of each line, each gateway, and the scenario draw from random
// sources of their own, made of the seed and their names. So the same binary,
// seed and scenario give the same decisions for the same sequence of packets, and
// faults at the same nanosecond, always. In tests (not with the race detector)
// whole runs are the same, to the last byte of every packet: crypto/rand is
// seeded, there is one processor, garbage is collected only while all programs
// wait, every event of the network has a nanosecond of its own, and latencies vary
// by microseconds so that packets and timers do not meet. Go does not promise
// that this works; [Replay] shows whether it does, and a test in this package
// shows that it does with the Go release in use. Not promised: that another
// release of Go or quic-go gives the same run; and what quic-go takes from a map:
// several streams of one channel that fail at the same instant, or have something
// to say besides data in the same packet, come in any order.
//
// For a program of one's own to be repeatable, what it shows must not depend on
// the order of a map, on which ready case a select takes, or on math/rand's
// functions without a seed, and it must not wait for anything outside: files are
// fine, real sockets are not.
//
// # Failures
//
// A test that fails prints its seed and the command that repeats it, and names the
// folder of a trace: a chart of control messages, events, changes of paths, and
// the packets of each line for Wireshark. A world that spins, waits for a lock,
// leaks goroutines or runs over its limit of virtual time says which component's
// goroutines are where.
//
// # Concurrency
//
// All methods may be called from any goroutine, but those that can fail the test
// only from the scenario's. Rules and watchers are called one at a time with the
// network locked: they must be quick and must not call the network or its hosts.
// A scenario must not block with a mutex locked: virtual time would stop.
//
// # Limits
//
// Packets that are too large for a line vanish, without ICMP, except at the
// sender's own interface, where Write says so. ECN bits are carried and never set.
// Computing takes no virtual time. Timers cannot be slowed down for one host, so a
// host that is paused is cut off while its programs go on; only its wall clock can
// be wrong. That its interfaces have changed, or that it was paused, it tells its
// clients a millisecond later. Lines are not shared: hosts that share a bottleneck are put behind a
// gateway whose line it is. Tests with a world cannot be parallel.
//
// # Testing
//
// The network's own tests measure what it promises; NATs are compared with those
// of the Linux kernel (internal/netlab), and sim/suite runs the same scenarios in
// a world, over loopback, and in network namespaces. Random schedules look for
// what nobody thought of, and shrink what they find.
package sim
