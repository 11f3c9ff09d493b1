package coord

import (
	"context"
	"fmt"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/conec-go/conec/netio"
)

// metered is one metric of a coordinator. Names of clients are in none of them.
type metered struct {
	name, what, unit string
	sum              bool // it only grows
	value            func(Stats) int64
}

// allMetered returns all metrics but the dropped packets, which have a reason each.
func allMetered() []metered {
	gauge := func(name, what string, value func(Stats) int) metered {
		return metered{name: name, what: what, value: func(s Stats) int64 { return int64(value(s)) }}
	}
	sum := func(name, what, unit string, value func(Stats) uint64) metered {
		return metered{name: name, what: what, unit: unit, sum: true, value: func(s Stats) int64 { return int64(value(s)) }}
	}
	return []metered{
		gauge("conec.coord.connections", "home channels, attached or not yet", func(s Stats) int { return s.Connections }),
		gauge("conec.coord.clients", "attached clients", func(s Stats) int { return s.Attached }),
		gauge("conec.coord.channels", "introduced channels", func(s Stats) int { return s.Channels }),
		gauge("conec.coord.introductions.pending", "introductions that wait for an answer", func(s Stats) int { return s.Pending }),
		gauge("conec.coord.groups", "groups", func(s Stats) int { return s.Groups }),
		gauge("conec.coord.relay.routes", "ends of channels at the relay", func(s Stats) int { return s.Relay.Routes }),
		gauge("conec.coord.tcp.connections", "connections of clients whose network blocks UDP", func(s Stats) int { return s.TCP.Open }),
		sum("conec.coord.introductions", "offers of channels", "", func(s Stats) uint64 { return uint64(s.Introductions) }),
		sum("conec.coord.refused", "connections that were turned away", "", func(s Stats) uint64 { return uint64(s.Refused) }),
		sum("conec.coord.relay.packets", "packets that were relayed", "", func(s Stats) uint64 { return s.Relay.Forwarded.Packets }),
		sum("conec.coord.relay.bytes", "bytes that were relayed", "By", func(s Stats) uint64 { return s.Relay.Forwarded.Bytes }),
		sum("conec.coord.received.bytes", "bytes that came in", "By", func(s Stats) uint64 { return s.Switch.In.Bytes }),
		sum("conec.coord.sent.bytes", "bytes that went out", "By", func(s Stats) uint64 { return s.Switch.Out.Bytes }),
	}
}

// drops are the reasons of packets that the relay did not forward.
func drops(d netio.Drops) map[string]uint64 {
	return map[string]uint64{
		"unproven": d.Unproven, "unknown": d.Unknown, "rate_limited": d.RateLimited, "bad_mac": d.BadMAC, "replay": d.Replay,
		"malformed": d.Malformed, "no_path": d.NoPath, "write_error": d.WriteError, "full": d.Full, "too_large": d.TooLarge,
	}
}

// meter makes the metrics. The returned function ends them.
func (c *Coordinator) meter() (end func() error, err error) {
	if c.config.Meters == nil {
		return func() error { return nil }, nil
	}
	meter := c.config.Meters.Meter("github.com/conec-go/conec/coord")
	var all []metric.Observable
	var tell []func(metric.Observer, Stats)
	for _, m := range allMetered() {
		var of metric.Int64Observable
		var err error
		if m.sum {
			of, err = meter.Int64ObservableCounter(m.name, metric.WithDescription(m.what), metric.WithUnit(m.unit))
		} else {
			of, err = meter.Int64ObservableGauge(m.name, metric.WithDescription(m.what))
		}
		if err != nil {
			return nil, fmt.Errorf("metric %s: %w", m.name, err)
		}
		all = append(all, of)
		tell = append(tell, func(o metric.Observer, s Stats) { o.ObserveInt64(of, m.value(s)) })
	}
	const name = "conec.coord.relay.dropped"
	dropped, err := meter.Int64ObservableCounter(name, metric.WithDescription("packets that the relay did not forward, by the reason"))
	if err != nil {
		return nil, fmt.Errorf("metric %s: %w", name, err)
	}
	tell = append(tell, func(o metric.Observer, s Stats) {
		for reason, n := range drops(s.Relay.Dropped) {
			o.ObserveInt64(dropped, int64(n), metric.WithAttributes(attribute.String("reason", reason)))
		}
	})
	registration, err := meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		stats := c.Stats()
		for _, f := range tell {
			f(o, stats)
		}
		return nil
	}, append(all, dropped)...)
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	return registration.Unregister, nil
}
