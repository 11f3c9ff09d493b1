package actors

import (
	"errors"
	"maps"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/conec-go/conec/messages"
)

// Sighted is that a peer is there, or is not any more, as the coordinator tells, whether
// there is a way to it or not ([RemoteConfig.Sight]).
type Sighted struct {
	// Peer is its name.
	Peer string
	// Present tells that it is there.
	Present bool
	// Address is the address of its actors; empty if that is not known, or it is not there.
	Address string
	// Metadata is what it publishes about itself.
	Metadata map[string]string
}

// sighted is told to the parent of the peers' actors by its pump.
type sighted struct {
	Life
	Sighted
}

// errNoSight says that OnPeer can not do what is asked.
var errNoSight = errors.New("nobody tells which peers are present: the system has no RemoteConfig.Sight")

// checkPresent reports whether OnPeer can go by presence, if it is to.
func (r *Remote) checkPresent(pattern string) error {
	switch {
	case pattern == "":
		return nil
	case r.config.Sight == nil:
		return errNoSight
	}
	return messages.CheckPattern(pattern)
}

// look starts the pump that tells which peers are there.
func (a *peersActor) look(ctx actor.Context) {
	r, life, self, log := a.on.remote, a.life, ctx.Self(), ctx.Logger()
	r.sys.Pumps.Go(func() {
		within := life.Context()
		err := r.config.Sight(within, a.on.config.Present, func(s Sighted) {
			_ = r.SendWait(within, self, sighted{life, s}) // else the life has ended
		})
		if within.Err() == nil && !errors.Is(err, messages.ErrClosed) {
			log.Error("no presence of peers any more", "err", err)
		}
	})
}

// sight acts on what was said of a peer's presence.
func (a *peersActor) sight(ctx actor.Context, s Sighted) {
	k := a.known[s.Peer]
	if !s.Present {
		delete(a.there, s.Peer)
		if k != nil {
			a.update(ctx, s.Peer, k, messages.ErrNoSuchPeer)
		}
		return
	}
	a.there[s.Peer] = true
	if k == nil {
		if k = a.ensure(ctx, s.Peer); k == nil {
			return
		}
	}
	k.runsAs(s.Address)
	a.update(ctx, s.Peer, k, nil)
	if !maps.Equal(s.Metadata, k.metadata) {
		k.metadata = s.Metadata
		ctx.Send(k.pid, &PeerMetadata{Peer: s.Peer, Metadata: s.Metadata})
	}
}

// runsAs notes the address of the peer's actors: if it is a later one, the process of the
// former is gone, which may be known.
func (k *knownPeer) runsAs(address string) {
	if k.address != "" && address > k.address && k.ended < k.address {
		k.gone = true
	}
	k.address = max(k.address, address)
}

// ends notes that the process is gone whose actors had an address, and reports whether that
// is news.
func (k *knownPeer) ends(address string) bool {
	if address != "" && (address <= k.ended || address < k.address) {
		return false
	}
	k.gone, k.ended = true, max(k.ended, address)
	return true
}
