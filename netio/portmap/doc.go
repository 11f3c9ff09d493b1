// Package portmap asks the gateway of this host's network to map a UDP port of its
// outer address to this host, so that peers behind any NAT can send to it: by PCP
// (RFC 6887), else NAT-PMP (RFC 6886), else UPnP (Internet Gateway Device 1 or 2), in
// this order.
//
// # Use
//
// Package client does the following for you.
//
//	mapper := portmap.New()
//	mapping, err := mapper.Map(ctx, link.LocalAddr()) // and again after half of mapping.Lifetime
//	err = mapper.Unmap(ctx)
//
// Whoever calls Map again renews the mapping, by the protocol that made it if that still
// works. The gateway is asked for the same outer port, also after it has lost all mappings
// by a restart: so Map is called after each outage, too, and the epoch that PCP and NAT-PMP
// answers carry is not needed to notice one.
//
// # Concurrency
//
// Any goroutine may call anything; calls wait for each other, and end with their context.
// Nothing runs, and no socket is open, while no call is under way.
//
// # Limits
//
// IPv4 only: an IPv6 address needs no mapping. Only the default gateway is asked, and
// nobody else is believed. A protocol that gets no answer costs 1.75 seconds, in which it
// is asked three times, and a UPnP gateway that answers slowly 5 more; see [Patience].
// Lifetimes are taken to be between 2 minutes and 2 hours. A UPnP gateway that grants
// permanent mappings only is given one, which stays if the program ends without Unmap.
// Answers of UPnP may have 64 KiB.
//
// # Testing
//
// Gateways of all kinds on loopback: well-behaved ones, and those that refuse, are silent,
// answer garbage or to somebody else, or lie. The decoders have a fuzz test. In
// internal/netlab, a gateway of the kernel runs miniupnpd, if that is installed.
package portmap
