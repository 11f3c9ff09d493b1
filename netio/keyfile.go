package netio

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"time"
)

// maxKeyFile limits what is read of a file with a key, in bytes.
const maxKeyFile = 1 << 20

// ReadKeyFile reads a file with a private key. A file that others than its owner may read
// is an error, except on Windows, where the folder decides who may read it.
func ReadKeyFile(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat() // of what was opened, not of what the path is by now
	if err != nil {
		return nil, err
	}
	if mode := info.Mode(); runtime.GOOS != "windows" && mode.IsRegular() && mode.Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s: others may read this key (mode %04o); if none has, chmod 600 it, else make a new one", path, mode.Perm())
	}
	text, err := io.ReadAll(io.LimitReader(file, maxKeyFile+1))
	if err == nil && len(text) > maxKeyFile {
		err = fmt.Errorf("%s: more than %d bytes", path, maxKeyFile)
	}
	return text, err
}

// OpenIdentityFile reads an identity from a PEM file with a key and its certificate chain,
// leaf first. If there is no such file, it makes one for name, with a self-signed certificate
// and mode 0600; of several processes that do so at once, one makes it. A file with a key
// alone is taken, too: then each call makes a self-signed certificate for name. A file that
// others may read is an error ([ReadKeyFile]).
func OpenIdentityFile(path, name string, now time.Time) (*Identity, error) {
	text, err := ReadKeyFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeIdentityFile(path, name, now); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("identity file: %w", err)
		}
		text, err = ReadKeyFile(path)
	}
	if err != nil {
		return nil, fmt.Errorf("identity file: %w", err)
	}
	id, err := parseIdentity(text, name, now)
	if err != nil {
		return nil, fmt.Errorf("identity file: %s: %w", path, err)
	}
	return id, nil
}

func parseIdentity(text []byte, name string, now time.Time) (*Identity, error) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			return LoadIdentity(text, text)
		}
	}
	key, err := parseKey(text)
	if err != nil {
		return nil, err
	}
	return issue(nil, key, &Order{Name: name, Hosts: []string{name}, Now: now})
}

// parseKey reads a key that has no certificate.
func parseKey(text []byte) (crypto.Signer, error) {
	if encrypted(text) {
		return nil, errors.New("the key is encrypted")
	}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		var key any
		var err error
		switch block.Type {
		case "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(block.Bytes)
		case "RSA PRIVATE KEY":
			key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		default:
			continue // such as EC PARAMETERS, which openssl writes before a key
		}
		if err != nil {
			return nil, err
		}
		if signer, ok := key.(crypto.Signer); ok {
			return signer, nil
		}
	}
	return nil, errors.New("no PEM private key in it")
}

func makeIdentityFile(path, name string, now time.Time) error {
	id, err := NewIdentity(name, now)
	if err != nil {
		return err
	}
	certificate, key, err := id.PEM()
	if err != nil {
		return err
	}
	return WriteKeyFile(path, append(key, certificate...), false)
}

// WriteKeyFile writes a file as a whole, with mode 0600. If there is one already, it fails
// with [fs.ErrExist], or replaces it.
func WriteKeyFile(path string, text []byte, replace bool) error {
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	if err = errors.Join(err, file.Sync(), file.Close()); err == nil {
		if replace {
			err = os.Rename(file.Name(), path)
		} else {
			err = os.Link(file.Name(), path) // unlike renaming, it replaces nothing
		}
	}
	if err == nil && replace {
		return nil
	}
	return errors.Join(err, os.Remove(file.Name()))
}
