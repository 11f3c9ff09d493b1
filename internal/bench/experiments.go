package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/conec-go/conec/client"
)

// experiment is a measurement that both systems undergo, and the rows it fills.
type experiment struct {
	name    string
	streams bool   // needs an end that receives
	many    bool   // which is many
	system  string // what promises something; if empty, plain conec
	against string // what it is compared with; if empty, bare quic-go
	alone   bool   // conec has it alone
	measure func(*world) (figures, error)
	rows    []row
}

// ours is the system that promises something, other what it is compared with, if anything.
func (e experiment) ours() string {
	if e.system != "" {
		return e.system
	}
	return conecSystem
}

func (e experiment) other() string {
	switch {
	case e.alone:
		return ""
	case e.against != "":
		return e.against
	}
	return bareSystem
}

// Sizes of messages, in bytes.
const (
	hugeMessage  = 1 << 20
	largeMessage = 64 << 10
	packet       = 1000 // fits into a datagram
	fanMessage   = 1 << 10
	smallMessage = 64
)

// idleName is the experiment that looks at memory.
const idleName = "idle"

// fanMembers is how many are in a group.
const fanMembers = 50

// attachers is how many attach at the same time.
const attachers = 8

// experiments is the table of what conec promises, in the order in which it is printed.
func experiments() []experiment {
	const mega = 1e6
	const micro = float64(time.Microsecond)
	return append([]experiment{
		{name: "direct", streams: true, measure: pouring(Kind{Mode: client.DirectOnly, Size: largeMessage}), rows: []row{
			{what: "direct stream, 64 KiB messages", figure: "bytes", scale: mega, unit: "MB/s", target: 1.15},
		}},
		{name: "warm", streams: true, system: warmSystem, measure: pouring(Kind{Mode: client.DirectOnly, Size: largeMessage}), rows: []row{
			{what: "direct stream, 64 KiB messages, 10 warm paths", figure: "bytes", scale: mega, unit: "MB/s", target: 1.15},
		}},
		{name: "relayed", streams: true, measure: pouring(Kind{Mode: client.RelayOnly, Size: largeMessage}), rows: []row{
			{what: "relayed stream, 64 KiB messages", figure: "bytes", scale: mega, unit: "MB/s", target: 0.9},
			{what: "  CPU of the relay", figure: "relay", scale: 1, unit: "ns/byte", target: 1.5, atMost: true, alone: true},
		}},
		{name: "small", streams: true, measure: pouring(Kind{Mode: client.DirectOnly, Size: smallMessage}), rows: []row{
			{what: "direct stream, 64 B messages", figure: "messages", scale: mega, unit: "M/s", target: 0.8},
		}},
		{name: "request", streams: true, measure: asking, rows: []row{
			{what: "request and response, 64 B, p50", figure: "p50", scale: micro, unit: "us", target: 1.25, atMost: true},
			{what: "  p99", figure: "p99", scale: micro, unit: "us"},
		}},
		{name: "resumable", streams: true, system: resumableSystem, against: conecSystem, measure: pouring(Kind{Mode: client.DirectOnly, Size: largeMessage}), rows: []row{
			{what: "resumable / plain, 64 KiB messages", figure: "bytes", scale: mega, unit: "MB/s", target: 0.85},
		}},
		{name: "resumable-small", streams: true, system: resumableSystem, against: conecSystem, measure: pouring(Kind{Mode: client.DirectOnly, Size: smallMessage}), rows: []row{
			{what: "resumable / plain, 64 B messages", figure: "messages", scale: mega, unit: "M/s", target: 0.85},
		}},
		{name: "resumable-request", streams: true, system: resumableSystem, against: conecSystem, measure: asking, rows: []row{
			{what: "resumable / plain, request, 64 B, p50", figure: "p50", scale: micro, unit: "us"},
			{what: "  p99, resumable", figure: "p99", scale: micro, unit: "us"},
		}},
		{name: "beside", streams: true, measure: askingBeside, rows: []row{
			{what: "request, 64 B, beside 1 MiB flow, p50", figure: "p50", scale: micro, unit: "us", target: 0.6, atMost: true},
			{what: "  p50, at most 500 us", figure: "p50", scale: micro, unit: "us", target: 500, atMost: true, alone: true},
			{what: "  p99, at most 2500 us", figure: "p99", scale: micro, unit: "us", target: 2500, atMost: true, alone: true},
			{what: "  the flow", figure: "bytes", scale: mega, unit: "MB/s"},
		}},
		{name: "unordered", streams: true, alone: true, measure: pouring(Kind{Mode: client.DirectOnly, Delivery: client.Unordered, Size: smallMessage}), rows: []row{
			{what: "unordered, 64 B messages", figure: "messages", scale: mega, unit: "M/s", target: 0.1, alone: true},
		}},
		{name: "lossy", streams: true, measure: pouring(Kind{Mode: client.DirectOnly, Delivery: client.Lossy, Size: packet}), rows: []row{
			{what: "lossy, 1,000 B datagrams that came", figure: "messages", scale: mega, unit: "M/s", target: 0.8},
			{what: "  lost", figure: "lost", scale: 0.01, unit: "%"},
		}},
		{name: "tell", streams: true, system: actorsSystem, measure: pouring(Kind{Mode: client.DirectOnly, Size: smallMessage}), rows: []row{
			{what: "actors: 64 B tells, one pair", figure: "messages", scale: mega, unit: "M/s", target: 0.5},
		}},
		{name: "tell-100", streams: true, system: actorsSystem, measure: pouring(Kind{Mode: client.DirectOnly, Size: smallMessage, Pairs: 100}), rows: []row{
			{what: "actors: 64 B tells, 100 pairs", figure: "messages", scale: mega, unit: "M/s", target: 0.5},
		}},
		{name: "tell-large", streams: true, system: actorsSystem, measure: pouring(Kind{Mode: client.DirectOnly, Size: largeMessage}), rows: []row{
			{what: "actors: 64 KiB tells", figure: "bytes", scale: mega, unit: "MB/s", target: 1},
		}},
		{name: "tell-huge", streams: true, system: actorsSystem, measure: pouring(Kind{Mode: client.DirectOnly, Size: hugeMessage}), rows: []row{
			{what: "actors: 1 MiB tells", figure: "bytes", scale: mega, unit: "MB/s", target: 1},
		}},
		{name: "ask", streams: true, system: actorsSystem, measure: asking, rows: []row{
			{what: "actors: ask, 64 B, p50", figure: "p50", scale: micro, unit: "us", target: 1.3, atMost: true},
			{what: "  p99", figure: "p99", scale: micro, unit: "us"},
		}},
		{name: "ask-beside", streams: true, system: actorsSystem, measure: askingBeside, rows: []row{
			{what: "actors: ask, 64 B, beside 1 MiB flow, p50", figure: "p50", scale: micro, unit: "us"},
			{what: "  p50, at most 500 us", figure: "p50", scale: micro, unit: "us", target: 500, atMost: true, alone: true},
			{what: "  p99", figure: "p99", scale: micro, unit: "us"},
			{what: "  the flow", figure: "bytes", scale: mega, unit: "MB/s"},
		}},
	}, append(fans(), attachments()...)...)
}

