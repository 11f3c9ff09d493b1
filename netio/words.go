package netio

import (
	_ "embed"
	"strings"
)

// wordCount words say 11 bits each, 66 in all; see [Conn.Words] for why so many.
const wordCount = 6

// wordList are the 2,048 English words of BIP-39, no two of which begin with the same four
// letters: https://github.com/bitcoin/bips/blob/master/bip-0039/english.txt, MIT license.
//
//go:embed words.txt
var wordList string

// Words returns six words that are the same at both ends of a connection, and differ if
// somebody sits in the middle: there are two connections then. They are the first 66 bits of
// a key from the TLS exporter, which both sides' ephemeral keys go into.
//
// Who sits in the middle wants both connections to have the same words. The side that
// answers a handshake last chooses its part when it knows all of the other's; so it can
// finish one connection, and then try its own part in the other over and over until the
// words are the same, but only while that handshake lasts, about 20 seconds. Each try is a
// dozen of hashes. 44 bits would be in reach of a thousand graphics processors; 66 are four
// million times as much.
func (c *Conn) Words() (string, error) {
	key, err := c.ExportKey("words")
	if err != nil {
		return "", err
	}
	return words(key), nil
}

// words says the first bits of a key.
func words(key [32]byte) string {
	list := strings.Fields(wordList)
	said := make([]string, 0, wordCount)
	for at := 0; len(said) < wordCount; at += 11 {
		number := 0
		for bit := at; bit < at+11; bit++ {
			number = number<<1 | int(key[bit/8]>>(7-bit%8))&1
		}
		said = append(said, list[number])
	}
	return strings.Join(said, " ")
}
