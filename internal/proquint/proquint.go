// Package proquint spells keys as words that people can read to each other, so
// that two screens can be compared: "lusab-babad-gutih-tugad".
//
// A proquint (D. S. Wilkerson, A Proposal for Proquints, arXiv:0901.4016) is 16
// bits as five letters, by turns consonants and vowels, chosen so that none is
// taken for another in print or on the telephone. They need no list of words.
package proquint

import (
	"encoding/base32"
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

var base32Lower = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// keyBytes is how much of a key id is spelled: 64 bits. To make a key whose
// words are those of a given one takes 2⁶³ keys on average.
const keyBytes = 8

// OfKey returns four words for a key id, or "" if id is none.
func OfKey(id string) string {
	if !pin.ValidKeyID(id) {
		return ""
	}
	sum, err := base32Lower.DecodeString(id)
	if err != nil {
		return ""
	}
	return Encode(sum[:keyBytes])
}
