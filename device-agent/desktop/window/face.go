package window

import (
	"fmt"
	"image"
	"strconv"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/container"

	"github.com/countersignd/countersign/device-agent/desktop/desk"
)

// The size of the window that asks. It does not change with what is in it, so that
// the buttons stay where they are.
const (
	faceWidth = 480
	faceHigh  = 660

	// That of a test prompt is another window, so that nobody takes it for one that asks.
	testHigh = 330
)

// A Face draws what a desk has in front of the person, and tells what is pressed. Its
// methods must be called on the toolkit's goroutine.
type Face struct {
	// Press is told what is pressed, by a key or by the pointer; keys that press
	// nothing are told as [desk.None].
	Press func(p desk.Press, byKey bool)
	// Copy is told to put the code that is shown on the clipboard.
	Copy func(digits string)

	// Drawn is told when what was built has been drawn for the first time, with the id
	// of the prompt or test prompt that it asks or shows, or "" if it does neither.
	Drawn func(id string)

	high     float32
	messages *Messages
	palette  *Palette
	root     *fyne.Container
	clock    *fyne.Container // the part that changes with the time
	tick     func(left string) []fyne.CanvasObject
	choices  []*choice
	shape    shape
	copied   bool
}

// NewFace returns an empty face.
func NewFace(m *Messages, p *Palette) *Face { return newFace(m, p, faceHigh) }

// NewTestFace returns an empty face for test prompts alone.
func NewTestFace(m *Messages, p *Palette) *Face { return newFace(m, p, testHigh) }

func newFace(m *Messages, p *Palette, high float32) *Face {
	size := fixed{fyne.NewSize(faceWidth, high)}
	return &Face{messages: m, palette: p, high: high, root: container.New(size), clock: container.New(size)}
}

// Content returns what belongs into the window. It stays the same object.
func (f *Face) Content() fyne.CanvasObject { return f.root }

// Title returns the window's title for a view.
func (f *Face) Title(v desk.View) string {
	switch v.Kind {
	case desk.Ask:
		return f.messages.Say(titleKey(v))
	case desk.Code:
		return f.messages.Say("code.title")
	case desk.Test:
		return f.messages.Say("test.title")
	}
	return "Countersign"
}

// A shape is what makes a view look as it does, but for the time that is left.
type shape struct {
	palette *Palette
	kind    desk.Kind
	id      string // of the prompt or test prompt
	prompt  string // all that it says
	rings   int
	digits  string
	more    int
	cause   desk.Cause
	err     string
	order   string
	silent  bool
	copied  bool
}

func (f *Face) shapeOf(v desk.View) shape {
	s := shape{
		palette: f.palette, kind: v.Kind, id: v.Prompt.SignIn + v.Test.ID, prompt: string(v.Prompt.Encode()), rings: v.Prompt.Rings, digits: v.Code.Digits,
		more: v.More, cause: v.Cause, copied: f.copied, silent: v.Prompt.Silent,
		order: v.Order.Decision + v.Order.Reason + strconv.FormatBool(v.Back),
	}
	if v.Err != nil {
		s.err = v.Err.Error()
	}
	return s
}

// Show draws a view. If it is what is drawn already but for the time, nothing moves.
func (f *Face) Show(v desk.View) {
	if s := f.shapeOf(v); s != f.shape {
		if s.digits != f.shape.digits {
			f.copied, s.copied = false, false
		}
		f.shape = s
		f.build(v)
	}
	f.SetLive(v.Live)
	if f.tick != nil {
		f.clock.Objects = f.tick(left(v.Left))
		f.clock.Refresh()
	}
}

// Renew has the next [Face.Show] draw everything anew.
func (f *Face) Renew() { f.shape = shape{} }

// SetLive says whether presses count.
func (f *Face) SetLive(live bool) {
	for _, c := range f.choices {
		c.setLive(live)
	}
}

// SetPalette changes the colours.
func (f *Face) SetPalette(p *Palette) { f.palette = p }

// SetCopied says that the code that is shown is on the clipboard, or not any more.
func (f *Face) SetCopied(copied bool) { f.copied = copied }

func (f *Face) page() *page {
	return &page{messages: f.messages, palette: f.palette, width: faceWidth, high: f.high, y: margin}
}

func (f *Face) build(v desk.View) {
	f.tick, f.choices = nil, nil
	var p *page
	switch v.Kind {
	case desk.Ask:
		p = f.ask(v)
	case desk.Sending:
		p = f.sending(v)
	case desk.Reason:
		p = f.reason(v)
	case desk.Gone:
		p = f.gone(v)
	case desk.Code:
		p = f.code(v)
	case desk.Test:
		p = f.test(v)
	default:
		p = f.page()
	}
	back := canvas.NewRectangle(f.palette.background)
	back.Resize(fyne.NewSize(faceWidth, f.high))
	f.root.Objects = append([]fyne.CanvasObject{back}, p.objects...)
	f.root.Add(f.witness(shownID(v)))
	if f.tick != nil {
		f.root.Add(f.clock)
	}
	f.root.Refresh()
}

