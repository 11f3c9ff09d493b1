package client

import (
	"fmt"
	"net/netip"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/conec-go/conec/actors"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
	"github.com/conec-go/conec/netio"
)

// ownHost is what clients of this process share: it watches, by one goroutine, while there are any. It has no state that
// one of them could change for another.
var ownHost = netio.NewHostWatcher()

// networkChanged is sent by the monitor.
type networkChanged struct{ change netio.NetworkChange }

// watch starts to watch the host's network.
func (cl *Client) watch() error {
	watcher := cl.config.Watcher
	if watcher == nil && cl.config.Link == nil {
		watcher = ownHost
	}
	if own, ok := cl.link.(netio.Watcher); ok && watcher == nil {
		watcher = own
	}
	if watcher == nil {
		return nil // somebody else's link
	}
	var apart actors.Apart // timers are set under the monitor's lock
	monitor, err := netio.NewMonitor(netio.MonitorConfig{
		Watcher: watcher, Link: cl.link, AfterFunc: apart.AfterFunc,
		Tell: func(change netio.NetworkChange) { cl.sys.Root.Send(cl.pid, networkChanged{change}) },
	})
	if err != nil {
		return fmt.Errorf("watch the network: %w", err)
	}
	cl.monitor = monitor
	return nil
}

// networkChanged tells everybody who has to do with addresses: first the relay, over
// which the others may have to go.
func (c *clientActor) networkChanged(ctx actor.Context, change netio.NetworkChange) {
	c.cl.config.Logger.Info("network changed", "addr", texts(change.Addrs), "slept", change.Slept)
	c.cl.events.put(NetworkChanged{Former: texts(change.Former), Addrs: texts(change.Addrs), Slept: change.Slept})
	c.syncLinks(ctx)
	if c.id != 0 { // else the home channel is being connected
		c.tries = 0
		c.bind(ctx)
		c.tcp.asks = c.tcp.falls
		c.askUDP(ctx) // if it is TCP: the new network may be another in that, too
		ctx.Send(c.home, hereNow())
	}
	c.tellChannels(ctx, actors.AddrsChanged{Moved: true})
	c.keepPort(ctx)
}

// tellChannels tells all channels, in order.
func (c *clientActor) tellChannels(ctx actor.Context, changed actors.AddrsChanged) {
	for _, e := range c.inOrder() {
		ctx.Send(e.ref.pid, changed)
	}
}

// hereNow gives back nothing, but has QUIC send: the coordinator's QUIC sees where from, or says that it has given us up. That
// takes a packet longer than what it is answered with, a stateless reset (RFC 9000 section 10.3).
func hereNow() *conecv1.Control {
	return &conecv1.Control{Said: &conecv1.Control_ReleaseChannel{ReleaseChannel: &conecv1.ReleaseChannel{Channel: make([]byte, 16)}}}
}

func texts(addrs []netip.AddrPort) (list []string) {
	for _, addr := range addrs {
		list = append(list, addr.Addr().String())
	}
	return list
}
