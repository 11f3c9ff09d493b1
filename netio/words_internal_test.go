package netio

import (
	"hash/crc32"
	"strings"
	"testing"
)

// TestWordList: the list is that of BIP-39.
func TestWordList(t *testing.T) {
	if sum := crc32.ChecksumIEEE([]byte(wordList)); sum != 0xc1dbd296 {
		t.Errorf("CRC-32 is %x", sum)
	}
	if n := len(strings.Fields(wordList)); n != 1<<11 {
		t.Errorf("%d words", n)
	}
}

func TestWords(t *testing.T) {
	list := strings.Fields(wordList)
	for _, c := range []struct {
		key  []byte
		want [wordCount]int
	}{
		{nil, [wordCount]int{}},
		{[]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, [wordCount]int{2047, 2047, 2047, 2047, 2047, 2047}},
		{[]byte{0, 0x20}, [wordCount]int{1}},              // bit 10
		{[]byte{7: 1, 8: 0x40}, [wordCount]int{5: 0b101}}, // bits 63 and 65 of 66
		{[]byte{8: 0x3f}, [wordCount]int{}},               // beyond
	} {
		var key [32]byte
		copy(key[:], c.key)
		var want []string
		for _, number := range c.want {
			want = append(want, list[number])
		}
		if got := words(key); got != strings.Join(want, " ") {
			t.Errorf("%x: got %q, want %q", c.key, got, want)
		}
	}
}
