// Package topology plays topology files: who is where in a simulated network, what
// they send each other, what goes wrong, and what must hold nevertheless. The
// programs are conec's own client and coordinator, on virtual time.
//
// # Use
//
// In a test, [Parse] a file and [Run] it in a world:
//
//	t, err := topology.Parse("home.yaml", data)
//	sim.Test(test, &sim.Options{Seed: 7}, func(w *sim.World) {
//		report, err := topology.Run(w, t, nil)
//		… report.Held()
//	})
//
// In another program, [Play] opens a bubble of its own; conec sim run is that.
// docs/simulation.md describes the files, [Example] returns one to start from.
//
// # What is measured
//
// Each message of the traffic has a number and a sum. Both ends write into a ledger,
// which they can because they share memory and a clock: lost, repeated, reordered
// and damaged messages are counted by pair, times from Send to Receive and from
// request to answer by traffic. A sender whose stream fails opens another one; what
// was under way then counts as lost, except of a transfer, which begins again.
//
// # Repeatability
//
// The seed decides pairs, offsets and faults, and with them what package sim
// promises. In a test, keys and connection IDs follow from the seed too. Outside of
// tests they are truly random: the same seed gives the same faults, and the same
// decisions of lines for the same packets, but packets may differ.
//
// # Concurrency
//
// Parse may be called from any goroutine. Run is for the goroutine of the world's
// scenario, and blocks until the run is over. Its [Observer] is called by several
// goroutines of the bubble, Event one call at a time; what it calls must not wait
// for the bubble's clock. Each client has a goroutine that keeps it running, each
// pair one that sends, each open stream one that receives. Faults strike one after
// the other.
//
// # Limits
//
// A file has at most 1 MiB; it makes at most 5,000 clients, 5,000 gateways, 20,000
// pairs, 50 million messages and 10,000 faults, and lasts at most 24 hours. There is
// one coordinator. Computing takes no virtual time.
//
// # Testing
//
// Tests hold the exact texts of errors, that each fault does what it says for as long
// as it says, and that each expectation can fail. A fuzz target reads files. All
// files of examples/topologies are played.
package topology
