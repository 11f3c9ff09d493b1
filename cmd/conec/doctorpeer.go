package main

import (
	"context"
	"time"

	"github.com/conec-go/conec/client"
)

// peerDiagnosis is how a peer is reached.
type peerDiagnosis struct {
	Name string `json:"name"`
	// Error is why it is not.
	Error string `json:"error,omitempty"`

	// Path is direct, relayed or none; Remote is where packets go to.
	Path   string `json:"path,omitempty"`
	Remote string `json:"remote,omitempty"`
	// Reason and Why say why, for programs and for people.
	Reason *client.PathReason `json:"reason,omitempty"`
	Why    string             `json:"why,omitempty"`
	// DirectAfter is how long the channel took to turn direct, in seconds; 0: it has not.
	DirectAfter float64 `json:"direct_after_s,omitempty"`
	// RTT is the last round trip.
	RTT millis `json:"rtt_ms,omitempty"`
	// Loss is the part of packets that were lost on the path in use.
	Loss float64 `json:"loss"`
	// MaxPacket is the size in bytes of QUIC's largest packets.
	MaxPacket  int             `json:"max_packet,omitempty"`
	Candidates []candidateLine `json:"candidates"`

	report *client.PathReport // nil: none
}

// candidateLine is one address of the peer.
type candidateLine struct {
	Addr    string                `json:"addr"`
	Kind    client.CandidateKind  `json:"kind"`
	State   client.CandidateState `json:"state"`
	Probes  int                   `json:"probes"`
	Answers int                   `json:"answers"`
	RTT     millis                `json:"rtt_ms,omitempty"`
	Unsent  string                `json:"unsent,omitempty"`
}

// reach opens a channel to a peer, and waits for a direct path, or until it is known that there is none, or no longer than wait.
// It returns an error if the peer is not reached at all.
func reach(ctx context.Context, cl *client.Client, peer string, mode client.Mode, wait time.Duration) (*peerDiagnosis, error) {
	p := &peerDiagnosis{Name: peer, Candidates: []candidateLine{}}
	opening, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	channel, err := cl.OpenChannel(opening, peer, &client.ChannelOptions{Mode: mode})
	if err != nil {
		p.Error = err.Error()
		return p, err
	}
	began := time.Now()
	waiting, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	ticker := time.NewTicker(peerPing)
	defer ticker.Stop()
	for {
		pong, err := channel.Ping(waiting)
		if err == nil {
			p.RTT = millis(pong.RTT)
		}
		report, err := channel.Paths(waiting)
		if err == nil {
			p.take(report, time.Since(began))
		}
		if p.Path == "direct" || p.settled() || waiting.Err() != nil {
			break
		}
		select {
		case <-ticker.C:
		case <-waiting.Done():
		}
	}
	if p.report == nil {
		p.Error = "the channel was lost"
		return p, ctx.Err()
	}
	return p, nil
}

// settled reports whether more time can change nothing.
func (p *peerDiagnosis) settled() bool {
	return p.report != nil && (p.report.Reason == client.ReasonRelayOnly || p.report.Reason == client.ReasonNothingOffered)
}

// take takes what is known now.
func (p *peerDiagnosis) take(report *client.PathReport, after time.Duration) {
	p.report, p.Reason = report, &report.Reason
	p.Path, p.Why, p.Loss, p.MaxPacket = pathKind(report.Path), report.Why(), report.Loss(), report.MaxPacket
	if report.Remote.IsValid() {
		p.Remote = report.Remote.String()
	}
	if p.Path == "direct" && p.DirectAfter == 0 {
		p.DirectAfter = after.Seconds()
	}
	p.Candidates = []candidateLine{}
	for _, c := range report.Candidates {
		p.Candidates = append(p.Candidates, candidateLine{
			Addr: c.Addr.String(), Kind: c.Kind, State: c.State, Probes: c.Probes, Answers: c.Answers,
			RTT: millis(c.RTT), Unsent: c.Unsent,
		})
	}
}
