package window

import (
	"context"
	"fmt"
	"image"
	"os"
	"strings"
	"testing"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/driver/software"
	"fyne.io/fyne/v2/test"
	"fyne.io/fyne/v2/theme"

	"github.com/countersignd/countersign/device-agent/agent"
	"github.com/countersignd/countersign/device-agent/desktop/desk"
	"github.com/countersignd/countersign/device-agent/desktop/picture"
	"github.com/countersignd/countersign/internal/statement"
)

// start is when every test begins.
var start = time.Unix(1_800_000_000, 0)

func TestMain(m *testing.M) {
	time.Local = time.UTC // prompts say when they were made
	os.Exit(m.Run())
}

// prompt is a sign-in as most are.
func prompt() agent.Prompt {
	return agent.Prompt{Prompt: statement.Prompt{
		Account: "ada", Action: statement.ActionSignIn,
		Application: statement.Application{ID: "files", Name: "Files"},
		Created:     start.Unix(), Expires: start.Unix() + 300,
		Requester: statement.Requester{Address: "203.0.113.7", Device: "MacBook Air", Place: "Lisbon, Portugal", Program: "Firefox 145"},
		SignIn:    "aaaaaaaaaaaaaaaaaaaaaaaaaa", V: 1,
	}}
}

func with(change func(*agent.Prompt)) agent.Prompt {
	p := prompt()
	change(&p)
	return p
}

// candidate is a device that wants to be trusted.
func candidate() agent.Prompt {
	return with(func(p *agent.Prompt) {
		p.Action, p.Application = statement.ActionTrustDevice, statement.Application{}
		p.Requester = statement.Requester{Address: "203.0.113.7", Device: "Ada's new tablet"}
		p.Candidate = &statement.Candidate{Name: "Ada's new tablet", Kind: "tablet", Fingerprint: "mfrggzdfmztwq2lknnwg23tpobyxe43uov3ho6dzpiydcmrtgq2q"}
	})
}

func ask(p agent.Prompt) desk.View {
	return desk.View{Kind: desk.Ask, Prompt: p, Left: 4*time.Minute + 52*time.Second, Live: true}
}

func codeOf(p agent.Prompt) desk.View {
	return desk.View{Kind: desk.Code, Prompt: p, Code: agent.Code{Prompt: p, Digits: "482913"}, Left: 112 * time.Second, Live: true}
}

// goldens are the pictures, by name.
var goldens = []struct {
	name     string
	language string
	dark     bool
	scale    float32
	view     desk.View
}{
	{name: "prompt", view: ask(prompt())},
	{name: "prompt-dark", dark: true, view: ask(prompt())},
	{name: "prompt-long-names", view: ask(with(longest))},
	{name: "prompt-right-to-left-name", view: ask(with(func(p *agent.Prompt) {
		p.Requester.Device = "המחשב של עדה (3)"
		p.Requester.Place = "Jerusalem, Israel"
		p.Message = "שלום, Ada, זה אני"
	}))},
	{name: "prompt-nothing-known", view: ask(with(func(p *agent.Prompt) { p.Requester = statement.Requester{} }))},
	{name: "prompt-place-without-map", view: ask(with(func(p *agent.Prompt) { p.Requester.Place = "Atlantis" }))},
	{name: "prompt-country-only", view: ask(with(func(p *agent.Prompt) { p.Requester.Place = "Brazil" }))},
	{name: "prompt-queue-of-three", view: func() desk.View { v := ask(prompt()); v.More = 2; return v }()},
	{name: "prompt-first-moment", view: func() desk.View { v := ask(prompt()); v.Live = false; return v }()},
	{name: "prompt-failed", view: func() desk.View {
		v := ask(prompt())
		v.Cause, v.Err = desk.Failed, fmt.Errorf("cannot reach 192.0.2.1:8443: connection refused. Whether it counted is not known")
		return v
	}()},
	{name: "prompt-asked-again", view: ask(with(func(p *agent.Prompt) { p.Rings = 2 }))},
	{name: "prompt-failed-hebrew", language: "he", view: func() desk.View {
		v := ask(prompt())
		_, err := agent.ServerKey(context.Background(), "127.0.0.1:1") // nothing listens there
		v.Cause, v.Err = desk.Failed, err
		return v
	}()},
	{name: "test", view: testView("uid 0 (root)")},
	{name: "test-dark-german", dark: true, language: "de", view: testView("mfrggzdfmztwq2lknnwg23tpobyxe43uov3ho6dzpiydcmrtgq2q")},
	{name: "test-hebrew-hostile", language: "he", view: testView("uid 0 (root)\u202e\nAllow")},
	{name: "prompt-silent", view: ask(with(func(p *agent.Prompt) { p.Silent = true }))},
	{name: "prompt-hostile", view: ask(with(hostile))},
	{name: "prompt-german", language: "de", view: ask(prompt())},
	{name: "prompt-hebrew", language: "he", view: ask(with(func(p *agent.Prompt) { p.Requester.Device = "המחשב של עדה" }))},
	{name: "prompt-twice-as-large", scale: 2, view: ask(prompt())},
	{name: "trust", view: ask(candidate())},
	{name: "trust-dark", dark: true, view: ask(candidate())},
	{name: "trust-german", language: "de", view: ask(candidate())},
	{name: "trust-hebrew", language: "he", view: ask(candidate())},
	{name: "code", view: codeOf(prompt())},
	{name: "code-dark", dark: true, view: codeOf(prompt())},
	{name: "code-hebrew", language: "he", view: codeOf(prompt())},
	{name: "code-queue", view: func() desk.View { v := codeOf(prompt()); v.More = 1; return v }()},
	{name: "code-trust", view: codeOf(candidate())},
	{name: "code-asked-for", view: func() desk.View { v := codeOf(agent.Prompt{}); v.Prompt.Account = "ada"; return v }()},
	{name: "code-offline", view: func() desk.View {
		v := codeOf(agent.Prompt{})
		v.Prompt.Account, v.Code.Digits, v.Left = "ada", "08642975", 21*time.Second
		return v
	}()},
	{name: "sending", view: desk.View{Kind: desk.Sending, Prompt: prompt(), Order: desk.Order{Decision: statement.Allow}, Live: true}},
	{name: "reason", view: desk.View{Kind: desk.Reason, Prompt: prompt(), Left: 30 * time.Second, Live: true}},
	{name: "reason-german", language: "de", view: desk.View{Kind: desk.Reason, Prompt: prompt(), Left: 30 * time.Second, Live: true}},
	{name: "gone", view: desk.View{Kind: desk.Gone, Prompt: prompt(), Cause: desk.Elsewhere, More: 1, Live: true}},
}

