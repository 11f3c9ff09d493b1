package coord

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/conec-go/conec/netio"
)

// samePortTries is how many free UDP ports are tried until one is free for TCP, too.
const samePortTries = 16

// open opens the sockets. The TCP listener is nil if there is to be none.
func (c *Coordinator) open() (net.Listener, error) {
	c.link = c.config.Link
	tcp := c.config.TCPAddr != none
	if c.link != nil && c.config.TCPAddr == "" || c.config.Listener != nil {
		tcp = false
	}
	addr, err := resolve(c.config.Addr)
	if err != nil {
		return nil, err
	}
	for try := 1; ; try++ {
		if c.config.Link == nil {
			if c.link, err = netio.ListenUDP(addr); err != nil {
				return nil, err
			}
		}
		if !tcp {
			return c.config.Listener, nil
		}
		listener, err := listenTCP(c.config.TCPAddr, c.link.LocalAddr())
		if err == nil {
			return listener, nil
		}
		_ = c.link.Close()
		again := addr.Port() == 0 && c.config.Link == nil && c.config.TCPAddr == ""
		if !again || try == samePortTries {
			return nil, fmt.Errorf("TCP, for clients whose network blocks UDP (another address, or \"none\", can be set): %w", err)
		}
	}
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
