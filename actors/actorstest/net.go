package actorstest

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/conec-go/conec/actors"
	"github.com/conec-go/conec/messages"
)

// NetConfig says how the systems of a [Net] are. Zero fields mean the defaults. It is never
// modified.
type NetConfig struct {
	// System is the configuration of each system; Name and Label are the net's own.
	System actors.SystemConfig
	// Remote is that of what connects it with others; Name and Open are the net's own.
	Remote actors.RemoteConfig
	// Patience is how long it may take to close a system. If zero, 10 seconds.
	Patience time.Duration
}

// Actors is a system of a [Net]. It is what client.Client.Actors returns for a client.
type Actors struct {
	*actors.System
	*actors.Remote
}

// Net is several systems of one process that reach each other as those of clients do:
// messages are encoded, PIDs are given away, only what is exported is reached, and faults
// are those of a network. There are no sockets.
//
// Any goroutine may call its methods, but only the test's own may be one whose call is
// wrong: it then ends the test.
type Net struct {
	t      TB
	config NetConfig

	mu        sync.Mutex
	count     uint64                // of processes so far
	processes map[string]*process   // that run, by name
	known     map[string]bool       // names that a process was ever started under
	links     map[[2]string]*link   // by both names, in order
	opened    map[string]struct{}   //
}

// process is one of a name's processes.
type process struct {
	Actors
	name string
	life actors.Life // of what serves peers
	gone bool        // says and hears nothing any more; under mu of the net
}

// NewNet returns a net with a system of each name, which are those of clients
// ([messages.CheckName]). At the end of the test they are closed, and it fails if an actor,
// or a goroutine that an actor has started, is still there.
func NewNet(t TB, names ...string) *Net {
	t.Helper()
	return NewNetWith(t, nil, names...)
}

// NewNetWith is NewNet with a configuration.
func NewNetWith(t TB, config *NetConfig, names ...string) *Net {
	t.Helper()
	n := &Net{t: t, processes: map[string]*process{}, known: map[string]bool{}, links: map[[2]string]*link{}}
	if config != nil {
		n.config = *config
	}
	if n.config.Patience == 0 {
		n.config.Patience = 10 * time.Second
	}
	t.Cleanup(n.close)
	for _, name := range names {
		n.Start(name)
	}
	return n
}

// System returns the system of a name.
func (n *Net) System(name string) *Actors {
	n.t.Helper()
	n.mu.Lock()
	p := n.processes[name]
	n.mu.Unlock()
	if p == nil {
		n.t.Fatalf("net: there is no system %q now", name)
		return nil
	}
	return &p.Actors
}
