package window

import (
	"fmt"
	"image/color"
	"math"
	"strings"
	"testing"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/test"
	"fyne.io/fyne/v2/theme"
	"pgregory.net/rapid"

	"github.com/countersignd/countersign/device-agent/agent"
	"github.com/countersignd/countersign/device-agent/desktop/desk"
	"github.com/countersignd/countersign/internal/statement"
	"github.com/countersignd/countersign/internal/text"
)

// A seat is a face in a window, and what was pressed on it.
type seat struct {
	*Face
	window  fyne.Window
	pressed []string
	copied  []string
}

func newSeat(t testing.TB, language string) *seat {
	app := test.NewTempApp(t)
	app.Settings().SetTheme(NewTheme())
	s := &seat{Face: NewFace(LoadMessages(language), PaletteOf(theme.VariantLight))}
	s.Press = func(p desk.Press, byKey bool) { s.pressed = append(s.pressed, fmt.Sprint(p, byKey)) }
	s.Copy = func(digits string) { s.copied = append(s.copied, digits) }
	s.Drawn = func(string) {}
	s.window = test.NewTempWindow(t, s.Content())
	s.window.SetPadded(false)
	s.window.Canvas().SetOnTypedKey(s.TypedKey)
	return s
}

func (s *seat) show(v desk.View) {
	s.Show(v)
	s.window.Resize(fyne.NewSize(faceWidth, faceHigh))
}

func (s *seat) choice(label string) *choice {
	for _, c := range s.choices {
		if c.label == label {
			return c
		}
	}
	return nil
}

// take returns what was pressed since it was last called.
func (s *seat) take() string {
	defer func() { s.pressed = nil }()
	return strings.Join(s.pressed, ", ")
}

func press(p desk.Press, byKey bool) string { return fmt.Sprint(p, byKey) }

func TestAllowAndDontAllowAreAlike(t *testing.T) {
	for _, language := range languages {
		for name, p := range map[string]agent.Prompt{"sign-in": prompt(), "trust": candidate(), "long": func() agent.Prompt { p := prompt(); longest(&p); return p }()} {
			s := newSeat(t, language)
			s.show(ask(p))
			yes, no := s.choice(s.messages.Say("ask.allow")), s.choice(s.messages.Say("ask.deny"))
			if yes == nil || no == nil || len(s.choices) != 2 {
				t.Fatalf("%s, %s: %d choices", language, name, len(s.choices))
			}
			if yes.Size() != no.Size() || yes.Position().Y != no.Position().Y || yes.size != no.size || yes.palette != no.palette {
				t.Errorf("%s, %s: Allow at %v is %v, Don't Allow at %v is %v, want them alike", language, name, yes.Position(), yes.Size(), no.Position(), no.Size())
			}
			if got := s.window.Canvas().Focused(); got != nil {
				t.Errorf("%s, %s: %v has the keyboard, want nothing", language, name, got)
			}
		}
	}
}

func TestKeyboardAlone(t *testing.T) {
	s := newSeat(t, "en")
	s.show(ask(prompt()))
	c := s.window.Canvas()
	key := func(name fyne.KeyName) {
		if f := c.Focused(); f != nil {
			f.TypedKey(&fyne.KeyEvent{Name: name})
		} else if f := c.OnTypedKey(); f != nil {
			f(&fyne.KeyEvent{Name: name})
		}
	}
	for _, name := range []fyne.KeyName{fyne.KeyReturn, fyne.KeyEnter, fyne.KeySpace, fyne.KeyA, fyne.KeyD, fyne.KeyY} {
		key(name)
		if got := s.take(); got != press(desk.None, true) {
			t.Errorf("with nothing chosen, %s pressed %s, want nothing", name, got)
		}
	}
	key(fyne.KeyEscape)
	if got := s.take(); got != press(desk.PutAway, true) {
		t.Errorf("Escape pressed %s, want put away", got)
	}
	for _, want := range []desk.Press{desk.Deny, desk.Allow} {
		c.FocusNext()
		key(fyne.KeyA)
		key(fyne.KeySpace)
		key(fyne.KeyReturn)
		key(fyne.KeyEscape)
		if got, want := s.take(), strings.Join([]string{press(desk.None, true), press(want, true), press(want, true), press(desk.PutAway, true)}, ", "); got != want {
			t.Errorf("pressed %s, want %s", got, want)
		}
	}
}

