// Package coord runs a coordinator: the public meeting point where clients attach
// under a name, are introduced to each other, and find a relay.
//
// # Use
//
//	c, err := coord.Start(ctx, &coord.Config{Addr: ":1719"})
//	defer c.Close(ctx)
//	fmt.Println("join with", c.Addr(), c.Fingerprint())
//
// Without Config.Identity it makes a development certificate that lasts as long as
// the process. With Config.ClientRoots only clients that one of these authorities
// vouches for may attach; without, a name belongs to the key that attached with it,
// as long as it is attached. [NewAuthority] makes an authority, and the methods of
// [Identity] what it issues; [Coordinator.SetIdentity] changes the coordinator's own
// certificate, [Coordinator.SetRevoked] says whose is refused. [Coordinator.Introduce] hands
// two clients a channel to each other. Config.Policy decides who may attach and do what to
// whom (package policy); [Coordinator.SetPolicy] changes it, [Coordinator.Kick] and
// [Coordinator.Ban] remove clients. A program that wants to talk to clients itself attaches an ordinary
// client.
//
// Clients whose network blocks UDP come over TLS and TCP, at the same port number
// (Config.TCPAddr).
//
// Clients may ask which others are there, as far as Config.Policy lets them see.
//
// The coordinator sees who talks to whom, how much and when. It holds no keys of
// channels and can read nothing of them, but clients believe it about who is who.
//
// # Concurrency
//
// All methods may be called from any goroutine; those with a context can block.
// Names, introductions and presence belong to one actor, which looks at up to 4,096
// clients for watches before others have their turn. Packets are relayed by the goroutine
// that reads the socket, without locks; limits that are shared ([Limits]) take one for
// a moment.
//
// # Limits
//
// [Limits] lists them with their defaults: clients, channels and open introductions
// per client, relay rates, bans, times. What exceeds one is refused with a reason, and
// counted ([Coordinator.Stats]; per client and channel, [Coordinator.Usage]). A client's
// certificate chain has at most 6 certificates and 16 KiB, and is renewed at most once in
// a second.
//
// # Testing
//
// The registry and presence are plain state with table tests and random operations. sim/suite runs the whole over
// loopback, package sim on virtual time, with crashes and restarts.
package coord
