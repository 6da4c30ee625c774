package proquint

import (
	"crypto/rand"
	"strings"
	"testing"

	"github.com/countersignd/countersign/internal/pin"
)

// The examples of arXiv:0901.4016.
func TestEncode(t *testing.T) {
	for want, b := range map[string][]byte{
		"":                        nil,
		"lusab-babad":             {127, 0, 0, 1},
		"gutih-tugad":             {63, 84, 220, 193},
		"gutuk-bisog":             {63, 118, 7, 35},
		"mudof-sakat":             {140, 98, 193, 141},
		"haguz-biram":             {64, 255, 6, 200},
		"mabiv-gibot":             {128, 30, 52, 45},
		"natag-lisaf":             {147, 67, 119, 2},
		"tibup-zujah":             {212, 58, 253, 68},
		"tobog-higil":             {216, 35, 68, 215},
		"todah-vobij":             {216, 68, 232, 21},
		"sinid-makam":             {198, 81, 129, 136},
		"budov-kuras":             {12, 110, 110, 204},
		"lusab-babad-gutih-tugad": {127, 0, 0, 1, 63, 84, 220, 193},
	} {
		if got := Encode(b); got != want {
			t.Errorf("Encode(%v) = %q, want %q", b, got, want)
		}
	}
}

// No two pairs of bytes have one word.
func TestEncodeIsInjective(t *testing.T) {
	seen := make(map[string]bool)
	for n := range 1 << 16 {
		word := Encode([]byte{byte(n >> 8), byte(n)})
		if len(word) != 5 || seen[word] {
			t.Fatalf("Encode(%#04x) = %q, seen before: %v", n, word, seen[word])
		}
		seen[word] = true
	}
}

func TestOfKey(t *testing.T) {
	id := strings.Repeat("a", 52)
	if got, want := OfKey(id), "babab-babab-babab-babab"; got != want {
		t.Errorf("OfKey(%q) = %q, want %q", id, got, want)
	}
	// The thirteenth character holds the last four of the 64 bits.
	if a, b := OfKey(id), OfKey(strings.Repeat("a", 12)+"c"+strings.Repeat("a", 39)); a == b {
		t.Errorf("OfKey does not see bit 64: %q", a)
	}
	for _, none := range []string{"", "short", strings.Repeat("A", 52), strings.Repeat("a", 51) + "b"} {
		if got := OfKey(none); got != "" {
			t.Errorf("OfKey(%q) = %q, want nothing", none, got)
		}
	}
}

func TestKeyPrefix(t *testing.T) {
	for range 100 {
		sum := make([]byte, 32)
		rand.Read(sum)
		id := pin.Base32.EncodeToString(sum)
		words := OfKey(id)
		for _, said := range []string{words, strings.ToUpper(words), strings.ReplaceAll(words, "-", " "), " " + words + " "} {
			if got, ok := KeyPrefix(said); !ok || got != id[:12] {
				t.Errorf("KeyPrefix(%q) = %q, %v, want %q", said, got, ok, id[:12])
			}
		}
	}
	for _, bad := range []string{"", "lusab", "lusab-babad-gutih", "lusab-babad-gutih-tugad-lusab", "lusab-babad-gutih-tugax", "lusab-babad-gutih-tuga", "abcd efgh ijkl"} {
		if got, ok := KeyPrefix(bad); ok {
			t.Errorf("KeyPrefix(%q) = %q, want none", bad, got)
		}
	}
}
