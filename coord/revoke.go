package coord

import (
	"context"
	"fmt"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/conec-go/conec/actors"
	"github.com/conec-go/conec/netio"
)

// Sent by [Coordinator.SetRevoked].
type (
	setRevoked     struct{ revoked netio.Revoked }
	revocationDone struct{}
)

// SetRevoked replaces Config.Revoked, and detaches the clients that one of the fingerprints
// is of. It blocks until that is done or ctx ends. Their relayed channels stall; direct
// channels that they have go on until their peers end them ([netio.Revoked] at a client).
func (c *Coordinator) SetRevoked(ctx context.Context, fingerprints []string) error {
	revoked, err := netio.NewRevoked(fingerprints)
	if err == nil {
		_, err = actors.Ask[*revocationDone](ctx, c.sys, c.pid, setRevoked{revoked})
	}
	if err != nil {
		return fmt.Errorf("set revoked: %w", err)
	}
	return nil
}

// SetIdentity changes the coordinator's certificate for all who connect from now on; who is
// attached stays attached. The caller sees to it that clients trust the new one: those that
// pin the authority that issues it, or its key, do.
func (c *Coordinator) SetIdentity(identity *netio.Identity) {
	c.transport.SetIdentity(identity)
	c.config.Logger.Info("certificate changed", "fingerprint", c.Fingerprint())
}

// revoked is the configured set, which Validate has checked.
func (c *Config) revoked() netio.Revoked {
	revoked, _ := netio.NewRevoked(c.Revoked)
	return revoked
}

// revoke detaches the clients whose certificates are revoked.
func (c *coordinator) revoke(ctx actor.Context, revoked netio.Revoked) {
	c.revoked = revoked
	for _, h := range c.byName() {
		if err := revoked.Check(h.client.shows.vouched...); err != nil {
			c.detach(ctx, h, err)
		}
	}
}
