package coord

import (
	"time"

	conecv1 "github.com/conec-go/conec/messages/conec/v1"
)

// The part of the registry that gives channels routes again after an attachment was lost.

// restore gives a channel that outlived an attachment a route again, once both of
// its clients want it. Who stayed attached while the other left wants it unasked.
func (r *registry) restore(now time.Time, id uint64, msg *conecv1.RestoreChannel) []say {
	a, channel := r.clients[id], string(msg.GetChannel())
	if len(channel) != channelIDSize || len(a.channels) >= a.limits.Channels || r.channels[channel] != nil || r.pending[channel] != nil {
		return nil
	}
	wish := r.restores[channel]
	if wish != nil && wish.peer == a.name && msg.GetPeer() == wish.from.name { // of a client with itself, both from the same
		r.unwish(channel)
		return r.rejoin(channel, wish.from, a, wish.by)
	}
	if wish == nil {
		r.wish(now, a, channel, msg.GetPeer(), nil)
	}
	return nil
}

// wish notes that a client would like to have a route for a channel again.
func (r *registry) wish(now time.Time, from *attachment, channel, peer string, by *warrant) {
	r.unwish(channel)
	if from.wishes < r.limits.ChannelsPerClient && len(r.restores) < r.limits.Clients*wishesPerClient {
		r.restores[channel] = &restore{from: from, peer: peer, by: by, deadline: now.Add(r.limits.RestoreTimeout)}
		from.wishes++
	}
}

func (r *registry) unwish(channel string) {
	if wish := r.restores[channel]; wish != nil {
		wish.from.wishes--
		delete(r.restores, channel)
	}
}

// rejoin makes a new route between the ends of a channel, if the policy still allows it.
func (r *registry) rejoin(channel string, a, b *attachment, by *warrant) []say {
	if err := r.mayKeep(a, b, by); err != nil {
		return forbid(channel, a, b)
	}
	if !r.mayRelay(a, b) {
		r.keep(&introduced{channel: channel, ends: [2]*attachment{a, b}, by: by})
		return confine(channel, a, b)
	}
	routeA, routeB, err := r.routes.AddRoute(a.id, b.id)
	if err != nil {
		return nil // the channel goes on without relay; its ends ask again when they attach again
	}
	r.keep(&introduced{channel: channel, ends: [2]*attachment{a, b}, routes: [2]uint32{routeA, routeB}, routed: true, by: by})
	restored := func(route uint32) *conecv1.Control {
		return &conecv1.Control{Said: &conecv1.Control_ChannelRestored{ChannelRestored: &conecv1.ChannelRestored{
			Channel: []byte(channel), Route: route,
		}}}
	}
	return []say{{a.id, restored(routeA)}, {b.id, restored(routeB)}}
}
