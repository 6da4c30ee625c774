// Package recovery makes, shows and reads recovery codes: what an account's owner
// writes down when her first device is enrolled, and types when she has no
// device left. Each is good for enrolling one device.
//
// A code has 80 bits (NIST SP 800-63B-4, 4.2.1.1, asks for 64), as 16 characters
// of Crockford's base32: digits and capitals without I, L, O and U, which are
// mistaken for others when they are written by hand. It is shown in groups of
// four, with hyphens between:
//
//	7K3M-9QWD-2XTB-H0VC
//
// [Parse] forgives what people do to it: small letters, other groups, and the
// four letters that the alphabet lacks.
//
// The server derives codes from a key that lies outside its store, and keeps only
// hashes that need another such key.
package recovery

import (
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"strings"

	"github.com/countersignd/countersign/internal/pin"
)

const (
	// Codes is how many codes an account gets at a time.
	Codes = 10

	// Len is the length of a code, without the hyphens.
	Len = 16

	entropy = Len * 5 / 8 // bytes
	group   = 4
)

const alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

var crockford = base32.NewEncoding(alphabet).WithPadding(base32.NoPadding)

// FromMAC returns the code that the first 80 bits of a keyed MAC spell. It panics
// if there are fewer.
func FromMAC(sum []byte) string { return crockford.EncodeToString(sum[:entropy]) }

// Group returns the code as it is shown. Anything but sixteen bytes is returned as
// it is.
func Group(code string) string {
	if len(code) != Len {
		return code
	}
	return code[:4] + "-" + code[4:8] + "-" + code[8:12] + "-" + code[12:]
}

// maxTyped bounds what Parse looks at.
const maxTyped = 64

// Parse reads a code as a person types it, and returns it as [FromMAC] spelled it.
// The error is a sentence for this person and does not repeat what was typed.
func Parse(typed string) (string, error) {
	if len(typed) > maxTyped {
		return "", fmt.Errorf("that is too long for a recovery code: type one code, which has %d letters and digits", Len)
	}
	var code strings.Builder
	for _, r := range typed {
		switch {
		case separator(r):
			continue
		case 'a' <= r && r <= 'z':
			r += 'A' - 'a'
		}
		switch r {
		case 'O':
			r = '0'
		case 'I', 'L':
			r = '1'
		case 'U':
			r = 'V'
		}
		if !strings.ContainsRune(alphabet, r) {
			return "", fmt.Errorf("a recovery code has letters from A to Z and digits only: type the %d of them that you wrote down", Len)
		}
		code.WriteRune(r)
	}
	if n := code.Len(); n != Len {
		return "", fmt.Errorf("a recovery code has %d letters and digits, but this has %d: type all that you wrote down", Len, n)
	}
	return code.String(), nil
}

// separator reports whether r may stand anywhere in a code: a space, the three
// no-break spaces, a hyphen-minus, a hyphen, a no-break hyphen, two dashes.
func separator(r rune) bool {
	switch r {
	case ' ', '\u00a0', '\u2007', '\u202f', '-', '\u2010', '\u2011', '\u2013', '\u2014':
		return true
	}
	return false
}

// Hash returns what a device's enrolment statement says of the code that it came
// with: SHA-256 behind a prefix that keeps it apart from every other hash, and
// behind the account's name, as 52 characters of lower-case base32. Nobody can try
// 2⁸⁰ codes for one account.
func Hash(account, code string) string {
	sum := sha256.Sum256([]byte("countersign recovery code v1\x00" + account + "\x00" + code))
	return pin.Base32.EncodeToString(sum[:])
}
