package statement

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A rule is what a member has to obey.
type rule struct {
	member string
	ok     bool
}

// obey returns an error that names the first member that breaks its rule.
func obey(rules ...rule) error {
	for _, r := range rules {
		if !r.ok {
			return refuse("member %q is missing or malformed", r.member)
		}
	}
	return nil
}

// ValidAccount reports whether s has the form of an account's name: 1 to 64 of
// a-z 0-9 . _ @ + -, the first a letter or digit.
func ValidAccount(s string) bool {
	return 1 <= len(s) && len(s) <= 64 && consists(s[:1], lower+digits) && consists(s, lower+digits+"._@+-")
}

// ValidApplication reports whether s has the form of an application id: 1 to 32 of
// a-z 0-9 -, the first a letter.
func ValidApplication(s string) bool {
	return 1 <= len(s) && len(s) <= 32 && consists(s[:1], lower) && consists(s, lower+digits+"-")
}

// ValidSignIn reports whether s has the form of a sign-in id: 26 of 0-9 a-v, which
// is base32hex (RFC 4648, 7) in lower case, so that ids sort as their times do.
func ValidSignIn(s string) bool {
	return len(s) == 26 && consists(s, digits+"abcdefghijklmnopqrstuv")
}

// ValidDeployment reports whether s has the form of a deployment id: 26 of a-z 2-7,
// which is base32 (RFC 4648, 6) in lower case.
func ValidDeployment(s string) bool {
	return len(s) == 26 && consists(s, lower+"234567")
}

const (
	lower  = "abcdefghijklmnopqrstuvwxyz"
	digits = "0123456789"
)

// consists reports whether all of s is in the ASCII alphabet.
func consists(s, alphabet string) bool {
	for i := range len(s) {
		if strings.IndexByte(alphabet, s[i]) < 0 {
			return false
		}
	}
	return true
}

// maxText is the largest length in bytes of a text that people are shown.
const maxText = 256

// validText reports whether s can be spelled canonically and drives no terminal: it
// has nothing of the Unicode categories Cc, Zl and Zp, the last two of which have
// one character each.
// The full rules for texts, which need tables that are not in the standard
// library, are those of package text; the server applies them when a text enters.
func validText(s string) bool {
	return len(s) <= maxText && utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool {
		return unicode.IsControl(r) || r == '\u2028' || r == '\u2029'
	})
}

// validNonce reports whether s is 32 bytes in base64url.
func validNonce(s string) bool {
	b, err := decode64(s)
	return err == nil && len(b) == 32
}

// validTime reports whether t, in Unix seconds, lies after 1970 and before 10000.
func validTime(t int64) bool { return 0 < t && t <= 253402300799 }

// validCounter reports whether n is at least 1 and is exact in every reader of
// JSON (RFC 8785, 3.2.2.3: numbers are IEEE 754 doubles there).
func validCounter(n uint64) bool { return 0 < n && n < 1<<53 }

// validKind reports whether s is a kind of device.
func validKind(s string) bool {
	return slices.Contains([]string{"terminal", "desktop", "phone", "tablet", "watch", "other"}, s)
}
