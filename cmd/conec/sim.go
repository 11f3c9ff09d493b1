package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/conec-go/conec/sim/topology"
)

// Ends of conec sim that are not failures of conec.
var (
	errBadFile = errors.New("not a topology")
	errNotHeld = errors.New("not what was expected")
	errPlay    = errors.New("cannot play")
)

const simUsage = `conec sim plays topologies: coordinator and clients run over a simulated network, on a clock of their own.

	conec sim run [flags] FILE    play a topology file, - for stdin
	conec sim check FILE...       say what is wrong with topology files
	conec sim example             print a topology file to start from

Flags of run: conec sim run -h. docs/simulation.md describes the files.

Exit codes: 0 all expectations held, 1 one did not, 2 bad file or usage, 130 interrupted.
`

// runSim plays a topology, or what else conec sim can do.
func runSim(ctx context.Context, args []string, std streams) error {
	if len(args) == 0 {
		fmt.Fprint(std.err, simUsage)
		return fmt.Errorf("%w: sim: no command", errUsage)
	}
	command, args := args[0], args[1:]
	switch command {
	case "run":
		return simRun(ctx, args, std)
	case "check":
		return simCheck(args, std)
	case "example":
		if len(args) > 0 {
			return fmt.Errorf("%w: sim example: unexpected argument %q", errUsage, args[0])
		}
		_, err := io.WriteString(std.out, topology.Example())
		return err
	case "help", "-h", "-help", "--help":
		fmt.Fprint(std.out, simUsage)
		return nil
	}
	return fmt.Errorf("%w: sim: no command %q", errUsage, command)
}

// simFlags are the flags of conec sim run.
type simFlags struct {
	file          string
	seed          uint64
	speed         float64
	every         time.Duration
	trace         string
	json, verbose bool
}

func parseSim(args []string, std streams) (*simFlags, error) {
	f := &simFlags{}
	flags := flag.NewFlagSet("sim run", flag.ContinueOnError)
	flags.Uint64Var(&f.seed, "seed", 0, "decides everything that is random (default the file's, or 1)")
	flags.Float64Var(&f.speed, "speed", 0, "`seconds` to play in a real one: 1 is real time (default as many as possible)")
	flags.DurationVar(&f.every, "every", 0, "time between statistics, on the clock of the run (default 1s, or a 20th of the run if that is not paced)")
	flags.StringVar(&f.trace, "trace", "", "`folder` for what happened: messages, paths, packets (default none)")
	flags.BoolVar(&f.json, "json", false, "print JSON, an object a line: stats, events and at last the report")
	flags.BoolVar(&f.verbose, "v", false, "tell what happens to each client (default if there are at most 10)")
	var files []string
	for { // flags may also come behind the file
		if err := parse(flags, "conec sim run [flags] FILE: play a topology file", args, std); err != nil {
			return nil, err
		}
		if flags.NArg() == 0 {
			break
		}
		files = append(files, flags.Arg(0))
		args = flags.Args()[1:]
	}
	switch {
	case len(files) != 1:
		return nil, fmt.Errorf("%w: sim run: %d files; want one, or - for stdin", errUsage, len(files))
	case f.speed != 0 && !(f.speed >= 0.001 && f.speed <= 1e6): // NaN neither
		return nil, fmt.Errorf("%w: sim run: -speed is %v: want at least 0.001, at most 1000000, or 0 for as fast as possible", errUsage, f.speed)
	case f.every != 0 && f.every < time.Millisecond:
		return nil, fmt.Errorf("%w: sim run: -every is %v: want at least 1ms", errUsage, f.every)
	}
	f.file = files[0]
	return f, nil
}

