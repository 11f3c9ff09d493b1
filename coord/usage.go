package coord

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/conec-go/conec/actors"
	"github.com/conec-go/conec/netio"
)

// ClientUsage is an attached client, and what it sent and was sent over the relay since it
// attached.
type ClientUsage struct {
	// Name is the client's name.
	Name string
	// Addr is where the coordinator sees it.
	Addr netip.AddrPort
	// Fingerprint is that of its certificate.
	Fingerprint string
	// Since is when it attached, by the coordinator's wall clock.
	Since time.Time
	// Relay counts over all channels that it has or had.
	Relay netio.ClientStats
	// Channels are those that it has, the oldest first.
	Channels []ChannelUsage
}

// ChannelUsage is what a client sent over the relay on one channel.
type ChannelUsage struct {
	// Peer is the client at the other end.
	Peer string
	// Sent counts what the client sent; what it was sent is in the peer's.
	Sent netio.RouteStats
}

// listUsage asks the coordinator who is attached; the answer is a *usageList.
type (
	listUsage struct{}
	usageList struct{ clients []usageOf }
	usageOf   struct {
		id    uint64
		usage ClientUsage
		ends  []uint32 // routes of usage.Channels
	}
)

// Usage returns what each attached client used of the relay, by name. It blocks
// until the coordinator has answered or ctx ends.
func (c *Coordinator) Usage(ctx context.Context) ([]ClientUsage, error) {
	list, err := actors.Ask[*usageList](ctx, c.sys, c.pid, listUsage{})
	if err != nil {
		return nil, fmt.Errorf("list usage of the relay: %w", err)
	}
	var all []ClientUsage
	for _, client := range list.clients {
		stats, ok := c.relay.ClientStats(client.id)
		if !ok {
			continue // gone meanwhile
		}
		client.usage.Relay = stats
		for i, route := range client.ends {
			client.usage.Channels[i].Sent, _ = c.relay.RouteStats(route) // zero if it has ended meanwhile
		}
		all = append(all, client.usage)
	}
	slices.SortFunc(all, func(a, b ClientUsage) int { return cmp.Compare(a.Name, b.Name) })
	return all, nil
}

// usage lists the clients and their channels, without counters.
func (r *registry) usage() *usageList {
	list := &usageList{}
	for id, client := range r.clients {
		of := usageOf{id: id, usage: ClientUsage{
			Name: client.name, Addr: client.subject.Addr, Fingerprint: netio.Fingerprint(client.shows.certificate), Since: client.since,
		}}
		for _, channel := range byNumber(client.channels) {
			for i, end := range channel.ends {
				if end == client {
					of.usage.Channels = append(of.usage.Channels, ChannelUsage{Peer: channel.ends[1-i].name})
					of.ends = append(of.ends, channel.routes[i])
				}
			}
		}
		list.clients = append(list.clients, of)
	}
	return list
}
