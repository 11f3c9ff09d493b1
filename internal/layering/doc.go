// Package layering holds the shape of the repository: which folder imports which, what lies at the top level, that
// every package explains itself, and that no file grows too long. It has no code, only tests.
//
// # How to use it
//
// Run go test ./internal/layering. A failure names the file, what is wrong with it, and the rule. A new folder at the
// top level, or a new arrow between folders, is a decision: change the table in layering_test.go and say why in
// docs/decisions.md.
//
// # Concurrency
//
// None.
//
// # Limits
//
// Imports are read from every file, whatever its build constraints. Generated files are exempt from all rules but the
// import table. What a package pulls in through others is known for the system the test runs on. conec is for 64-bit
// systems; nothing here or elsewhere is built for others.
//
// # Testing
//
// Each rule also runs on a small tree that breaks it, so that a rule that has gone blind fails.
package layering
