package client_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/conec-go/conec/client"
	"github.com/conec-go/conec/coord"
)

func TestSmoke(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	c, err := coord.Start(ctx, &coord.Config{Addr: "127.0.0.1:0", Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))})
	if err != nil {
		t.Fatal(err)
	}
	connect := func(name string) *client.Client {
		cl, err := client.Connect(ctx, &client.Config{
			Name: name, Coordinator: c.Addr().String(), Fingerprint: c.Fingerprint(),
			Bind:    "127.0.0.1:0", Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
			OnEvent: func(e client.Event) { t.Logf("%s: %T %+v", name, e, e) },
		})
		if err != nil {
			t.Fatal(err)
		}
		return cl
	}
	alice, bob := connect("alice"), connect("bob")
	go func() {
		for {
			s, err := bob.AcceptStream(ctx)
			if err != nil {
				return
			}
			go func() {
				for m, err := range s.Messages(ctx) {
					if err != nil {
						t.Log(err)
						return
					}
					_ = s.Send(ctx, m)
				}
				s.CloseSend()
			}()
		}
	}()
	for _, mode := range []client.Mode{client.RelayOnly, client.Automatic, client.DirectOnly} {
		start := time.Now()
		s, err := alice.OpenStream(ctx, "bob", &client.StreamOptions{Mode: mode})
		if err != nil {
			t.Fatal(err)
		}
		t.Log(mode, time.Since(start), s.Channel().Path())
		for i := range 1000 {
			if err := s.Send(ctx, fmt.Appendf(nil, "%d", i)); err != nil {
				t.Fatal(err)
			}
		}
		s.CloseSend()
		for i := range 1000 {
			m, err := s.Receive(ctx)
			if err != nil || string(m) != fmt.Sprint(i) {
				t.Fatal(i, m, err)
			}
		}
		if _, err := s.Receive(ctx); err != io.EOF {
			t.Fatal(err)
		}
		time.Sleep(200 * time.Millisecond)
		t.Log(s.Channel().Path())
	}
	start := time.Now()
	if err := alice.Close(ctx); err != nil {
		t.Error(err)
	}
	t.Log("alice", time.Since(start))
	if err := bob.Close(ctx); err != nil {
		t.Error(err)
	}
	if err := c.Close(ctx); err != nil {
		t.Error(err)
	}
	t.Log("all", time.Since(start))
}
