// Package program is what the examples that are made of several clients have in common: flags, and lines of text.
//
// # Use
//
// An example is a [Program]. Without arguments [Program.Run] runs its Story, which has all clients in one process, on a
// [Stage]; with -serve it runs a coordinator and Serve, with -name it runs Join. Actors, which must not block, print by
// [Lines]. [Over] waits for an actor that has an [End].
//
// # Concurrency
//
// Lines may be added by any goroutine; one prints or awaits them. An End is its actor's. A Stage is its story's.
//
// # Limits
//
// 1,024 lines wait to be printed; more are lost, and the next line says how many. A line that is typed has up to 64 KiB: a
// longer one is the end.
//
// # Testing
//
// [Start] runs a program beside others in one process, as the tests of the examples do.
package program
