package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/coord"
)

// patience is how long a script waits for a line or an end.
const patience = time.Minute

type processesKey struct{}

// process is a conec that a script started in the background.
type process struct {
	command *exec.Cmd
	cancel  context.CancelFunc
	input   io.WriteCloser // stdin, if it is kept open
	said    *watcher
	ended   chan struct{} // closed when command.Wait has returned
}

func processes(ts *testscript.TestScript) map[string]*process {
	return ts.Value(processesKey{}).(map[string]*process)
}

// startCommand: start NAME INPUT PATTERN conec ARGS...
//
// It runs conec in the background, and awaits PATTERN, which may be empty. INPUT is a file, "none", or "open" for a stdin that
// is kept open. The output goes to NAME.out and NAME.err.
func startCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 4 {
		ts.Fatalf("usage: start name input pattern conec args...")
	}
	name, input := args[0], args[1]
	path, err := lookPath(ts, args[3])
	ts.Check(err)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	p := &process{command: exec.CommandContext(ctx, path, args[4:]...), cancel: cancel, ended: make(chan struct{}), said: &watcher{more: make(chan struct{})}}
	p.command.Dir = ts.MkAbs(".")
	for _, key := range []string{
		"CONEC_COORDINATOR", "CONEC_FINGERPRINT", "CONEC_NAME", "CONEC_IDENTITY", "CONEC_KNOWN", "CONEC_TOKEN", "CONEC_ADMIN_TOKEN",
		"SSLKEYLOGFILE", "PATH", "HOME", "XDG_CONFIG_HOME",
	} {
		p.command.Env = append(p.command.Env, key+"="+ts.Getenv(key))
	}
	switch input {
	case "none":
	case "open":
		reader, writer, err := os.Pipe()
		ts.Check(err)
		defer reader.Close()
		p.command.Stdin, p.input = reader, writer
	default:
		file, err := os.Open(ts.MkAbs(input))
		ts.Check(err)
		defer file.Close()
		p.command.Stdin = file
	}
	var files []io.Closer
	for _, out := range []struct {
		suffix string
		to     *io.Writer
	}{{".out", &p.command.Stdout}, {".err", &p.command.Stderr}} {
		file, err := os.Create(ts.MkAbs(name + out.suffix))
		ts.Check(err)
		files = append(files, file)
		*out.to = io.MultiWriter(file, p.said)
		if out.suffix == ".out" && slices.Contains(args, "pipe") { // may be large
			*out.to = file
		}
	}
	ts.Check(p.command.Start())
	go func() {
		defer close(p.ended)
		_ = p.command.Wait() // finish looks at the exit code
		for _, file := range files {
			file.Close()
		}
	}()
	processes(ts)[name] = p
	ts.Defer(p.end)
	p.await(ts, args[2])
}

// awaitCommand: await NAME PATTERN waits until what the process said to stderr, or a coordinator to stdout, matches.
func awaitCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: await name pattern")
	}
	processes(ts)[args[0]].await(ts, args[1])
}

func (p *process) await(ts *testscript.TestScript, pattern string) {
	matching := regexp.MustCompile(pattern)
	for {
		said, more := p.said.text()
		if matching.MatchString(said) {
			return
		}
		select {
		case <-more:
		case <-p.ended: // within patience
			if said, _ := p.said.text(); !matching.MatchString(said) {
				ts.Fatalf("%v ended without %q:\n%s", p.command.Args, pattern, said)
			}
			return
		}
	}
}

// writeCommand: write NAME TEXT writes a line to a stdin that is kept open, and with no TEXT ends it.
func writeCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: write name [text]")
	}
	p := processes(ts)[args[0]]
	if len(args) == 1 {
		ts.Check(p.input.Close())
		return
	}
	_, err := fmt.Fprintln(p.input, args[1])
	ts.Check(err)
}

func lookPath(ts *testscript.TestScript, name string) (string, error) {
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && !info.IsDir() {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s: %w", name, exec.ErrNotFound)
}

// end kills the process if it runs, and waits for it.
func (p *process) end() {
	p.cancel()
	if p.input != nil {
		p.input.Close()
	}
	<-p.ended
}

// watcher keeps what is written to it.
type watcher struct {
	mu   sync.Mutex
	said strings.Builder
	more chan struct{} // closed and replaced with each write
}

func (w *watcher) Write(data []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.more)
	w.more = make(chan struct{})
	return w.said.Write(data)
}

// text returns what was written, and what is closed when there is more.
func (w *watcher) text() (string, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.said.String(), w.more
}

