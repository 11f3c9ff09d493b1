package sim_test

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/conec-go/conec/client"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
	"github.com/conec-go/conec/netio"
)

// liar is a coordinator, by hand, that attaches everybody and says what the scenario wants.
type liar struct {
	world    *world
	at       netip.AddrPort
	identity *netio.Identity
	relay    *netio.Relay
	says     chan *conecv1.Control // to the client
	heard    chan *conecv1.Control // from it, after it has attached
	close    func()
}

func (w *world) liar() *liar {
	w.T.Helper()
	l := &liar{
		world: w, at: addr("203.0.113.66:1719"), identity: identity(w.T, nil, netio.Order{Hosts: []string{"liar"}}), relay: netio.NewRelay(netio.RelayConfig{}),
		says: make(chan *conecv1.Control), heard: make(chan *conecv1.Control, 16),
	}
	link, err := w.Host("liar", w.Internet(), near, l.at.Addr()).Listen(l.at)
	w.must(err)
	sw, err := netio.NewSwitch(netio.SwitchConfig{AcceptRaw: true, Relay: l.relay}, link)
	w.must(err)
	transport, err := netio.NewTransport(sw, l.identity, true, nil)
	w.must(err)
	ctx, cancel := context.WithCancel(context.Background())
	l.close = func() {
		cancel()
		_ = transport.Close()
	}
	go func() {
		if conn, err := transport.AcceptHome(ctx); err == nil {
			l.serve(ctx, conn)
		}
	}()
	return l
}

// serve has one client.
func (l *liar) serve(ctx context.Context, conn *netio.Conn) {
	const id = 7
	control, err := conn.AcceptControl(ctx)
	if err == nil {
		_, err = control.Receive()
	}
	key, _ := conn.ExportKey("bind")
	if err != nil || l.relay.AddClient(id, key) != nil {
		return
	}
	_ = control.Send(&conecv1.Control{Said: &conecv1.Control_Attached{Attached: &conecv1.Attached{ClientId: id}}})
	go func() {
		for {
			said, err := control.Receive()
			if err != nil {
				return
			}
			l.heard <- said
		}
	}()
	for {
		select {
		case said := <-l.says:
			_ = control.Send(said)
		case <-ctx.Done():
			return
		}
	}
}

// hear returns what the client says next, but for what says that it is there.
func (l *liar) hear() *conecv1.Control {
	l.world.T.Helper()
	for {
		select {
		case said := <-l.heard:
			if said.GetCancelOpen() != nil || said.GetPassPacket() != nil {
				continue
			}
			return said
		case <-time.After(5 * time.Second):
			l.world.T.Fatal("the client says nothing")
		}
	}
}

// TestLiar is introduced to somebody else than it has asked for, with certificates that the
// authority has issued, and that it would trust as those of who they are for.
func TestLiar(t *testing.T) {
	root := identity(t, nil, netio.Order{Name: "root", Authority: true})
	alice, carol := identity(t, root, netio.Order{Name: "alice"}), identity(t, root, netio.Order{Name: "carol"})
	inWorld(t, 1, func(w *world) {
		l := w.liar()
		defer l.close()
		a := w.client("alice", near, func(config *client.Config) {
			config.Identity, config.PeerRoots = alice, rootsOf(root)
			config.Coordinator, config.Fingerprint = l.at.String(), netio.Fingerprint(l.identity.Chain()[0])
		})
		number := byte(0)
		as := func(peer string) *conecv1.Introduction {
			number++
			return &conecv1.Introduction{Channel: append(make([]byte, 15), number), Peer: peer, Certificate: carol.Chain()[0], Route: 1, Dials: true}
		}
		for peer, why := range map[string]string{
			"bob":   `introduces "bob" with a certificate for "carol"`,
			"carol": `introduces "carol", who was not asked for`,
			"alice": `introduces "alice" with a certificate for "carol"`,
		} {
			opened := make(chan error, 1)
			go func() {
				_, err := a.OpenChannel(within(20*time.Second), "bob", nil)
				opened <- err
			}()
			asked := l.hear().GetOpenChannel()
			l.says <- &conecv1.Control{Said: &conecv1.Control_ChannelIntroduced{ChannelIntroduced: &conecv1.ChannelIntroduced{
				Request: asked.GetRequest(), Introduction: as(peer),
			}}}
			if err := <-opened; err == nil || !strings.Contains(err.Error(), why) {
				w.T.Errorf("as %s: got %v, want one that says %q", peer, err, why)
			}
			if released := l.hear().GetReleaseChannel(); len(released.GetChannel()) == 0 {
				w.T.Errorf("as %s: the channel is not given back", peer)
			}
		}
		l.says <- &conecv1.Control{Said: &conecv1.Control_ChannelOffered{ChannelOffered: &conecv1.ChannelOffered{Introduction: as("bob")}}}
		if answer := l.hear().GetAnswerOffer(); answer.GetCode() != conecv1.Code_CODE_UNTRUSTED || answer.GetReason() != "" {
			w.T.Errorf("an offer is answered by %v", answer)
		}
		l.says <- &conecv1.Control{Said: &conecv1.Control_IdentityRenewed{IdentityRenewed: &conecv1.IdentityRenewed{}}} // of nothing
		time.Sleep(time.Second)
		if a.Fingerprint() != netio.Fingerprint(alice.Chain()[0]) || len(a.refused()) != 4 {
			w.T.Errorf("%s, %q", a.Fingerprint(), a.refused())
		}
	})
}

