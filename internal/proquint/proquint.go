// Package proquint spells keys as words that people can read to each other, so
// that two screens can be compared: "lusab-babad-gutih-tugad".
//
// A proquint (D. S. Wilkerson, A Proposal for Proquints, arXiv:0901.4016) is 16
// bits as five letters, by turns consonants and vowels, chosen so that none is
// taken for another in print or on the telephone. They need no list of words.
package proquint

import (
	"strings"

	"github.com/countersignd/countersign/internal/pin"
)

const (
	consonants = "bdfghjklmnprstvz" // four bits each
	vowels     = "aiou"             // two bits each
)

// Encode spells b, two bytes to a word, with hyphens between the words. It
// panics if the length of b is odd.
func Encode(b []byte) string {
	var words []string
	for i := 0; i < len(b); i += 2 {
		n := uint(b[i])<<8 | uint(b[i+1])
		words = append(words, string([]byte{
			consonants[n>>12], vowels[n>>10&3], consonants[n>>6&15], vowels[n>>4&3], consonants[n&15],
		}))
	}
	return strings.Join(words, "-")
}

// keyBytes is how much of a key id is spelled: 64 bits. To make a key whose
// words are those of a given one takes 2⁶³ keys on average.
const keyBytes = 8

// KeyPrefix returns how key ids begin whose words these are: 12 characters. The
// words may be joined by hyphens or spaces. ok is false if they are no four words.
func KeyPrefix(words string) (prefix string, ok bool) {
	var b []byte
	for word := range strings.FieldsFuncSeq(strings.ToLower(words), func(r rune) bool { return r == '-' || r == ' ' }) {
		if len(word) != 5 {
			return "", false
		}
		n := 0
		for i, alphabet := range []string{consonants, vowels, consonants, vowels, consonants} {
			digit := strings.IndexByte(alphabet, word[i])
			if digit < 0 {
				return "", false
			}
			n = n*len(alphabet) + digit
		}
		b = append(b, byte(n>>8), byte(n))
	}
	if len(b) != keyBytes {
		return "", false
	}
	// 12 characters hold 60 of the 64 bits; the next has some that were not spelled.
	return pin.Base32.EncodeToString(b)[:12], true
}

// OfKey returns four words for a key id, or "" if id is none.
func OfKey(id string) string {
	if !pin.ValidKeyID(id) {
		return ""
	}
	sum, err := pin.Base32.DecodeString(id)
	if err != nil {
		return ""
	}
	return Encode(sum[:keyBytes])
}
