package main

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/countersignd/countersign/device-agent/agent"
	"github.com/countersignd/countersign/internal/statement"
	"github.com/countersignd/countersign/internal/text"
)

// hostile makes texts of what has been used to fool people and terminals.
func hostile(random *rand.Rand) string {
	pieces := []string{
		"\x1b[2J", "\x1b]0;x\a", "\r\n", "\t", "\x00", "\x9b31m", "\u202e", "\u2066", "\u2069", "\u200b", "\ufeff", "\u2028",
		"”", "“", "\"", "Place", "  Account      bob", "[a]  Allow", "482 913", "שלום", "مرحبا", "東京", "e\u0301", "👩‍💻", "\u3164",
		"\xff", "a", " ", "Never read this code", "\u0301\u0301\u0301\u0301",
	}
	var b strings.Builder
	for range random.IntN(12) {
		b.WriteString(pieces[random.IntN(len(pieces))])
	}
	return b.String()
}

// bare returns a line without the styles, which are the only control sequences
// that a line may have.
func bare(line string) string {
	return strings.NewReplacer(bold, "", dim, "", plain, "").Replace(line)
}

// controls returns what in s could drive a terminal or turn the line around;
// isolates that enclose a text are fine.
func controls(s string) string {
	depth := 0
	for _, r := range s {
		switch {
		case r == '\u2068':
			depth++
		case r == '\u2069':
			depth--
		case unicode.IsControl(r), unicode.Is(unicode.Cf, r), unicode.Is(unicode.Zl, r), unicode.Is(unicode.Zp, r), r == unicode.ReplacementChar:
			return string(r)
		}
		if depth < 0 || depth > 1 {
			return "an isolate too many"
		}
	}
	if depth != 0 {
		return "an open isolate"
	}
	return ""
}

// A18: whatever the requester says, each line has only what this program put
// there, fits, and none but this program's begins where labels begin.
func TestHostileTextOnScreen(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 2_000 { // of five texts each
		p := examplePrompt(1)
		p.Application.Name = hostile(random) + "x"
		p.Message = hostile(random)
		r := &p.Requester
		r.Address, r.Device, r.Place, r.Program = hostile(random), hostile(random), hostile(random), hostile(random)
		d := newDesk()
		d.codesWait = true
		s := agent.Screen{Status: "connected", Prompts: []agent.Prompt{p, examplePrompt(2)}}
		if random.IntN(2) == 0 {
			s = agent.Screen{Status: "connected", Codes: []agent.Code{{Prompt: p, Digits: "482913", ExpireTime: start.Add(time.Minute)}}}
		}
		d.show(s, start)
		width, height := 36+random.IntN(100), 20+random.IntN(80)
		lines, complete := render(d, width, height, start, []string{about(p)})
		if len(lines) > height {
			t.Fatalf("%d lines in a window of %d", len(lines), height)
		}
		var labelled []string
		for _, line := range lines {
			line = bare(line)
			if c := controls(line); c != "" {
				t.Fatalf("%q is in the line %q", c, line)
			}
			if columnsOf(line) > width {
				t.Fatalf("%d columns in a window of %d: %q", columnsOf(line), width, line)
			}
			if label, _, _ := strings.Cut(strings.TrimPrefix(line, margin), " "); label != "" {
				labelled = append(labelled, label)
			}
		}
		if !complete || d.view != viewAsk {
			continue
		}
		want := []string{"Account", "Application", "Device", "Program", "Place", "Address"}
		var got []string
		for _, label := range labelled {
			for _, w := range want {
				if label == w {
					got = append(got, label)
				}
			}
		}
		if strings.Join(got, " ") != strings.Join(want, " ") {
			t.Fatalf("labels = %v, want %v once each, in:\n%s", got, want, strings.Join(lines, "\n"))
		}
	}
}

