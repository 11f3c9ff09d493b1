package main

import (
	"fmt"
	"time"

	"github.com/conec-go/conec/client"
)

// experiment is a measurement that both systems undergo, and the rows it fills.
type experiment struct {
	name    string
	streams bool   // needs an end that receives
	system  string // what is compared with plain conec; if empty, conec is, with bare quic-go
	measure func(*world) (figures, error)
	rows    []row
}

// ours is the system that promises something, other what it is compared with.
func (e experiment) ours() string {
	if e.system != "" {
		return e.system
	}
	return conecSystem
}

func (e experiment) other() string {
	if e.system != "" {
		return conecSystem
	}
	return bareSystem
}

// Sizes of messages, in bytes.
const (
	largeMessage = 64 << 10
	smallMessage = 64
)

// idleName is the experiment that looks at memory.
const idleName = "idle"

// attachers is how many attach at the same time.
const attachers = 8

// experiments is the table of what conec promises, in the order in which it is printed.
func experiments() []experiment {
	const mega, kibi = 1e6, 1 << 10
	const micro = float64(time.Microsecond)
	return []experiment{
		{"direct", true, "", pouring(client.DirectOnly, largeMessage), []row{
			{what: "direct stream, 64 KiB messages", figure: "bytes", scale: mega, unit: "MB/s", target: 1.15},
		}},
		{"relayed", true, "", pouring(client.RelayOnly, largeMessage), []row{
			{what: "relayed stream, 64 KiB messages", figure: "bytes", scale: mega, unit: "MB/s", target: 0.9},
			{what: "  CPU of the relay", figure: "relay", scale: 1, unit: "ns/byte", target: 1.5, atMost: true, alone: true},
		}},
		{"small", true, "", pouring(client.DirectOnly, smallMessage), []row{
			{what: "direct stream, 64 B messages", figure: "messages", scale: mega, unit: "M/s", target: 0.8},
		}},
		{"request", true, "", asking, []row{
			{what: "request and response, 64 B, p50", figure: "p50", scale: micro, unit: "us", target: 1.25, atMost: true},
			{what: "  p99", figure: "p99", scale: micro, unit: "us"},
		}},
		{"resumable", true, resumableSystem, pouring(client.DirectOnly, largeMessage), []row{
			{what: "resumable / plain, 64 KiB messages", figure: "bytes", scale: mega, unit: "MB/s", target: 0.85},
		}},
		{"resumable-small", true, resumableSystem, pouring(client.DirectOnly, smallMessage), []row{
			{what: "resumable / plain, 64 B messages", figure: "messages", scale: mega, unit: "M/s", target: 0.85},
		}},
		{"resumable-request", true, resumableSystem, asking, []row{
			{what: "resumable / plain, request, 64 B, p50", figure: "p50", scale: micro, unit: "us"},
			{what: "  p99, resumable", figure: "p99", scale: micro, unit: "us"},
		}},
		{idleName, false, "", idling, []row{
			{what: "attached idle client, coordinator side", figure: "host", scale: kibi, unit: "KiB", target: 1.3, atMost: true},
			{what: "  client side", figure: "client", scale: kibi, unit: "KiB", target: 1.3, atMost: true},
		}},
		{"attach", false, "", attaching, []row{
			{what: "attach and close, 8 at a time", figure: "attaches", scale: 1, unit: "/s", target: 0.7},
		}},
	}
}

// pouring sends messages of one size as fast as it goes. Bare quic-go is always direct.
func pouring(mode client.Mode, size int) func(*world) (figures, error) {
	return func(w *world) (figures, error) {
		before, err := w.host.usage()
		if err != nil {
			return nil, err
		}
		var drained Drained
		draining := w.receiver.begin("Drain", Drain{Size: size, Warm: w.length / 5}, &drained)
		var poured Poured
		if err := w.sender.call("Pour", Pour{Mode: mode, Size: size, Length: w.length + w.length/5}, &poured); err != nil {
			return nil, err
		}
		if err := draining(); err != nil {
			return nil, err
		}
		after, err := w.host.usage()
		if err != nil {
			return nil, err
		}
		if poured.Messages != drained.Messages {
			return nil, fmt.Errorf("%d messages were sent and %d received", poured.Messages, drained.Messages)
		}
		rate := float64(drained.Counted) / drained.Elapsed.Seconds()
		return figures{
			"messages": rate, "bytes": rate * float64(size),
			"relay": float64(after-before) / float64(drained.Messages*int64(size)),
		}, nil
	}
}

// asking sends a request when the last one was answered.
func asking(w *world) (figures, error) {
	echoing := w.receiver.begin("Echo", Nothing{}, &Nothing{})
	var asked Asked
	if err := w.sender.call("Ask", Ask{Mode: client.DirectOnly, Size: smallMessage, Length: w.length}, &asked); err != nil {
		return nil, err
	}
	return figures{"p50": float64(asked.P50), "p99": float64(asked.P99)}, echoing()
}

// idling attaches many clients and looks at what the two processes hold for each.
func idling(w *world) (figures, error) {
	const first = 4                        // who pay for what is there once
	settle := min(w.length, 2*time.Second) // time to let go of what the handshake needed
	attach := func(from, to int) error {
		return w.sender.call("Idle", Idle{From: from, To: to, Settle: settle}, &Nothing{})
	}
	if err := w.invite(first + w.clients); err != nil {
		return nil, err
	}
	if err := attach(0, first); err != nil {
		return nil, err
	}
	host, client, err := w.memory(first)
	if err != nil {
		return nil, err
	}
	if err := attach(first, first+w.clients); err != nil {
		return nil, err
	}
	hostAfter, clientAfter, err := w.memory(first + w.clients)
	if err != nil {
		return nil, err
	}
	n := float64(w.clients)
	return figures{"host": float64(hostAfter-host) / n, "client": float64(clientAfter-client) / n}, nil
}

// attaching attaches and closes as often as it goes.
func attaching(w *world) (figures, error) {
	if err := w.invite(attachers); err != nil {
		return nil, err
	}
	var attached Attached
	if err := w.sender.call("Attach", Attach{Length: w.length}, &attached); err != nil {
		return nil, err
	}
	return figures{"attaches": float64(attached.Count) / attached.Elapsed.Seconds()}, nil
}
