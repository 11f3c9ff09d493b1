package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/coord"
	"github.com/conec-go/conec/messages"
)

// Times of a command. A peer that vanished is noticed sooner than by default, for a person is waiting.
const (
	connectTimeout = 30 * time.Second
	peerTimeout    = 15 * time.Second // nothing heard
	abortTimeout   = 2 * time.Second  // to tell the other side
	keepAlive      = 5 * time.Second
)

// reservedPurposes is how the purposes of conec's own streams begin.
const reservedPurposes = "conec."

// joinFlags are the flags of all commands that attach a client.
type joinFlags struct {
	coordinator, fingerprint, ca string
	name, certificate, key       string
	token                        string
	identity, known, expect      string
	peerCA                       string
	tcp, proxy                   string
	mode                         string
	accept, verbose, words       bool
	peer                         string // the argument, empty if there is none
}

var modes = map[string]client.Mode{"auto": client.Automatic, "direct": client.DirectOnly, "relay": client.RelayOnly}

// register adds the flags, without -accept, which each command words in its own way, and -mode, which not all have.
func (f *joinFlags) register(flags *flag.FlagSet) {
	f.mode = "auto"
	flags.StringVar(&f.coordinator, "coordinator", os.Getenv("CONEC_COORDINATOR"), "`address` of the coordinator, host or host:port")
	flags.StringVar(&f.fingerprint, "fingerprint", "", "`fingerprint` that the coordinator printed: sha256: and 64 hex digits")
	flags.StringVar(&f.ca, "ca", "", "PEM `file` of the authorities to trust for the coordinator, instead of a fingerprint (default: the system's)")
	flags.StringVar(&f.name, "name", os.Getenv("CONEC_NAME"), "this client's `name`; may be left out without -accept, then it is a random one")
	flags.StringVar(&f.certificate, "cert", "", "PEM `file` of this client's certificate, with -key (default: made for this run)")
	flags.StringVar(&f.key, "key", "", "PEM `file` of the certificate's key")
	flags.StringVar(&f.token, "token", "", "join `token`, if the coordinator's policy wants one (default CONEC_TOKEN)")
	flags.StringVar(&f.identity, "identity", "", "PEM `file` of this client's key and certificate, in place of -cert and -key; made if it is not there (default CONEC_IDENTITY)")
	flags.StringVar(&f.known, "known", os.Getenv("CONEC_KNOWN"), "`file` that remembers the keys of peers; one with another key is refused")
	flags.StringVar(&f.peerCA, "peer-ca", "", "PEM `file` of the authorities that must vouch for peers, whatever the coordinator says")
	flags.StringVar(&f.expect, "expect", "", "`fingerprint` that the certificate of PEER, or its key, must have")
	flags.StringVar(&f.tcp, "tcp", "", "coordinator's TCP `address`, for networks that block UDP, or none (default that of -coordinator)")
	flags.StringVar(&f.proxy, "proxy", "", "`URL` of an HTTP proxy for TCP, http://user:password@host:port, or none (default what HTTPS_PROXY and NO_PROXY say)")
	flags.BoolVar(&f.verbose, "v", false, "print to stderr what happens")
}

func (f *joinFlags) registerMode(flags *flag.FlagSet) {
	flags.StringVar(&f.mode, "mode", f.mode, "`paths` to use: auto, direct or relay")
}

// parse reads the flags of a command, and its argument PEER. checkOwn says what is wrong with the flags that only this command
// has, and with doing without PEER.
func (f *joinFlags) parse(flags *flag.FlagSet, synopsis string, args []string, std streams, checkOwn func() error) error {
	if err := parse(flags, synopsis, args, std); err != nil {
		return err
	}
	f.peer = flags.Arg(0)
	f.complete(flags.Name())
	if err := f.check(flags.NArg(), checkOwn); err != nil {
		return fmt.Errorf("%w: %s: %w", errUsage, flags.Name(), err)
	}
	return nil
}

func (f *joinFlags) check(arguments int, checkOwn func() error) error {
	if arguments > 1 {
		return errors.New("more than one PEER; flags come before it")
	}
	if err := checkOwn(); err != nil {
		return err
	}
	if err := f.validate(); err != nil || f.peer == "" {
		return err
	}
	return messages.CheckName(f.peer)
}

// complete fills in what was left out. A random name begins with the command's.
func (f *joinFlags) complete(command string) {
	if f.fingerprint == "" && f.ca == "" {
		f.fingerprint = os.Getenv("CONEC_FINGERPRINT")
	}
	if f.token == "" { // not as the flag's default, which help would show
		f.token = os.Getenv("CONEC_TOKEN")
	}
	if f.identity == "" && f.certificate == "" {
		f.identity = os.Getenv("CONEC_IDENTITY")
	}
	if f.name == "" && f.identity != "" {
		f.name = nameIn(f.identity)
	}
	if f.name == "" && !f.accept && f.identity == "" {
		var raw [3]byte
		_, _ = rand.Read(raw[:]) // never fails (crypto/rand)
		f.name = command + "-" + hex.EncodeToString(raw[:])
	}
}

// nameIn returns the name that the certificate in a file is for, empty if there is none.
func nameIn(file string) string {
	chain, err := readChain(file)
	if err != nil {
		return "" // opening it says so
	}
	name, _ := coord.CertificateName(chain[0])
	return name
}

// registerWords adds -words.
func (f *joinFlags) registerWords(flags *flag.FlagSet) {
	flags.BoolVar(&f.words, "words", false, "print six words to stderr that are the same at both sides, unless somebody sits in the middle")
}