func TestHostileTextInLines(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 2_000 {
		p := examplePrompt(1)
		p.Application.Name, p.Message, p.Requester.Device = hostile(random)+"x", hostile(random), hostile(random)
		d := newDesk()
		d.show(agent.Screen{Status: "connected", Prompts: []agent.Prompt{p}}, start)
		var out strings.Builder
		face := &printout{out: &out, codes: make(map[string]bool)}
		face.draw(d, start)
		for line := range strings.Lines(out.String()) {
			if c := controls(strings.TrimSuffix(line, "\n")); c != "" {
				t.Fatalf("%q is in the line %q", c, line)
			}
		}
		if n := strings.Count(out.String(), "\n  account: ada\n"); n != 1 {
			t.Fatalf("%d accounts in:\n%s", n, out.String())
		}
	}
}

func TestPrintout(t *testing.T) {
	p := examplePrompt(1)
	p.Requester.Place, p.Requester.Address, p.Message = "", "", "Transfer 4,200 EUR"
	d := newDesk()
	var out strings.Builder
	face := &printout{out: &out, codes: make(map[string]bool)}
	d.show(agent.Screen{Status: "connected", Prompts: []agent.Prompt{p, examplePrompt(2)}}, start)
	face.draw(d, start)
	face.draw(d, start.Add(time.Second)) // nothing is printed twice
	d.show(agent.Screen{Status: "connected", Codes: []agent.Code{exampleCode(1)}}, start)
	face.draw(d, start)
	face.draw(d, start)
	isolates := strings.NewReplacer("\u2068", "", "\u2069", "")
	want := `Sign-In Requested
  account: ada
  application: “Files”
  device: “MacBook Air”
  program: “Firefox 145”
  place: place unknown
  address: address unknown
  message: “Transfer 4,200 EUR”
  asked at: ` + start.Local().Format("15:04:05") + `
  time left: 5:00
1 more is waiting.
Answer with a (Allow) or d (Don't Allow) and Enter.
code: 482 913
code is for: sign-in of ada to “Files” on “MacBook Air”, good for 2:00
Never read this code to anyone who called you.
`
	if got := isolates.Replace(out.String()); got != want {
		t.Errorf("printed:\n%s\nwant:\n%s", got, want)
	}
}

// What is allowed must have been on the screen.
func TestSmallWindow(t *testing.T) {
	d := newDesk()
	d.show(screenOf(1), start)
	for height := 1; height < 40; height++ {
		lines, complete := render(d, 60, height, start, nil)
		all := strings.Join(lines, "\n")
		if complete != (strings.Contains(all, "Asked at") && strings.Contains(all, "[a]")) {
			t.Errorf("render at height %d: complete = %v of\n%s", height, complete, all)
		}
		if height >= 24 && !complete {
			t.Errorf("an ordinary prompt has no room in %d lines", height)
		}
	}
}

func TestWrap(t *testing.T) {
	for _, test := range []struct {
		s    string
		n    int
		want string
	}{
		{"", 10, ""},
		{"one two three", 7, "one two|three"},
		{"one two three", 8, "one two|three"},
		{"abcdefgh", 3, "abc|def|gh"},
		{"東京都", 4, "東京|都"},
		{"東京都", 1, "東|京|都"},
		{text.Isolate("one two"), 4, "\u2068“one\u2069|\u2068two”\u2069"},
	} {
		if got := strings.Join(wrap(test.s, test.n), "|"); got != test.want {
			t.Errorf("wrap(%q, %d) = %q, want %q", test.s, test.n, got, test.want)
		}
	}
}

func TestLeft(t *testing.T) {
	for d, want := range map[time.Duration]string{
		5 * time.Minute: "5:00", 299*time.Second + 1: "5:00", 61 * time.Second: "1:01", 1: "0:01", 0: "0:00", -time.Hour: "0:00",
	} {
		if got := left(d); got != want {
			t.Errorf("left(%v) = %s, want %s", d, got, want)
		}
	}
}

// candidatePrompt asks to trust a device.
func candidatePrompt(name string) agent.Prompt {
	p := examplePrompt(3)
	p.Action, p.Application = statement.ActionTrustDevice, statement.Application{}
	p.Requester = statement.Requester{Address: "192.0.2.9", Device: name}
	p.Candidate = &statement.Candidate{Fingerprint: strings.Repeat("a", 52), Kind: "tablet", Name: name}
	return p
}

