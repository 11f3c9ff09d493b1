// Package actorstest is for tests of actors on package actors: an actor that a test sends to
// and expects messages from, several systems that reach each other without sockets, and
// faults of the network and of actors.
//
// # Use
//
// A [Probe] is the test's own actor. [Expect] waits for its next message, and fails the test
// with all that it has received if that is another one, or none comes:
//
//	p := actorstest.NewProbe(t, sys)
//	p.Request(greeter, &Hello{Name: "Ann"})
//	answer := actorstest.Expect[*Answer](p)
//
// A [Net] is several systems that reach each other as those of clients do. Its systems are
// used like client.Client.Actors:
//
//	n := actorstest.NewNet(t, "alice", "bob")
//	alice, bob := n.System("alice"), n.System("bob")
//	bob.Export("greeter", greeter)
//	answer, err := actors.Ask[*Answer](ctx, alice, alice.PID("bob", "greeter"), hello)
//
// [Net.Cut], [Net.Hold], [Net.Delay] and [Net.Restart] do to them what happens to clients.
// A system reaches an actor of another one by a PID of its own making ([actors.Remote.PID]) or
// one that came in a message, as clients do. Do not give it the *PID that the other's Spawn has
// returned: proto.actor keeps in that whose it is, and would pass the net by.
//
// [Crash] and [Stall] make an actor fail or hang that was spawned with [Faulty].
//
// # Virtual time
//
// There is no clock of our own: use testing/synctest. All that is in a bubble has the bubble's
// time, which passes only when nothing else is to be done, so that minutes of backoff take no
// time:
//
//	func TestIsRestarted(t *testing.T) {
//		synctest.Test(t, func(t *testing.T) {
//			n := actorstest.NewNet(t, "alice")
//			...
//			time.Sleep(5 * time.Minute) // which is over at once
//			synctest.Wait()             // until all that is due then was done
//		})
//	}
//
// TestSupervisorGivesUp in virtual_test.go is such a test. Make systems, probes and nets in
// the bubble, with its t. Systems that are not a Net's have to be closed before it ends, with
// context.Background if by t.Cleanup. An actor may wait for channels and timers of the bubble
// and for other actors; one that waits for something else, such as a socket, keeps time from
// passing.
//
// # Concurrency
//
// Methods of a [Probe] are for the test's goroutine; those of a [Net] for any but an
// actor's. Only what says that it waits does. Between two systems messages of one sender to
// one target stay in order.
//
// # Limits
//
// A probe keeps 1,000 messages that were not expected ([ProbeConfig]). One direction of a
// lane holds 64 messages that are on their way or held; what is beyond waits in the sending
// system, whose limits are [actors.RemoteLimits]'s. At the end of a test goroutines are
// found that actors of a Net have started, unless there is a SystemConfig.Dispatcher; those
// that the test itself has started are its own affair, in a bubble synctest's.
//
// # Testing
//
// Expectations that fail run with a fake testing.TB. Package actors tests its remote PIDs
// with a Net.
package actorstest
