package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/rpc"
	"net/rpc/jsonrpc"
	"os"
	"runtime"
	"runtime/pprof"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/conec-go/conec/client"
)

// The systems, and the names of their ends.
const (
	conecSystem     = "conec"
	resumableSystem = "resumable" // conec with resumable streams
	actorsSystem    = "actors"    // conec's actors
	warmSystem      = "warm"      // conec with many paths
	bareSystem      = "bare"
	senderName      = "sender"
	receiverName    = "receiver"
)

// system is what an end is an end of: conec or bare quic-go.
type system interface {
	// host starts what the others attach to.
	host(ctx context.Context) (Place, error)
	// attended is how many clients a host has.
	attended() int
	// join makes this process an end of streams.
	join(ctx context.Context, at Place, name string) error
	// open opens a stream to the receiver, on one connection with those that it opened before.
	open(ctx context.Context, kind Kind) (pipe, error)
	// accept waits for a stream of the sender that is of this kind.
	accept(ctx context.Context, kind Kind) (pipe, error)
	// publish lets this process send to all that follow, once there are as many as the kind has members.
	publish(ctx context.Context, kind Kind) (pipe, error)
	// follow makes one that receives.
	follow(ctx context.Context, kind Kind) (pipe, error)
	// guest makes the key and the certificate of a further client.
	guest(at Place, name string) (guest, error)
}

// guest is a client with a socket of its own.
type guest interface {
	// attach attaches it. If it stays, it has a stream.
	attach(ctx context.Context, stays bool) (leave func() error, err error)
}

// pipe carries messages both ways.
type pipe interface {
	send(ctx context.Context, message []byte) error
	// receive returns the next message, which is good until the next call, or io.EOF.
	receive(ctx context.Context) ([]byte, error)
	// finish ends the sending side in order.
	finish() error
	// relayed tells whether the messages take the relay.
	relayed() bool
}

// What the parent tells an end, and what it answers.
type (
	// Nothing is no argument or no answer.
	Nothing struct{}
	// Place is where a host is and how it is known.
	Place struct {
		Addr        string
		Fingerprint string // of the authority, for conec
		Authority   []byte // certificate of the authority, for bare quic-go
	}
	// Join makes a process an end of streams.
	Join struct {
		At   Place
		Name string
	}
	// Kind is the kind of a stream.
	Kind struct {
		Mode     client.Mode
		Delivery client.Delivery
		Bulk     bool // it gives way to others
		Prompt   bool // each message is written at once, even if more might follow
		Size     int  // of its messages
		Pairs    int  // of actors that tell and are told at the same time, if not one; streams are always one
		Members  int  // of the group that messages go to; 0 if they go to one receiver
		Pair     int  // which pair or which member
	}
	// Pour sends messages as fast as it goes.
	Pour struct {
		Kind
		Length time.Duration
	}
	// Poured tells how many.
	Poured struct{ Messages int64 }
	// Drain receives them. What comes during Warm is not counted.
	Drain struct {
		Kind
		Warm time.Duration
	}
	// Drained tells how many came, how many of them counted, and how long those took.
	Drained struct {
		Messages, Counted int64
		Elapsed           time.Duration
	}
	// Echo sends back what comes.
	Echo struct{ Kind }
	// Ask sends a message when the last one came back.
	Ask struct {
		Kind
		Length time.Duration
	}
	// Asked tells how long that took.
	Asked struct{ P50, P99 time.Duration }
	// Gather makes all members.
	Gather struct{ Kind }
	// Tick sends a message now and then, which says when that was.
	Tick struct {
		Kind
		Length time.Duration
	}
	// Hear receives them. The answer tells how long they took, to all members.
	Hear struct{ Kind }
	// Invite makes the keys of clients, which are part of neither system's time and memory.
	Invite struct {
		At    Place
		Count int
	}
	// Idle attaches the clients with numbers in [From, To), which stay.
	Idle struct {
		From, To int
		Settle   time.Duration
	}
	// Held is the heap and the stacks of a process, and the clients that it is host of.
	Held struct {
		Bytes   int64
		Clients int
	}
	// Attach attaches and closes all clients again and again.
	Attach struct{ Length time.Duration }
	// Attached tells how often.
	Attached struct {
		Count   int64
		Elapsed time.Duration
	}
)