// TestRenewalStolen has a client, by hand, that says another's certificate is its own, and
// others that it can not have.
func TestRenewalStolen(t *testing.T) {
	mallory, next := identity(t, nil, netio.Order{Name: "mallory"}), identity(t, nil, netio.Order{Name: "mallory"})
	bob := identity(t, nil, netio.Order{Name: "bob"})
	inWorld(t, 1, func(w *world) {
		link, err := w.Host("mallory", w.Internet(), near, addr("10.0.9.9:1").Addr()).Listen(netip.AddrPort{})
		w.must(err)
		sw, err := netio.NewSwitch(netio.SwitchConfig{}, link)
		w.must(err)
		transport, err := netio.NewTransport(sw, mallory, false, nil)
		w.must(err)
		defer transport.Close()
		conn, err := transport.DialHome(within(time.Minute), hubAddr, netio.Coordinator{Fingerprint: w.coordinator.Fingerprint()})
		w.must(err)
		control, err := conn.OpenControl(within(time.Minute))
		w.must(err)
		ask := func(said *conecv1.Control) *conecv1.Control {
			w.must(control.Send(said))
			answer, err := control.Receive()
			w.must(err)
			return answer
		}
		ask(&conecv1.Control{Said: &conecv1.Control_Attach{Attach: &conecv1.Attach{Name: "mallory"}}})
		prove := func(id *netio.Identity) []byte {
			proof, err := conn.Prove(id)
			w.must(err)
			return proof
		}
		for _, c := range []struct {
			name  string
			renew *conecv1.RenewIdentity
			code  conecv1.Code
		}{
			{"without the key", &conecv1.RenewIdentity{Chain: next.Chain(), Proof: prove(mallory)}, conecv1.Code_CODE_UNTRUSTED},
			{"at once", &conecv1.RenewIdentity{Chain: next.Chain(), Proof: prove(next)}, conecv1.Code_CODE_LIMIT},
			{"another name", &conecv1.RenewIdentity{Chain: bob.Chain(), Proof: prove(bob)}, conecv1.Code_CODE_NAME_MISMATCH},
			{"nothing", &conecv1.RenewIdentity{}, conecv1.Code_CODE_LIMIT},
			{"noise", &conecv1.RenewIdentity{Chain: [][]byte{{1}}}, conecv1.Code_CODE_PROTOCOL},
			{"its own", &conecv1.RenewIdentity{Chain: next.Chain(), Proof: prove(next)}, conecv1.Code_CODE_UNSPECIFIED},
		} {
			if c.name != "at once" {
				time.Sleep(2 * time.Second)
			}
			got := ask(&conecv1.Control{Said: &conecv1.Control_RenewIdentity{RenewIdentity: c.renew}}).GetIdentityRenewed()
			if got == nil || got.GetCode() != c.code {
				w.T.Errorf("%s: got %v, want %v", c.name, got, c.code)
			}
		}
		if n := w.coordinator.Stats().Attached; n != 1 {
			w.T.Errorf("%d attached", n)
		}
	})
}
