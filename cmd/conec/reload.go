package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/conec-go/conec/coord"
)

// reloading calls reload whenever the process gets SIGHUP, until ctx ends. done waits for that.
func reloading(ctx context.Context, reload func()) (done func()) {
	signals, ended := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(signals, syscall.SIGHUP)
	go func() {
		defer close(ended)
		for {
			select {
			case <-signals:
				reload()
			case <-ctx.Done():
				return
			}
		}
	}()
	return func() { // until then a SIGHUP is not the end of the process
		<-ended
		signal.Stop(signals)
	}
}

// reload reads the certificate and the list of revoked ones again. What can not be read stays
// as it is.
func (f *coordFlags) reload(ctx context.Context, c *coord.Coordinator) error {
	identity, err := f.identity()
	if err != nil {
		return err
	}
	revoked, err := readRevoked(f.revoked)
	if err != nil {
		return err
	}
	c.SetIdentity(identity)
	return c.SetRevoked(ctx, revoked)
}

// readRevoked reads a file with a fingerprint in each line; empty lines and those that begin
// with # do not count, nor does what follows a fingerprint.
func readRevoked(name string) (fingerprints []string, err error) {
	if name == "" {
		return nil, nil
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("-revoked: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 0 && !strings.HasPrefix(fields[0], "#") {
			fingerprints = append(fingerprints, fields[0])
		}
	}
	return fingerprints, nil
}
