package actors

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/conec-go/conec/messages"
)

// passes turn the PIDs of actors into ones that can be given away. An actor that is not
// exported is reached by who was given its PID, by whomever: its id then ends with a
// pass, a keyed hash (HMAC, RFC 2104) that nobody can guess. Nothing is kept for it, and
// all passes of a process end with the process.
type passes struct{ key [32]byte }

// Marks between what a pass is for and the pass.
const (
	passHere = "#" // an actor of this system, by its id
	passOn   = "@" // one of another peer, by that and its id: what comes is sent on
)

// passBytes are how many bytes of the hash are in a pass: 80 bits.
const passBytes = 10

func newPasses() *passes {
	p := &passes{}
	_, _ = rand.Read(p.key[:]) // which never fails
	return p
}

// sign appends a pass.
func (p *passes) sign(what, mark string) string {
	mac := hmac.New(sha256.New, p.key[:])
	mac.Write([]byte(mark))
	mac.Write([]byte(what))
	return what + mark + base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:passBytes])
}

// here returns the id under which the peers that are told of it reach an actor of this
// system.
func (p *passes) here(id string) string { return p.sign(id, passHere) }

// on returns the id under which a peer reaches, by way of this system, an actor of
// another one.
func (p *passes) on(pid *actor.PID) string {
	return p.sign(strings.TrimPrefix(pid.GetAddress(), addressPrefix)+"/"+pid.GetId(), passOn)
}

// redeem returns the actor that an id with a pass is for, nil if the pass is none of
// ours. local is this system's address.
func (p *passes) redeem(named, local string) *actor.PID {
	at := strings.LastIndexAny(named, passHere+passOn)
	if at < 0 {
		return nil
	}
	what, mark := named[:at], named[at:at+1]
	if !hmac.Equal([]byte(named), []byte(p.sign(what, mark))) {
		return nil
	}
	if mark == passHere {
		return actor.NewPID(local, what)
	}
	address, id, _ := strings.Cut(what, "/")
	return actor.NewPID(addressPrefix+address, id)
}

// away makes a PID of this system one that can be given away.
func (p *passes) away(pid *actor.PID) {
	if pid.Id == asksID { // the answer to one question, and no other
		pid.Id += "/" + strconv.FormatUint(uint64(pid.GetRequestId()), 10)
	}
	pid.Id = p.here(pid.Id)
}

// home undoes away. It returns false if the PID has no pass of ours.
func (p *passes) home(pid *actor.PID) bool {
	found := p.redeem(pid.GetId(), pid.GetAddress())
	if found == nil || found.Address != pid.Address || pid.Address == noHost {
		return false
	}
	pid.Id, _ = cutAsk(found.Id)
	return true
}

// cutAsk returns the id of the process that receives answers, and the number of the
// question, for an id that away made for one; any other id it returns as it is.
func cutAsk(id string) (process string, request uint32) {
	text, ok := strings.CutPrefix(id, asksID+"/")
	number, err := strconv.ParseUint(text, 10, 32)
	if !ok || err != nil {
		return id, 0
	}
	return asksID, uint32(number)
}

// senderOf names the sender of a message in a frame.
func (p *passes) senderOf(sender *actor.PID, local string, f *frame) error {
	if len(sender.GetId()) > maxID/2 || sender.GetId() == "" {
		return fmt.Errorf("%w: a sender's id has 1 to %d bytes", messages.ErrRefused, maxID/2)
	}
	f.sender, f.senderRequest = sender.Id, sender.RequestId
	if sender.Address == local {
		return nil
	}
	if _, _, ok := parseAddress(sender.GetAddress()); !ok {
		return fmt.Errorf("%w: the sender, %q, is no actor of a client", messages.ErrRefused, nameOf(sender))
	}
	// Nobody can say in whose name another one speaks: the peer sees that it comes from
	// here, and what it answers is sent on.
	f.sender, f.signed = p.on(sender), true
	return nil
}