func TestClicks(t *testing.T) {
	for label, v := range map[string]desk.View{
		"1 ask.allow": ask(prompt()), "2 ask.deny": ask(prompt()),
		"2 sending.after-all": {Kind: desk.Sending, Prompt: prompt(), Order: desk.Order{Decision: statement.Allow}},
		"3 reason.mistake":    {Kind: desk.Reason, Prompt: prompt()}, "4 reason.not-me": {Kind: desk.Reason, Prompt: prompt()},
		"5 reason.skip": {Kind: desk.Reason, Prompt: prompt()}, "5 gone.close": {Kind: desk.Gone, Prompt: prompt()},
		"2 code.back": codeOf(prompt()), "5 code.close": codeOf(prompt()),
	} {
		s := newSeat(t, "en")
		s.show(v)
		number, key, _ := strings.Cut(label, " ")
		test.Tap(s.choice(s.messages.Say(key)))
		if got, want := s.take(), number+" false"; got != want {
			t.Errorf("%s pressed %s, want %s", key, got, want)
		}
	}
}

func TestTheTimeMovesNothing(t *testing.T) {
	s := newSeat(t, "en")
	v := ask(prompt())
	s.show(v)
	before := s.choices
	s.window.Canvas().FocusNext()
	focused := s.window.Canvas().Focused()
	for range 3 {
		v.Left -= time.Second
		s.show(v)
	}
	if s.choices[0] != before[0] || s.window.Canvas().Focused() != focused {
		t.Error("the buttons were made anew, and lost the keyboard")
	}
	var told []string
	for _, o := range s.clock.Objects {
		told = append(told, o.(*canvas.Text).Text)
	}
	if got := strings.Join(told, ""); got != "4:49 left" {
		t.Errorf("it says %q, want 4:49 left", got)
	}
}

func TestCopy(t *testing.T) {
	s := newSeat(t, "en")
	s.show(codeOf(prompt()))
	test.Tap(s.choice("Copy"))
	if len(s.copied) != 1 || s.copied[0] != "482913" || len(s.pressed) != 0 {
		t.Errorf("copied %q, pressed %q, want the code and nothing", s.copied, s.pressed)
	}
	s.SetCopied(true)
	s.show(codeOf(prompt()))
	if s.choice("Copied, for one minute") == nil {
		t.Error("it does not say that it was copied")
	}
}

func TestDigitsForAScreenReader(t *testing.T) {
	s := newSeat(t, "en")
	s.show(codeOf(prompt()))
	for _, o := range s.root.Objects {
		if d, ok := o.(*digits); ok {
			if got := d.AccessibilityLabel(); got != "4 8 2, 9 1 3" {
				t.Errorf("AccessibilityLabel() = %q, want 4 8 2, 9 1 3", got)
			}
			return
		}
	}
	t.Error("there are no digits")
}

// stays checks that all texts lie within the window, that none lies over another, and
// that the labels' column has labels only.
func stays(t rapid.TB, s *seat, allowed map[string]bool) {
	t.Helper()
	var texts []*canvas.Text
	for _, o := range append(s.root.Objects, s.clock.Objects...) {
		if text, ok := o.(*canvas.Text); ok && strings.TrimSpace(text.Text) != "" {
			texts = append(texts, text)
		}
	}
	buttons := float32(faceHigh - margin - buttonHigh)
	for i, a := range texts {
		low, high := a.Position(), a.Position().AddXY(a.Size().Width, a.TextSize)
		if low.X < margin-1 || high.X > faceWidth-margin+1 || low.Y < 0 || high.Y > buttons {
			t.Fatalf("%q at %v to %v leaves its room", a.Text, low, high)
		}
		if low.X < margin+labelRoom-1 && a.Color == s.palette.muted && !allowed[a.Text] {
			t.Fatalf("%q stands where labels do", a.Text)
		}
		for _, b := range texts[i+1:] {
			p := b.Position()
			if p.X < high.X-0.5 && low.X < p.X+b.Size().Width-0.5 && p.Y < high.Y && low.Y < p.Y+b.TextSize {
				t.Fatalf("%q at %v lies over %q at %v", a.Text, low, b.Text, p)
			}
		}
	}
}

