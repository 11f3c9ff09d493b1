package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/messages"
)

// Times of conec doctor.
const (
	selfWait   = 6 * time.Second       // for what channels to ourselves show: a round of probes, and QUIC's search for its packet size
	doctorPing = 20 * time.Millisecond // between pings there: QUIC searches while there is traffic
	peerWait   = 10 * time.Second      // default of -w
	peerPing   = 100 * time.Millisecond
	portWait   = 11 * time.Second // for a gateway's answer, a second more than an attempt may take
	clockLimit = time.Minute      // a difference that can make certificates look invalid
)

// fullPacket is a size in bytes of QUIC's packets at which its search for larger ones may end: it goes to 1,452, in steps of 20.
const fullPacket = 1432

// doctorFlags are the flags and the argument of conec doctor.
type doctorFlags struct {
	joinFlags
	wait time.Duration
	json bool
}

func parseDoctor(args []string, std streams) (*doctorFlags, error) {
	f := &doctorFlags{}
	flags := flag.NewFlagSet("doctor", flag.ContinueOnError)
	f.register(flags)
	f.registerMode(flags)
	flags.DurationVar(&f.wait, "w", peerWait, "how much `time` there is to find a direct path to PEER")
	flags.BoolVar(&f.json, "json", false, "print a JSON object")
	if err := f.parse(flags, "conec doctor [flags] [PEER]: say what this network lets through, and how PEER is reached", args, std, f.checkOwn); err != nil {
		return nil, err
	}
	return f, nil
}

func (f *doctorFlags) checkOwn() error {
	if f.wait <= 0 {
		return fmt.Errorf("-w is %v: want more than 0", f.wait)
	}
	return nil
}

// diagnosis is what conec doctor finds, and its JSON.
type diagnosis struct {
	Version     string `json:"version"`
	Coordinator string `json:"coordinator"`
	// Attached tells whether the coordinator took us. If not, Error says why, and only UDP is known beside it.
	Attached bool   `json:"attached"`
	Error    string `json:"error,omitempty"`
	// UDP tells whether anything came back from the coordinator over UDP.
	UDP bool `json:"udp"`

	// IPv4 and IPv6 are this host's addresses that peers are offered.
	IPv4 []netip.Addr `json:"ipv4"`
	IPv6 []netip.Addr `json:"ipv6"`
	// Observed is where our packets come from, as the coordinator sees it.
	Observed string `json:"observed,omitempty"`
	// NAT is yes or no: whether that is another address than this host has. Mapping says what it does with other destinations.
	NAT     string `json:"nat,omitempty"`
	Mapping string `json:"nat_mapping,omitempty"`
	// PortKept tells whether the NAT left our port as it was.
	PortKept bool `json:"nat_port_kept"`
	// Hairpin tells whether our own packets to Observed come back: yes, no, or unneeded without a NAT.
	Hairpin string `json:"hairpin,omitempty"`

	// PortMap tells whether the gateway maps our port: mapped, none, asking, unneeded or off. PortMapProtocol made the mapping,
	// and PortMapAddr is its outer address; PortMapError is why there is none.
	PortMap         string `json:"port_map,omitempty"`
	PortMapProtocol string `json:"port_map_protocol,omitempty"`
	PortMapAddr     string `json:"port_map_addr,omitempty"`
	PortMapError    string `json:"port_map_error,omitempty"`

	// RTT is the round trip to the coordinator.
	RTT millis `json:"coordinator_rtt_ms"`
	// MaxPacket is the size in bytes of the largest QUIC packets that pass to the coordinator and back; 0: not known.
	MaxPacket int `json:"max_packet"`
	// Clock is how far the coordinator's clock is ahead of ours, if ClockKnown, and ClockError how wrong that may be.
	ClockKnown bool   `json:"clock_known"`
	Clock      millis `json:"clock_ms"`
	ClockError millis `json:"clock_error_ms"`

	Peer *peerDiagnosis `json:"peer,omitempty"`
	// Advice says what to do, for people.
	Advice []string `json:"advice"`
}

// runDoctor looks at this network, and at the way to a peer.
func runDoctor(ctx context.Context, args []string, std streams) error {
	f, err := parseDoctor(args, std)
	if err != nil {
		return err
	}
	d := &diagnosis{Version: version(), Coordinator: f.coordinator, IPv4: []netip.Addr{}, IPv6: []netip.Addr{}, Advice: []string{}}
	cl, done, err := f.connect(ctx, "doctor", std, func(config *client.Config) {
		config.NotAccepting = false // our own channels
		config.Admit = func(client.Offer) error { return errors.New("this is conec doctor") }
	})
	switch {
	case errors.Is(err, errUsage) || ctx.Err() != nil:
		return err
	case err != nil:
		d.unattached(err)
	default:
		defer done()
		d.attached(cl.Attachment(), cl.OverTCP())
		err = because(ctx, closeSoon(ctx, cl, d.look(ctx, cl, f)))
	}
	if ctx.Err() != nil {
		return err
	}
	d.advise()
	return errors.Join(err, d.print(std.out, f.json))
}

