package main

import (
	"strings"
	"time"
	"unicode"

	"golang.org/x/text/width"

	"github.com/countersignd/countersign/device-agent/agent"
	"github.com/countersignd/countersign/internal/text"
)

// A field is one thing that a person is told about a prompt. The value is
// either words of this program or somebody else's, isolated.
type field struct{ label, value, note string }

// fields returns what a prompt says. What is not known is said to be so,
// because a blank is overlooked.
func fields(p agent.Prompt) []field {
	r := p.Requester
	list := []field{
		{"Account", p.Account, ""},
		{"Application", text.Isolate(p.Application.Name), ""},
		{"Device", known(r.Device, "device unknown"), ""},
		{"Program", known(r.Program, "program unknown"), ""},
		{"Place", known(r.Place, "place unknown"), ""},
		{"Address", known(r.Address, "address unknown"), ""},
	}
	if r.Place != "" {
		list[4].note = "(places are approximate)"
	}
	if p.Message != "" {
		list = append(list, field{"Message", text.Isolate(p.Message), ""})
	}
	return append(list, field{"Asked at", time.Unix(p.Created, 0).Local().Format("15:04:05"), ""})
}

func known(value, unknown string) string {
	if value == "" {
		return unknown
	}
	return text.Isolate(value)
}

// The isolates of Unicode's bidirectional algorithm, as [text.Isolate] sets them.
const (
	isolateStart = "\u2068"
	isolateEnd   = "\u2069"
)

// wrap breaks s into lines of at most n columns, between words if it can. Each
// line of isolated text is isolated by itself, because terminals order the
// letters of each line by itself.
func wrap(s string, n int) []string {
	inner, isolated := strings.CutPrefix(s, isolateStart)
	if isolated {
		inner = strings.TrimSuffix(inner, isolateEnd)
	}
	var lines []string
	for inner != "" {
		end := lineEnd(inner, max(n, 2))
		line := inner[:end]
		if inner = inner[end:]; inner != "" {
			line = strings.TrimRight(line, " ")
		}
		if isolated {
			line = isolateStart + line + isolateEnd
		}
		lines = append(lines, line)
	}
	if len(lines) == 0 {
		lines = []string{""}
	}
	return lines
}

// lineEnd returns where the first line of s ends: behind the last space that
// fits, or else behind the last character that does.
func lineEnd(s string, n int) int {
	used, space := 0, 0
	for i, r := range s {
		if used += columns(r); used > n {
			if r == ' ' {
				return i + 1
			}
			if space > 0 {
				return space
			}
			return i
		}
		if r == ' ' {
			space = i + 1
		}
	}
	return len(s)
}

// columns returns how many columns a terminal gives a character.
func columns(r rune) int {
	if unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf) {
		return 0
	}
	switch width.LookupRune(r).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth:
		return 2
	}
	return 1
}

func columnsOf(s string) int {
	n := 0
	for _, r := range s {
		n += columns(r)
	}
	return n
}