// TestA18HostileNames shows prompts with any names that a server may let through: all
// of it stays in its place, and what cannot be allowed in full cannot be allowed.
func TestA18HostileNames(t *testing.T) {
	s := newSeat(t, "en")
	labels := make(map[string]bool)
	for key, word := range s.messages.texts {
		if strings.HasPrefix(key, "field.") {
			labels[word] = true
		}
	}
	letters := rapid.OneOf(
		rapid.Rune(), rapid.RuneFrom([]rune("aWm漢ﷺ﷽𒐫அלا0.“”\"'\\\u202e\u2066\u200b\u3164\n")),
		rapid.RuneFrom([]rune("Allow Account Don't")))
	name := rapid.StringOfN(letters, 0, 70, -1)
	rapid.Check(t, func(t *rapid.T) {
		p := with(func(p *agent.Prompt) {
			p.Application.Name = name.Draw(t, "application")
			p.Requester = statement.Requester{
				Address: name.Draw(t, "address"), Device: name.Draw(t, "device"),
				Place: name.Draw(t, "place"), Program: name.Draw(t, "program"),
			}
			p.Message = name.Draw(t, "message")
		})
		s.show(ask(p))
		if s.choice("Don't Allow") == nil {
			t.Fatal("it cannot be denied")
		}
		fits := s.choice("Allow") != nil
		good := text.Check(p.Requester.Device) == nil && text.Check(p.Requester.Program) == nil && text.Check(p.Requester.Place) == nil &&
			text.Check(p.Requester.Address) == nil && text.Check(p.Message) == nil && text.Check(p.Application.Name) == nil
		if good && !fits {
			t.Fatal("it cannot be allowed, though all of its names may be shown")
		}
		stays(t, s, labels)
	})
}

func TestTenThousandCharacters(t *testing.T) {
	s := newSeat(t, "en")
	labels := map[string]bool{"Application": true, "Account": true, "Device": true, "Program": true, "Place": true, "Address": true, "Message": true, "Asked at": true}
	for _, c := range []string{"A", "\u202e", "漢", "a\u0301", "\n"} {
		s.show(ask(with(func(p *agent.Prompt) { p.Requester.Device = strings.Repeat(c, 10_000) })))
		stays(t, s, labels)
		if s.choice("Don't Allow") == nil || s.choice("Allow") == nil {
			t.Errorf("10,000 times %q: not both choices are there", c)
		}
	}
	s.show(ask(with(func(p *agent.Prompt) {
		hostile := strings.Repeat("\u202e", 10_000)
		p.Requester = statement.Requester{Address: hostile, Device: hostile, Place: hostile, Program: hostile}
		p.Message, p.Application.Name = hostile, hostile
	})))
	if s.choice("Allow") != nil {
		t.Error("a prompt that is not shown in full can be allowed")
	}
	if s.choice("Don't Allow") == nil {
		t.Error("it cannot be denied")
	}
}

// contrast is that of WCAG 2.2.
func contrast(a, b color.Color) float64 {
	luminance := func(c color.Color) float64 {
		r, g, b, _ := c.RGBA()
		part := func(v uint32) float64 {
			x := float64(v) / 0xffff
			if x <= 0.04045 {
				return x / 12.92
			}
			return math.Pow((x+0.055)/1.055, 2.4)
		}
		return 0.2126*part(r) + 0.7152*part(g) + 0.0722*part(b)
	}
	la, lb := luminance(a)+0.05, luminance(b)+0.05
	return max(la, lb) / min(la, lb)
}

func TestContrast(t *testing.T) {
	for name, p := range map[string]*Palette{"light": &light, "dark": &dark} {
		for what, pair := range map[string][2]color.Color{
			"text": {p.text, p.background}, "labels": {p.muted, p.background}, "danger": {p.danger, p.background},
			"buttons": {p.text, p.button}, "buttons under the pointer": {p.text, p.hover}, "pale buttons": {p.muted, p.button},
			"warning": {p.warningText, p.warningBack},
		} {
			if got := contrast(pair[0], pair[1]); got < 4.5 {
				t.Errorf("%s, %s: contrast %.2f, want at least 4.5", name, what, got)
			}
		}
		for what, pair := range map[string][2]color.Color{
			"edges of buttons": {p.border, p.background}, "focus": {p.focus, p.background}, "dot": {p.world.Dot, p.world.Ring},
		} {
			if got := contrast(pair[0], pair[1]); got < 3 {
				t.Errorf("%s, %s: contrast %.2f, want at least 3", name, what, got)
			}
		}
	}
}
