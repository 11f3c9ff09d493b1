package suite_test

import (
	"net/netip"
	"time"

	"github.com/conec-go/conec/messages"
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
	"github.com/conec-go/conec/netio"
)

// rawClient speaks the protocol by hand, on one connection to the coordinator.
type rawClient struct {
	w         *world
	transport *netio.Transport
	identity  *netio.Identity
	conn      *netio.Conn
	control   *netio.Control
	instance  uint64 // of the process that it stands for
	id        uint64 // once attached
	sequence  uint64 // of bind frames
	bound     chan netio.BoundFrame
}

// transport makes a transport with a socket of its own. It lasts as long as the test.
func (w *world) transport(identity *netio.Identity, bound chan netio.BoundFrame) *netio.Transport {
	w.Helper()
	sw, err := netio.NewSwitch(netio.SwitchConfig{OnBound: func(frame netio.BoundFrame, _ netio.Link, _ netip.AddrPort) {
		bound <- frame
	}}, w.listen("by hand"))
	if err != nil {
		w.Fatal(err)
	}
	transport, err := netio.NewTransport(sw, identity, false, nil)
	if err != nil {
		w.Fatal(err)
	}
	w.raw = append(w.raw, transport)
	return transport
}

// dial connects to the coordinator and says nothing yet.
func (w *world) dial(identity *netio.Identity) *rawClient {
	w.Helper()
	raw := &rawClient{w: w, identity: identity, bound: make(chan netio.BoundFrame, 64)}
	raw.transport = w.transport(identity, raw.bound)
	raw.instance = uint64(len(w.raw))
	var err error
	raw.conn, err = raw.transport.DialHome(w.ctx, w.coord.Addr(), netio.Coordinator{Fingerprint: w.coord.Fingerprint()})
	if err != nil {
		w.Fatal(err)
	}
	if raw.control, err = raw.conn.OpenControl(w.ctx); err != nil {
		w.Fatal(err)
	}
	return raw
}

// rawClient attaches a client that speaks by hand.
func (w *world) rawClient(name string) *rawClient {
	w.Helper()
	identity, err := netio.NewIdentity(name, time.Now())
	if err != nil {
		w.Fatal(err)
	}
	raw := w.dial(identity)
	raw.attach(name)
	return raw
}

// attach attaches and becomes known to the relay.
func (r *rawClient) attach(name string) {
	r.w.Helper()
	r.sayAttach(name)
	attached, ok := r.hear().GetSaid().(*conecv1.Control_Attached)
	if !ok {
		r.w.Fatal("no answer to attach")
	}
	r.id = attached.Attached.GetClientId()
	r.bind(r.transport, r.bound)
}

// sayAttach asks to be attached, as the process that it stands for.
func (r *rawClient) sayAttach(name string) {
	r.w.Helper()
	said := attach(name)
	said.GetAttach().Instance = r.instance
	r.say(said)
}

// bind makes the relay send to the socket of a transport, whose bound frames
// arrive in bound.
func (r *rawClient) bind(transport *netio.Transport, bound <-chan netio.BoundFrame) {
	r.w.Helper()
	key, err := r.conn.ExportKey("bind")
	if err != nil {
		r.w.Fatal(err)
	}
	sw := transport.Switch()
	sw.SetBindKey(r.id, key)
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	for {
		r.sequence++
		if err := sw.Send(sw.Links()[0], r.w.coord.Addr(), netio.EncodeBind(nil, r.id, r.sequence, key)); err != nil {
			r.w.Fatal(err)
		}
		select {
		case <-bound:
			return
		case <-again.C:
		}
	}
}

// say says something to the coordinator.
func (r *rawClient) say(said *conecv1.Control) {
	r.w.Helper()
	if err := r.control.Send(said); err != nil {
		r.w.Fatal(err)
	}
}

// hear returns what the coordinator says next. It passes over packets that come with an offer.
func (r *rawClient) hear() *conecv1.Control {
	r.w.Helper()
	for {
		said, err := r.control.Receive()
		if err != nil {
			r.w.Fatal(err)
		}
		if said.GetPassPacket() == nil {
			return said
		}
	}
}

// heardEnd returns why the coordinator ended the connection. It passes over what
// is said before.
func (r *rawClient) heardEnd() error {
	r.w.Helper()
	select {
	case <-r.conn.Done():
		return r.conn.Err()
	case <-r.w.ctx.Done():
		r.w.Fatal("the coordinator goes on with a connection that it should have ended")
		return nil
	}
}

// connect makes the channel that was introduced: it dials or is dialed.
func (r *rawClient) connect(intro *conecv1.Introduction) (*netio.Conn, *netio.Control) {
	r.w.Helper()
	conn, err := r.tryConnect(intro)
	if err != nil {
		r.w.Fatal(err)
	}
	open := conn.AcceptControl
	if intro.GetDials() {
		open = conn.OpenControl
	}
	control, err := open(r.w.ctx)
	if err != nil {
		r.w.Fatal(err)
	}
	if intro.GetDials() { // the control stream is there once something is said on it
		if err := control.Send(&conecv1.Control{Said: &conecv1.Control_OfferCandidates{
			OfferCandidates: &conecv1.OfferCandidates{Tag: conn.Port().Tag()},
		}}); err != nil {
			r.w.Fatal(err)
		}
	}
	return conn, control
}

// tryConnect connects over the relay.
func (r *rawClient) tryConnect(intro *conecv1.Introduction) (*netio.Conn, error) {
	sw := r.transport.Switch()
	port, err := sw.OpenPort()
	if err != nil {
		return nil, err
	}
	port.SetRoute(intro.GetRoute())
	port.SetPath(netio.Path{Link: sw.Links()[0], To: r.w.coord.Addr(), Relayed: true})
	if intro.GetDials() {
		return r.transport.DialChannel(r.w.ctx, port, intro.GetPeer(), intro.GetCertificate())
	}
	await := r.transport.Expect(port, intro.GetPeer(), intro.GetCertificate())
	r.say(answer(intro.GetChannel(), nil))
	return await(r.w.ctx)
}

// What clients say.

func attach(name string) *conecv1.Control {
	return &conecv1.Control{Said: &conecv1.Control_Attach{Attach: &conecv1.Attach{Name: name, Accepts: true}}}
}

func open(request uint64, peer string) *conecv1.Control {
	return &conecv1.Control{Said: &conecv1.Control_OpenChannel{OpenChannel: &conecv1.OpenChannel{Request: request, Peer: peer}}}
}

func cancelOpen(request uint64) *conecv1.Control {
	return &conecv1.Control{Said: &conecv1.Control_CancelOpen{CancelOpen: &conecv1.CancelOpen{Request: request}}}
}

func release(channel []byte) *conecv1.Control {
	return &conecv1.Control{Said: &conecv1.Control_ReleaseChannel{ReleaseChannel: &conecv1.ReleaseChannel{Channel: channel}}}
}

func restore(channel []byte, peer string) *conecv1.Control {
	return &conecv1.Control{Said: &conecv1.Control_RestoreChannel{RestoreChannel: &conecv1.RestoreChannel{Channel: channel, Peer: peer}}}
}

func answer(channel []byte, why error) *conecv1.Control {
	code, reason := messages.ToCode(why)
	return &conecv1.Control{Said: &conecv1.Control_AnswerOffer{AnswerOffer: &conecv1.AnswerOffer{
		Channel: channel, Code: code, Reason: reason,
	}}}
}
