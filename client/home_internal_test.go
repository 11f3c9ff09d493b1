package client

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/conec-go/conec/messages"
	"github.com/conec-go/conec/netio"
)

// Whoever is first carries the home channel; UDP has a head start, and the last word if
// both come. What refuses the client ends the race.
func TestRaceTCP(t *testing.T) {
	const never = time.Hour
	silent := fmt.Errorf("%w: silent", messages.ErrUnreachable)
	conn := &netio.Conn{}
	for name, test := range map[string]struct {
		udp, tcp dialed
		head     time.Duration
		wantTCP  bool
		wantErr  error
		want     time.Duration
		dials    bool // TCP
	}{
		"UDP in time":       {udp: dialed{after: 900 * time.Millisecond, conn: conn}, tcp: dialed{after: never}, head: time.Second, want: 900 * time.Millisecond},
		"UDP late":          {udp: dialed{after: 2 * time.Second, conn: conn}, tcp: dialed{after: never}, head: time.Second, want: 2 * time.Second, dials: true},
		"TCP":               {udp: dialed{after: never}, tcp: dialed{after: time.Second}, head: time.Second, wantTCP: true, want: 2 * time.Second, dials: true},
		"TCP at once":       {udp: dialed{after: never}, tcp: dialed{after: time.Second}, wantTCP: true, want: time.Second, dials: true},
		"UDP fails early":   {udp: dialed{after: 1, err: silent}, tcp: dialed{after: time.Second}, head: time.Minute, wantTCP: true, want: time.Second + 1, dials: true},
		"UDP refuses":       {udp: dialed{after: 1, err: messages.ErrUntrusted}, tcp: dialed{after: time.Second}, head: time.Second, wantErr: messages.ErrUntrusted, want: 1},
		"UDP refuses later": {udp: dialed{after: 3, err: messages.ErrUntrusted}, tcp: dialed{after: never}, head: 2, wantErr: messages.ErrUntrusted, want: 3, dials: true},
		"TCP fails":         {udp: dialed{after: 9, conn: conn}, tcp: dialed{after: 1, err: silent}, head: 2, want: 9, dials: true},
		"both fail":         {udp: dialed{after: 9, err: silent}, tcp: dialed{after: 1, err: messages.ErrVersion}, head: 2, wantErr: messages.ErrVersion, want: 9, dials: true},
		"both fail, TCP last": {
			udp: dialed{after: 3, err: silent}, tcp: dialed{after: 5, err: messages.ErrVersion}, head: 2, wantErr: silent, want: 7, dials: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				wait := func(d dialed) error {
					timer := time.NewTimer(d.after)
					defer timer.Stop()
					select {
					case <-timer.C:
						return d.err
					case <-ctx.Done():
						return ctx.Err()
					}
				}
				udp := make(chan homeDialed, 1)
				go func() { udp <- homeDialed{conn: test.udp.conn, err: wait(test.udp)} }()
				dials := false
				got := raceTCP(ctx, cancel, udp, test.head, func(context.Context) homeDialed {
					dials = true
					return homeDialed{err: wait(test.tcp)}
				})
				if took := time.Since(start); took != test.want {
					t.Errorf("took %v, want %v", took, test.want)
				}
				if !errors.Is(got.err, test.wantErr) {
					t.Errorf("error %v, want %v", got.err, test.wantErr)
				}
				if over := got.err == nil && got.conn == nil; over != test.wantTCP {
					t.Errorf("over TCP %v, want %v", over, test.wantTCP)
				}
				if dials != test.dials {
					t.Errorf("TCP dialed: %v, want %v", dials, test.dials)
				}
			})
		})
	}
}
