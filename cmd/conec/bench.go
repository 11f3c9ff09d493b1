package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/conec-go/conec/client"
)

// Purposes of the streams of conec bench.
const (
	benchPurpose    = "conec.bench"
	benchRunPurpose = "conec.bench.run"
)

// directPatience is how long a bench waits for a direct path before it measures the relay.
const directPatience = 5 * time.Second

// benchModes are what -mode may say.
var benchModes = []struct {
	name      string
	delivery  client.Delivery
	resumable bool
}{
	{"ordered", client.Ordered, false},
	{"resumable", client.Ordered, true},
	{"unordered", client.Unordered, false},
	{"sequenced", client.Sequenced, false},
	{"lossy", client.Lossy, false},
}

// benchFlags are the flags and the argument of conec bench.
type benchFlags struct {
	joinFlags
	modes   []string
	sizes   []int
	seconds float64
	relay   bool
	json    bool
}

func parseBench(args []string, std streams) (*benchFlags, error) {
	f := &benchFlags{sizes: []int{64, 1024, 65536}}
	for _, mode := range benchModes {
		f.modes = append(f.modes, mode.name)
	}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.register(flags)
	flags.BoolVar(&f.accept, "accept", false, "be the other side of such measurements, until SIGINT or SIGTERM; of PEER only if PEER is given")
	flags.Func("mode", "`modes` of delivery, with commas (default "+strings.Join(f.modes, ",")+")", f.setModes)
	flags.Func("size", "`sizes` of messages in bytes, with commas (default 64,1024,65536)", f.setSizes)
	flags.Float64Var(&f.seconds, "seconds", 2, "how long to measure each throughput and each latency, after a warm-up of a quarter of that")
	flags.BoolVar(&f.relay, "relay", false, "use only the relay (default: the path that the channel takes)")
	flags.BoolVar(&f.json, "json", false, "print one JSON object instead of a table")
	synopsis := "conec bench [flags] PEER: measure messages to a peer\nconec bench [flags] -accept [PEER]: be that peer"
	if err := f.parse(flags, synopsis, args, std, f.checkOwn); err != nil {
		return nil, err
	}
	return f, nil
}

func (f *benchFlags) setModes(text string) error {
	f.modes = strings.Split(text, ",")
	for _, mode := range f.modes {
		if _, err := benchOptions(mode); err != nil {
			return err
		}
	}
	return nil
}

func (f *benchFlags) setSizes(text string) error {
	f.sizes = nil
	for field := range strings.SplitSeq(text, ",") {
		size, err := strconv.Atoi(field)
		if err != nil || size < benchHeader || size > 16<<20 {
			return fmt.Errorf("%q: want %d to %d bytes", field, benchHeader, 16<<20)
		}
		f.sizes = append(f.sizes, size)
	}
	return nil
}

// benchOptions are those of a stream in a mode.
func benchOptions(mode string) (*client.StreamOptions, error) {
	for _, row := range benchModes {
		if row.name == mode {
			return &client.StreamOptions{Purpose: benchRunPurpose, Delivery: row.delivery, Resumable: row.resumable}, nil
		}
	}
	return nil, fmt.Errorf("%q is no mode of delivery", mode)
}

func (f *benchFlags) checkOwn() error {
	switch {
	case f.peer == "" && !f.accept:
		return errors.New("no PEER to measure, and no -accept to be one")
	case f.seconds < 0.01 || f.seconds > 3600:
		return fmt.Errorf("-seconds is %v: want 0.01 to 3600", f.seconds)
	}
	if f.relay {
		f.mode = "relay"
	}
	return nil
}

// runBench measures, or is the other side.
func runBench(ctx context.Context, args []string, std streams) error {
	f, err := parseBench(args, std)
	if err != nil {
		return err
	}
	screen := newConsole(std.err)
	std.err = screen
	b := newBooth(f.peer, std)
	cl, done, err := f.connect(ctx, "bench", std, func(config *client.Config) {
		if f.accept {
			config.Admit = b.admit
		}
	})
	if err != nil {
		return err
	}
	defer done()
	if f.accept {
		return because(ctx, closeSoon(ctx, cl, b.run(ctx, cl)))
	}
	return because(ctx, closeSoon(ctx, cl, f.measure(ctx, cl, screen, std.out)))
}

