package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"

	"github.com/conec-go/conec/client"
)

// chunk is the size in bytes of the messages that carry a file.
const chunk = 64 << 10

// drop sends a file to a depot: its name, its content, and the end. It returns the content's SHA-256 once the depot has
// answered with the same.
func drop(ctx context.Context, cl *client.Client, depot, name string, content io.Reader) ([]byte, error) {
	stream, err := cl.OpenStream(ctx, depot, nil)
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	if err := stream.Send(ctx, []byte(name)); err != nil {
		return nil, err
	}
	hash := sha256.New()
	for buf := make([]byte, chunk); ; {
		n, err := io.ReadFull(content, buf)
		if n > 0 {
			hash.Write(buf[:n])
			if err := stream.Send(ctx, buf[:n]); err != nil {
				return nil, err
			}
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			stream.CloseSend()
			return confirmed(ctx, stream, hash.Sum(nil))
		case err != nil:
			stream.Reset()
			return nil, err
		}
	}
}

// confirmed waits until the depot has the whole file.
func confirmed(ctx context.Context, stream *client.Stream, sum []byte) ([]byte, error) {
	theirs, err := stream.Receive(ctx)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(theirs, sum) {
		return nil, fmt.Errorf("sent %x, the depot has %x", sum, theirs)
	}
	return sum, nil
}

// depot keeps files in memory, by their sender and name.
type depot struct {
	mu    sync.Mutex
	files map[string][]byte
}

// keep takes files until the client is closed.
func (d *depot) keep(ctx context.Context, cl *client.Client) {
	var streams sync.WaitGroup
	defer streams.Wait()
	for {
		stream, err := cl.AcceptStream(ctx)
		if err != nil {
			return
		}
		streams.Go(func() {
			defer stream.Close()
			if d.take(ctx, stream) != nil {
				stream.Reset()
			}
		})
	}
}

// take receives one file, keeps it if it is whole, and answers with its SHA-256.
func (d *depot) take(ctx context.Context, stream *client.Stream) error {
	name, err := stream.Receive(ctx)
	if err != nil {
		return err
	}
	var content []byte
	for message, err := range stream.Messages(ctx) {
		if err != nil {
			return err
		}
		content = append(content, message...)
	}
	d.mu.Lock()
	if d.files == nil {
		d.files = map[string][]byte{}
	}
	d.files[stream.Peer()+"/"+string(name)] = content
	d.mu.Unlock()
	sum := sha256.Sum256(content)
	return stream.Send(ctx, sum[:])
}

// names returns what is there, sorted.
func (d *depot) names() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Sorted(maps.Keys(d.files))
}

// file returns a file's content, nil if it is not there.
func (d *depot) file(name string) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.files[name]
}
