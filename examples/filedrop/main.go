// Filedrop is a small application: clients drop files at one that keeps them. As a program it shows all of them within one
// process; its test, filedrop_test.go, has them behind NATs, on the move, and with a coordinator that restarts.
package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/coord"
)

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "filedrop:", err)
		os.Exit(1)
	}
}

// run has two clients drop a file each at a third.
func run(ctx context.Context, out io.Writer) (err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	coordinator, err := coord.Start(ctx, &coord.Config{Addr: "127.0.0.1:0"})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, coordinator.Close(ctx)) }()

	var running sync.WaitGroup
	defer running.Wait()
	connect := func(name string) (*client.Client, error) {
		return client.Connect(ctx, &client.Config{
			Name: name, Coordinator: coordinator.Addr().String(), Fingerprint: coordinator.Fingerprint(), Bind: "127.0.0.1:0",
		})
	}
	keeper, err := connect("depot")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, keeper.Close(ctx)) }()
	files := &depot{}
	running.Go(func() { files.keep(ctx, keeper) })

	for _, name := range []string{"alice", "bob"} {
		cl, err := connect(name)
		if err != nil {
			return err
		}
		defer func() { _ = cl.Close(ctx) }() // has said all there is to say
		content := make([]byte, 8<<20)
		_, _ = rand.Read(content) // never fails (crypto/rand)
		began := time.Now()
		sum, err := drop(ctx, cl, "depot", name+".dat", bytes.NewReader(content))
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%s dropped %d MiB in %v, sha256 %x…\n", name, len(content)>>20, time.Since(began).Round(time.Millisecond), sum[:8])
	}
	fmt.Fprintf(out, "the depot has %v\n", files.names())
	return nil
}