// measure makes all rows.
func (f *benchFlags) measure(ctx context.Context, cl *client.Client, screen *console, out io.Writer) (err error) {
	opening, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	control, err := cl.OpenStream(opening, f.peer, &client.StreamOptions{Purpose: benchPurpose, Mode: modes[f.mode]})
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			control.Reset() // it does not look complete
		}
	}()
	b := &benching{control: control, seconds: f.seconds, screen: screen, verbose: f.verbose}
	if !f.relay {
		if err := b.awaitDirect(ctx); err != nil {
			return err
		}
	}
	table := &benchTable{out: out}
	rows := []benchRow{}
	for _, mode := range f.modes {
		for _, size := range f.sizes {
			row, err := b.row(ctx, mode, size)
			if err != nil {
				return err
			}
			if rows = append(rows, row); !f.json {
				table.print(row)
			}
		}
	}
	control.CloseSend()
	if !f.json {
		return nil
	}
	return printJSON(out, map[string]any{"peer": f.peer, "seconds": f.seconds, "version": version(), "rows": rows})
}

// benchRow is one mode and size. Rates and losses are what the receiver counted.
type benchRow struct {
	Mode string `json:"mode"`
	Size int    `json:"size"`
	// Path is direct or relayed, or moved if it was both.
	Path string `json:"path"`
	// Note says why there are no figures.
	Note string `json:"note,omitempty"`

	BytesPerSecond    float64 `json:"bytes_per_second"`
	MessagesPerSecond float64 `json:"messages_per_second"`
	// Sent messages arrived or were lost.
	Sent    uint64 `json:"sent"`
	Arrived uint64 `json:"arrived"`
	Lost    uint64 `json:"lost"`
	// Dropped ones reached the peer's client, but its program did not take them in time. Those of the warm-up are in it, too.
	Dropped uint64 `json:"dropped"`

	// Round trips of one message at a time.
	Pings     int     `json:"pings"`
	PingsLost int     `json:"pings_lost"`
	P50       float64 `json:"p50_ms"`
	P90       float64 `json:"p90_ms"`
	P99       float64 `json:"p99_ms"`
}

// percentiles fills in the latencies.
func (r *benchRow) percentiles(times []time.Duration) {
	r.Pings = len(times)
	slices.Sort(times)
	for _, p := range []struct {
		to   *float64
		part float64
	}{{&r.P50, 0.5}, {&r.P90, 0.9}, {&r.P99, 0.99}} {
		if len(times) > 0 {
			*p.to = float64(percentile(times, p.part)) / float64(time.Millisecond)
		}
	}
}

// percentile is the smallest of the sorted times that so large a part of them does not exceed.
func percentile(sorted []time.Duration, part float64) time.Duration {
	rank := int(part*float64(len(sorted)) + 0.999999)
	return sorted[min(max(rank, 1), len(sorted))-1]
}

// benchTable prints rows as they come.
type benchTable struct {
	out    io.Writer
	headed bool
}

func (t *benchTable) print(row benchRow) {
	if !t.headed {
		fmt.Fprintf(t.out, "%-9s %8s  %-7s %12s %10s %7s %9s %9s %9s\n", "mode", "size", "path", "throughput", "messages/s", "lost", "p50 ms", "p90 ms", "p99 ms")
		t.headed = true
	}
	fmt.Fprintf(t.out, "%-9s %8d  %-7s ", row.Mode, row.Size, row.Path)
	if row.Note != "" {
		fmt.Fprintln(t.out, row.Note)
		return
	}
	lost := "-"
	if row.Lost > 0 {
		lost = fmt.Sprintf("%.2f%%", 100*float64(row.Lost)/float64(row.Sent))
	}
	fmt.Fprintf(t.out, "%10s/s %10.0f %7s %9.3f %9.3f %9.3f\n", bytesText(row.BytesPerSecond), row.MessagesPerSecond, lost, row.P50, row.P90, row.P99)
}