// attachments is the part of the table that needs no channels.
func attachments() []experiment {
	const kibi = 1 << 10
	return []experiment{
		{name: idleName, measure: idling, rows: []row{
			{what: "attached idle client, coordinator side", figure: "host", scale: kibi, unit: "KiB", target: 1.3, atMost: true},
			{what: "  client side", figure: "client", scale: kibi, unit: "KiB", target: 1.3, atMost: true},
		}},
		{name: "attach", measure: attaching, rows: []row{
			{what: "attach and close, 8 at a time", figure: "attaches", scale: 1, unit: "/s", target: 0.7},
		}},
	}
}

// pouring sends messages of one kind as fast as it goes. Bare quic-go is always direct.
func pouring(kind Kind) func(*world) (figures, error) {
	return func(w *world) (figures, error) {
		before, err := w.host.usage()
		if err != nil {
			return nil, err
		}
		pouring := w.pour(kind)
		poured, drained, err := pouring()
		if err != nil {
			return nil, err
		}
		after, err := w.host.usage()
		if err != nil {
			return nil, err
		}
		got := drained.figures(kind)
		got["all"] = float64(drained.Messages * int64(kind.Size))
		got["relay"] = float64(after-before) / got["all"]
		got["lost"] = float64(poured.Messages-drained.Messages) / float64(poured.Messages)
		return got, nil
	}
}

// pour has messages of one kind sent and received. The returned function waits for the end of it.
func (w *world) pour(kind Kind) func() (Poured, Drained, error) {
	warm := w.length / 5
	var poured Poured
	var drained Drained
	draining := w.receiver.begin("Drain", Drain{Kind: kind, Warm: warm}, &drained)
	pouring := w.sender.begin("Pour", Pour{Kind: kind, Length: w.length + warm}, &poured)
	return func() (Poured, Drained, error) {
		if err := pouring(); err != nil {
			return poured, drained, err
		}
		err := draining()
		poured.Messages *= int64(max(kind.Members, 1))
		if lossy := kind.Delivery == client.Lossy; err == nil && !lossy && poured.Messages != drained.Messages {
			err = fmt.Errorf("%d messages were sent and %d received", poured.Messages, drained.Messages)
		}
		return poured, drained, err
	}
}

// figures are the rates at which messages came, to each of the members if there are many.
func (d Drained) figures(kind Kind) figures {
	rate := float64(d.Counted) / d.Elapsed.Seconds() / float64(max(kind.Members, 1))
	return figures{"messages": rate, "bytes": rate * float64(kind.Size)}
}

// asking sends a request when the last one was answered.
func asking(w *world) (figures, error) {
	kind := Kind{Mode: client.DirectOnly, Prompt: true, Size: smallMessage}
	echoing := w.receiver.begin("Echo", Echo{kind}, &Nothing{})
	var asked Asked
	if err := w.sender.call("Ask", Ask{kind, w.length}, &asked); err != nil {
		return nil, err
	}
	return figures{"p50": float64(asked.P50), "p99": float64(asked.P99)}, echoing()
}

// askingBeside does so while huge messages flow on the same connection, from before the first to after the last request.
func askingBeside(w *world) (figures, error) {
	flow := Kind{Mode: client.DirectOnly, Bulk: true, Size: hugeMessage}
	pouring := w.pour(flow)
	<-time.After(w.length / 10)
	beside := *w
	beside.length = w.length * 8 / 10
	got, err := asking(&beside)
	_, drained, flowErr := pouring()
	if err := errors.Join(err, flowErr); err != nil {
		return nil, err
	}
	got["bytes"] = drained.figures(flow)["bytes"]
	return got, nil
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
