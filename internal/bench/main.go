// Bench measures conec against bare quic-go and prints the table of ratios that conec promises to keep.
//
// # How to use it
//
//	go run ./internal/bench                                  # all rows: about four minutes
//	go run ./internal/bench -rows direct,attach -pairs 5     # some rows, more pairs
//	go run ./internal/bench -rows small -profile /tmp/p      # and CPU and heap profiles of every process
//
// A row is measured in pairs, conec and then bare quic-go, so that whatever else the machine does hits both. It shows
// the median of the pairs' ratios with the lowest and the highest, and the median of each side's own figures.
//
// Bare quic-go runs on a *net.UDPConn of its own with its own defaults, mutual TLS with the same kind of certificates,
// and frames of a varint length and the payload. Rows of resumable streams compare them with plain ones of conec.
//
// # Concurrency
//
// Every end is a process of its own, as it is in life: this program starts itself again for each, tells it what to do by
// JSON-RPC over its standard input and output, and ends it by closing its input.
//
// # Limits
//
// Everything runs on loopback and shares the processors, so a figure is a figure of this machine at this time; only the
// ratios travel. The relay's CPU time needs getrusage, which Windows lacks.
//
// # Testing
//
// The test runs all rows for a moment, and shows to the checks what they have to find.
package main

import (
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
)

// options are the flags.
type options struct {
	rows    []string      // names of experiments; all if empty
	pairs   int           // measurements of each side
	length  time.Duration // of one measurement
	clients int           // that are idle in the memory row
	profile string        // directory for profiles, none if empty
}

func main() {
	if role := os.Getenv(roleVar); role != "" {
		if err := runChild(role); err != nil {
			fmt.Fprintln(os.Stderr, role+":", err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	opts, err := parseFlags(os.Args[1:], os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err == nil {
		err = run(ctx, os.Stdout, opts)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func parseFlags(args []string, output io.Writer) (*options, error) {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(output)
	var names []string
	for _, e := range experiments() {
		names = append(names, e.name)
	}
	opts := &options{}
	rows := flags.String("rows", "", "which of "+strings.Join(names, ",")+"; all if empty")
	seconds := flags.Float64("seconds", 2.5, "length of one measurement")
	flags.IntVar(&opts.pairs, "pairs", 5, "measurements of each side")
	flags.IntVar(&opts.clients, "clients", 300, "idle clients in the memory row")
	flags.StringVar(&opts.profile, "profile", "", "directory for CPU and heap profiles; none if empty")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	opts.length = time.Duration(*seconds * float64(time.Second))
	if *rows != "" {
		opts.rows = strings.Split(*rows, ",")
	}
	for _, name := range opts.rows {
		if !slices.Contains(names, name) {
			return nil, fmt.Errorf("-rows %s: want some of %s", name, strings.Join(names, ","))
		}
	}
	if opts.pairs < 1 || opts.length <= 0 || opts.clients < 1 {
		return nil, errors.New("-pairs, -seconds and -clients must be more than 0")
	}
	if opts.profile != "" {
		return opts, os.MkdirAll(opts.profile, 0o755)
	}
	return opts, nil
}

// run measures the experiments one after the other and prints each table row as soon as it is known.
func run(ctx context.Context, w io.Writer, opts *options) error {
	printHead(w)
	for _, e := range experiments() {
		if len(opts.rows) > 0 && !slices.Contains(opts.rows, e.name) {
			continue
		}
		var ours, bare []figures
		for range opts.pairs {
			for _, side := range []struct {
				system string
				to     *[]figures
			}{{e.ours(), &ours}, {e.other(), &bare}} {
				if side.system == "" {
					*side.to = append(*side.to, figures{})
					continue
				}
				got, err := measureOnce(ctx, opts, e, side.system)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", e.name, side.system, err)
				}
				*side.to = append(*side.to, got)
			}
		}
		for _, r := range e.rows {
			printRow(w, r.judge(ours, bare))
		}
	}
	return nil
}

// measureOnce starts the processes of one measurement, and ends them.
func measureOnce(ctx context.Context, opts *options, e experiment, system string) (figures, error) {
	const patience = time.Minute // for everything but the measurement itself
	ctx, cancel := context.WithTimeout(ctx, 2*opts.length+patience)
	defer cancel()
	w, err := newWorld(ctx, opts, e, system)
	if err != nil {
		return nil, err
	}
	got, err := e.measure(w)
	if err != nil {
		cancel() // an end may be waiting for another that has failed: kill them all
		_ = w.close()
		return nil, err
	}
	return got, w.close()
}