// simRun plays a file.
func simRun(ctx context.Context, args []string, std streams) error {
	f, err := parseSim(args, std)
	if err != nil {
		return err
	}
	t, err := readTopology(f.file, std)
	if err != nil {
		return err
	}
	if f.every == 0 {
		f.every = time.Second
		if f.speed == 0 {
			f.every = max(f.every, (t.Duration / 20).Truncate(time.Second))
		}
	}
	if f.seed != 0 {
		os.Unsetenv("CONEC_SIM_SEED") // what is said here goes first
	}
	out := &simOutput{std: std, json: f.json, verbose: f.verbose || len(t.Hosts) <= 10}
	out.begin(t)
	began := time.Now()
	report, err := topology.Play(ctx, t, &topology.PlayOptions{
		Seed: f.seed, Speed: f.speed, Trace: f.trace, Repeat: f.repeat,
		Observer: topology.Observer{Every: f.every, Stats: out.stats, Event: out.event},
	})
	if report != nil {
		out.end(report, time.Since(began))
	}
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, topology.ErrTrace):
		return fmt.Errorf("sim run: -trace %s: %w", f.trace, err)
	case err != nil:
		return fmt.Errorf("%w %s: %w", errPlay, f.file, err)
	case out.err != nil:
		return out.err
	case !report.Held():
		fmt.Fprintf(std.err, "repeat with: %s\n", f.repeat(report.Seed))
		return fmt.Errorf("%w: %s with seed %d", errNotHeld, f.file, report.Seed)
	}
	return nil
}

// repeat returns the command that plays the file with a seed, for a shell.
func (f *simFlags) repeat(seed uint64) string {
	file := f.file
	if strings.ContainsFunc(file, func(r rune) bool {
		return r < utf8.RuneSelf && !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("-_./+,:=@%", r)
	}) {
		file = "'" + strings.ReplaceAll(file, "'", `'\''`) + "'"
	}
	return fmt.Sprintf("conec sim run -seed %d %s", seed, file)
}

// simCheck says what is wrong with files.
func simCheck(args []string, std streams) error {
	if len(args) == 0 || strings.HasPrefix(args[0], "-") && args[0] != "-" {
		return fmt.Errorf("%w: sim check: no file", errUsage)
	}
	var errs []error
	for _, file := range args {
		t, err := readTopology(file, std)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		fmt.Fprintf(std.out, "%s: %d clients, %d gateways, %d traffics, %d faults, %d expectations, %s\n",
			file, len(t.Hosts), len(t.Gateways), len(t.Traffic), len(t.Faults), len(t.Expect), t.Duration)
	}
	return errors.Join(errs...)
}

// readTopology reads a file, - for stdin. What is wrong with it goes to stderr, a line each.
func readTopology(file string, std streams) (*topology.Topology, error) {
	const limit = 16 << 20 // more than any topology
	name := file
	var data []byte
	var err error
	if file == "-" {
		name = "stdin"
		data, err = io.ReadAll(io.LimitReader(std.in, limit))
	} else {
		data, err = os.ReadFile(filepath.Clean(file))
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errBadFile, err)
	}
	t, err := topology.Parse(name, data)
	if err != nil {
		fmt.Fprintln(std.err, err)
		errs := "1 error"
		if more := strings.Count(err.Error(), "\n"); more > 0 {
			errs = fmt.Sprintf("%d errors", more+1)
		}
		return nil, fmt.Errorf("%w: %s: %s", errBadFile, name, errs)
	}
	return t, nil
}

// simOutput prints what happens. Text goes to stderr while it happens and to stdout at the end; JSON goes to stdout.
// The observer calls it, one call at a time.
type simOutput struct {
	std           streams
	json, verbose bool
	err           error // the first that writing gave
}

func (o *simOutput) begin(t *topology.Topology) {
	if o.json {
		return
	}
	if t.About != "" {
		fmt.Fprintln(o.std.err, strings.TrimSpace(t.About))
	}
	fmt.Fprintln(o.std.err, topology.Header)
}

func (o *simOutput) stats(s topology.Stats) {
	if o.json {
		o.print(map[string]any{"stats": s})
		return
	}
	fmt.Fprintln(o.std.err, s)
}

func (o *simOutput) event(e topology.Event) {
	quiet := !o.verbose && (e.What == "attached" || e.What == "detached" || e.What == "path" || e.What == "channel")
	switch {
	case o.json:
		o.print(map[string]any{"event": e})
	case !quiet:
		fmt.Fprintln(o.std.err, e)
	}
}

func (o *simOutput) end(r *topology.Report, took time.Duration) {
	if o.json {
		o.print(map[string]any{"report": r})
		return
	}
	if err := r.Write(o.std.out); err != nil && o.err == nil {
		o.err = err
	}
	fmt.Fprintf(o.std.err, "took %s, %.1f times as fast as real time\n", took.Round(time.Millisecond), r.Elapsed.Seconds()/took.Seconds())
}

func (o *simOutput) print(line any) {
	if err := json.NewEncoder(o.std.out).Encode(line); err != nil && o.err == nil {
		o.err = err
	}
}
