// Package text judges and tames text that one party wrote and another is shown:
// names of devices and applications, places, messages.
//
// Such text is hostile until shown otherwise. It may reorder the line it stands
// in (bidirectional marks), hide in it (invisible characters), run over its
// neighbours (stacked marks), or drive the terminal (control characters). There
// are three defences, and each is used where it fits:
//
//   - [Check] refuses such text where it enters the system.
//   - [Isolate] encloses text where a person sees it, so that it cannot pass for
//     words of the system's own.
//   - [Escape] reduces text to printable ASCII, for logs.
//
// Not defended against: letters that look like other letters. A name is shown
// beside what cannot be chosen freely (the registered application, the address),
// and never instead of it.
package text

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// The limits of a text (docs/protocol.md).
const (
	maxBytes = 256
	maxRunes = 64
	maxMarks = 2 // on one base character

	maxSentence = 1 << 10 // bytes, of a sentence with such a text in it
)

// Check returns nil if s may be shown to people: valid UTF-8 in normal form C,
// at most 256 bytes and 64 characters, no control, format, surrogate, private-use
// or unassigned characters, no line or paragraph separators, nothing that is
// invisible or looks like nothing, at most two marks on one character, and no white space at either
// end. An empty text is fine.
//
// The error says which rule is broken. It names a character by its number and
// never repeats it.
func Check(s string) error {
	if len(s) > maxBytes {
		return fmt.Errorf("the text has %d bytes, more than %d", len(s), maxBytes)
	}
	if !utf8.ValidString(s) {
		return errors.New("the text is not valid UTF-8")
	}
	if n := utf8.RuneCountInString(s); n > maxRunes {
		return fmt.Errorf("the text has %d characters, more than %d", n, maxRunes)
	}
	marks := 0
	for i, r := range s {
		if why := forbidden(r); why != "" {
			return fmt.Errorf("the text contains %U, %s", r, why)
		}
		switch {
		case !unicode.Is(unicode.M, r):
			marks = 0
		case i == 0:
			return fmt.Errorf("the text begins with the mark %U, which has no character to stand on", r)
		case marks == maxMarks:
			return fmt.Errorf("the text has more than %d marks on one character, the last is %U", maxMarks, r)
		default:
			marks++
		}
	}
	if strings.TrimSpace(s) != s {
		return errors.New("the text begins or ends with white space")
	}
	if !norm.NFC.IsNormalString(s) {
		return errors.New("the text is not in Unicode normal form C")
	}
	return nil
}

// forbidden says what is wrong with r, or "" if nothing is.
func forbidden(r rune) string {
	switch {
	case unicode.Is(unicode.Cc, r):
		return "a control character"
	case unicode.Is(unicode.Cf, r):
		return "a format character"
	case unicode.Is(unicode.Cs, r):
		return "a surrogate"
	case unicode.Is(unicode.Co, r):
		return "a private-use character"
	case unicode.Is(unicode.Zl, r), unicode.Is(unicode.Zp, r):
		return "a line or paragraph separator"
	case unicode.Is(unicode.Other_Default_Ignorable_Code_Point, r):
		// Letters and marks by category, yet nothing is drawn for them:
		// the Hangul fillers are the known way to a name that looks empty.
		return "an invisible character"
	case r == '\u2800', r == '\U0001d159':
		// The empty Braille pattern and the note without a head are symbols,
		// and yet a name of nothing else looks empty.
		return "a character that looks like nothing"
	case !unicode.In(r, unicode.L, unicode.M, unicode.N, unicode.P, unicode.S, unicode.Zs):
		return "an unassigned character"
	}
	return ""
}

// Isolate returns s for showing it to a person, in a terminal or a window: in
// quotation marks, inside U+2068 FIRST STRONG ISOLATE and U+2069 POP
// DIRECTIONAL ISOLATE, so that it neither reorders what stands around it nor
// passes for it. Text that [Check] refuses is reduced by [Escape] first;
// double quotation marks within are escaped, so that the text cannot close its own.
func Isolate(s string) string {
	if Check(s) != nil {
		s = Escape(s)
	}
	var b strings.Builder
	b.WriteString("\u2068“")
	for _, r := range s {
		if strings.ContainsRune(doubleQuotes, r) {
			fmt.Fprintf(&b, `\u{%x}`, r)
		} else {
			b.WriteRune(r)
		}
	}
	b.WriteString("”\u2069")
	return b.String()
}

// doubleQuotes are the characters that can be taken for the marks Isolate sets.
const doubleQuotes = "\"\u201c\u201d\u201e\u201f\u2033\u2036\u275d\u275e\u301d\u301e\u301f\uff02"

// Escape returns s as printable ASCII, for logs and for terminals that must not
// show raw text: a backslash doubled, any other character that is not printable
// ASCII as \u{…} with its hexadecimal number, a byte that is not UTF-8 as \x{…}.
// The result is cut after at most 256 bytes, between characters; if so, "..." follows.
func Escape(s string) string { return escape(s, maxBytes) }

// EscapeSentence is [Escape] for a sentence that another program says, with a text
// in it. It is cut after 1 KiB, so that however much of it has to be escaped, its
// end is there, which says what to do.
func EscapeSentence(s string) string { return escape(s, maxSentence) }

func escape(s string, most int) string {
	var b strings.Builder
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		var piece string
		switch {
		case r == utf8.RuneError && size == 1:
			piece = fmt.Sprintf(`\x{%02x}`, s[i])
		case r == '\\':
			piece = `\\`
		case r < ' ' || r > '~':
			piece = fmt.Sprintf(`\u{%x}`, r)
		default:
			piece = s[i : i+size]
		}
		if b.Len()+len(piece) > most {
			b.WriteString("...")
			break
		}
		b.WriteString(piece)
		i += size
	}
	return b.String()
}
