package client

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/hpke"
	"crypto/sha256"
	"encoding/binary"
	"slices"
)

// The keys of sealed groups: Sender Keys, as Signal and WhatsApp have them. Each sender has
// a chain of keys and a key to sign with, and hands both to each member by HPKE (RFC 9180).

// place is the group in which a key, a message or a signature counts, and nowhere else.
type place struct {
	group       string
	incarnation []byte // of the group; empty for what is said before that is known
}

// bind returns what ties something to its purpose, place, and numbers.
func (p place) bind(purpose string, numbers ...uint64) []byte {
	b := append([]byte("conec v1 sealed group, "+purpose), 0)
	b = append(binary.AppendUvarint(b, uint64(len(p.group))), p.group...)
	b = append(binary.AppendUvarint(b, uint64(len(p.incarnation))), p.incarnation...)
	for _, number := range numbers {
		b = binary.BigEndian.AppendUint64(b, number)
	}
	return b
}

// What is bound.
const (
	sealsMember  = "member"  // a member's HPKE key: to its certificate and the group's name
	sealsKeys    = "keys"    // a SenderKey: to the sender's certificate and number
	sealsShare   = "share"   // a chain key: to sender, receiver, and the numbers of key and message
	sealsMessage = "message" // a message: to sender, and the numbers of key and message
)

// chainSize is the size in bytes of a chain key.
const chainSize = 32

// chain is a chain key: it gives the key of one message, and the next chain key, from which
// nothing before can be computed.
type chain [chainSize]byte

// next returns what encrypts the next message, and steps on.
func (c *chain) next() (aead cipher.AEAD, nonce []byte) {
	const keySize, nonceSize = 32, 12
	key, _ := hkdf.Expand(sha256.New, c[:], "conec v1 sealed message", keySize+nonceSize) // fails for many more bytes only
	block, _ := aes.NewCipher(key[:keySize])                                              // fails for other sizes only
	aead, _ = cipher.NewGCM(block)
	c.skip()
	return aead, key[keySize:]
}

// skip steps over a message.
func (c *chain) skip() {
	key, _ := hkdf.Expand(sha256.New, c[:], "conec v1 sealed chain", chainSize)
	copy(c[:], key)
}

// messageSignature returns what the signature of a message covers.
func messageSignature(bound, ciphertext []byte) []byte {
	hash := sha256.Sum256(ciphertext)
	return append(slices.Clip(bound), hash[:]...)
}

// The HPKE of shares.

func shareKEM() hpke.KEM { return hpke.DHKEM(ecdh.X25519()) }

func sealShare(to hpke.PublicKey, bound []byte, c chain) ([]byte, error) {
	return hpke.Seal(to, hpke.HKDFSHA256(), hpke.AES256GCM(), bound, c[:])
}

func openShare(with hpke.PrivateKey, bound, sealed []byte) (c chain, ok bool) {
	key, err := hpke.Open(with, hpke.HKDFSHA256(), hpke.AES256GCM(), bound, sealed)
	return chain(append(key, make([]byte, chainSize)...)[:chainSize]), err == nil && len(key) == chainSize
}
