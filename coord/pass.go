package coord

import (
	conecv1 "github.com/conec-go/conec/messages/conec/v1"
	"github.com/conec-go/conec/netio"
)

// pass says one of the dialer's first packets on to who is asked. It is dropped if
// that has answered, or there are too many.
func (r *registry) pass(id uint64, msg *conecv1.PassPacket) []say {
	intro := r.clients[id].opening[msg.GetRequest()]
	if intro == nil || intro.passed == netio.MaxPassed || len(msg.GetPacket()) > netio.MaxPacket {
		return nil
	}
	intro.passed++
	return []say{{intro.acceptor.id, &conecv1.Control{Said: &conecv1.Control_PassPacket{PassPacket: &conecv1.PassPacket{
		Channel: []byte(intro.channel), Packet: msg.GetPacket(),
	}}}}}
}
