package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/conec-go/conec/client"
)

// pipeFlags are the flags and the argument of conec pipe.
type pipeFlags struct {
	joinFlags
	purpose string
	linger  time.Duration
}

func parsePipe(args []string, std streams) (*pipeFlags, error) {
	f := &pipeFlags{}
	flags := flag.NewFlagSet("pipe", flag.ContinueOnError)
	f.register(flags)
	f.registerMode(flags)
	f.registerWords(flags)
	flags.StringVar(&f.purpose, "purpose", "", "`text` that says what the stream is for; with -accept, only such a stream is accepted")
	flags.BoolVar(&f.accept, "accept", false, "wait for one stream, of PEER only if PEER is given")
	flags.DurationVar(&f.linger, "linger", 10*time.Minute, "how long to wait at the end until the peer has read everything")
	synopsis := "conec pipe [flags] PEER: connect stdin and stdout to a stream of PEER\nconec pipe [flags] -accept [PEER]: wait for such a stream"
	if err := f.parse(flags, synopsis, args, std, f.checkOwn); err != nil {
		return nil, err
	}
	return f, nil
}

func (f *pipeFlags) checkOwn() error {
	switch {
	case f.peer == "" && !f.accept:
		return errors.New("no PEER to connect to, and no -accept to wait for one")
	case f.linger <= 0:
		return fmt.Errorf("-linger is %v: want more than 0", f.linger)
	}
	return nil
}

// runPipe connects stdin and stdout to one stream.
func runPipe(ctx context.Context, args []string, std streams) error {
	f, err := parsePipe(args, std)
	if err != nil {
		return err
	}
	cl, done, err := f.connect(ctx, "pipe", std, nil)
	if err != nil {
		return err
	}
	defer done()
	return because(ctx, f.pipe(ctx, cl, std))
}

// pipe opens or accepts the stream and carries it to its end.
func (f *pipeFlags) pipe(ctx context.Context, cl *client.Client, std streams) error {
	stream, err := f.stream(ctx, cl)
	if err != nil {
		cl.Abort()
		return err
	}
	if f.verbose {
		fmt.Fprintf(std.err, "stream with %s, path %v\n", stream.Peer(), stream.Channel().Path())
	}
	f.sayWords(std, stream.Channel())
	var refusing sync.WaitGroup
	defer refusing.Wait() // the client is closed by then
	refusing.Go(func() { refuse(ctx, cl) })
	err = transfer(ctx, stream, std.in, std.out, stream.Channel().Done())
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
		if (f.peer == "" || stream.Peer() == f.peer) && f.wants(stream.Purpose()) {
			return stream, nil
		}
		stream.Reset()
	}
}

// wants reports whether a stream for that purpose is one to accept. What another command opens is not meant for a pipe.
func (f *pipeFlags) wants(purpose string) bool {
	if f.purpose == "" {
		return !strings.HasPrefix(purpose, reservedPurposes)
	}
	return purpose == f.purpose
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
