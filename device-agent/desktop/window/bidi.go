package window

import (
	"slices"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/bidi"
)

const (
	leftToRightMark = "\u200e"
	rightToLeftMark = "\u200f"
)

// rightToLeft reports whether s is written from right to left: its first letter is.
// If it has none, otherwise counts.
func rightToLeft(s string, otherwise bool) bool {
	for _, r := range s {
		switch p, _ := bidi.LookupRune(r); p.Class() {
		case bidi.L:
			return false
		case bidi.R, bidi.AL:
			return true
		}
	}
	return otherwise
}

// pieces returns the parts of a line in the order in which they stand from left to
// right (UAX 9), each to be drawn by itself: all of its characters have one
// direction and, in a part that goes to the left, are letters or are not, so that no
// part mixes fonts.
func pieces(line string, rtl bool) []string {
	// A mark in front gives the paragraph its direction. It is taken off again.
	mark := leftToRightMark
	if rtl {
		mark = rightToLeftMark
	}
	var p bidi.Paragraph
	p.SetString(mark + line)
	order, err := p.Order()
	if err != nil {
		return []string{line}
	}
	var parts []string
	for i := range order.NumRuns() {
		run := order.Run(i)
		s := strings.Trim(run.String(), mark)
		var these []string
		if run.Direction() == bidi.RightToLeft {
			these = byLetters(s)
			for i := range these {
				these[i] = mirrored(these[i])
			}
			slices.Reverse(these)
		} else if s != "" {
			these = []string{s}
		}
		if rtl {
			parts = append(these, parts...)
		} else {
			parts = append(parts, these...)
		}
	}
	return parts
}

// byLetters splits s where letters begin and end. Marks stay with their letters.
func byLetters(s string) []string {
	var parts []string
	var last bool
	for i, r := range s {
		letter := unicode.In(r, unicode.L, unicode.M)
		if i == 0 || letter != last {
			parts = append(parts, "")
		}
		parts[len(parts)-1] += string(r)
		last = letter
	}
	return parts
}

// brackets are what is drawn the other way round among letters that go to the left.
const brackets = "()[]{}<>«»"

func mirrored(s string) string {
	if unicode.IsLetter([]rune(s)[0]) {
		return s
	}
	runes := []rune(s)
	pairs := []rune(brackets)
	for i, r := range runes {
		if at := slices.Index(pairs, r); at >= 0 {
			runes[i] = pairs[at^1]
		}
	}
	slices.Reverse(runes) // drawn from left to right
	return string(runes)
}
