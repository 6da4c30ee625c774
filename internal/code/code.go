// Package code makes, shows, reads and compares the codes that a person carries
// from a trusted device to the device that signs in: six digits, made by the
// server because somebody allowed a sign-in or asked for a code, or eight, made
// by a device that has no network ([Offline]). The number of digits tells one
// kind from the other.
//
// A code is safe only because few tries are allowed (NIST SP 800-63B-4,
// 3.1.3.2), so every code must be equally likely: if some were likelier, the
// first tries would go there. Therefore a code of six digits is not "the MAC modulo 10⁶",
// which prefers small numbers (RFC 4226, appendix A, measures that bias and
// lives with it), but the first 20-bit chunk of the MAC that is below 10⁶
// (rejection sampling: NIST SP 800-90A, A.5.1, the simple discard method).
//
// Codes are compared in constant time (RFC 6238 and NIST leave it open; OWASP
// ASVS 5.0, 11.2.4, asks for it), and after the try was counted, which is the
// caller's part.
package code

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"strings"
)

// Digits is the length of a code that the server makes.
const Digits = 6

const (
	limit     = 1_000_000 // how many codes there are
	chunkBits = 20        // the least number of bits that reaches limit
	macLen    = 32        // bytes of SHA-256
)

// FromMAC returns the code that a keyed MAC gives. It calls mac with counter 0,
// reads the 32 bytes as consecutive chunks of 20 bits, most significant bit
// first, and takes the first chunk below 10⁶. If none of the twelve chunks is
// (once in 10¹⁶ times; the last 16 bits are left over), it goes on with counter 1, and so on.
//
// The MAC must be one of SHA-256's size over an input that contains the counter
// and everything the code is bound to. FromMAC panics if the MAC has another
// size, or if no counter yields a code, since it then is no MAC.
func FromMAC(mac func(counter byte) []byte) string {
	for counter := range 256 {
		sum := mac(byte(counter))
		if len(sum) != macLen {
			panic(fmt.Sprintf("code: a MAC of %d bytes instead of %d", len(sum), macLen))
		}
		for bit := 0; bit+chunkBits <= macLen*8; bit += chunkBits {
			if n := chunk(sum, bit); n < limit {
				return fmt.Sprintf("%0*d", Digits, n)
			}
		}
	}
	panic("code: the MAC yields no code")
}

// chunk returns the 20 bits of sum that begin at the given bit. Chunks begin at
// a byte or in its middle, so the 20 bits lie in three bytes either way.
func chunk(sum []byte, bit int) int {
	i := bit / 8
	n := int(sum[i])<<16 | int(sum[i+1])<<8 | int(sum[i+2])
	return n >> (24 - chunkBits - bit%8) & (1<<chunkBits - 1)
}

// Group returns the code as it is shown, in two groups: "482 913" or
// "1234 5678". Anything but six or eight bytes is returned as it is.
func Group(code string) string {
	if len(code) != Digits && len(code) != OfflineDigits {
		return code
	}
	return code[:len(code)/2] + " " + code[len(code)/2:]
}

// maxTyped bounds what is looked at.
const maxTyped = 64

// Parse reads a code of the server's as a person types or pastes it: six ASCII
// digits, with spaces (also no-break ones) and hyphens anywhere between and
// around them. The error is a sentence for this person and does not repeat what
// was typed.
func Parse(typed string) (string, error) {
	digits, err := digitsOf(typed)
	switch n := len(digits); {
	case err != nil:
		return "", err
	case n == OfflineDigits:
		return "", fmt.Errorf("this has %d digits, as a code has that was made without a network, and such codes do not count here: type the %d digits that your trusted device shows", n, Digits)
	case n != Digits:
		return "", fmt.Errorf("a code has %d digits, but this has %d: type all the digits that your trusted device shows", Digits, n)
	}
	return digits, nil
}

// ParseAny is Parse for a place that takes offline codes as well: it returns six
// digits or eight.
func ParseAny(typed string) (string, error) {
	digits, err := digitsOf(typed)
	if err != nil {
		return "", err
	}
	if n := len(digits); n != Digits && n != OfflineDigits {
		return "", fmt.Errorf("a code has %d digits, or %d if it was made without a network, but this has %d: type all the digits that your trusted device shows", Digits, OfflineDigits, n)
	}
	return digits, nil
}

// digitsOf returns the digits in what was typed, however many they are.
func digitsOf(typed string) (string, error) {
	if len(typed) > maxTyped {
		return "", errors.New("that is too long for a code: type the digits that your trusted device shows")
	}
	var digits strings.Builder
	for _, r := range typed {
		switch {
		case '0' <= r && r <= '9':
			digits.WriteRune(r)
		case !separator(r):
			return "", errors.New("a code has digits from 0 to 9 only: type the digits that your trusted device shows")
		}
	}
	return digits.String(), nil
}

// Trailing returns the decimal digits that end a line in which a code may stand
// right behind a password, eight at most. No other character of the line is in
// what it returns.
func Trailing(line string) string {
	from := len(line)
	for from > 0 && len(line)-from < OfflineDigits && '0' <= line[from-1] && line[from-1] <= '9' {
		from--
	}
	return line[from:]
}

// ParseTrailing reads what [Trailing] returned: the last six digits, and all
// eight if there are so many.
func ParseTrailing(digits string) (six, eight string, err error) {
	if len(digits) < Digits || len(digits) > OfflineDigits || strings.Trim(digits, "0123456789") != "" {
		return "", "", fmt.Errorf("want the %d to %d decimal digits that end what was typed", Digits, OfflineDigits)
	}
	if len(digits) == OfflineDigits {
		eight = digits
	}
	return digits[len(digits)-Digits:], eight, nil
}

// separator reports whether r may stand between the digits of a code: a space,
// the three no-break spaces, a hyphen-minus, a hyphen, a no-break hyphen.
func separator(r rune) bool {
	switch r {
	case ' ', '\u00a0', '\u2007', '\u202f', '-', '\u2010', '\u2011':
		return true
	}
	return false
}

// Equal reports whether a and b are the same code. The time it takes does not
// depend on the digits. What is not a code at all equals nothing, not even itself,
// so that an empty stored code can never be matched by an empty typed one.
func Equal(a, b string) bool { return equal(a, b) == 1 }

func equal(a, b string) int {
	if len(a) != len(b) || len(a) != Digits && len(a) != OfflineDigits {
		return 0
	}
	return subtle.ConstantTimeCompare([]byte(a), []byte(b))
}

// Find returns the index of the last of the codes that equals typed, or -1. It
// compares with all of them, and the time it takes tells neither whether one
// was equal nor which.
func Find(codes []string, typed string) int {
	found := -1
	for i, c := range codes {
		found = subtle.ConstantTimeSelect(equal(c, typed), i, found)
	}
	return found
}
