package coord

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"

	"github.com/conec-go/conec/netio"
)

// samePortTries is how many free UDP ports are tried until one is free for TCP, too.
const samePortTries = 16

// open opens the sockets. The TCP listener is nil if there is to be none.
func (c *Coordinator) open() (net.Listener, error) {
	if c.config.Link != nil {
		c.link = c.config.Link
		listener, err := c.openTCP()
		if err != nil {
			return nil, errors.Join(err, c.link.Close())
		}
		return listener, nil
	}
	addr, err := resolve(c.config.Addr)
	if err != nil {
		return nil, err
	}
	for try := 1; ; try++ {
		if c.link, err = netio.ListenUDP(addr); err != nil {
			return nil, err
		}
		listener, err := c.openTCP()
		if err == nil {
			return listener, nil
		}
		_ = c.link.Close()
		if any := addr.Port() == 0 && c.config.TCPAddr == ""; !any || try == samePortTries {
			return nil, err
		}
	}
}

// openTCP opens the TCP listener that belongs to the UDP socket.
func (c *Coordinator) openTCP() (net.Listener, error) {
	given := c.config.TCPAddr
	if c.config.Listener != nil || given == none || given == "" && c.config.Link != nil {
		return c.config.Listener, nil
	}
	listener, err := listenTCP(given, c.link.LocalAddr())
	if err != nil {
		return nil, fmt.Errorf("TCP, for clients whose network blocks UDP (TCPAddr can name another address, or \"none\"): %w", err)
	}
	return listener, nil
}

// listenTCP listens on addr, if that is not empty, or beside a UDP socket.
func listenTCP(addr string, udp netip.AddrPort) (net.Listener, error) {
	network := "tcp"
	if addr == "" {
		addr = udp.String()
		if udp.Addr().Is4() {
			network = "tcp4"
		}
	}
	return net.Listen(network, addr)
}

func closeListener(listener net.Listener) error {
	if listener == nil {
		return nil
	}
	return listener.Close()
}

// listenAlternate opens the second socket. That it can not is an error only if it was
// asked for.
func (c *Coordinator) listenAlternate() error {
	c.alternate = c.config.AlternateLink
	if c.alternate != nil || c.config.Link != nil || c.config.Alternate == none {
		return nil
	}
	addr := c.link.LocalAddr()
	if addr.Port() == math.MaxUint16 {
		return nil
	}
	addr = netip.AddrPortFrom(addr.Addr(), addr.Port()+1)
	asked := c.config.Alternate != ""
	var err error
	if asked {
		addr, err = resolve(c.config.Alternate)
	}
	var link *netio.UDPLink
	if err == nil {
		link, err = netio.ListenUDP(addr)
	}
	switch {
	case err == nil:
		c.alternate = link
	case asked:
		return fmt.Errorf("listen on %s: %w", c.config.Alternate, err)
	default:
		c.config.Logger.Warn("clients can not find out what NAT they are behind", "addr", addr.String(), "err", err)
	}
	return nil
}

func (c *Coordinator) alternatePort() uint16 {
	if c.alternate == nil {
		return 0
	}
	return c.alternate.LocalAddr().Port()
}
