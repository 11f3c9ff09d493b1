// Package exampletest is what the tests of the examples have in common: parts of a program
// that run beside each other as processes of their own would ([Parts]), and a simulated
// network that is not at rest ([Play]).
//
// # Use
//
//	parts := exampletest.Serve(t, run)
//	alice := parts.Join("alice")
//	parts.Expect(alice, "in the room: ")
//
// # Concurrency
//
// All of it is for the goroutine of the test, or of the scenario.
//
// # Limits
//
// The parts of a test have a minute in all.
//
// # Testing
//
// By the tests that use it.
package exampletest
