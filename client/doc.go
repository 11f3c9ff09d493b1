// Package client attaches a program to a coordinator under a name, and opens
// channels and streams to other clients by theirs.
//
// # Use
//
//	cl, err := client.Connect(ctx, &client.Config{
//		Name: "alice", Coordinator: "coord.example.net:1719", Fingerprint: "sha256:…",
//	})
//	defer cl.Close(ctx)
//
//	s, err := cl.OpenStream(ctx, "bob", nil) // on a channel that is there, or a new one
//	err = s.Send(ctx, []byte("hi"))
//	answer, err := s.Receive(ctx)
//
//	in, err := cl.AcceptStream(ctx) // what others open; in.Peer() is authenticated
//
// A [Channel] is one QUIC connection from end to end. It starts on the
// coordinator's relay and moves to a direct path when there is one ([Mode] says
// otherwise); [Channel.Path] tells which it takes and why, [Channel.Paths] what else
// was tried, Config.OnEvent when it changes. [Channel.Ping] measures the round trip.
// When the host's network changes, or the host wakes up, the client tells the
// coordinator and its peers at once, and the program by [NetworkChanged].
// [NetConn] makes a net.Conn of a stream. [Client.Actors] is the client's actor
// system, whose actors can send to those that peers export.
//
// [StreamOptions] choose how messages are delivered ([Delivery]: ordered, unordered,
// sequenced, lossy), with what deadline and urgency, and in which directions; the
// peer sees it in [Stream.Options] and may refuse it (Config.Admit). [Client.Listen]
// takes the streams with one purpose. [Latest] reads only the newest messages of a
// stream. docs/delivery.md says what each promises.
//
// [Client.Peers] lists the clients that are attached and that this one may see,
// [Client.WatchPeers] follows them, and [Client.SetMetadata] is what they see of this
// one: docs/presence.md.
// Whom a client trusts: by default, whom its coordinator introduces. Config.PeerRoots,
// Config.Peers ([Client.ExpectPeer]), Config.KnownPeers and Config.Revoked check that, and
// [Channel.Words] lets two people. Config.Authorize decides what a peer may do.
// Config.IdentityFile keeps a key, and [Client.SetIdentity] changes the certificate while
// channels go on. docs/security.md says what each protects from.
//
// Errors are those of package messages: compare with errors.Is, and take who and
// whose decision from [messages.OpError]. A program on the coordinator's host that
// wants to take part attaches an ordinary client.
//
// # Concurrency
//
// Everything may be called from any goroutine. What takes a context can block, and
// stops when the context ends; nothing is left behind at either side then. Messages
// of a stream keep their order. OnEvent is called by one goroutine, one event after
// the other. Another waits for the kernel to tell of the network; the clients of a
// process share it.
//
// A client whose network blocks UDP is attached over TLS and TCP, through an HTTP
// proxy if there is one, and changes to UDP once that gets through, or back; its
// channels go on. [Client.OverTCP] and Config.OnEvent tell. To its peers it then is
// one that has no address at the coordinator: its channels have paths on the relay, and
// direct ones only where UDP reaches the peer.
//
// A client that loses its coordinator attaches again by itself, with pauses of up to
// 2 seconds. Direct channels do not notice; relayed ones stall and go on if the
// coordinator is back before they time out. A channel that this client opened and
// that fails is connected again by its supervisor; its streams have failed and say
// why, except for resumable ones ([StreamOptions]): those are attached again, to that
// channel or another one to the same peer, and lose nothing while both clients live
// (docs/streams.md). [Client.Close] waits until the peers have read what was sent;
// [Client.Abort] does not.
//
// # Limits
//
// [Config] lists them with their defaults: message size, channels, streams per
// channel, streams that wait to be accepted, memory for each peer. A stream holds up
// to 256 KiB that wait to be sent. What waits to be received is 64 KiB to 6 MiB, or
// one message, within Config.PeerMemory. A resumable stream also keeps what the peer
// has not acknowledged, up to Config.ResumeBuffer. Offered channels that wait for
// Config.Authorize count as channels. A file of known peers has at most 1 MiB.
//
// # Testing
//
// sim/suite runs clients over loopback, package sim runs them over a simulated
// network on virtual time: give Config.Link a link of its network.
package client
