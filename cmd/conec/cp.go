package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unicode"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/messages"
)

// copyPurpose is that of the streams of conec cp.
const copyPurpose = "conec.cp"

// copyFlags are the flags and arguments of conec cp.
type copyFlags struct {
	joinFlags
	source, target        string // of the side that sends
	folder                string // of the side that receives; peer is then whom it accepts, or empty
	overwrite, skip, once bool
	limit                 int64 // bytes per second
}

func parseCopy(args []string, std streams) (*copyFlags, error) {
	f := &copyFlags{}
	flags := flag.NewFlagSet("cp", flag.ContinueOnError)
	f.register(flags)
	f.registerMode(flags)
	flags.BoolVar(&f.accept, "accept", false, "write what peers copy into DIR, and never outside; of PEER only if PEER is given")
	flags.BoolVar(&f.once, "once", false, "with -accept: end after one copy, with its exit code")
	flags.BoolVar(&f.overwrite, "overwrite", false, "replace files that are there and differ (default: nothing is copied then)")
	flags.BoolVar(&f.skip, "skip", false, "leave out what is neither file nor folder, as symbolic links (default: nothing is copied then)")
	flags.Func("limit", "at most so many `bytes` per second; K, M and G multiply by 1024", func(text string) (err error) {
		f.limit, err = parseBytes(text)
		return err
	})
	synopsis := "conec cp [flags] FILE|DIR PEER:[PATH]: copy to a peer; a PATH that ends with / is the folder to copy into\n" +
		"conec cp [flags] -accept DIR [PEER]: receive copies, until SIGINT or SIGTERM"
	if err := parse(flags, synopsis, args, std); err != nil {
		return nil, err
	}
	f.complete("cp")
	if err := f.arguments(flags.Args()); err != nil {
		return nil, fmt.Errorf("%w: cp: %w", errUsage, err)
	}
	return f, nil
}

// arguments takes the arguments, and says what is wrong with them and the flags.
func (f *copyFlags) arguments(args []string) error {
	switch {
	case len(args) > 2:
		return errors.New("too many arguments; flags come before them")
	case f.accept && len(args) == 0:
		return errors.New("no DIR to copy into")
	case f.accept:
		f.folder = args[0]
		if len(args) == 2 {
			f.peer = args[1]
		}
		if f.overwrite || f.skip || f.limit > 0 {
			return errors.New("-overwrite, -skip and -limit are for the side that sends")
		}
	case f.once:
		return errors.New("-once is for -accept")
	case len(args) < 2:
		return errors.New("want FILE PEER:[PATH], or -accept DIR")
	default:
		peer, where, found := strings.Cut(args[1], ":")
		if !found {
			return fmt.Errorf("%q: want PEER:[PATH]", args[1])
		}
		absolute, err := filepath.Abs(args[0])
		if err != nil {
			return err
		}
		f.source, f.peer, f.target = args[0], peer, targetOf(where, filepath.Base(absolute))
	}
	if err := f.validate(); err != nil {
		return err
	}
	if f.peer == "" && f.accept {
		return nil
	}
	return messages.CheckName(f.peer)
}

// parseBytes reads a number of bytes: 1500, 64K, 10M, 1G.
func parseBytes(text string) (int64, error) {
	shift := 0
	for i, unit := range []string{"K", "M", "G"} {
		if number, found := strings.CutSuffix(text, unit); found {
			text, shift = number, 10*(i+1)
		}
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n <= 0 || n > 1<<40 {
		return 0, errors.New("want a number of bytes more than 0, as 1500, 64K, 10M or 1G")
	}
	return n << shift, nil
}

// runCopy copies to a peer, or receives copies.
func runCopy(ctx context.Context, args []string, std streams) error {
	f, err := parseCopy(args, std)
	if err != nil {
		return err
	}
	screen := newConsole(std.err)
	std.err = screen
	if f.accept {
		return because(ctx, f.receiveCopies(ctx, std))
	}
	list, err := listFiles(f.source, f.skip, screen)
	if err != nil {
		return err
	}
	cl, done, err := f.connect(ctx, "cp", std, func(*client.Config) {})
	if err != nil {
		return err
	}
	defer done()
	return because(ctx, f.sendCopy(ctx, cl, list, screen, std))
}

// sendCopy opens the stream, and copies.
func (f *copyFlags) sendCopy(ctx context.Context, cl *client.Client, list *fileList, screen *console, std streams) error {
	opening, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	stream, err := cl.OpenStream(opening, f.peer, &client.StreamOptions{
		Purpose: copyPurpose, Mode: modes[f.mode], Resumable: true, Urgency: client.Bulk,
	})
	if err != nil {
		cl.Abort()
		return err
	}
	sending := newSending(stream, list, f, screen)
	stop := screen.follow(f.verbose, sending.progress.text)
	err = sending.run(ctx)
	stop()
	if err != nil {
		stream.Reset()
		return closeSoon(ctx, cl, err)
	}
	fmt.Fprintln(std.out, sending.progress.summary())
	return closeSoon(ctx, cl, nil)
}

// receiveCopies takes copies until ctx ends, or one has ended if that is asked for.
func (f *copyFlags) receiveCopies(ctx context.Context, std streams) error {
	root, err := os.OpenRoot(f.folder)
	if err != nil {
		return err
	}
	defer root.Close()
	d := newDesk(root, f.peer, std)
	cl, done, err := f.connect(ctx, "cp", std, func(config *client.Config) { config.Admit = d.admit })
	if err != nil {
		return err
	}
	defer done()
	return closeSoon(ctx, cl, d.run(ctx, cl, f.once))
}

// printable makes text of a peer harmless for a terminal.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, messages.Clip(text, 2*maxPath))
}
