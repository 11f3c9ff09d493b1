// Package policy decides what the clients of a coordinator may do.
//
// # Use
//
// [Policy] is what a coordinator asks. [AllowAll] is the default.
//
// # Concurrency
//
// A policy is asked by one goroutine, the coordinator's, and must not block.
package policy