// signalCommand: signal NAME INT|TERM|KILL|HUP.
func signalCommand(ts *testscript.TestScript, neg bool, args []string) {
	signals := map[string]os.Signal{"INT": os.Interrupt, "TERM": syscall.SIGTERM, "KILL": os.Kill, "HUP": syscall.SIGHUP}
	if neg || len(args) != 2 || signals[args[1]] == nil {
		ts.Fatalf("usage: signal name INT|TERM|KILL|HUP")
	}
	ts.Check(processes(ts)[args[0]].command.Process.Signal(signals[args[1]]))
}

// finishCommand: finish NAME CODE waits for the end of a process and checks its exit code; -1 is the end by a signal.
func finishCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: finish name code")
	}
	p := processes(ts)[args[0]]
	<-p.ended // in time: start set a limit
	p.end()
	if got := p.command.ProcessState.ExitCode(); strconv.Itoa(got) != args[1] {
		ts.Fatalf("%s ended with %d, want %s:\n%s", args[0], got, args[1], ts.ReadFile(args[0]+".err"))
	}
}

// joinCommand: join NAME sets CONEC_COORDINATOR and CONEC_FINGERPRINT to what a coordinator printed, and CONEC_ADMIN if it has
// an admin endpoint.
func joinCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: join name")
	}
	line := regexp.MustCompile(`(?m)^join with: conec pipe -coordinator (\S+) -fingerprint (\S+) -name NAME PEER$`)
	found := line.FindStringSubmatch(ts.ReadFile(args[0] + ".out"))
	if found == nil {
		ts.Fatalf("no line to join with in %s.out", args[0])
	}
	ts.Setenv("CONEC_COORDINATOR", found[1])
	ts.Setenv("CONEC_FINGERPRINT", found[2])
	if endpoint := regexp.MustCompile(`(?m)^admin endpoint on (\S+)$`).FindStringSubmatch(ts.ReadFile(args[0] + ".out")); endpoint != nil {
		ts.Setenv("CONEC_ADMIN", endpoint[1])
	}
}

// randomCommand: random FILE MIB makes a file of so many MiB; of an eighth of that with -short.
func randomCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: random file mib")
	}
	size, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	if size <<= 20; testing.Short() {
		size /= 8
	}
	file, err := os.Create(ts.MkAbs(args[0]))
	ts.Check(err)
	_, err = io.CopyN(file, rand.Reader, size)
	ts.Check(errors.Join(err, file.Close()))
}

// sameCommand: same ONE OTHER compares what may be large.
func sameCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: same one other")
	}
	var sums [2]string
	for i, name := range args {
		file, err := os.Open(ts.MkAbs(name))
		ts.Check(err)
		hash := sha256.New()
		size, err := io.Copy(hash, file)
		ts.Check(errors.Join(err, file.Close()))
		sums[i] = fmt.Sprintf("%d bytes, sha256 %s", size, hex.EncodeToString(hash.Sum(nil)))
	}
	if sums[0] != sums[1] {
		ts.Fatalf("%s has %s\n%s has %s", args[0], sums[0], args[1], sums[1])
	}
}

// modeCommand: mode FILE OCTAL checks permissions.
func modeCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: mode file octal")
	}
	info, err := os.Stat(ts.MkAbs(args[0]))
	ts.Check(err)
	if got := fmt.Sprintf("%o", info.Mode().Perm()); got != args[1] {
		ts.Fatalf("%s has mode %s, want %s", args[0], got, args[1])
	}
}

// modifiedCommand: modified FILE TIME checks when a file was modified; modified -set FILE TIME says it was then.
func modifiedCommand(ts *testscript.TestScript, neg bool, args []string) {
	set := len(args) == 3 && args[0] == "-set"
	if set {
		args = args[1:]
	}
	if neg || len(args) != 2 {
		ts.Fatalf("usage: modified [-set] file time")
	}
	want, err := time.Parse(time.RFC3339, args[1])
	ts.Check(err)
	if set {
		ts.Check(os.Chtimes(ts.MkAbs(args[0]), want, want))
		return
	}
	info, err := os.Stat(ts.MkAbs(args[0]))
	ts.Check(err)
	if got := info.ModTime(); !got.Equal(want) {
		ts.Fatalf("%s was modified at %v, want %v", args[0], got, want)
	}
}

// certifyCommand: certify NAME makes NAME.pem and NAME-key.pem, and authority.pem that vouches for them.
func certifyCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: certify name")
	}
	authority, err := coord.NewAuthority("test authority", time.Now())
	ts.Check(err)
	var identity *client.Identity
	identity, err = authority.Issue(args[0], time.Now())
	ts.Check(err)
	root, _, err := authority.PEM()
	ts.Check(err)
	certificate, key, err := identity.PEM()
	ts.Check(err)
	for name, data := range map[string][]byte{"authority.pem": root, args[0] + ".pem": certificate, args[0] + "-key.pem": key} {
		ts.Check(os.WriteFile(ts.MkAbs(name), data, 0o600))
	}
}
