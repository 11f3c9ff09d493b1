// Package actors is the actor runtime under conec and for its users: proto.actor
// with a bounded mailbox, supervision with backoff, typed questions, an orderly
// end, and remote PIDs; and on it the actors that coordinator and clients share:
// channel, control stream, path set, stream.
//
// # Use
//
// A client's system is client.Client.Actors. Actors, props and PIDs are those of
// github.com/asynkron/protoactor-go/actor:
//
//	sys := cl.Actors()
//	pid, err := sys.Spawn(sys.Props(newGreeter), "greeter")
//	sys.Export("greeter", pid)                       // peers may send to it
//	sys.Root.Send(sys.PID("bob", "greeter"), hello)  // a protobuf message, []byte, or a [Codec]'s
//	answer, err := actors.Ask[*Answer](ctx, sys, sys.PID("bob", "greeter"), hello)
//
// An actor of conec itself is one file: a table of behaviors and messages, the
// struct, its props, what its pumps say, Receive, one method per behavior, pumps.
// Receive never blocks: what blocks is a pump, a goroutine started by
// [System.Pumps], which speaks to its actor by messages that carry the [Life] they
// belong to. [Fail] is the one panic and means "restart me".
//
// # Concurrency
//
// Any goroutine may call what is exported, unless its comment says otherwise.
// [Ask] blocks and is not for Receive. Messages of one sender to one target arrive
// in order; system messages overtake. So do messages between clients; [Remote] says
// what is promised of them.
//
// # Limits
//
// A mailbox holds 65,536 user messages ([SystemConfig]); what exceeds it is a dead
// letter and a [MailboxOverflow] on the event stream. What waits for peers, and of
// them, has the limits of [RemoteLimits]; 1,024 streams wait for a channel to connect.
// Supervision does not cross the network. 64-bit systems only: proto.actor panics on
// others.
//
// # Testing
//
// The logic that decides (backoff, path set) is plain types with tables and random
// operations; actors run in testing/synctest.
package actors
