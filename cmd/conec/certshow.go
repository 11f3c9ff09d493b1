package main

import (
	"crypto/x509"
	"encoding/pem"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/conec-go/conec/coord"
	"github.com/conec-go/conec/messages"
)

// runCertShow shows certificates. Keys that are in the files too are not looked at.
func runCertShow(args []string, std streams) error {
	flags := flag.NewFlagSet("cert show", flag.ContinueOnError)
	if err := parse(flags, "conec cert show FILE...: show the certificates in files", args, std); err != nil {
		return err
	}
	if flags.NArg() == 0 {
		return fmt.Errorf("%w: cert show: no FILE", errUsage)
	}
	for _, name := range flags.Args() {
		chain, err := readChain(name)
		if err != nil {
			return err
		}
		for i, certificate := range chain {
			fmt.Fprintf(std.out, "%s, certificate %d of %d\n", name, i+1, len(chain))
			showCertificate(std.out, certificate)
		}
	}
	return nil
}

// readChain reads all certificates of a PEM file.
func readChain(name string) (chain []*x509.Certificate, err error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		chain = append(chain, certificate)
	}
	if len(chain) == 0 {
		return nil, fmt.Errorf("%s: no PEM certificate in it", name)
	}
	return chain, nil
}

// showCertificate says what people want to know of a certificate.
func showCertificate(out io.Writer, certificate *x509.Certificate) {
	line := func(what, text string) { fmt.Fprintf(out, "  %-12s %s\n", what, text) }
	var hosts []string
	hosts = append(hosts, certificate.DNSNames...)
	for _, address := range certificate.IPAddresses {
		hosts = append(hosts, address.String())
	}
	switch name, err := coord.CertificateName(certificate); {
	case certificate.IsCA:
		line("authority", fmt.Sprintf("%q", certificate.Subject.CommonName))
	case err == nil:
		line("name", name)
	default:
		line("hosts", fmt.Sprintf("%q", hosts))
	}
	line("fingerprint", coord.Fingerprint(certificate))
	line("key", coord.KeyFingerprint(certificate)+" ("+coord.DescribeKey(certificate)+")")
	line("valid", certificate.NotBefore.UTC().Format(time.RFC3339)+" to "+certificate.NotAfter.UTC().Format(time.RFC3339))
	issuer := fmt.Sprintf("%q", certificate.Issuer.CommonName)
	if certificate.CheckSignatureFrom(certificate) == nil || string(certificate.RawIssuer) == string(certificate.RawSubject) {
		issuer = "itself"
	}
	line("issuer", issuer)
	if !certificate.IsCA {
		line("for", strings.Join(usesOf(certificate), ", "))
	}
}

// usesOf names what conec uses a certificate for.
func usesOf(certificate *x509.Certificate) (uses []string) {
	if len(certificate.ExtKeyUsage) == 0 {
		return []string{"clients", "coordinators"}
	}
	for _, usage := range certificate.ExtKeyUsage {
		switch usage {
		case x509.ExtKeyUsageClientAuth:
			uses = append(uses, "clients")
		case x509.ExtKeyUsageServerAuth:
			uses = append(uses, "coordinators")
		case x509.ExtKeyUsageAny:
			uses = append(uses, "all")
		default:
		}
	}
	if len(uses) == 0 {
		uses = []string{"neither clients nor coordinators"}
	}
	return uses
}

// runCertCheck says whether a certificate would be taken.
func runCertCheck(args []string, std streams) error {
	var ca, name, host string
	flags := flag.NewFlagSet("cert check", flag.ContinueOnError)
	flags.StringVar(&ca, "ca", "", "PEM `file` of the authorities that must vouch for it (default: none)")
	flags.StringVar(&name, "name", "", "`name` of the client that it must be for")
	flags.StringVar(&host, "host", "", "`host` of the coordinator that it must be for; needs -ca")
	if err := parse(flags, "conec cert check [flags] FILE: check a certificate against an authority, a name and the time", args, std); err != nil {
		return err
	}
	switch {
	case flags.NArg() != 1:
		return fmt.Errorf("%w: cert check: want one FILE", errUsage)
	case name != "" && host != "":
		return fmt.Errorf("%w: cert check: -name and -host: give one of them", errUsage)
	case host != "" && ca == "":
		return fmt.Errorf("%w: cert check: -host needs -ca", errUsage)
	}
	chain, err := readChain(flags.Arg(0))
	if err != nil {
		return err
	}
	var roots *x509.CertPool
	if ca != "" {
		if roots, err = readRoots(ca); err != nil {
			return fmt.Errorf("-ca: %w", err)
		}
	}
	if err := checkCertificate(chain, roots, name, host, time.Now()); err != nil {
		return fmt.Errorf("%s: %w", flags.Arg(0), err)
	}
	fmt.Fprintf(std.out, "%s: good until %s\n", flags.Arg(0), chain[0].NotAfter.UTC().Format(time.RFC3339))
	return nil
}

func checkCertificate(chain []*x509.Certificate, roots *x509.CertPool, name, host string, now time.Time) error {
	if host != "" {
		return coord.VerifyCoordinator(chain, host, roots, now)
	}
	if err := coord.VerifyClient(chain, roots, now); err != nil || name == "" {
		return err
	}
	issued, err := coord.CertificateName(chain[0])
	if err == nil && issued != name {
		err = fmt.Errorf("%w: it is for %q", messages.ErrNameMismatch, issued)
	}
	return err
}