// end does what the parent says. The parent may call Pour, Drain, Echo and Ask while others are at work.
type end struct {
	sys     system
	profile string
	guests  []guest
	members []pipe
	staying []func() error // what ends the guests that stay
}

// pipes makes one stream of two pipes.
type pipes struct {
	io.Reader
	io.WriteCloser
}

// runChild does what the parent says until it closes our standard input.
func runChild(role string) error {
	out := os.Stdout
	os.Stdout = os.Stderr // what prints must not mix with our answers
	e := &end{profile: os.Getenv(profileVar)}
	switch role {
	case conecSystem:
		e.sys = &conec{}
	case resumableSystem:
		e.sys = &conec{resumable: true}
	case actorsSystem:
		e.sys = &actorEnds{}
	case warmSystem:
		e.sys = &conec{warm: true}
	case bareSystem:
		e.sys = &bare{}
	default:
		return fmt.Errorf("%s is %q: want %s, %s, %s, %s or %s", roleVar, role, conecSystem, resumableSystem, actorsSystem, warmSystem, bareSystem)
	}
	if e.profile != "" {
		file, err := os.Create(e.profile + ".cpu")
		if err != nil {
			return err
		}
		defer file.Close()
		if err := pprof.StartCPUProfile(file); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	calls := rpc.NewServer()
	if err := calls.RegisterName("End", e); err != nil {
		return err
	}
	calls.ServeCodec(jsonrpc.NewServerCodec(pipes{os.Stdin, out}))
	return nil
}

// Host starts what the others attach to.
func (e *end) Host(_ Nothing, place *Place) (err error) {
	*place, err = e.sys.host(context.Background())
	return err
}

// Join makes this process an end of streams.
func (e *end) Join(args Join, _ *Nothing) error {
	return e.sys.join(context.Background(), args.At, args.Name)
}

// Pour sends messages for a while.
func (e *end) Pour(args Pour, reply *Poured) error {
	poured := make([]int64, e.pairs(args.Kind))
	err := each(args.Kind, len(poured), func(kind Kind) (err error) {
		poured[kind.Pair], err = e.pour(kind, args.Length)
		return err
	})
	for _, messages := range poured {
		reply.Messages += messages
	}
	return err
}

// pairs is how many pairs send messages of a kind.
func (e *end) pairs(kind Kind) int {
	if _, ok := e.sys.(*actorEnds); ok {
		return max(kind.Pairs, 1)
	}
	return 1
}

// each does something for each pair or member, at the same time.
func each(kind Kind, count int, do func(Kind) error) error {
	var all sync.WaitGroup
	errs := make([]error, count)
	for i := range errs {
		one := kind
		one.Pair = i
		all.Go(func() { errs[i] = do(one) })
	}
	all.Wait()
	return errors.Join(errs...)
}

func (e *end) pour(args Kind, length time.Duration) (sent int64, err error) {
	ctx := context.Background()
	p, err := e.open(ctx, args)
	if err != nil {
		return 0, err
	}
	sent, err = pour(ctx, p, args.Size, length)
	if relayed := args.Mode == client.RelayOnly; err == nil && relayed != p.relayed() {
		if _, isConec := e.sys.(*conec); isConec {
			err = fmt.Errorf("relayed is %v, want %v", !relayed, relayed)
		}
	}
	return sent, err
}

// open makes what sends messages of a kind, accept returns what receives them.
func (e *end) open(ctx context.Context, kind Kind) (pipe, error) {
	if kind.Members > 0 {
		return e.sys.publish(ctx, kind)
	}
	return e.sys.open(ctx, kind)
}

func (e *end) accept(ctx context.Context, kind Kind) (pipe, error) {
	if kind.Members > 0 {
		return e.members[kind.Pair], nil
	}
	return e.sys.accept(ctx, kind)
}

// Gather makes those that receive, where they are many.
func (e *end) Gather(args Gather, _ *Nothing) error {
	e.members = make([]pipe, args.Members)
	return each(args.Kind, args.Members, func(kind Kind) (err error) {
		e.members[kind.Pair], err = e.sys.follow(context.Background(), kind)
		return err
	})
}

// Drain receives and checks what Pour sends.
func (e *end) Drain(args Drain, reply *Drained) error {
	drained := make([]Drained, max(e.pairs(args.Kind), args.Members))
	err := each(args.Kind, len(drained), func(kind Kind) error {
		ctx := context.Background()
		p, err := e.accept(ctx, kind)
		if err == nil {
			drained[kind.Pair], err = drain(ctx, p, Drain{Kind: kind, Warm: args.Warm})
		}
		return err
	})
	for _, one := range drained {
		reply.Messages += one.Messages
		reply.Counted += one.Counted
		reply.Elapsed = max(reply.Elapsed, one.Elapsed)
	}
	return err
}

// Echo answers what Ask asks.
func (e *end) Echo(args Echo, _ *Nothing) error {
	ctx := context.Background()
	p, err := e.sys.accept(ctx, args.Kind)
	if err != nil {
		return err
	}
	return echo(ctx, p)
}

// Ask asks for a while.
func (e *end) Ask(args Ask, reply *Asked) error {
	ctx := context.Background()
	p, err := e.sys.open(ctx, args.Kind)
	if err != nil {
		return err
	}
	*reply, err = ask(ctx, p, args.Size, args.Length)
	return err
}

// Tick sends messages that say when that was.
func (e *end) Tick(args Tick, _ *Nothing) error {
	ctx := context.Background()
	p, err := e.open(ctx, args.Kind)
	if err != nil {
		return err
	}
	return tick(ctx, p, args.Size, args.Length)
}

// Hear receives what Tick sends.
func (e *end) Hear(args Hear, reply *Asked) (err error) {
	heard := make([][]time.Duration, args.Members)
	err = each(args.Kind, len(heard), func(kind Kind) (err error) {
		heard[kind.Pair], err = hear(context.Background(), e.members[kind.Pair], kind.Size)
		return err
	})
	if err == nil {
		*reply, err = percentiles(slices.Concat(heard...))
	}
	return err
}

// Invite makes clients that are not attached yet.
func (e *end) Invite(args Invite, _ *Nothing) error {
	for len(e.guests) < args.Count {
		who, err := e.sys.guest(args.At, fmt.Sprintf("guest-%d", len(e.guests)))
		if err != nil {
			return err
		}
		e.guests = append(e.guests, who)
	}
	return nil
}

// Idle attaches clients that stay.
func (e *end) Idle(args Idle, _ *Nothing) error {
	for _, who := range e.guests[args.From:args.To] {
		leave, err := who.attach(context.Background(), true)
		if err != nil {
			return err
		}
		e.staying = append(e.staying, leave)
	}
	<-time.After(args.Settle)
	return nil
}

// Attach attaches and closes for a while, all clients at the same time.
func (e *end) Attach(args Attach, reply *Attached) error {
	var all sync.WaitGroup
	var count atomic.Int64
	errs := make([]error, len(e.guests))
	begin := time.Now()
	for i, who := range e.guests {
		all.Go(func() {
			for errs[i] == nil && time.Since(begin) < args.Length {
				var leave func() error
				if leave, errs[i] = who.attach(context.Background(), false); errs[i] == nil {
					errs[i] = leave()
					count.Add(1)
				}
			}
		})
	}
	all.Wait()
	*reply = Attached{Count: count.Load(), Elapsed: time.Since(begin)}
	return errors.Join(errs...)
}

// Usage is the CPU time that this process has used.
func (e *end) Usage(_ Nothing, used *time.Duration) (err error) {
	*used, err = usage()
	return err
}

// Memory is what this process holds.
func (e *end) Memory(_ Nothing, held *Held) error {
	for range 3 { // what pools hold is gone after the second
		runtime.GC()
	}
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	*held = Held{Bytes: int64(stats.HeapAlloc + stats.StackInuse), Clients: e.sys.attended()}
	if e.profile == "" {
		return nil
	}
	for _, kind := range []string{"heap", "goroutine"} {
		file, err := os.Create(e.profile + "." + kind)
		if err != nil {
			return err
		}
		if err := errors.Join(pprof.Lookup(kind).WriteTo(file, 0), file.Close()); err != nil {
			return err
		}
	}
	return nil
}
