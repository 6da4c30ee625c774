package code

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"time"
)

// OfflineDigits is the length of an offline code.
const OfflineDigits = 8

// StepLength is how long a device without a network shows one code (RFC 6238,
// 5.2; at most 30 s by OWASP ASVS 5.0, 6.5.5).
const StepLength = 30 * time.Second

// Step returns the time step that t is in: how many have passed since 1970
// (RFC 6238, 4.2). Before 1970 there is none, and it returns 0.
func Step(t time.Time) int64 { return max(0, t.Unix()) / int64(StepLength/time.Second) }

// StepTime returns when a time step begins.
func StepTime(step int64) time.Time { return time.Unix(step*int64(StepLength/time.Second), 0) }

// Offline returns the code of a time step: TOTP (RFC 6238) with HMAC-SHA-256 and
// eight digits.
//
// SHA-256 and not the more usual SHA-1, because no program but our own ever
// holds the secret, so there is nobody to be compatible with, and the rest of
// Countersign has SHA-256. Eight digits, because such a code exists at every
// moment, asked for or not, and can always be guessed at.
func Offline(secret []byte, step int64) string {
	return hotp(sha256.New, secret, uint64(step), OfflineDigits)
}

// hotp is HOTP (RFC 4226, 5.3) with the hash functions of RFC 6238, 1.2. Its
// remainder prefers small codes: of eight digits the likeliest come up 22 times
// in 2³¹, which is 2.5 in 100 more often than once in 10⁸. The budget for guesses
// has room for that, and to be what the RFC describes is worth more.
func hotp(newHash func() hash.Hash, secret []byte, counter uint64, digits int) string {
	h := hmac.New(newHash, secret)
	h.Write(binary.BigEndian.AppendUint64(nil, counter))
	sum := h.Sum(nil)
	offset := sum[len(sum)-1] & 0xf
	n := binary.BigEndian.Uint32(sum[offset:]) & 0x7fffffff
	most := uint32(1)
	for range digits {
		most *= 10
	}
	return fmt.Sprintf("%0*d", digits, n%most)
}
