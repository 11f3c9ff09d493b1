package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/messages"
)

// peersFlags are the flags and the argument of conec peers.
type peersFlags struct {
	joinFlags
	pattern string
	watch   bool
	json    bool
}

func parsePeers(args []string, std streams) (*peersFlags, error) {
	f := &peersFlags{}
	flags := flag.NewFlagSet("peers", flag.ContinueOnError)
	f.register(flags)
	flags.BoolVar(&f.watch, "watch", false, "go on until SIGINT or SIGTERM, and print what changes")
	flags.BoolVar(&f.json, "json", false, "print a JSON object for each line")
	const synopsis = "conec peers [flags] [PATTERN]: list the clients that are attached and that this one may see; in PATTERN, * stands for any characters and ? for one"
	if err := parse(flags, synopsis, args, std); err != nil {
		return nil, err
	}
	f.pattern = flags.Arg(0)
	if f.pattern == "" {
		f.pattern = "*"
	}
	f.complete(flags.Name())
	err := f.validate()
	switch {
	case err != nil:
	case flags.NArg() > 1:
		err = errors.New("more than one PATTERN; flags come before it, and the shell leaves one in quotes alone")
	default:
		err = messages.CheckPattern(f.pattern)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", errUsage, flags.Name(), err)
	}
	return f, nil
}

// runPeers lists peers, and with -watch follows them until it is interrupted, which is no failure.
func runPeers(ctx context.Context, args []string, std streams) error {
	f, err := parsePeers(args, std)
	if err != nil {
		return err
	}
	cl, done, err := f.connect(ctx, "peers", std, nil)
	if err != nil {
		return err
	}
	defer done()
	if f.watch {
		err = f.follow(ctx, cl, std.out)
	} else {
		err = f.list(ctx, cl, std.out)
	}
	return closeSoon(ctx, cl, err)
}

func (f *peersFlags) list(ctx context.Context, cl *client.Client, out io.Writer) error {
	asking, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	peers, err := cl.Peers(asking, f.pattern)
	if err != nil {
		return because(ctx, err)
	}
	for _, peer := range peers {
		text := peerText(peer)
		if f.json {
			text = peerJSON(client.PeerEvent{Kind: client.PeerPresent, Peer: peer})
		}
		if _, err := fmt.Fprintln(out, text); err != nil {
			return err
		}
	}
	return nil
}

func (f *peersFlags) follow(ctx context.Context, cl *client.Client, out io.Writer) error {
	watch, err := cl.WatchPeers(f.pattern)
	if err != nil {
		return err
	}
	defer watch.Close()
	for {
		event, err := watch.Next(ctx)
		switch {
		case errors.Is(context.Cause(ctx), errInterrupted):
			return nil
		case err != nil:
			return because(ctx, err)
		}
		text := eventText(event)
		if f.json {
			text = peerJSON(event)
		}
		if _, err := fmt.Fprintln(out, text); err != nil {
			return err
		}
	}
}

// peerText says what is known of a peer.
func peerText(peer client.PeerInfo) string {
	var text strings.Builder
	text.WriteString(peer.Name)
	if !peer.Accepting {
		text.WriteString(", accepts no channels")
	}
	for _, key := range slices.Sorted(maps.Keys(peer.Metadata)) {
		fmt.Fprintf(&text, ", %q: %q", key, peer.Metadata[key])
	}
	return text.String()
}

// eventText says an event in words. What peers publish is quoted: it may be anything.
func eventText(event client.PeerEvent) string {
	switch event.Kind {
	case client.PeerGone:
		return "gone: " + event.Peer.Name
	case client.PeerBack:
		how := "another process"
		switch {
		case !event.SameKey:
			how = "another process with another key"
		case event.SameProcess:
			how = "the same process"
		}
		return "back, " + how + ": " + peerText(event.Peer)
	case client.PeersListed:
		return "these are all; waiting for changes"
	case client.CoordinatorAway:
		return fmt.Sprintf("coordinator lost: %v", event.Err)
	case client.PeerPresent, client.PeerChanged:
	}
	return event.Kind.String() + ": " + peerText(event.Peer)
}

// peerLine is an event as a JSON object.
type peerLine struct {
	Type        string            `json:"type"` // as PeerEventKind has it, with _
	Peer        string            `json:"peer,omitempty"`
	Accepting   *bool             `json:"accepting,omitempty"`
	Instance    string            `json:"instance,omitempty"`
	Key         string            `json:"key,omitempty"`
	Metadata    map[string]string `json:"metadata,omitempty"`
	SameProcess *bool             `json:"same_process,omitempty"`
	SameKey     *bool             `json:"same_key,omitempty"`
	Error       string            `json:"error,omitempty"`
}

func peerJSON(event client.PeerEvent) string {
	line := peerLine{
		Type: strings.ReplaceAll(event.Kind.String(), " ", "_"), Peer: event.Peer.Name, Key: event.Peer.Key, Metadata: event.Peer.Metadata,
	}
	if event.Peer.Name != "" {
		line.Accepting, line.Instance = &event.Peer.Accepting, fmt.Sprintf("%016x", event.Peer.Instance)
	}
	if event.Kind == client.PeerBack {
		line.SameProcess, line.SameKey = &event.SameProcess, &event.SameKey
	}
	if event.Err != nil {
		line.Error = event.Err.Error()
	}
	text, _ := json.Marshal(line) // it has nothing that can not be written so
	return string(text)
}
