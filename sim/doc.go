// Package sim runs conec's own client and coordinator over a simulated packet
// network, on virtual time: latency, jitter, loss, rates, queues, cuts, changing
// addresses and crashes, in milliseconds of real time.
//
// # Use
//
// In a bubble of testing/synctest, make a network and hosts, and give their
// links to the programs under test:
//
//	network := sim.NewNetwork(seed)
//	defer network.Close()
//	host := network.Host("alice", netip.MustParseAddrPort("10.0.0.1:4000"), sim.Line{Latency: 10 * time.Millisecond})
//	link, err := host.Open()
//	cl, err := client.Connect(ctx, &client.Config{Name: "alice", Link: link, …})
//	…
//	heal := network.Add(sim.Block(alice, bob)) // a fault is a rule; heal takes it back
//
// Each host has one line to a core that is never the bottleneck. A packet takes
// the sender's line up and the receiver's line down; whatever the rules say is
// decided when it is sent.
//
// # Repeatability
//
// Each direction of each line draws from a random source of its own, made of the
// network's seed and the host's name: the same seed gives the same decisions for
// the same sequence of packets. Every event of the network has a nanosecond of
// its own, so in a bubble a packet is dealt with completely before the next one
// arrives. What goroutines do at one instant is not ordered by this package.
//
// # Concurrency
//
// All methods may be called from any goroutine. Only Read of a link and Close of
// a network block. Rules are called one at a time with the network locked: they
// must be quick and must not call the network or its hosts.
//
// # Limits
//
// IPv4 without NAT: every address can be reached by everybody, and a host has one
// address and one port at a time. Packets that are too large for a line vanish,
// without ICMP, except at the sender's own line, where Write says so. ECN bits
// are carried and never set. Computing takes no virtual time.
//
// # Testing
//
// The network's own tests measure what it promises; the scenarios run clients and
// a coordinator on it. A failing scenario prints its seed.
package sim
