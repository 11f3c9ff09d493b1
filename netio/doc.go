// Package netio carries messages between two programs over whatever network is
// between them. It knows packets, connections and streams of messages; names,
// introductions and actors are the business of the packages above.
//
// It has two layers. A [Switch] moves UDP packets between links (UDP sockets, TLS
// over TCP where UDP is blocked, or what a simulator puts in their place) and QUIC: each channel has a [Port],
// fixed addresses for QUIC whose packets take the current [Path], directly or over
// a coordinator's [Relay]. On a switch, a [Transport] dials and accepts
// connections ([Conn]), each with one [Control] stream and any number of data
// streams ([Stream]): ordered, or with another delivery (docs/delivery.md). An [Identity] is the key and the certificate by which the
// ends know each other; it may be changed while connections last, and makes others ([Order]). A [Monitor] tells when the host's network has changed.
//
// # Use
//
// Packages client and coord do the following for you.
//
//	link, err := netio.ListenUDP(addr)
//	sw, err := netio.NewSwitch(netio.SwitchConfig{}, link)
//	transport, err := netio.NewTransport(sw, identity, false, nil)
//	home, err := transport.DialHome(ctx, coordinator, netio.Coordinator{Fingerprint: fingerprint})
//
// To reach a peer that the coordinator introduced, open a port, give it a route
// and a path, and let one side call [Transport.Expect] and the other
// [Transport.DialChannel]. Then:
//
//	stream, err := conn.OpenStream(ctx, &conecv1.OpenStream{Purpose: "echo"})
//	err = stream.AwaitAnswer(ctx)
//	err = stream.Send(ctx, message)
//	message, err = stream.Receive(ctx)
//
// Errors match those of package messages; [IsRemote] tells whether the other
// side decided. Only io.EOF means that everything was received.
//
// # Concurrency
//
// Any goroutine may call anything, but only one at a time may receive on a
// [Control] and one read a [Switch]. What blocks takes a context, except for
// [Control.Receive], which ends with its connection. Send blocks while the other
// side does not read; a send or a receive that was canceled has done nothing. Messages of one
// sending goroutine arrive in the order of its calls; nothing is promised between
// streams. A stream has a goroutine that reads it, a second one only while there
// is something to write, and none once both directions are over. The first one calls
// what [Resumable.ReceiveAll] was given, which must not block.
// [Transport.Close] ends all of them, and the switch with its links.
//
// # Limits
//
// [Limits], [Config] and [SwitchConfig] name all limits and their defaults. What a
// peer may send is granted stream by stream, out of Config.PeerMemory; streams are
// always read, so that no set of unread ones stops another. The length of a frame
// alone takes no memory that larger messages before it did not. What breaks the
// protocol ends its stream or connection and nothing else. Control messages have at
// most 64 KiB. What a TCP connection does not take is dropped after 256 KiB; who
// connects to a [TCPListener] and does not bind, or says nothing, is closed.
//
// # Testing
//
// QUIC runs over fake links inside testing/synctest bubbles (link_test.go,
// pair_test.go), so that deadlines cost nothing and a goroutine that is left
// over fails the test. What needs real sockets uses loopback. Peers that break
// the protocol are bare quic-go (hostile_test.go). Every decoder has a fuzz test,
// and TestUnreadStreams has bare quic-go as its control case.
package netio
