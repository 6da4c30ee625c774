package window

import (
	"fmt"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/widget"

	"github.com/countersignd/countersign/device-agent/agent"
	"github.com/countersignd/countersign/device-agent/desktop/desk"
)

// A Sheet is what is in the agent's other window, from the top down: words, fields to
// read, fields to fill in, and buttons. A press counts only when the sheet has been
// there for [desk.MinLook].
type Sheet struct {
	page   page
	made   time.Time
	first  fyne.Focusable // the first field to fill in
	scroll *scroll
}

// The size of the window with the sheets. What is longer is scrolled.
const (
	sheetWidth = 520
	sheetHigh  = 660
)

// NewSheet returns an empty sheet.
func NewSheet(m *Messages, p *Palette) *Sheet {
	return &Sheet{
		page: page{messages: m, palette: p, width: sheetWidth, y: margin}, made: time.Now(),
		scroll: newScroll(),
	}
}

// Title adds a headline.
func (s *Sheet) Title(key string, values ...string) {
	s.page.say(style{size: 24, bold: true, color: s.page.palette.text}, s.page.messages.Say(key, values...))
	s.page.gap(10)
}

// Say adds a paragraph.
func (s *Sheet) Say(key string, values ...string) {
	s.page.say(style{size: 16, color: s.page.palette.text}, s.page.messages.Say(key, values...))
	s.page.gap(8)
}

// Strong adds a paragraph that must not be overlooked.
func (s *Sheet) Strong(key string, values ...string) {
	s.page.say(style{size: 16, bold: true, color: s.page.palette.text}, s.page.messages.Say(key, values...))
	s.page.gap(8)
}

// Trouble adds what is wrong. dir is the directory of this device.
func (s *Sheet) Trouble(err error, dir string) {
	s.page.trouble(15, err, dir)
	s.page.gap(8)
}

// Quiet adds a line that is no cause for concern: a message as it was said, or a time.
func (s *Sheet) Quiet(words string) {
	s.page.say(style{size: 14, color: s.page.palette.muted}, words)
	s.page.gap(8)
}

// Field adds a label and a value in words of this program or the server.
func (s *Sheet) Field(key, value string) {
	s.page.field(style{size: 16, color: s.page.palette.text}, s.page.messages.Say(key), value, "")
}

// Named adds a label and a name that somebody chose.
func (s *Sheet) Named(key, name, note string) {
	s.page.field(style{size: 18, bold: true, color: s.page.palette.text}, s.page.messages.Say(key), stranger(name), note)
}

// Item adds a label and what somebody else wrote, in smaller letters, or the message for
// what is not known.
func (s *Sheet) Item(key, words, unknown, note string) {
	value := s.page.messages.Say(unknown)
	if words != "" {
		value = stranger(words)
	}
	s.page.field(style{size: 15, color: s.page.palette.text}, s.page.messages.Say(key), value, note)
}

// Fingerprint adds the words of a key, to be compared on two screens.
func (s *Sheet) Fingerprint(key string) {
	f := &Face{messages: s.page.messages, palette: s.page.palette}
	f.fingerprint(&s.page, key)
}

// Words adds the words of a key as a field.
func (s *Sheet) Words(label, key string) {
	s.page.field(style{size: 15, mono: true, color: s.page.palette.text}, s.page.messages.Say(label), agent.Fingerprint(key), "")
}

// Codes adds recovery codes in two columns, numbered.
func (s *Sheet) Codes(codes []string) {
	mono := style{size: 17, mono: true, color: s.page.palette.text}
	rows := (len(codes) + 1) / 2
	y := s.page.y
	for i, c := range codes {
		x := margin + float32(i/rows)*s.page.room()/2
		line := fmt.Sprintf("%2d %s", i+1, c)
		s.page.objects = append(s.page.objects, mono.draw(line, false, false, x, y+float32(i%rows)*mono.height(), 0)...)
	}
	s.page.gap(float32(rows)*mono.height() + 12)
}

// Rule adds a line between two things.
func (s *Sheet) Rule() {
	s.page.gap(10)
	line := canvas.NewRectangle(s.page.palette.line)
	s.page.put(line, 1)
	s.page.gap(14)
}

// Entry adds a field to fill in.
func (s *Sheet) Entry(label, value string, secret bool) *widget.Entry {
	s.page.say(style{size: 15, color: s.page.palette.muted}, s.page.messages.Say(label))
	s.page.gap(2)
	e := &entry{widget.Entry{Password: secret, Wrapping: fyne.TextWrap(fyne.TextTruncateClip)}}
	e.ExtendBaseWidget(e)
	e.SetText(value)
	s.page.put(e, 40)
	s.page.gap(12)
	if s.first == nil {
		s.first = e
	}
	return &e.Entry
}

// An entry is the toolkit's own but for what [laidOut] does.
type entry struct{ widget.Entry }

// CreateRenderer implements [fyne.Widget].
func (e *entry) CreateRenderer() fyne.WidgetRenderer { return laidOut(e.Entry.CreateRenderer(), e) }

// A scroll is the same of what scrolls up and down.
type scroll struct{ container.Scroll }

func newScroll() *scroll {
	s := &scroll{container.Scroll{Direction: container.ScrollVerticalOnly}}
	s.ExtendBaseWidget(s)
	return s
}

// CreateRenderer implements [fyne.Widget].
func (s *scroll) CreateRenderer() fyne.WidgetRenderer { return laidOut(s.Scroll.CreateRenderer(), s) }

// A Button is what can be pressed.
type Button struct {
	Label string // key of a message
	Do    func()
}

// Buttons adds buttons beside each other.
func (s *Sheet) Buttons(buttons ...Button) {
	objects := make([]fyne.CanvasObject, len(buttons))
	s.page.gap(4)
	y := s.page.y
	for i, b := range buttons {
		press := func() {
			if time.Since(s.made) >= desk.MinLook {
				b.Do()
			}
		}
		c := &choice{
			label: s.page.messages.Say(b.Label), rtl: s.page.messages.rtl, palette: s.page.palette, size: 15, live: true,
			clicked: press,
			key: func(_ fyne.KeyName, pressed bool) {
				if pressed {
					press()
				}
			},
			gained: func() { s.reveal(y) },
		}
		c.ExtendBaseWidget(c)
		objects[i] = c
	}
	s.page.sideBySide(46, objects...)
	s.page.gap(8)
}

// Content returns what belongs into the window.
func (s *Sheet) Content() fyne.CanvasObject {
	s.scroll.Content = s.Paper()
	s.scroll.SetMinSize(fyne.NewSize(sheetWidth, sheetHigh))
	return s.scroll
}

// Paper returns all of the sheet, at its full length.
func (s *Sheet) Paper() fyne.CanvasObject {
	high := max(s.page.y+margin, sheetHigh)
	back := canvas.NewRectangle(s.page.palette.background)
	back.Resize(fyne.NewSize(sheetWidth, high))
	return container.New(fixed{fyne.NewSize(sheetWidth, high)}, append([]fyne.CanvasObject{back}, s.page.objects...)...)
}

// reveal scrolls to a button that the keyboard has come to.
func (s *Sheet) reveal(y float32) {
	top := s.scroll.Offset.Y
	if y < top+margin || y+buttonHigh > top+sheetHigh {
		s.scroll.ScrollToOffset(fyne.NewPos(0, max(0, y-sheetHigh/2)))
	}
}

// First returns the first field to fill in, or nil.
func (s *Sheet) First() fyne.Focusable { return s.first }
