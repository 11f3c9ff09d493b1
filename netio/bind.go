package netio

import (
	"encoding/binary"
	"net/netip"
)

// A bind tells the coordinator through which address a client can be reached now; a bound answers with that address.
//
//	bind  = [34][client id 8][sequence 8][MAC 16][zeros 18]
//	bound = [35][client id 8][sequence 8][observed address 18][MAC 16]
//
// Both have the same size, so a forged source cannot make the coordinator send more than it got.
//
// An ask is a bind with type 37 and more zeros at its end. It is answered like one, by a bound of the same size, but
// changes nothing at the coordinator: a client finds out by it what passes a way before it takes that.
//
// A who answers a bind or ask of a client that the coordinator does not know, in the same size: there is no key to sign it with.
//
//	who = [38][client id 8][sequence 8][zeros]
const bindSize = 1 + 8 + 8 + addrSize + macSize

const (
	bindSigned  = 1 + 8 + 8 // what the MAC of a bind covers
	boundSigned = bindSigned + addrSize

	bindPurpose  = "conec v1 bind, client to coordinator"
	boundPurpose = "conec v1 bound, coordinator to client"
)

// BoundFrame is the coordinator's answer to a bind.
type BoundFrame struct {
	ID       uint64         // the client's
	Sequence uint64         // of the bind it answers
	Observed netip.AddrPort // where the bind came from, as the coordinator saw it
	Size     int            // bytes of the datagram that it came in; not part of the frame
}

// EncodeBind appends a bind frame to dst. Each frame of a client needs a larger sequence than the one before. The key is
// the secret that client and coordinator share; subkeys for each direction are derived from it.
func EncodeBind(dst []byte, id, sequence uint64, key [32]byte) []byte {
	return appendBind(dst, id, sequence, newMACKey(key, bindPurpose))
}

func appendBind(dst []byte, id, sequence uint64, key *macKey) []byte {
	start := len(dst)
	dst = appendSigned(dst, typeBind, id, sequence, key)
	return append(dst, make([]byte, start+bindSize-len(dst))...)
}

func appendSigned(dst []byte, kind byte, id, sequence uint64, key *macKey) []byte {
	start := len(dst)
	dst = append(dst, kind)
	dst = binary.BigEndian.AppendUint64(dst, id)
	dst = binary.BigEndian.AppendUint64(dst, sequence)
	mac := key.sum(dst[start:])
	return append(dst, mac[:]...)
}

// appendWho answers a bind or ask frame of an unknown client. It has no MAC, since there is no key; it repeats what only
// who sees the client's packets can know.
func appendWho(dst, frame []byte) []byte {
	start := len(dst)
	dst = append(dst, frame...)
	dst[start] = typeWho
	clear(dst[start+bindSigned:])
	return dst
}

// EncodeAsk appends an ask frame of a size to dst: a datagram that the coordinator answers, if it arrives, by one of the
// same size. It counts as a bind frame, whose sequence it shares, but does not bind.
func EncodeAsk(dst []byte, id, sequence uint64, key [32]byte, size int) []byte {
	start := len(dst)
	dst = appendSigned(dst, typeAsk, id, sequence, newMACKey(key, bindPurpose))
	return append(dst, make([]byte, max(0, start+max(size, bindSize)-len(dst)))...)
}

// ParseBound checks and decodes a bound frame. It fails with [ErrMalformed] or [ErrMAC].
func ParseBound(frame []byte, key [32]byte) (BoundFrame, error) {
	return parseBound(frame, newMACKey(key, boundPurpose))
}

func parseBound(frame []byte, key *macKey) (BoundFrame, error) {
	if len(frame) != bindSize || frame[0] != typeBound {
		return BoundFrame{}, ErrMalformed
	}
	if !key.valid(frame[:boundSigned], frame[boundSigned:]) {
		return BoundFrame{}, ErrMAC
	}
	id, sequence := bindNumbers(frame)
	return BoundFrame{ID: id, Sequence: sequence, Observed: parseAddr(frame[bindSigned:])}, nil
}

func appendBound(dst []byte, b BoundFrame, key *macKey) []byte {
	start := len(dst)
	dst = append(dst, typeBound)
	dst = binary.BigEndian.AppendUint64(dst, b.ID)
	dst = binary.BigEndian.AppendUint64(dst, b.Sequence)
	dst = appendAddr(dst, b.Observed)
	mac := key.sum(dst[start:])
	return append(dst, mac[:]...)
}

// bindNumbers reads client id and sequence of a bind or bound frame of the right size.
func bindNumbers(frame []byte) (id, sequence uint64) {
	return binary.BigEndian.Uint64(frame[1:]), binary.BigEndian.Uint64(frame[9:])
}

// validBind says whether a frame of the right size and type was made with the key.
func validBind(frame []byte, key *macKey) bool {
	return key.valid(frame[:bindSigned], frame[bindSigned:bindSigned+macSize])
}
