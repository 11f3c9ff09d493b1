package client

import (
	"crypto/ed25519"
	"crypto/hpke"
	"crypto/rand"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	conecv1 "github.com/conec-go/conec/messages/conec/v1"
	"github.com/conec-go/conec/netio"
)

// sharesPerEntry is how many members a sender key is handed to in one message of at most
// sealedLeast bytes.
const sharesPerEntry = 64

// sealer is the sending side of a membership of a sealed group: the own sender key, and who
// has it. A plain type: who calls it holds the membership's lock.
//
// A key is made for the next message when there is none: at first, and after somebody left
// who had it.
type sealer struct {
	place
	self     uint64
	identity *netio.Identity

	key    uint64             // number of the key
	signer ed25519.PrivateKey // nil: there is no key now
	chain  chain              // at the next message
	next   uint64             // number of the next message
	peers  map[uint64]hpke.PublicKey
	handed map[uint64]bool // those of them that have the key
}

func newSealer(place place, self uint64, identity *netio.Identity) *sealer {
	return &sealer{place: place, self: self, identity: identity, peers: map[uint64]hpke.PublicKey{}, handed: map[uint64]bool{}}
}

// add makes somebody a reader of what is sealed from now on.
func (s *sealer) add(number uint64, key hpke.PublicKey) { s.peers[number] = key }

// remove has the next message sealed with a new key, if somebody had this one.
func (s *sealer) remove(number uint64) {
	delete(s.peers, number)
	if s.handed[number] {
		s.signer = nil
		clear(s.handed)
	}
}

// lacks says that somebody has not got the key, or has lost it.
func (s *sealer) lacks(number uint64) { delete(s.handed, number) }

// due returns what has to be said before the next message: the key, to those who lack it.
func (s *sealer) due() ([][]byte, error) {
	if s.signer == nil {
		_, signer, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return nil, err
		}
		s.key++
		s.signer = signer
		_, _ = rand.Read(s.chain[:]) // never fails (crypto/rand)
	}
	var lacking []uint64
	for _, number := range slices.Sorted(maps.Keys(s.peers)) {
		if !s.handed[number] {
			lacking = append(lacking, number)
		}
	}
	var entries [][]byte
	for some := range slices.Chunk(lacking, sharesPerEntry) {
		entry, err := s.hand(some)
		if err != nil {
			return nil, err
		}
		entries = append(entries, entry)
	}
	return entries, nil
}

// hand returns the entry that hands the key, as it is now, to some.
func (s *sealer) hand(to []uint64) ([]byte, error) {
	public, _ := s.signer.Public().(ed25519.PublicKey)
	key := &conecv1.SenderKey{Key: s.key, Number: s.next, Verify: public}
	for _, number := range to {
		s.handed[number] = true
		share, err := sealShare(s.peers[number], s.bind(sealsShare, s.self, number, s.key, s.next), s.chain)
		if err == nil { // else its key is none, and it can blame itself
			key.Shares = append(key.Shares, &conecv1.SealedShare{Member: number, Sealed: share})
		}
	}
	body, err := proto.Marshal(key)
	if err != nil {
		return nil, err
	}
	signature, err := s.identity.Sign(append(s.bind(sealsKeys, s.self), body...))
	if err != nil {
		return nil, err
	}
	return proto.Marshal(&conecv1.SealedEntry{Entry: &conecv1.SealedEntry_Keys{Keys: &conecv1.SealedKeys{Keys: body, Signature: signature}}})
}

// seal encrypts a message. What was due has been said.
func (s *sealer) seal(message []byte) ([]byte, error) {
	bound := s.bind(sealsMessage, s.self, s.key, s.next)
	aead, nonce := s.chain.next()
	data := aead.Seal(make([]byte, 0, len(message)+aead.Overhead()), nonce, message, bound)
	sealed := &conecv1.SealedMessage{Key: s.key, Number: s.next, Data: data, Signature: ed25519.Sign(s.signer, messageSignature(bound, data))}
	s.next++
	return proto.Marshal(&conecv1.SealedEntry{Entry: &conecv1.SealedEntry_Message{Message: sealed}})
}
