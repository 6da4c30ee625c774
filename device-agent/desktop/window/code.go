package window

import (
	"strings"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/widget"

	"github.com/countersignd/countersign/device-agent/desktop/desk"
	"github.com/countersignd/countersign/internal/code"
	"github.com/countersignd/countersign/internal/statement"
)

// code draws a code, large, with what it is for beside it.
func (f *Face) code(v desk.View) *page {
	p := f.page()
	say := f.messages.Say
	p.say(style{size: 24, bold: true, color: f.palette.text}, say("code.title"))
	p.gap(6)
	asked := v.Prompt.SignIn == ""
	p.gap(4)
	p.put(newDigits(v.Code.Digits, f.palette), 128)
	f.tick = func(left string) []fyne.CanvasObject {
		c := f.page()
		s := style{size: 15, bold: true, color: f.palette.text}
		return s.draw(say("code.good", "time", left), f.messages.rtl, !f.messages.rtl, margin, c.y+8, c.room())
	}
	p.gap(16)
	p.say(style{size: 18, bold: true, color: f.palette.danger}, say("code.never"))
	p.gap(8)
	key := "code.type"
	switch {
	case len(v.Code.Digits) == code.OfflineDigits:
		key = "code.type.offline"
	case asked:
		key = "code.type.asked"
	case v.Prompt.Action == statement.ActionTrustDevice:
		key = "code.type.trust"
	}
	s := style{size: 17, color: f.palette.text}
	p.say(s, say(key, "account", v.Prompt.Account))
	p.gap(16)
	if !asked {
		f.about(p, v)
	}
	buttons := []*choice{f.copyButton(v.Code.Digits)}
	if !asked {
		buttons = append(buttons, f.button("code.back", desk.Deny))
	}
	last := "code.close"
	if v.More > 0 {
		last = "code.next"
	}
	p.foot(2*buttonHigh + 12)
	y := p.y
	objects := make([]fyne.CanvasObject, len(buttons))
	for i, b := range buttons {
		objects[i] = b
	}
	p.sideBySide(buttonHigh, objects...)
	p.gap(12)
	p.put(f.button(last, desk.PutAway), buttonHigh)
	f.more(p, v, y)
	return p
}

func (f *Face) copyButton(digits string) *choice {
	key := "code.copy"
	if f.copied {
		key = "code.copied"
	}
	c := f.button(key, desk.None)
	c.clicked = func() { f.Copy(digits) }
	typed := c.key
	c.key = func(name fyne.KeyName, pressed bool) {
		if pressed {
			f.Copy(digits)
			return
		}
		typed(name, pressed)
	}
	return c
}

// digits are the code in large. A screen reader is told them one by one.
type digits struct {
	widget.BaseWidget
	code    string
	palette *Palette
}

var _ fyne.Accessible = (*digits)(nil)

func newDigits(code string, p *Palette) *digits {
	d := &digits{code: code, palette: p}
	d.ExtendBaseWidget(d)
	return d
}

// AccessibilityLabel implements [fyne.Accessible].
func (d *digits) AccessibilityLabel() string {
	group := func(s string) string { return strings.Join(strings.Split(s, ""), " ") }
	half := len(d.code) / 2
	return group(d.code[:half]) + ", " + group(d.code[half:])
}

// AccessibilityRole implements [fyne.Accessible].
func (d *digits) AccessibilityRole() fyne.AccessibleRole { return fyne.AccessibleRoleText }

// CreateRenderer implements [fyne.Widget].
func (d *digits) CreateRenderer() fyne.WidgetRenderer {
	back := canvas.NewRectangle(d.palette.button)
	back.CornerRadius = 10
	t := canvas.NewText(code.Group(d.code), d.palette.text)
	t.TextSize, t.TextStyle, t.Alignment = 84, fyne.TextStyle{Bold: true}, fyne.TextAlignCenter
	if len(d.code) > code.Digits {
		t.TextSize = 68
	}
	return laidOut(widget.NewSimpleRenderer(container.NewStack(back, t)), d)
}