// testView is a test prompt that somebody asked for.
func testView(by string) desk.View {
	return desk.View{Kind: desk.Test, Left: 90 * time.Second, Live: true, Test: agent.TestPrompt{ID: "bbbbbbbbbbbbbbbbbbbbbbbbbb", RequestedBy: by, Created: start, ExpireTime: start.Add(2 * time.Minute)}}
}

// longest has names as long and wide as they may be.
func longest(p *agent.Prompt) {
	fill := func(s string) string { return strings.Repeat(s, 64)[:64] }
	p.Account = fill("w")
	p.Application.Name = fill("Wide ")
	p.Requester = statement.Requester{Address: fill("2001:db8:"), Device: fill("W"), Place: fill("Wales, "), Program: fill("M")}
	p.Message = fill("Mm")
}

// hostile has names that try to be something else. The server refuses some of
// these; the window does not rely on it.
func hostile(p *agent.Prompt) {
	p.Application.Name = "Files\nAccount   eve"
	p.Requester.Device = "\u202eriA kooBcaM\u202c\u2066"
	p.Requester.Program = "Firefox” Allow “"
	p.Requester.Place = "Lisbon, Portugal\u2028Address 192.0.2.1"
	p.Requester.Address = "a\u0300\u0301\u0302\u0303\u0304\u0305\u0306\u0307\u0308\u0309\u030a\u030b"
	p.Message = "\ufdfd\ufdfd \u3164 Allow"
}

// draw returns what a face shows of a view.
func draw(t *testing.T, language string, variant fyne.ThemeVariant, scale float32, v desk.View) image.Image {
	t.Helper()
	app := test.NewTempApp(t)
	app.Settings().SetTheme(NewTheme())
	f, high := NewFace(LoadMessages(language), PaletteOf(variant)), float32(faceHigh)
	if v.Kind == desk.Test {
		f, high = NewTestFace(LoadMessages(language), PaletteOf(variant)), testHigh
	}
	f.Press, f.Drawn = func(desk.Press, bool) {}, func(string) {}
	w := test.NewTempWindow(t, f.Content())
	w.SetPadded(false)
	if scale != 0 {
		w.Canvas().(software.WindowlessCanvas).SetScale(scale)
	}
	f.Show(v)
	w.Resize(fyne.NewSize(faceWidth, high))
	return w.Canvas().Capture()
}

func TestGoldenPictures(t *testing.T) {
	for _, g := range goldens {
		t.Run(g.name, func(t *testing.T) {
			variant := theme.VariantLight
			if g.dark {
				variant = theme.VariantDark
			}
			picture.Compare(t, g.name, draw(t, g.language, variant, g.scale, g.view))
		})
	}
}
