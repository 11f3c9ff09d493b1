package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/messages"
)

// Times of a pipe. A peer that vanished is noticed sooner than by default, for a person is waiting.
const (
	connectTimeout = 30 * time.Second
	peerTimeout    = 15 * time.Second // nothing heard
	abortTimeout   = 2 * time.Second  // to tell the other side
	pipeKeepAlive  = 5 * time.Second
)

// pipeFlags are the flags and the argument of conec pipe.
type pipeFlags struct {
	coordinator, fingerprint, ca string
	name, certificate, key       string
	mode, purpose, peer          string
	accept, verbose              bool
	linger                       time.Duration
}

var modes = map[string]client.Mode{"auto": client.Automatic, "direct": client.DirectOnly, "relay": client.RelayOnly}

func parsePipe(args []string, std streams) (*pipeFlags, error) {
	f := &pipeFlags{}
	flags := flag.NewFlagSet("pipe", flag.ContinueOnError)
	flags.StringVar(&f.coordinator, "coordinator", os.Getenv("CONEC_COORDINATOR"), "`address` of the coordinator, host or host:port")
	flags.StringVar(&f.fingerprint, "fingerprint", "", "`fingerprint` that the coordinator printed: sha256: and 64 hex digits")
	flags.StringVar(&f.ca, "ca", "", "PEM `file` of the authorities to trust for the coordinator, instead of a fingerprint (default: the system's)")
	flags.StringVar(&f.name, "name", os.Getenv("CONEC_NAME"), "this client's `name`; may be left out without -accept, then it is a random one")
	flags.StringVar(&f.certificate, "cert", "", "PEM `file` of this client's certificate, with -key (default: made for this run)")
	flags.StringVar(&f.key, "key", "", "PEM `file` of the certificate's key")
	flags.StringVar(&f.mode, "mode", "auto", "`paths` to use: auto, direct or relay")
	flags.StringVar(&f.purpose, "purpose", "", "`text` that says what the stream is for; with -accept, only such a stream is accepted")
	flags.BoolVar(&f.accept, "accept", false, "wait for one stream, of PEER only if PEER is given")
	flags.DurationVar(&f.linger, "linger", 10*time.Minute, "how long to wait at the end until the peer has read everything")
	flags.BoolVar(&f.verbose, "v", false, "print to stderr what happens")
	synopsis := "conec pipe [flags] PEER: connect stdin and stdout to a stream of PEER\nconec pipe [flags] -accept [PEER]: wait for such a stream"
	if err := parse(flags, synopsis, args, std); err != nil {
		return nil, err
	}
	f.peer = flags.Arg(0)
	if f.fingerprint == "" && f.ca == "" {
		f.fingerprint = os.Getenv("CONEC_FINGERPRINT")
	}
	if f.name == "" && !f.accept {
		f.name = randomName()
	}
	if err := f.validate(flags.NArg()); err != nil {
		return nil, fmt.Errorf("%w: pipe: %w", errUsage, err)
	}
	return f, nil
}

// validate says what is wrong with the flags by themselves.
func (f *pipeFlags) validate(arguments int) error {
	_, known := modes[f.mode]
	switch {
	case arguments > 1:
		return errors.New("more than one PEER; flags come before it")
	case f.peer == "" && !f.accept:
		return errors.New("no PEER to connect to, and no -accept to wait for one")
	case f.coordinator == "":
		return errors.New("no -coordinator, and CONEC_COORDINATOR is not set")
	case f.name == "":
		return errors.New("-accept needs a -name by which peers find it")
	case f.fingerprint != "" && f.ca != "":
		return errors.New("-fingerprint and -ca: give one of them")
	case (f.certificate == "") != (f.key == ""):
		return errors.New("-cert and -key: give both")
	case !known:
		return fmt.Errorf("-mode %q: want auto, direct or relay", f.mode)
	case f.linger <= 0:
		return fmt.Errorf("-linger is %v: want more than 0", f.linger)
	}
	if f.peer != "" {
		return messages.CheckName(f.peer)
	}
	return nil
}

func randomName() string {
	var raw [3]byte
	_, _ = rand.Read(raw[:]) // never fails (crypto/rand)
	return "pipe-" + hex.EncodeToString(raw[:])
}

// runPipe connects stdin and stdout to one stream.
func runPipe(ctx context.Context, args []string, std streams) error {
	f, err := parsePipe(args, std)
	if err != nil {
		return err
	}
	config, err := f.config()
	if err != nil {
		return err
	}
	keyLog, err := openKeyLog()
	if err != nil {
		return err
	}
	if keyLog != nil {
		defer keyLog.Close()
		config.KeyLog = keyLog
	}
	if err := config.Validate(); err != nil {
		return fmt.Errorf("%w: pipe: %w", errUsage, err)
	}
	lost := &lostPeers{ended: map[string]chan struct{}{}}
	config.OnEvent = func(event client.Event) {
		lost.hear(event)
		if f.verbose {
			fmt.Fprintln(std.err, describe(event))
		}
	}
	connecting, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	cl, err := client.Connect(connecting, config)
	if err != nil {
		return because(ctx, err)
	}
	return because(ctx, f.pipe(ctx, cl, lost, std))
}

