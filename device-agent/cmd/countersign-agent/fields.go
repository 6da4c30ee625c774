package main

import (
	"strings"
	"time"
	"unicode"

	"golang.org/x/text/width"

	"github.com/countersignd/countersign/device-agent/agent"
	"github.com/countersignd/countersign/internal/statement"
	"github.com/countersignd/countersign/internal/text"
)

// A field is one thing that a person is told about a prompt. The value is
// either words of this program or somebody else's, isolated.
type field struct{ label, value, note string }

// fields returns what a prompt says. What is not known is said to be so,
// because a blank is overlooked.
func fields(p agent.Prompt) []field {
	if p.Action == statement.ActionTrustDevice {
		return candidateFields(p)
	}
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
	return append(list, askedAt(p))
}

// candidateFields returns what a prompt says about a device that wants to be
// trusted. What is signed besides is shown too, whatever the server put there.
func candidateFields(p agent.Prompt) []field {
	c, r := p.Candidate, p.Requester
	list := []field{
		{"Account", p.Account, ""},
		{"New device", text.Isolate(c.Name), "(" + c.Kind + ")"},
		{"Fingerprint", agent.Fingerprint(c.Fingerprint), ""},
		{"Address", known(r.Address, "address unknown"), ""},
	}
	besides := func(label, value string) {
		if value != "" {
			list = append(list, field{label, text.Isolate(value), ""})
		}
	}
	if r.Device != c.Name {
		besides("Device", r.Device)
	}
	besides("Application", p.Application.Name)
	besides("Program", r.Program)
	besides("Place", r.Place)
	besides("Message", p.Message)
	return append(list, askedAt(p))
}

func askedAt(p agent.Prompt) field {
	return field{"Asked at", time.Unix(p.Created, 0).Local().Format("15:04:05"), ""}
}

// title is the headline of a prompt.
func title(p agent.Prompt) string {
	if p.Action == statement.ActionTrustDevice {
		return "A device wants to be trusted"
	}
	return "Sign-In Requested"
}

// consequence says in plain words what Allow does, where that is more than to
// let somebody in once. It is "" for a sign-in.
func consequence(p agent.Prompt) string {
	if p.Action != statement.ActionTrustDevice {
		return ""
	}
	return "If you allow this, that device will be able to approve every sign-in of the account " + p.Account +
		", as this one is. Allow it only if you have that device in front of you and its screen shows the same fingerprint, word for word."
}

// whereToType says where the code after Allow belongs.
func whereToType(p agent.Prompt) string {
	if p.Action == statement.ActionTrustDevice {
		return "Type it on the new device, and nowhere else."
	}
	return "Type it where you are signing in, and nowhere else."
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

// wrap breaks s into lines of at most n columns, between words if it can. An
// isolated text that goes over several lines is isolated on each, because
// terminals order the letters of each line by itself.
func wrap(s string, n int) []string {
	var lines []string
	for s != "" {
		end := lineEnd(s, max(n, 2))
		line := s[:end]
		if s = s[end:]; s != "" {
			line = strings.TrimRight(line, " ")
		}
		if strings.Count(line, isolateStart) > strings.Count(line, isolateEnd) {
			line += isolateEnd
			s = isolateStart + s
		}
		lines = append(lines, line)
	}
	if len(lines) == 0 {
		lines = []string{""}
	}
	return lines
}

// lineEnd returns where the first line of s ends: behind the last space that
// fits, or else behind the last character that does. What has no width of its own
// stays with what is before it.
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