// sayWords prints the words of a channel, if they are asked for.
func (f *joinFlags) sayWords(std streams, channel *client.Channel) {
	if !f.words {
		return
	}
	if words, err := channel.Words(); err == nil { // else the channel is over, which shows
		fmt.Fprintf(std.err, "words: %s\n", words)
	}
}

// validate says what is wrong with the flags by themselves.
func (f *joinFlags) validate() error {
	_, known := modes[f.mode]
	switch {
	case f.coordinator == "":
		return errors.New("no -coordinator, and CONEC_COORDINATOR is not set")
	case f.name == "" && f.identity != "":
		return errors.New("-identity needs a -name, unless there is a certificate in the file")
	case f.name == "":
		return errors.New("-accept needs a -name by which peers find it")
	case f.fingerprint != "" && f.ca != "":
		return errors.New("-fingerprint and -ca: give one of them")
	case (f.certificate == "") != (f.key == ""):
		return errors.New("-cert and -key: give both")
	case f.certificate != "" && f.identity != "":
		return errors.New("-identity, or -cert and -key: give one of them")
	case f.expect != "" && f.peer == "":
		return errors.New("-expect is about PEER: give one")
	case !known:
		return fmt.Errorf("-mode %q: want auto, direct or relay", f.mode)
	}
	return nil
}

// config is what the flags say about the client.
func (f *joinFlags) config() (*client.Config, error) {
	config := &client.Config{
		Name: f.name, Coordinator: f.coordinator, Fingerprint: f.fingerprint, TCPAddr: f.tcp, Proxy: f.proxy, JoinToken: f.token,
		NotAccepting: !f.accept, RelayOnly: f.accept && modes[f.mode] == client.RelayOnly,
		IdleTimeout: peerTimeout, KeepAlive: keepAlive, IdentityFile: f.identity, KnownPeers: f.known,
	}
	if f.expect != "" {
		config.Peers = map[string]string{f.peer: f.expect}
	}
	if f.peerCA != "" {
		roots, err := readRoots(f.peerCA)
		if err != nil {
			return nil, fmt.Errorf("-peer-ca: %w", err)
		}
		config.PeerRoots = roots
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
		key, err := coord.ReadKeyFile(f.key)
		if err != nil {
			return nil, fmt.Errorf("-key: %w", err)
		}
		if config.Identity, err = client.LoadIdentity(certificate, key); err != nil {
			return nil, fmt.Errorf("-cert, -key: %w", err)
		}
	}
	return config, nil
}

// connect attaches a client; amend may change its configuration. Who has closed the client calls done.
func (f *joinFlags) connect(ctx context.Context, command string, std streams, amend func(*client.Config)) (cl *client.Client, done func(), err error) {
	config, err := f.config()
	if err != nil {
		return nil, nil, err
	}
	keyLog, err := openKeyLog()
	if err != nil {
		return nil, nil, err
	}
	done = func() {}
	if keyLog != nil {
		done = func() { keyLog.Close() }
		config.KeyLog = keyLog
	}
	if amend != nil {
		amend(config)
	}
	hear := config.OnEvent
	config.OnEvent = func(event client.Event) {
		if hear != nil {
			hear(event)
		}
		_, loud := event.(client.PeerRefused)
		if f.verbose || loud {
			fmt.Fprintln(std.err, describe(event))
		}
	}
	if err = config.Validate(); err != nil {
		done()
		return nil, nil, fmt.Errorf("%w: %s: %w", errUsage, command, err)
	}
	connecting, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	if cl, err = client.Connect(connecting, config); err != nil {
		done()
		return nil, nil, because(ctx, err)
	}
	return cl, done, nil
}

// because returns why ctx ended rather than what that led to.
func because(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// closeSoon ends a client in order, but without much patience if there is an error already. It returns the first error.
func closeSoon(ctx context.Context, cl *client.Client, err error) error {
	limit := peerTimeout
	if err != nil {
		limit = abortTimeout
	}
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	if closed := cl.Close(closing); err == nil {
		err = closed
	}
	return err
}

// describe says an event in words.
func describe(event client.Event) string {
	switch event := event.(type) {
	case client.Attached:
		if event.TCP {
			return "attached over TCP, seen as " + event.Observed
		}
		return "attached, seen as " + event.Observed
	case client.HomeMoved:
		if event.TCP {
			return "UDP does not get through to the coordinator any more: over TCP now"
		}
		return "UDP gets through to the coordinator: over UDP now, seen as " + event.Observed
	case client.Detached:
		return fmt.Sprintf("coordinator lost: %v", event.Err)
	case client.ChannelOpened:
		return "channel with " + event.Peer
	case client.ChannelClosed:
		return fmt.Sprintf("channel with %s ended: %v", event.Peer, event.Err)
	case client.PathChanged:
		kind := pathKind(pathOf(event))
		return fmt.Sprintf("path to %s: %s %s, %v", event.Peer, kind, event.Remote, event.Reason)
	case client.PeerRefused:
		return fmt.Sprintf("channel with %s refused: %v", event.Peer, event.Err)
	case client.NetworkChanged:
		if event.Slept > 0 {
			return fmt.Sprintf("this host slept for %v", event.Slept.Round(time.Second))
		}
		return "this host's network changed, its addresses are " + strings.Join(event.Addrs, ", ")
	}
	return fmt.Sprintf("%T", event)
}
