package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/conec-go/conec/coord"
)

// Files of a coordinator's data directory. The certificate files are written after their keys: while one is missing, its pair
// does not count.
const (
	authorityFile    = "ca.pem"
	authorityKeyFile = "ca-key.pem"
	certificateFile  = "cert.pem"
	keyFile          = "key.pem"
)

// dataDir holds a coordinator's certificate, and the development authority that issued it. Only its owner may read it.
type dataDir struct {
	path string
	now  time.Time
}

// identity returns the coordinator's certificate. The first time it makes the authority and a certificate for hosts; if hosts
// or the calendar ask for another later, it issues that, and clients that pinned the authority do not notice. A certificate
// without the authority's key beside it is the operator's own, and used as it is.
func (d dataDir) identity(hosts []string) (*coord.Identity, error) {
	if err := os.MkdirAll(d.path, 0o700); err != nil {
		return nil, err
	}
	current, err := d.load(certificateFile, keyFile)
	if err != nil {
		return nil, err
	}
	authority, err := d.load(authorityFile, authorityKeyFile)
	if err != nil {
		return nil, err
	}
	if current != nil && (authority == nil || d.covers(current, hosts)) {
		return current, nil
	}
	if authority == nil {
		if authority, err = coord.NewAuthority("conec development authority", d.now); err != nil {
			return nil, err
		}
		if err = d.save(authority, authorityFile, authorityKeyFile); err != nil {
			return nil, err
		}
	}
	if current, err = authority.IssueHosts(hosts, d.now); err != nil {
		return nil, err
	}
	return current, d.save(current, certificateFile, keyFile)
}

// covers reports whether a certificate is good for hosts, now and for a month.
func (d dataDir) covers(identity *coord.Identity, hosts []string) bool {
	certificate := identity.Certificate()
	for _, host := range hosts {
		if certificate.VerifyHostname(host) != nil {
			return false
		}
	}
	return d.now.AddDate(0, 1, 0).Before(certificate.NotAfter)
}

// load reads a certificate and its key, nil if there is no certificate.
func (d dataDir) load(certificate, key string) (*coord.Identity, error) {
	certificatePEM, err := os.ReadFile(filepath.Join(d.path, certificate))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	keyPEM, err := coord.ReadKeyFile(filepath.Join(d.path, key))
	if errors.Is(err, fs.ErrNotExist) && certificate == authorityFile {
		return nil, nil // kept elsewhere: nothing can be issued here
	}
	if err != nil {
		return nil, err
	}
	identity, err := coord.LoadIdentity(certificatePEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(d.path, certificate), err)
	}
	return identity, nil
}

func (d dataDir) save(identity *coord.Identity, certificate, key string) error {
	certificatePEM, keyPEM, err := identity.PEM()
	if err != nil {
		return err
	}
	if err := coord.WriteKeyFile(filepath.Join(d.path, key), keyPEM, true); err != nil {
		return err
	}
	return coord.WriteKeyFile(filepath.Join(d.path, certificate), certificatePEM, true)
}

// hostsOf returns what a coordinator's certificate is for: what the operator named, this host, and the loopback addresses.
func hostsOf(named []string) []string {
	hosts := slices.Clone(named)
	if name, err := os.Hostname(); err == nil && name != "" {
		hosts = append(hosts, name)
	}
	for _, host := range append([]string{"localhost", "127.0.0.1", "::1"}, interfaceHosts()...) {
		if !slices.Contains(hosts, host) {
			hosts = append(hosts, host)
		}
	}
	return hosts
}

// maxInterfaceHosts limits the addresses of interfaces that the certificate is for.
const maxInterfaceHosts = 32

// interfaceHosts returns the addresses that others may know this host by, IPv4 first.
func interfaceHosts() []string {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	var v4, v6 []string
	for _, addr := range addrs {
		prefix, ok := addr.(*net.IPNet)
		switch {
		case !ok || !prefix.IP.IsGlobalUnicast():
		case prefix.IP.To4() != nil:
			v4 = append(v4, prefix.IP.String())
		default:
			v6 = append(v6, prefix.IP.String())
		}
	}
	hosts := append(v4, v6...)
	return hosts[:min(len(hosts), maxInterfaceHosts)]
}

// publicHost guesses under which address others reach this host.
func publicHost() string {
	if hosts := interfaceHosts(); len(hosts) > 0 {
		return hosts[0]
	}
	return "127.0.0.1"
}
