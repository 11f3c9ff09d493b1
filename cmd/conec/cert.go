package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/conec-go/conec/coord"
	"github.com/conec-go/conec/messages"
)

const certUsage = `conec cert makes, shows and checks certificates.

	conec cert ca [flags]             make an authority: ca.pem and ca-key.pem
	conec cert coord [flags] HOST...  make a coordinator's certificate, for names and addresses: cert.pem and key.pem
	conec cert client [flags] NAME    make a client's certificate: NAME.pem, with the key, for -identity
	conec cert show FILE...           show the certificates in files
	conec cert check [flags] FILE     check a certificate against an authority, a name and the time

Flags: conec cert COMMAND -h. Keys get mode 0600, and nothing is replaced without -force.
`

// day is the unit of -days.
const day = 24 * time.Hour

// kindsOfKeys are the values of -kind.
var kindsOfKeys = map[string]coord.KeyKind{"p256": coord.P256, "ed25519": coord.Ed25519}

// certFlags are the flags of what makes certificates.
type certFlags struct {
	dir, ca, kind, name string
	days                int
	force               bool
	args                []string
}

// runCert makes, shows or checks certificates.
func runCert(_ context.Context, args []string, std streams) error {
	if len(args) == 0 {
		fmt.Fprint(std.err, certUsage)
		return fmt.Errorf("%w: cert: no command", errUsage)
	}
	command, args := args[0], args[1:]
	switch command {
	case "ca":
		return runCertAuthority(args, std)
	case "coord":
		return runCertCoord(args, std)
	case "client":
		return runCertClient(args, std)
	case "show":
		return runCertShow(args, std)
	case "check":
		return runCertCheck(args, std)
	case "help", "-h", "-help", "--help":
		fmt.Fprint(std.out, certUsage)
		return nil
	}
	return fmt.Errorf("%w: cert: no command %q", errUsage, command)
}

func parseCert(command, synopsis string, args []string, std streams, own func(*certFlags, *flag.FlagSet)) (*certFlags, error) {
	f := &certFlags{}
	flags := flag.NewFlagSet("cert "+command, flag.ContinueOnError)
	flags.StringVar(&f.dir, "dir", ".", "`folder` to write to")
	flags.StringVar(&f.kind, "kind", "p256", "`kind` of key: p256 or ed25519")
	flags.IntVar(&f.days, "days", 3650, "for how many `days` it is valid")
	flags.BoolVar(&f.force, "force", false, "replace files that are there")
	own(f, flags)
	if err := parse(flags, "conec cert "+synopsis, args, std); err != nil {
		return nil, err
	}
	f.args = flags.Args()
	_, known := kindsOfKeys[f.kind]
	switch {
	case !known:
		return nil, fmt.Errorf("%w: cert %s: -kind %q: want p256 or ed25519", errUsage, command, f.kind)
	case f.days <= 0:
		return nil, fmt.Errorf("%w: cert %s: -days is %d: want 1 or more", errUsage, command, f.days)
	}
	return f, nil
}

// order is what the flags say of a certificate.
func (f *certFlags) order() *coord.Order {
	return &coord.Order{Key: kindsOfKeys[f.kind], Validity: time.Duration(f.days) * day, Now: time.Now()}
}

func (f *certFlags) registerCA(flags *flag.FlagSet, absent string) {
	flags.StringVar(&f.ca, "ca", absent, "`folder` with ca.pem and ca-key.pem of the authority that signs")
}

// authority loads who signs.
func (f *certFlags) authority() (*coord.Identity, error) {
	authority, err := dataDir{f.ca, time.Now()}.load(authorityFile, authorityKeyFile)
	if err == nil && authority == nil {
		err = fmt.Errorf("%s: %s or %s is not there: %w", f.ca, authorityFile, authorityKeyFile, fs.ErrNotExist)
	}
	if err != nil {
		return nil, fmt.Errorf("-ca: %w", err)
	}
	return authority, nil
}

func runCertAuthority(args []string, std streams) error {
	f, err := parseCert("ca", "ca [flags]: make an authority", args, std, func(f *certFlags, flags *flag.FlagSet) {
		f.registerCA(flags, "")
		flags.StringVar(&f.name, "name", "conec authority", "what the authority is called")
	})
	if err != nil {
		return err
	}
	if len(f.args) > 0 {
		return fmt.Errorf("%w: cert ca: unexpected argument %q", errUsage, f.args[0])
	}
	order := f.order()
	order.Name, order.Authority = f.name, true
	sign := coord.Make
	if f.ca != "" {
		above, err := f.authority()
		if err != nil {
			return err
		}
		sign = above.Make
	}
	authority, err := sign(order)
	if err != nil {
		return err
	}
	return f.write(std, authority, authorityFile, authorityKeyFile)
}

func runCertCoord(args []string, std streams) error {
	f, err := parseCert("coord", "coord [flags] HOST...: make a coordinator's certificate", args, std, func(f *certFlags, flags *flag.FlagSet) {
		f.registerCA(flags, ".")
	})
	if err != nil {
		return err
	}
	if len(f.args) == 0 {
		return fmt.Errorf("%w: cert coord: no HOST by which clients reach it", errUsage)
	}
	authority, err := f.authority()
	if err != nil {
		return err
	}
	order := f.order()
	order.Hosts = f.args
	identity, err := authority.Make(order)
	if err != nil {
		return err
	}
	return f.write(std, identity, certificateFile, keyFile)
}

func runCertClient(args []string, std streams) error {
	f, err := parseCert("client", "client [flags] NAME: make a client's certificate", args, std, func(f *certFlags, flags *flag.FlagSet) {
		f.registerCA(flags, ".")
	})
	if err != nil {
		return err
	}
	if len(f.args) != 1 {
		return fmt.Errorf("%w: cert client: want one NAME", errUsage)
	}
	if err := messages.CheckName(f.args[0]); err != nil {
		return fmt.Errorf("%w: cert client: %w", errUsage, err)
	}
	authority, err := f.authority()
	if err != nil {
		return err
	}
	order := f.order()
	order.Name = f.args[0]
	identity, err := authority.Make(order)
	if err != nil {
		return err
	}
	file := order.Name + ".pem"
	return f.write(std, identity, file, file)
}

// write writes a certificate and its key, into one file or two, and shows the certificate.
func (f *certFlags) write(std streams, identity *coord.Identity, certificate, key string) error {
	certificatePEM, keyPEM, err := identity.PEM()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return err
	}
	type part struct {
		name string
		text []byte
	}
	parts := []part{{key, keyPEM}, {certificate, certificatePEM}}
	if certificate == key {
		parts = []part{{key, append(keyPEM, certificatePEM...)}}
	}
	for _, p := range parts { // before any of them is written
		if _, err := os.Lstat(filepath.Join(f.dir, p.name)); !f.force && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s: %w", filepath.Join(f.dir, p.name), errors.Join(err, fs.ErrExist))
		}
	}
	for _, p := range parts {
		if err := coord.WriteKeyFile(filepath.Join(f.dir, p.name), p.text, f.force); err != nil {
			return fmt.Errorf("%s: %w", filepath.Join(f.dir, p.name), err)
		}
		fmt.Fprintf(std.out, "wrote %s\n", filepath.Join(f.dir, p.name))
	}
	showCertificate(std.out, identity.Certificate())
	return nil
}
