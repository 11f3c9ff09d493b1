package client

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/conec-go/conec/messages"
	"github.com/conec-go/conec/netio"
)

// maxKnown limits a file of known peers, in bytes: about 8,000 peers.
const maxKnown = 1 << 20

// knownPeers is a file with the keys of peers that a client has met. Each line is a name and
// a fingerprint; empty lines and those that begin with # do not count. A peer may have
// several lines. Processes may share the file; all methods block on it.
type knownPeers struct{ path string }

// check compares a peer's key with what is known of it. If nothing is, it is written down.
func (k *knownPeers) check(peer, fingerprint string) error {
	_, found, err := k.find(peer, fingerprint)
	if found || err != nil {
		return err
	}
	unlock, err := lockFile(k.path + ".lock")
	if err != nil {
		return k.failed(err)
	}
	defer unlock()
	text, found, err := k.find(peer, fingerprint) // another may have been faster
	if found || err != nil {
		return err
	}
	line := peer + " " + fingerprint + "\n"
	if text != "" && !strings.HasSuffix(text, "\n") {
		line = "\n" + line
	}
	if len(text)+len(line) > maxKnown {
		return k.failed(fmt.Errorf("%w: it has %d bytes, at most %d", messages.ErrLimit, len(text), maxKnown))
	}
	if err := netio.WriteKeyFile(k.path, []byte(text+line), true); err != nil {
		return k.failed(err)
	}
	return nil
}

// find looks for a peer. An error says that it has other keys, or that the file can not be
// understood: then nobody is trusted.
func (k *knownPeers) find(peer, fingerprint string) (text string, found bool, err error) {
	if text, err = k.read(); err != nil {
		return "", false, k.failed(err)
	}
	other, at := "", 0
	number := 0
	for line := range strings.Lines(text) {
		number++
		fields := strings.Fields(line)
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		if len(fields) != 2 || messages.CheckName(fields[0]) != nil || netio.CheckFingerprint(fields[1]) != nil {
			return "", false, k.failed(fmt.Errorf("line %d: want a name and sha256: with 64 hex digits", number))
		}
		if fields[0] != peer {
			continue
		}
		if strings.EqualFold(fields[1], fingerprint) {
			return text, true, nil
		}
		other, at = fields[1], number
	}
	if other != "" {
		return "", false, untrusted("THE KEY OF %q HAS CHANGED: it is %s, known is %s. Somebody may be sitting in the middle, or %s has made a new key: ask there. "+
			"To accept the new key, remove line %d of %s", peer, fingerprint, other, peer, at, k.path)
	}
	return text, false, nil
}

func (k *knownPeers) read() (string, error) {
	file, err := os.Open(k.path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxKnown+1))
	if err == nil && len(text) > maxKnown {
		err = fmt.Errorf("%w: more than %d bytes", messages.ErrLimit, maxKnown)
	}
	return string(text), err
}

func (k *knownPeers) failed(err error) error {
	return untrusted("known peers: %s: %v", k.path, err)
}
