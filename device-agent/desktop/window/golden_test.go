package window

import (
	"bytes"
	"flag"
	"fmt"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/driver/software"
	"fyne.io/fyne/v2/test"
	"fyne.io/fyne/v2/theme"

	"github.com/countersignd/countersign/device-agent/agent"
	"github.com/countersignd/countersign/device-agent/desktop/desk"
	"github.com/countersignd/countersign/internal/statement"
)

// update has the golden pictures drawn anew. Look at each before it is committed.
var update = flag.Bool("update", false, "draw the golden pictures anew")

// start is when every test begins.
var start = time.Unix(1_800_000_000, 0)

func TestMain(m *testing.M) {
	flag.Parse()
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
	f := NewFace(LoadMessages(language), PaletteOf(variant))
	f.Press, f.Drawn = func(desk.Press, bool) {}, func() {}
	w := test.NewTempWindow(t, f.Content())
	w.SetPadded(false)
	if scale != 0 {
		w.Canvas().(software.WindowlessCanvas).SetScale(scale)
	}
	f.Show(v)
	w.Resize(fyne.NewSize(faceWidth, faceHigh))
	return w.Canvas().Capture()
}

func TestGoldenPictures(t *testing.T) {
	for _, g := range goldens {
		t.Run(g.name, func(t *testing.T) {
			variant := theme.VariantLight
			if g.dark {
				variant = theme.VariantDark
			}
			compare(t, g.name, draw(t, g.language, variant, g.scale, g.view))
		})
	}
}

// compare holds a picture against the golden one. What was drawn is kept beside it
// if they differ.
func compare(t *testing.T, name string, got image.Image) {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, got); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("testdata", name+".png")
	if *update {
		if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if n := differences(got, want); n > 0 {
		failed := filepath.Join(os.TempDir(), "countersign-"+name+".png")
		os.WriteFile(failed, b.Bytes(), 0o644)
		t.Errorf("%d pixels differ from %s: see %s", n, path, failed)
	}
}

// tolerance is what processors may make of the edges of letters: some multiply and
// add with one rounding.
const tolerance = 8 << 8

func differences(a, b image.Image) (n int) {
	if a.Bounds() != b.Bounds() {
		return a.Bounds().Dx() * a.Bounds().Dy()
	}
	apart := func(x, y uint32) bool { return max(x, y)-min(x, y) > tolerance }
	for y := a.Bounds().Min.Y; y < a.Bounds().Max.Y; y++ {
		for x := a.Bounds().Min.X; x < a.Bounds().Max.X; x++ {
			r1, g1, b1, _ := a.At(x, y).RGBA()
			r2, g2, b2, _ := b.At(x, y).RGBA()
			if apart(r1, r2) || apart(g1, g2) || apart(b1, b2) {
				n++
			}
		}
	}
	return n
}