// The fingerprint is what the new device shows, and nobody can allow by habit
// what makes a device an approver.
func TestTrustPrompt(t *testing.T) {
	d := newDesk()
	var out strings.Builder
	face := &printout{out: &out, codes: make(map[string]bool)}
	p := candidatePrompt("New tablet")
	d.show(agent.Screen{Status: "connected", Prompts: []agent.Prompt{p}}, start)
	face.draw(d, start)
	isolates := strings.NewReplacer("\u2068", "", "\u2069", "")
	want := `A device wants to be trusted
  account: ada
  new device: “New tablet” (tablet)
  fingerprint: babab-babab-babab-babab
  address: “192.0.2.9”
  asked at: ` + start.Local().Format("15:04:05") + `
  time left: 5:00
If you allow this, that device will be able to approve every sign-in of the account ada, as this one is. Allow it only if you have that device in front of you and its screen shows the same fingerprint, word for word.
Answer with a (Allow) or d (Don't Allow) and Enter.
`
	if got := isolates.Replace(out.String()); got != want {
		t.Errorf("printed:\n%s\nwant:\n%s", got, want)
	}
	lines, complete := render(d, 80, 24, start, nil)
	screen := isolates.Replace(bare(strings.Join(lines, "\n")))
	for _, want := range []string{"A device wants to be trusted", "“New tablet” (tablet)", "babab-babab-babab-babab", "approve every sign-in", "[a]"} {
		if !complete || !strings.Contains(screen, want) {
			t.Errorf("the screen lacks %q, or is incomplete:\n%s", want, screen)
		}
	}
	if strings.Contains(screen, "Sign-In Requested") {
		t.Errorf("the screen calls it a sign-in:\n%s", screen)
	}
	d = newDesk()
	d.show(agent.Screen{Codes: []agent.Code{{Prompt: p, Digits: "482913", ExpireTime: start.Add(time.Minute)}}}, start)
	lines, _ = render(d, 80, 30, start, nil)
	if screen := bare(strings.Join(lines, "\n")); !strings.Contains(screen, "Type it on the new device") {
		t.Errorf("the code's screen says:\n%s", screen)
	}
}

// What the server puts in the signed bytes besides is shown, too.
func TestTrustPromptShowsAll(t *testing.T) {
	p := candidatePrompt("New tablet")
	p.Requester.Device, p.Requester.Program, p.Requester.Place, p.Message = "other name", "a program", "a place", "a message"
	p.Application = statement.Application{ID: "files", Name: "an application"}
	var all strings.Builder
	for _, f := range fields(p) {
		all.WriteString(f.value)
	}
	for _, want := range []string{"other name", "a program", "a place", "a message", "an application"} {
		if !strings.Contains(all.String(), want) {
			t.Errorf("%q is not shown", want)
		}
	}
}

// A18, for the name of a device that wants to be trusted.
func TestHostileCandidate(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	for range 2_000 {
		p := candidatePrompt(hostile(random) + "x")
		p.Requester.Address = hostile(random)
		d := newDesk()
		d.show(agent.Screen{Status: "connected", Prompts: []agent.Prompt{p}}, start)
		lines, _ := render(d, 36+random.IntN(100), 20+random.IntN(80), start, []string{about(p)})
		for _, line := range lines {
			if c := controls(bare(line)); c != "" {
				t.Fatalf("%q is in the line %q", c, line)
			}
		}
	}
}

// What is printed fits the terminal, without a broken word, and what is to be
// copied is left as it is.
func TestPrintedLinesFit(t *testing.T) {
	const command = "  countersign-agent --dir /home/ada/.config/countersign-laptop recovery-codes renew"
	const text = "This device has to wait until 2026-11-23 02:47:14. Until then the other devices see it.\n\n" + command + "\nCode: "
	if got := filled(text, 0); got != text {
		t.Errorf("filled where there is no terminal = %q", got)
	}
	const want = "This device has to wait until\n  2026-11-23 02:47:14. Until then the\n  other devices see it.\n\n" + command + "\nCode: "
	if got := filled(text, 40); got != want {
		t.Errorf("filled in 40 columns = %q, want %q", got, want)
	}
}
