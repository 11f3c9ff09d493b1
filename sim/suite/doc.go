// Package suite holds the tests of whole topologies: a coordinator and clients,
// talking to each other through the public API, over real sockets.
//
// # Use
//
// The package has no code, only tests. A test builds a world, which is a
// coordinator and its clients in this process, each with its own UDP socket on
// 127.0.0.1, and lets them talk:
//
//	w := newWorld(t)
//	alice, bob := w.client("alice"), w.client("bob")
//	here, there := w.stream(alice, bob, nil)
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
// A test ends within a minute: every call takes the world's context. The world
// closes what it has started, and fails the test if a goroutine remains.
//
// # Testing
//
// go test ./sim/suite; with -seeds=n the random test plays n times, with -seed=n
// it plays the seed that a failure printed.
package suite
