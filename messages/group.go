package messages

import "google.golang.org/protobuf/encoding/protowire"

// GroupPurpose is the purpose of the streams of members of groups, on home channels.
const GroupPurpose = "conec.group"

// Field numbers of GroupEntry.
const (
	entrySender = 1
	entryData   = 2
)

// AppendGroupData appends what comes before the message itself in a GroupEntry that
// carries one: so the message need not be copied to be encoded.
func AppendGroupData(dst []byte, sender uint64, message []byte) []byte {
	if sender != 0 {
		dst = protowire.AppendVarint(protowire.AppendTag(dst, entrySender, protowire.VarintType), sender)
	}
	return protowire.AppendVarint(protowire.AppendTag(dst, entryData, protowire.BytesType), uint64(len(message)))
}

// CutGroupData returns the message of a GroupEntry that was encoded with
// [AppendGroupData], without copying it; false for any other.
func CutGroupData(entry []byte) (sender uint64, message []byte, ok bool) {
	number, kind, n := protowire.ConsumeTag(entry)
	if n > 0 && number == entrySender && kind == protowire.VarintType {
		entry = entry[n:]
		if sender, n = protowire.ConsumeVarint(entry); n < 0 {
			return 0, nil, false
		}
		entry = entry[n:]
		number, kind, n = protowire.ConsumeTag(entry)
	}
	if n < 0 || number != entryData || kind != protowire.BytesType {
		return 0, nil, false
	}
	message, end := protowire.ConsumeBytes(entry[n:])
	return sender, message, end == len(entry)-n
}

// CheckGroupName reports what is wrong with the name of a group: the rules are those
// for clients' names ([CheckName]).
func CheckGroupName(name string) error { return CheckName(name) }

// MaxSeal is the largest size in bytes of JoinGroup.seal: a key, some certificates and a
// signature. It fits into the frame that opens a stream.
const MaxSeal = 3500

// sealedMessage is the field number of messages in a SealedEntry.
const sealedMessage = 1

// IsSealedControl reports whether what a member of a sealed group sends is no message for
// the others' programs, but about keys.
func IsSealedControl(entry []byte) bool {
	number, kind, n := protowire.ConsumeTag(entry)
	return n > 0 && kind == protowire.BytesType && number != sealedMessage
}
