package coord

import (
	"bytes"
	"testing"

	conecv1 "github.com/conec-go/conec/messages/conec/v1"
	"github.com/conec-go/conec/netio"
)

func (b *book) passPacket(id, request uint64, packet string) {
	b.deliver(b.r.pass(id, &conecv1.PassPacket{Request: request, Packet: []byte(packet)}))
}

// The first packets of who opens a channel follow the offer, so long as that is open,
// and to nobody else.
func TestRegistryPasses(t *testing.T) {
	b := newBook(t, Limits{})
	alice, bob, mallory := b.client("alice"), b.client("bob"), b.client("mallory")
	b.passPacket(alice, 1, "too early")
	b.silent()
	b.open(alice, 1, "bob")
	channel := b.asked(alice, bob)
	b.passPacket(mallory, 1, "not hers")
	b.passPacket(bob, 1, "not his")
	b.passPacket(alice, 2, "of another request")
	b.passPacket(alice, 1, string(make([]byte, netio.MaxPacket+1)))
	b.silent()
	for range netio.MaxPassed + 1 {
		b.passPacket(alice, 1, "hello")
	}
	for range netio.MaxPassed {
		if got := b.hear(bob).GetPassPacket(); !bytes.Equal(got.GetChannel(), channel) || string(got.GetPacket()) != "hello" || got.GetRequest() != 0 {
			t.Errorf("bob was told %v", got)
		}
	}
	b.silent() // one was too many
	b.answer(bob, channel, 0)

	b.open(alice, 2, "bob")
	b.answer(bob, b.asked(alice, bob), conecv1.Code_CODE_REFUSED)
	b.wantRefused(alice, 2, conecv1.Code_CODE_REFUSED, true)
	b.hear(bob) // withdrawn
	b.passPacket(alice, 1, "it is answered")
	b.passPacket(alice, 2, "it is refused")
	b.release(alice, channel)
	b.hear(bob)
	b.empty()
}
