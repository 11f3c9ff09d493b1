// Package suite holds the tests of whole topologies: a coordinator and clients,
// talking to each other through the public API, each scenario in three worlds.
//
// # Use
//
// The package has no code, only tests. A scenario gets a world, begins it with a
// coordinator, adds clients, each on a machine of its own, and lets them talk:
//
//	everywhere(t, func(w *world) {
//		w.begin()
//		alice, bob := w.client("alice"), w.client("bob")
//		here, there := w.stream(alice, bob, nil)
//		...
//	})
//
// It is played on virtual time (package sim), on sockets of this machine, and in
// network namespaces (internal/netlab), as subtests "virtual", "loopback" and
// "netns". What a world lacks, such as gateways on loopback, is said where the
// scenario is, by except and slow, and the subtest is skipped with that reason.
// ground_test.go is all that the worlds do differently: a scenario with another
// result in one of them has found a bug, in that world or in the code.
//
// docs/seed-tests.md lists what is shown where.
//
// # Concurrency
//
// The tests run one after the other, because each ends with a look at the
// goroutines of the whole process.
//
// # Limits
//
// A scenario ends within a minute: every call takes the world's context. The world
// closes what it has started, and fails the test if a goroutine remains.
//
// # Testing
//
// go test ./sim/suite; with -run '.*/virtual' or '.*/.*/virtual' one world only;
// with -short nothing that takes seconds of real time; with -seeds=n the random
// test plays n times, with -seed=n it plays the seed that a failure printed.
// Namespaces need root on Linux, and ip and nft; CONEC_NETLAB=require makes the
// lack of them a failure.
package suite
