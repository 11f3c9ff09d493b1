package netlab_test

import (
	"errors"
	"testing"
	"time"

	"github.com/conec-go/conec/netio"
	"github.com/conec-go/conec/sim"
)

// TestBehavior asks each kind of gateway what RFC 5780 (section 4) asks, in the
// simulator and in the kernel: the matrix cannot tell those apart that let in what
// is expected from those that let in everything.
func TestBehavior(t *testing.T) { grounds(t, ask) }

func ask(t *testing.T, g ground) {
	t.Helper()
	for kind, gateway := range gateways {
		fatal := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatalf("%s: %v", gateway.name, err)
			}
		}
		open := func(link netio.Link, err error) *end {
			t.Helper()
			fatal(err)
			limit := time.AfterFunc(time.Minute, func() { link.Close() })
			t.Cleanup(func() {
				limit.Stop()
				link.Close()
			})
			e := &end{link: link, echo: g.echo}
			fatal(e.settle())
			return e
		}
		inside := open(g.listen(0, kind, 30_000))
		known, neighbor, stranger := open(g.public[0]()), open(g.public[0]()), open(g.public[1]())
		inside.peer = known.seen
		fatal(errors.Join(inside.say(), inside.settle(), known.settle()))
		mapped := known.peer                                                                             // as known sees it
		same := gateway.nat.Mapping == sim.EndpointIndependent || gateway.nat.Ports == sim.PreservePorts // nobody else wants it
		if same != (mapped == inside.seen) {
			t.Errorf("%s: seen as %v by one and as %v by another", gateway.name, inside.seen, mapped)
		}
		for _, from := range []struct {
			who   string
			end   *end
			loose sim.Dependence // lets it in
		}{
			{"whom it was sent to", known, sim.AddressAndPortDependent},
			{"another port of that address", neighbor, sim.AddressDependent},
			{"another address", stranger, sim.EndpointIndependent},
		} {
			from.end.peer, inside.heard = mapped, false
			fatal(errors.Join(from.end.say(), from.end.settle(), inside.settle()))
			if want := gateway.nat.Filtering <= from.loose; inside.heard != want {
				t.Errorf("%s: a packet comes in from %s: %v, want %v", gateway.name, from.who, inside.heard, want)
			}
		}
	}
}
