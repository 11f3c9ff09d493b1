package netio

import (
	"sync"
	"sync/atomic"
	"time"
)

// fairness holds what a relay's limits on clients and on everything need to know. Each limit is shared: that of a client
// between its routes, for what it sends and for what it is sent; the total between the clients that send, and the part
// of each between its routes.
type fairness struct {
	mu    sync.Mutex // guards this and the accounts of clients and routes; held for arithmetic only
	total rated      // of clients
}

// clientAccount is what a client owes.
type clientAccount struct {
	rate        atomic.Int64 // of its own, 0: none
	sends, gets rated        // of routes
	part        share        // of the total
	parts       pool         // of routes, in part: paid as the total's level rises
	level       float64      // the total's, when parts was last paid
}

// routeAccount is what one end of a route owes for what it sends: among what its client sends, among what the other
// client is sent, and in its client's part of the total.
type routeAccount struct{ sends, gets, part share }

// rated is a pool that is paid at a rate.
type rated struct {
	pool
	paid time.Duration // until when
}

func (r *rated) advance(now time.Duration, perSecond int64) {
	if now > r.paid {
		r.pay((now - r.paid).Seconds() * float64(perSecond))
		r.paid = now
	}
}

// burst is how many bytes may pass at once where the limit is a rate.
func (c *RelayConfig) burst(perSecond int64) int64 {
	if c.Burst > 0 {
		return max(c.Burst, MinBurst)
	}
	return max(perSecond/10, MinBurst)
}

// limit is how many of n bytes may pass, in whole segments, at the given time since the relay's start.
func (r *Relay) limit(route *relayRoute, n, segment int, now time.Duration) int {
	if !route.capped {
		return r.pace(route, n, segment, now)
	}
	spent := route.spend(n, segment)
	if spent == 0 {
		return 0
	}
	passed := r.pace(route, spent, segment, now)
	route.left.Add(int64(spent - passed))
	return passed
}

// pace is what the limits on rates leave of n bytes.
func (r *Relay) pace(route *relayRoute, n, segment int, now time.Duration) int {
	granted := n
	perRoute := r.cfg.BytesPerSecond
	if perRoute > 0 {
		granted = route.bucket.take(n, segment, now, perRoute, r.cfg.burst(perRoute))
	}
	fromRate, toRate := r.rateOf(route.client), r.rateOf(route.peer.client)
	if granted == 0 || fromRate <= 0 && toRate <= 0 && r.cfg.TotalBytesPerSecond <= 0 {
		return granted
	}
	shared := r.share(route, granted, segment, now, fromRate, toRate)
	if perRoute > 0 && shared < granted {
		route.bucket.giveBack(granted-shared, perRoute)
	}
	return shared
}

// rateOf is the limit of a client, 0: none.
func (r *Relay) rateOf(c *relayClient) int64 {
	own, all := c.account.rate.Load(), r.cfg.ClientBytesPerSecond
	if own <= 0 || all > 0 && all < own {
		return all
	}
	return own
}

// spend takes n bytes of what one end of a capped route may send in all, in whole segments.
func (route *relayRoute) spend(n, segment int) int {
	for {
		left := route.left.Load()
		granted := n
		if left < int64(n) {
			granted = int(left) / segment * segment
		}
		if granted == 0 || route.left.CompareAndSwap(left, left-int64(granted)) {
			return granted
		}
	}
}

// share is what the limits that are shared leave of n bytes, the clients' among them.
func (r *Relay) share(route *relayRoute, n, segment int, now time.Duration, fromRate, toRate int64) int {
	f, from, to, owes := &r.fairness, &route.client.account, &route.peer.client.account, &route.account
	f.mu.Lock()
	defer f.mu.Unlock()
	total := r.cfg.TotalBytesPerSecond
	if fromRate > 0 {
		from.sends.advance(now, fromRate)
		n = room(n, segment, r.cfg.burst(fromRate), from.sends.owed, from.sends.owes(&owes.sends))
	}
	if toRate > 0 {
		to.gets.advance(now, toRate)
		n = room(n, segment, r.cfg.burst(toRate), to.gets.owed, to.gets.owes(&owes.gets))
	}
	if total > 0 {
		f.total.advance(now, total)
		from.parts.pay(f.total.level - from.level)
		from.level = f.total.level
		n = room(n, segment, r.cfg.burst(total), f.total.owed, f.total.owes(&from.part), from.parts.owes(&owes.part))
	}
	if n == 0 {
		return 0
	}
	if fromRate > 0 {
		from.sends.charge(&owes.sends, float64(n))
	}
	if toRate > 0 {
		to.gets.charge(&owes.gets, float64(n))
	}
	if total > 0 {
		f.total.charge(&from.part, float64(n))
		from.parts.charge(&owes.part, float64(n))
	}
	return n
}

// bucket is a token bucket without a lock: it keeps the time at which it will be full again (the generic cell rate
// algorithm, ITU-T I.371).
type bucket struct{ full atomic.Int64 }

// take takes as many of n bytes as there are, in whole segments, at the given time since any start.
func (b *bucket) take(n, segment int, now time.Duration, perSecond, burst int64) int {
	for {
		old := b.full.Load()
		begin := max(old, int64(now))
		owed := int64(float64(begin-int64(now)) / 1e9 * float64(perSecond))
		granted := n
		if have := burst - owed; have < int64(n) {
			granted = max(0, int(have)/segment*segment)
		}
		if granted == 0 {
			return 0
		}
		next := begin + int64(float64(granted)*1e9/float64(perSecond))
		if b.full.CompareAndSwap(old, next) {
			return granted
		}
	}
}

// giveBack undoes the taking of n bytes.
func (b *bucket) giveBack(n int, perSecond int64) {
	b.full.Add(-int64(float64(n) * 1e9 / float64(perSecond)))
}