// shownID returns what [Face.Drawn] is told of a view.
func shownID(v desk.View) string {
	switch v.Kind {
	case desk.Ask:
		return v.Prompt.SignIn
	case desk.Test:
		return v.Test.ID
	}
	return ""
}

// witness returns a spot, as pale as nothing, that tells when it is drawn, and so when
// the person can first see what is around it.
func (f *Face) witness(id string) fyne.CanvasObject {
	seen := false
	spot := canvas.NewRaster(func(w, h int) image.Image {
		if !seen {
			seen = true
			f.Drawn(id)
		}
		return image.NewNRGBA(image.Rect(0, 0, w, h))
	})
	spot.Resize(fyne.NewSize(1, 1))
	return spot
}

// button makes a choice that presses p.
func (f *Face) button(key string, p desk.Press) *choice {
	c := &choice{
		label: f.messages.Say(key), rtl: f.messages.rtl, palette: f.palette, size: 17,
		clicked: func() { f.Press(p, false) },
		key: func(name fyne.KeyName, pressed bool) {
			switch {
			case name == fyne.KeyEscape:
				f.Press(desk.PutAway, true)
			case pressed:
				f.Press(p, true)
			default:
				f.Press(desk.None, true)
			}
		},
	}
	c.ExtendBaseWidget(c)
	f.choices = append(f.choices, c)
	return c
}

// TypedKey takes a key that no button has.
func (f *Face) TypedKey(e *fyne.KeyEvent) {
	if e.Name == fyne.KeyEscape {
		f.Press(desk.PutAway, true)
	} else {
		f.Press(desk.None, true)
	}
}

// foot begins the lower part of the window, which is so high.
func (p *page) foot(high float32) { p.y = p.high - margin - high }

// more says how many prompts wait besides, right above y.
func (f *Face) more(p *page, v desk.View, y float32) {
	if v.More == 0 {
		return
	}
	s := style{size: 15, bold: true, color: f.palette.text}
	p.y = y - s.height() - 6
	key := "ask.more.other"
	if v.More == 1 {
		key = "ask.more.one"
	}
	p.sayMiddle(s, f.messages.Say(key, "n", strconv.Itoa(v.More)))
}

func (f *Face) sending(v desk.View) *page {
	p := f.page()
	p.gap(60)
	p.say(style{size: 24, bold: true, color: f.palette.text}, f.messages.Say("sending.title"))
	p.gap(12)
	key := "sending.deny"
	switch {
	case v.Back:
		key = "sending.back"
	case v.Order.Decision == allow:
		key = "sending.allow"
	case v.Order.Reason != "":
		key = "sending.reason"
	}
	p.say(style{size: 17, color: f.palette.text}, f.messages.Say(key))
	if v.Order.Decision == allow && !v.Back {
		p.foot(buttonHigh)
		p.put(f.button("sending.after-all", desk.Deny), buttonHigh)
	}
	return p
}

func (f *Face) reason(v desk.View) *page {
	p := f.page()
	p.say(style{size: 24, bold: true, color: f.palette.text}, f.messages.Say("reason.title"))
	p.gap(6)
	p.say(style{size: 17, color: f.palette.text}, f.messages.Say("reason.nobody"))
	p.gap(20)
	f.about(p, v)
	p.gap(20)
	p.say(style{size: 17, bold: true, color: f.palette.text}, f.messages.Say("reason.question"))
	p.foot(3*buttonHigh + 2*12)
	p.put(f.button("reason.mistake", desk.Mistake), buttonHigh)
	p.gap(12)
	p.put(f.button("reason.not-me", desk.NotMe), buttonHigh)
	p.gap(12)
	p.put(f.button("reason.skip", desk.PutAway), buttonHigh)
	f.tick = func(left string) []fyne.CanvasObject {
		c := f.page()
		c.foot(3*buttonHigh + 2*12 + 34)
		c.say(style{size: 15, color: f.palette.muted}, f.messages.Say("reason.left", "time", left))
		return c.objects
	}
	return p
}

func (f *Face) gone(v desk.View) *page {
	p := f.page()
	p.say(style{size: 24, bold: true, color: f.palette.text}, f.messages.Say("gone.title"))
	p.gap(10)
	key := map[desk.Cause]string{desk.Expired: "gone.expired", desk.Suspended: "gone.suspended", desk.Failed: "gone.failed"}[v.Cause]
	if key == "" {
		key = "gone.elsewhere"
	}
	p.say(style{size: 17, color: f.palette.text}, f.messages.Say(key))
	f.why(p, v)
	p.gap(24)
	f.about(p, v)
	p.foot(buttonHigh)
	y := p.y
	p.put(f.button("gone.close", desk.PutAway), buttonHigh)
	f.more(p, v, y)
	return p
}

// why says what is known of an answer that did not arrive.
func (f *Face) why(p *page, v desk.View) {
	if v.Err != nil {
		p.gap(4)
		p.trouble(14, v.Err, "")
	}
}

// left says how much time is left, as "4:59".
func left(d time.Duration) string {
	// Up, so that it says 0:00 only when it is over.
	seconds := max(0, int((d+time.Second-1)/time.Second))
	return fmt.Sprintf("%d:%02d", seconds/60, seconds%60)
}