// because returns why ctx ended rather than what that led to.
func because(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// config is what the flags say about the client.
func (f *pipeFlags) config() (*client.Config, error) {
	config := &client.Config{
		Name: f.name, Coordinator: f.coordinator, Fingerprint: f.fingerprint,
		NotAccepting: !f.accept, RelayOnly: f.accept && modes[f.mode] == client.RelayOnly,
		IdleTimeout: peerTimeout, KeepAlive: pipeKeepAlive,
	}
	if f.ca != "" {
		roots, err := readRoots(f.ca)
		if err != nil {
			return nil, fmt.Errorf("-ca: %w", err)
		}
		config.Roots = roots
	}
	if f.certificate != "" {
		certificate, err := os.ReadFile(f.certificate)
		if err != nil {
			return nil, fmt.Errorf("-cert: %w", err)
		}
		key, err := os.ReadFile(f.key)
		if err != nil {
			return nil, fmt.Errorf("-key: %w", err)
		}
		if config.Identity, err = client.LoadIdentity(certificate, key); err != nil {
			return nil, fmt.Errorf("-cert, -key: %w", err)
		}
	}
	return config, nil
}

// pipe opens or accepts the stream and carries it to its end.
func (f *pipeFlags) pipe(ctx context.Context, cl *client.Client, lost *lostPeers, std streams) error {
	stream, err := f.stream(ctx, cl)
	if err != nil {
		cl.Abort()
		return err
	}
	if f.verbose {
		fmt.Fprintf(std.err, "stream with %s, path %v\n", stream.Peer(), stream.Channel().Path())
	}
	var refusing sync.WaitGroup
	defer refusing.Wait() // the client is closed by then
	refusing.Go(func() { refuse(ctx, cl) })
	err = transfer(ctx, stream, std.in, std.out, lost.of(stream.Peer()))
	if err == nil {
		lingering, cancel := context.WithTimeout(ctx, f.linger)
		defer cancel()
		err = errors.Join(stream.Channel().Close(lingering), cl.Close(lingering))
	}
	if err != nil { // the peer must not take it for the end
		stream.Reset()
		stream.Channel().Abort()
		aborting, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTimeout)
		defer cancel()
		_ = cl.Close(aborting) // there is a worse error already
	}
	return err
}

// stream opens a stream to the peer, or accepts the first that is wanted.
func (f *pipeFlags) stream(ctx context.Context, cl *client.Client) (*client.Stream, error) {
	if !f.accept {
		ctx, cancel := context.WithTimeout(ctx, connectTimeout)
		defer cancel()
		return cl.OpenStream(ctx, f.peer, &client.StreamOptions{Purpose: f.purpose, Mode: modes[f.mode]})
	}
	for {
		stream, err := cl.AcceptStream(ctx)
		if err != nil {
			return nil, err
		}
		if (f.peer == "" || stream.Peer() == f.peer) && (f.purpose == "" || stream.Purpose() == f.purpose) {
			return stream, nil
		}
		stream.Reset()
	}
}

// refuse resets all further streams until the client is closed.
func refuse(ctx context.Context, cl *client.Client) {
	for {
		stream, err := cl.AcceptStream(ctx)
		if err != nil {
			return
		}
		stream.Reset()
	}
}

// lostPeers knows which peers' channels have ended.
type lostPeers struct {
	mu    sync.Mutex
	ended map[string]chan struct{}
}

// of returns what is closed when a channel with a peer ends.
func (l *lostPeers) of(peer string) chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended[peer] == nil {
		l.ended[peer] = make(chan struct{})
	}
	return l.ended[peer]
}

// hear takes a client's events.
func (l *lostPeers) hear(event client.Event) {
	if closed, ok := event.(client.ChannelClosed); ok {
		ended := l.of(closed.Peer)
		select {
		case <-ended:
		default:
			close(ended)
		}
	}
}

// describe says an event in words.
func describe(event client.Event) string {
	switch event := event.(type) {
	case client.Attached:
		return "attached, seen as " + event.Observed
	case client.Detached:
		return fmt.Sprintf("coordinator lost: %v", event.Err)
	case client.ChannelOpened:
		return "channel with " + event.Peer
	case client.ChannelClosed:
		return fmt.Sprintf("channel with %s ended: %v", event.Peer, event.Err)
	case client.PathChanged:
		kind := "direct"
		if event.Relayed {
			kind = "relayed"
		}
		if event.Remote == "" {
			kind = "none"
		}
		return fmt.Sprintf("path to %s: %s %s", event.Peer, kind, event.Remote)
	}
	return fmt.Sprintf("%T", event)
}
