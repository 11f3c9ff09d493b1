package client

import (
	"crypto/ed25519"
	"crypto/hpke"
	"crypto/x509"
	"errors"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	conecv1 "github.com/conec-go/conec/messages/conec/v1"
	"github.com/conec-go/conec/netio"
)

// Why something of a sealed group is not taken.
var (
	// errNoKey: the sender's key is not known.
	errNoKey = errors.New("no key for it")
	// errForged: the sender has not sent this, or not here.
	errForged = errors.New("not what the sender sent")
)

// maxSkip is how many messages of a sender may be missing until its key is asked for anew:
// the chain has to be stepped over each.
const maxSkip = 1 << 16

// Pauses until a sender is asked again for its key. They double.
const (
	wantFirst  = time.Second
	wantSlower = time.Minute
)

// opener is the receiving side of a membership of a sealed group: the keys of the senders,
// and what each has sent last. A plain type: one goroutine calls it.
//
// Messages of a sender have numbers, through all its keys. Each has to have a higher one
// than those before, and what is skipped is known to be missing.
type opener struct {
	place
	self    uint64
	private hpke.PrivateKey
	since   time.Time // of who has sent no key yet, keys are not asked for at once
	senders map[uint64]*heardSender
}

// heardSender is what is known of one sender.
type heardSender struct {
	key    uint64            // number of its key
	verify ed25519.PublicKey // nil: there was none yet, or it is lost
	chain  chain             // at the message next
	known  bool              // next and key are
	next   uint64

	counted uint64 // messages after next that came and could not be read
	adrift  bool   // an unknown number of messages after next was told to be missing

	asked time.Time     // for the key, zero before the first time…
	pause time.Duration // …and when it may be asked for again
}

func newOpener(place place, self uint64, private hpke.PrivateKey, now time.Time) *opener {
	return &opener{place: place, self: self, private: private, since: now, senders: map[uint64]*heardSender{}}
}

func (o *opener) sender(number uint64) *heardSender {
	s := o.senders[number]
	if s == nil {
		s = &heardSender{pause: wantFirst}
		o.senders[number] = s
	}
	return s
}

// forget forgets somebody who left.
func (o *opener) forget(number uint64) { delete(o.senders, number) }

// gap hears that messages are missing, of whomever.
func (o *opener) gap() {
	for _, s := range o.senders {
		s.adrift = true
	}
}

// passed returns how many messages are missing before one, that nothing has told of.
func (s *heardSender) passed(number uint64) (withheld uint64) {
	if missing := number - s.next; s.known && !s.adrift && missing > s.counted {
		withheld = missing - s.counted
	}
	s.counted, s.adrift, s.known, s.next = 0, false, true, number
	return withheld
}

// keys takes the key of a sender, whose certificate is given. Beside errForged it
// returns how many messages were withheld.
func (o *opener) keys(from uint64, certificate *x509.Certificate, msg *conecv1.SealedKeys) (withheld uint64, err error) {
	if netio.CheckSignature(certificate, append(o.bind(sealsKeys, from), msg.GetKeys()...), msg.GetSignature()) != nil {
		return 0, errForged
	}
	key := &conecv1.SenderKey{}
	if proto.Unmarshal(msg.GetKeys(), key) != nil {
		return 0, errForged
	}
	at := slices.IndexFunc(key.GetShares(), func(share *conecv1.SealedShare) bool { return share.GetMember() == o.self })
	if at < 0 {
		return 0, nil // it is for others
	}
	s := o.sender(from)
	if s.known && (key.GetNumber() < s.next || key.GetKey() < s.key) {
		return 0, errForged // it was there before
	}
	bound := o.bind(sealsShare, from, o.self, key.GetKey(), key.GetNumber())
	chain, ok := openShare(o.private, bound, key.GetShares()[at].GetSealed())
	if !ok || len(key.GetVerify()) != ed25519.PublicKeySize {
		return 0, errForged
	}
	withheld = s.passed(key.GetNumber())
	s.key, s.verify, s.chain, s.pause = key.GetKey(), key.GetVerify(), chain, wantFirst
	return withheld, nil
}

// open decrypts a message, or says why not. It returns how many messages of the sender were
// withheld before it.
func (o *opener) open(from uint64, msg *conecv1.SealedMessage) (data []byte, withheld uint64, err error) {
	s := o.sender(from)
	switch {
	case s.known && (msg.GetKey() < s.key || msg.GetNumber() < s.next):
		return nil, 0, errForged // it was there before
	case s.verify == nil || msg.GetKey() != s.key:
		s.counted++
		return nil, 0, errNoKey
	}
	bound := o.bind(sealsMessage, from, msg.GetKey(), msg.GetNumber())
	if !ed25519.Verify(s.verify, messageSignature(bound, msg.GetData()), msg.GetSignature()) {
		return nil, 0, errForged
	}
	if msg.GetNumber()-s.next > maxSkip {
		s.verify = nil
		s.counted++
		return nil, 0, errNoKey
	}
	chain := s.chain
	for range msg.GetNumber() - s.next {
		chain.skip()
	}
	aead, nonce := chain.next()
	if data, err = aead.Open(nil, nonce, msg.GetData(), bound); err != nil {
		return nil, 0, errForged
	}
	withheld = s.passed(msg.GetNumber())
	s.next++
	s.chain = chain
	return data, withheld, nil
}

// wants reports whether a sender is to be asked for its key now.
func (o *opener) wants(from uint64, now time.Time) bool {
	s := o.sender(from)
	asked := s.asked
	if asked.IsZero() && s.verify == nil {
		asked = o.since
	}
	if now.Sub(asked) < s.pause {
		return false
	}
	s.asked, s.pause = now, min(2*s.pause, wantSlower)
	return true
}
