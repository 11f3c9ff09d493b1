// Package netlab builds networks in the Linux kernel: hosts, gateways that
// translate addresses by nft rules, and an internet between them, each in a
// network namespace of its own.
//
// # Use
//
// A host's Listen gives the very link that programs use, [netio.UDPLink], with
// its socket in the host's namespace. So clients and coordinators run in the
// test's process and each on its own host:
//
//	lab := netlab.New(t)
//	home := lab.Gateway("home", lab.Internet(), sim.PortRestricted())
//	hub, alice := lab.Host("hub", lab.Internet()), lab.Host("alice", home)
//	link, err := alice.Listen(netip.AddrPort{})
//	cl, err := client.Connect(ctx, &client.Config{Link: link, ...})
//
// It takes root (or a user namespace: unshare -Urn go test ...), and the
// programs ip and nft. Without them New skips the test and says what is missing,
// unless CONEC_NETLAB=require is in the environment: then the test fails.
//
// # Concurrency
//
// One goroutine builds and changes a lab. Links are used like any other. A
// thread is in a namespace only while it opens a socket there, looks at the
// interfaces, or starts ip or nft.
//
// Namespaces have no names. The kernel removes one, with all that is in it, when
// the last file and socket in it is closed, so not even a process that is killed
// leaves any.
//
// # Limits
//
// IPv4 and UDP, one interface per host. Lines have no delay, loss or rate: what
// needs those is for package sim. Gateways are those that nft can be told to be:
// see [Lab.Gateway]. Behind a full cone or an address-restricted one, two
// hosts must not use the same port. Only a gateway with [Gateway.MapPorts] maps ports on
// request, and that takes miniupnpd.
//
// # Testing
//
// matrix_test.go has plain packets punch through each pair of gateways, here and
// in sim, and compares both with a table. The rest of the tests look at each
// kind of gateway and fault once.
package netlab
