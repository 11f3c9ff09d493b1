// Conec is the command line of conec: it runs a coordinator, connects standard input and output to a
// named peer, copies files to one, measures the way there, lists peers, and plays simulated topologies.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"

	"github.com/conec-go/conec/messages"
)

// Exit codes, as "conec help" documents them.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 130 // 128 + SIGINT, as shells have it
)

const usage = `conec connects programs behind any network by name.

	conec coord [flags]               run a coordinator
	conec coord check [flags] FILE    say what a policy file allows, or what is wrong with it
	conec pipe [flags] PEER           connect stdin and stdout to a stream of PEER
	conec pipe [flags] -accept [PEER] wait for such a stream
	conec cp [flags] FILE|DIR PEER:[PATH]
	                                  copy to PEER; made again, it goes on where it ended
	conec cp [flags] -accept DIR [PEER]
	                                  let peers copy into DIR
	conec bench [flags] PEER          measure messages to PEER
	conec bench [flags] -accept [PEER]
	                                  be the other side of that
	conec ping [flags] PEER           measure round trips to PEER, and say which path they take and why
	conec peers [flags] [PATTERN]     list who is attached, and with -watch follow what becomes of them
	conec doctor [flags] [PEER]       say what this network lets through, and how PEER is reached
	conec cert ca|coord|client|show|check
	                                  make, show and check certificates: conec cert help
	conec sim run [flags] FILE        play a topology file in a simulated network
	conec status|group|kick|ban|unban|drain
	                                  see and order a coordinator about, at its admin endpoint
	conec version                     print the version
	conec help                        print this

Flags of a command: conec COMMAND -h. More on simulations: conec sim help

Exit codes: 0 done, 1 failed, 2 usage, 130 interrupted.

Environment, as defaults of the flags of all commands that attach: CONEC_COORDINATOR, CONEC_FINGERPRINT, CONEC_NAME,
CONEC_IDENTITY, CONEC_KNOWN, CONEC_TOKEN.
SSLKEYLOGFILE names a file that gets TLS secrets, for debugging.
`

// Ends that are not failures, or are of the user's making.
var (
	errUsage       = errors.New("usage")
	errInterrupted = errors.New("interrupted")
	errPolicy      = errors.New("the policy file is wrong")
)

// streams are what a command reads and writes.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

func main() {
	// A reader of our output that goes away is an error that the peer is told, not the end of the process.
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := interruptible()
	code := run(ctx, os.Args[1:], streams{os.Stdin, os.Stdout, os.Stderr})
	stop()
	os.Exit(code)
}

// interruptible returns a context that the first SIGINT or SIGTERM ends with errInterrupted. The next one ends the process.
func interruptible() (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		select {
		case <-signals:
			signal.Stop(signals)
			cancel(errInterrupted)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { signal.Stop(signals); cancel(nil) }
}

// run does what the arguments say and returns the exit code.
func run(ctx context.Context, args []string, std streams) int {
	err := dispatch(ctx, args, std)
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return exitDone
	case errors.Is(err, errInterrupted):
		return exitInterrupted
	case errors.Is(err, errUsage), errors.Is(err, errBadFile), errors.Is(err, errPolicy):
		complain(std.err, err)
		return exitUsage
	}
	complain(std.err, err)
	return exitFailed
}

// complain prints an error, and what to do about it if that is known.
func complain(w io.Writer, err error) {
	fmt.Fprintf(w, "conec: %v\n", err)
	if hint := hintFor(err); hint != "" {
		fmt.Fprintf(w, "hint: %s\n", hint)
	}
}

func dispatch(ctx context.Context, args []string, std streams) error {
	if len(args) == 0 {
		fmt.Fprint(std.err, usage)
		return fmt.Errorf("%w: no command", errUsage)
	}
	command, args := args[0], args[1:]
	switch command {
	case "coord":
		return runCoord(ctx, args, std)
	case "cert":
		return runCert(ctx, args, std)
	case "bench":
		return runBench(ctx, args, std)
	case "cp":
		return runCopy(ctx, args, std)
	case "ping":
		return runPing(ctx, args, std)
	case "peers":
		return runPeers(ctx, args, std)
	case "doctor":
		return runDoctor(ctx, args, std)
	case "pipe":
		return runPipe(ctx, args, std)
	case "sim":
		return runSim(ctx, args, std)
	case "status", "group", "kick", "ban", "unban", "drain":
		return runAdmin(ctx, command, args, std)
	case "version", "-version", "--version":
		fmt.Fprintln(std.out, version())
		return nil
	case "help", "-h", "-help", "--help":
		fmt.Fprint(std.out, usage)
		return nil
	}
	return fmt.Errorf("%w: no command %q", errUsage, command)
}

// parse reads a command's flags. Help goes to stdout and is no failure.
func parse(flags *flag.FlagSet, synopsis string, args []string, std streams) error {
	flags.SetOutput(io.Discard)
	err := flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprintf(std.out, "%s\n\n", synopsis)
		flags.SetOutput(std.out)
		flags.PrintDefaults()
		return err
	case err != nil:
		return fmt.Errorf("%w: %s: %w", errUsage, flags.Name(), err)
	}
	return nil
}

// printJSON prints a value for programs and people.
func printJSON(out io.Writer, value any) error {
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(value)
}

// version names the build and the protocols that it speaks.
func version() string {
	release, revision := "unknown", ""
	if info, ok := debug.ReadBuildInfo(); ok {
		release = info.Main.Version
		for _, setting := range info.Settings {
			if setting.Key == "vcs.revision" {
				revision = " " + setting.Value
			}
		}
	}
	return fmt.Sprintf("conec %s%s, %s, speaks %s and %s", release, revision, runtime.Version(), messages.ALPNHome, messages.ALPNChannel)
}

// openKeyLog opens the file that SSLKEYLOGFILE names, for TLS secrets. It returns nil if there is none.
func openKeyLog() (*os.File, error) {
	name := os.Getenv("SSLKEYLOGFILE")
	if name == "" {
		return nil, nil
	}
	file, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("SSLKEYLOGFILE: %w", err)
	}
	return file, nil
}
