package program

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"

	"github.com/conec-go/conec/actors"
	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/coord"
)

// Hub is the name of the client that the others of an example talk to.
const Hub = "hub"

// joinWith begins the line in which the hub tells how to join it.
const joinWith = "join with "

// closeWithin is how long what was sent may take to arrive when a client is closed.
const closeWithin = 5 * time.Second

// Program is an example. Its functions run until they are done or ctx ends, which is no error. What they print goes to the
// lines.
type Program struct {
	// Messages has one of each type that its clients exchange.
	Messages []any
	// Story shows everything in one process.
	Story func(ctx context.Context, stage *Stage, lines *Lines) error
	// Serve is the hub, as a process of its own. It calls ready when others may join.
	Serve func(ctx context.Context, cl *client.Client, in <-chan string, lines *Lines, ready func()) error
	// Join is another client.
	Join Role
}

// Role is what a client does. in has what its user types.
type Role func(ctx context.Context, cl *client.Client, in <-chan string, lines *Lines) error

// Main runs a program with the command line's arguments until it is done or interrupted.
func Main(name string, run func(ctx context.Context, args []string, in io.Reader, out io.Writer) error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stdin, os.Stdout)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}

// Run runs a program. Without arguments that is its story.
func (p *Program) Run(ctx context.Context, args []string, in io.Reader, out io.Writer) (err error) {
	flags := flag.NewFlagSet("", flag.ContinueOnError)
	flags.SetOutput(out)
	serve := flags.Bool("serve", false, "be the coordinator, and the hub")
	addr := flags.String("addr", "127.0.0.1:0", "with -serve: UDP `address` of the coordinator")
	name := flags.String("name", "", "be the client of this `name`")
	coordinator := flags.String("coordinator", "", "with -name: `address` of the coordinator")
	fingerprint := flags.String("fingerprint", "", "with -name: `fingerprint` of its certificate")
	if err := flags.Parse(args); err != nil {
		return err
	}
	stage := &Stage{program: p, coordinator: *coordinator, fingerprint: *fingerprint, identities: map[string]*client.Identity{}}
	lines := NewLines()
	defer lines.printTo(out)()
	defer func() { err = errors.Join(err, stage.close()) }()
	switch {
	case *serve:
		if err := stage.open(ctx, *addr); err != nil {
			return err
		}
		ready := func() { lines.Printf(joinWith+"-coordinator %s -fingerprint %s", stage.coordinator, stage.fingerprint) }
		return stage.play(ctx, Hub, func(ctx context.Context, cl *client.Client, in <-chan string, lines *Lines) error {
			return p.Serve(ctx, cl, in, lines, ready)
		}, in, lines)
	case *name != "":
		return stage.play(ctx, *name, p.Join, in, lines)
	}
	if err := stage.open(ctx, *addr); err != nil {
		return err
	}
	return p.Story(ctx, stage, lines)
}

// Stage is where clients of a program are: with one coordinator.
type Stage struct {
	// Config is what the clients have in common, but for name, coordinator and codecs.
	Config client.Config

	program                  *Program
	coordinator, fingerprint string
	identities               map[string]*client.Identity
	closing                  []func(ctx context.Context) error // the last one first
}

// open starts a coordinator.
func (s *Stage) open(ctx context.Context, addr string) error {
	c, err := coord.Start(ctx, &coord.Config{Addr: addr})
	if err != nil {
		return err
	}
	s.coordinator, s.fingerprint = c.Addr().String(), c.Fingerprint()
	s.closing = append(s.closing, c.Close)
	return nil
}

// Connect attaches a client, which is closed when the program is done. Another one of the same name is another process with
// the same key: so it has the name at once, even if the coordinator has not noticed yet that the former one is gone. Connect
// is for one goroutine.
func (s *Stage) Connect(ctx context.Context, name string) (*client.Client, error) {
	config := s.Config
	config.Name, config.Coordinator, config.Fingerprint = name, s.coordinator, s.fingerprint
	codec, err := actors.JSON(s.program.Messages...)
	if err != nil {
		return nil, err
	}
	config.Codecs = []actors.Codec{codec}
	if s.identities[name] == nil {
		if s.identities[name], err = client.NewIdentity(name, time.Now()); err != nil {
			return nil, err
		}
	}
	config.Identity = s.identities[name]
	if strings.HasPrefix(s.coordinator, "127.") {
		config.Bind = "127.0.0.1:0" // all clients are on this machine
	}
	cl, err := client.Connect(ctx, &config)
	if err == nil {
		s.closing = append(s.closing, cl.Close)
	}
	return cl, err
}

// play runs one client until it is done.
func (s *Stage) play(ctx context.Context, name string, role Role, in io.Reader, lines *Lines) error {
	cl, err := s.Connect(ctx, name)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	typed := make(chan string)
	go read(ctx, in, typed) // not waited for: nobody ends the reading of a terminal
	if err = role(ctx, cl, typed, lines); ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil // interrupted
	}
	return err
}

// close closes everything in order.
func (s *Stage) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeWithin)
	defer cancel()
	var errs []error
	for _, end := range slices.Backward(s.closing) {
		errs = append(errs, end(ctx))
	}
	return errors.Join(errs...)
}

// Each does something with each line that is typed, until they end or ctx does.
func Each(ctx context.Context, in <-chan string, do func(line string)) error {
	for {
		select {
		case line, more := <-in:
			if !more {
				return nil
			}
			do(line)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// read hands over lines until they end, or ctx does.
func read(ctx context.Context, in io.Reader, lines chan<- string) {
	defer close(lines)
	for scanner := bufio.NewScanner(in); scanner.Scan(); {
		select {
		case lines <- scanner.Text():
		case <-ctx.Done():
			return
		}
	}
}