// unattached says what a failure to attach shows.
func (d *diagnosis) unattached(err error) {
	d.Error = err.Error()
	d.UDP = !errors.Is(err, messages.ErrUnreachable) && !errors.Is(err, messages.ErrTimeout) && !errors.Is(err, context.DeadlineExceeded)
}

// attached says what is known from the attachment.
func (d *diagnosis) attached(a client.Attachment, overTCP bool) {
	d.Attached, d.UDP = true, !overTCP
	d.Coordinator, d.Observed, d.RTT = a.Coordinator.String(), a.Observed.String(), millis(a.RTT)
	d.ClockKnown, d.Clock, d.ClockError = a.ClockKnown, millis(a.Clock), millis(a.ClockError)
	for _, addr := range a.Addrs {
		if addr.Addr().Is4() {
			d.IPv4 = append(d.IPv4, addr.Addr())
		} else {
			d.IPv6 = append(d.IPv6, addr.Addr())
		}
	}
	d.NAT, d.Hairpin = "no", "unneeded"
	if !overTCP && !slices.Contains(a.Addrs, a.Observed) && !a.Observed.Addr().IsLoopback() {
		d.NAT, d.Hairpin = "yes", "no"
		d.PortKept = slices.ContainsFunc(a.Addrs, func(own netip.AddrPort) bool { return own.Port() == a.Observed.Port() })
	}
}

// look measures what takes channels: to ourselves, and to the peer.
func (d *diagnosis) look(ctx context.Context, cl *client.Client, f *doctorFlags) error {
	var ended sync.WaitGroup
	var hairpin bool
	if d.NAT == "yes" {
		ended.Go(func() { hairpin = hairpins(ctx, cl) })
	}
	ended.Go(func() { d.MaxPacket = maxPacket(ctx, cl) })
	ended.Go(func() { d.ported(portMapping(ctx, cl)) })
	var err error
	if f.peer != "" {
		d.Peer, err = reach(ctx, cl, f.peer, modes[f.mode], f.wait)
	}
	ended.Wait()
	if d.NAT == "yes" {
		d.Mapping = cl.NAT().Mapping.String()
	}
	if hairpin {
		d.Hairpin = "yes"
	}
	return err
}

// portMapping returns what the gateway says to our wish for a port, once it has, or there is no more time.
func portMapping(ctx context.Context, cl *client.Client) client.PortMapping {
	ctx, cancel := context.WithTimeout(ctx, portWait)
	defer cancel()
	ticker := time.NewTicker(peerPing)
	defer ticker.Stop()
	for {
		mapping := cl.PortMapping()
		if mapping.State != client.PortMapAsking {
			return mapping
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return mapping
		}
	}
}

// ported says what is known of a port at the gateway.
func (d *diagnosis) ported(mapping client.PortMapping) {
	d.PortMap = mapping.State.String()
	if mapping.State == client.PortMapped {
		d.PortMapProtocol, d.PortMapAddr = mapping.Protocol, mapping.Addr.String()
	}
	if mapping.Err != nil {
		d.PortMapError = mapping.Err.Error()
	}
}

// hairpins reports whether the NAT gives us back what we send to our own outer address: on a channel to ourselves, that is a
// candidate like others.
func hairpins(ctx context.Context, cl *client.Client) bool {
	outer := cl.Attachment().Observed
	return onSelf(ctx, cl, client.Automatic, func(report *client.PathReport) bool {
		return slices.ContainsFunc(report.Candidates, func(c client.Candidate) bool { return c.Addr == outer && c.Answers > 0 })
	})
}

// maxPacket returns the size of packets that QUIC has found to pass to the relay and back.
func maxPacket(ctx context.Context, cl *client.Client) (size int) {
	onSelf(ctx, cl, client.RelayOnly, func(report *client.PathReport) bool {
		size = report.MaxPacket
		return size >= fullPacket
	})
	return size
}

// onSelf opens a channel to ourselves and looks at it, while there is traffic, until what is looked for is found, which it
// reports, or for so long as a round of probes takes.
func onSelf(ctx context.Context, cl *client.Client, mode client.Mode, found func(*client.PathReport) bool) bool {
	ctx, cancel := context.WithTimeout(ctx, selfWait)
	defer cancel()
	channel, err := cl.OpenChannel(ctx, cl.Name(), &client.ChannelOptions{Mode: mode})
	if err != nil {
		return false
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTimeout)
		defer cancel()
		_ = channel.Close(closing) // nothing was sent on it
	}()
	ticker := time.NewTicker(doctorPing)
	defer ticker.Stop()
	for {
		if _, err := channel.Ping(ctx); err != nil {
			return false
		}
		if report, err := channel.Paths(ctx); err == nil && found(report) {
			return true
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return false
		}
	}
}

// print prints the diagnosis.
func (d *diagnosis) print(out io.Writer, asJSON bool) error {
	if !asJSON {
		_, err := io.WriteString(out, d.String())
		return err
	}
	return printJSON(out, d)
}
