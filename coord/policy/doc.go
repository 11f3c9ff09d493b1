// Package policy decides what the clients of a coordinator may do.
//
// # Use
//
// [Policy] is what a coordinator asks; [AllowAll] is the default. [Rules] are a policy in a
// file:
//
//	rules, err := policy.Load("policy.yaml")
//	c, err := coord.Start(ctx, &coord.Config{Policy: rules})
//	…
//	err = c.SetPolicy(ctx, others) // in place of the first, without a restart
//
// docs/operations.md has a whole file and says what each section means. In each section the
// first rule that fits decides, alone; what no rule fits is not allowed. A rule that never
// decides, because one before it fits the same and more, is an error, as are unknown fields
// and patterns that fit no name: all errors of a file are told at once, with their lines.
// Rules.Explain and Rules.Answer say in words what a file allows.
//
// A [Ban] keeps clients away, for a time or for good; files have them, too.
//
// # Concurrency
//
// A policy is asked by one goroutine, the coordinator's, and must not block. Rules are never
// changed and may be asked by anybody; checking a certificate against authorities takes
// about a tenth of a millisecond, all else about a microsecond for a hundred rules.
//
// # Limits
//
// A file has at most 1 MiB and 1,000 rules in each section, a pattern 255 bytes. At most 50
// errors are told.
//
// # Testing
//
// Patterns and rules have table tests, the reader of files a fuzz target; the example of the
// documentation is loaded. What a coordinator does with a policy is tested in coord, and over
// a simulated network in sim.
package policy
