package window

import (
	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/driver/desktop"
	"fyne.io/fyne/v2/widget"
)

// A choice is a button. All are drawn alike: none is recommended. It tells of every
// key that it gets, whether it presses anything or not.
type choice struct {
	widget.BaseWidget
	label   string
	rtl     bool
	palette *Palette
	size    float32
	live    bool // a press counts; if not, it is drawn pale

	clicked func()
	key     func(name fyne.KeyName, pressed bool)
	gained  func() // the keyboard has come to it; may be nil

	hovered, focused bool
}

var (
	_ fyne.Focusable    = (*choice)(nil)
	_ fyne.Tappable     = (*choice)(nil)
	_ fyne.Accessible   = (*choice)(nil)
	_ desktop.Hoverable = (*choice)(nil)
)

// Tapped implements [fyne.Tappable].
func (c *choice) Tapped(*fyne.PointEvent) { c.clicked() }

// TypedKey implements [fyne.Focusable].
func (c *choice) TypedKey(e *fyne.KeyEvent) {
	c.key(e.Name, e.Name == fyne.KeySpace || e.Name == fyne.KeyReturn || e.Name == fyne.KeyEnter)
}

// TypedRune implements [fyne.Focusable].
func (c *choice) TypedRune(rune) {}

// FocusGained implements [fyne.Focusable].
func (c *choice) FocusGained() {
	c.focused = true
	if c.gained != nil {
		c.gained()
	}
	c.Refresh()
}

// FocusLost implements [fyne.Focusable].
func (c *choice) FocusLost() { c.focused = false; c.Refresh() }

// MouseIn implements [desktop.Hoverable].
func (c *choice) MouseIn(*desktop.MouseEvent) { c.hovered = true; c.Refresh() }

// MouseMoved implements [desktop.Hoverable].
func (c *choice) MouseMoved(*desktop.MouseEvent) {}

// MouseOut implements [desktop.Hoverable].
func (c *choice) MouseOut() { c.hovered = false; c.Refresh() }

// AccessibilityLabel implements [fyne.Accessible].
func (c *choice) AccessibilityLabel() string { return c.label }

// AccessibilityRole implements [fyne.Accessible].
func (c *choice) AccessibilityRole() fyne.AccessibleRole { return fyne.AccessibleRoleButton }

// CreateRenderer implements [fyne.Widget].
func (c *choice) CreateRenderer() fyne.WidgetRenderer {
	c.ExtendBaseWidget(c)
	return laidOut(&choiceRenderer{choice: c, back: canvas.NewRectangle(nil), ring: canvas.NewRectangle(nil)}, c)
}

// laidOut lays out what a widget is drawn with. The toolkit does so when the size changes,
// and forgets it when it makes the renderer of a widget anew: it drops those of what was
// not drawn for a minute, and after a sleep of the machine all look so. The widget would
// be there and could not be seen.
func laidOut(r fyne.WidgetRenderer, w fyne.Widget) fyne.WidgetRenderer {
	r.Layout(w.Size())
	return r
}

func (c *choice) setLive(live bool) {
	if c.live != live {
		c.live = live
		c.Refresh()
	}
}

type choiceRenderer struct {
	choice     *choice
	back, ring *canvas.Rectangle
	text       []fyne.CanvasObject
}

// Layout implements [fyne.WidgetRenderer].
func (r *choiceRenderer) Layout(size fyne.Size) {
	r.back.Resize(size)
	r.ring.Move(fyne.NewPos(-4, -4))
	r.ring.Resize(size.Add(fyne.NewSize(8, 8)))
	r.draw(size)
}

// draw puts the label in the middle, on two lines if it must.
func (r *choiceRenderer) draw(size fyne.Size) {
	c := r.choice
	p := c.palette
	s := style{size: c.size, bold: true, color: p.text}
	if !c.live {
		s.color = p.muted
	}
	r.back.FillColor, r.back.StrokeColor, r.back.StrokeWidth, r.back.CornerRadius = p.button, p.border, 1.5, 8
	if c.hovered && c.live {
		r.back.FillColor = p.hover
	}
	r.ring.FillColor, r.ring.StrokeColor, r.ring.StrokeWidth, r.ring.CornerRadius = nil, nil, 3, 11
	if c.focused {
		r.ring.StrokeColor = p.focus
	}
	r.text = nil
	lines := s.wrap(c.label, size.Width-16)
	y := (size.Height - s.height()*float32(len(lines))) / 2
	for _, line := range lines {
		r.text = append(r.text, s.draw(line, c.rtl, false, (size.Width-s.width(line))/2, y, 0)...)
		y += s.height()
	}
}

// MinSize implements [fyne.WidgetRenderer].
func (r *choiceRenderer) MinSize() fyne.Size { return fyne.NewSize(44, 44) } // WCAG 2.2, 2.5.5

// Refresh implements [fyne.WidgetRenderer].
func (r *choiceRenderer) Refresh() {
	r.draw(r.choice.Size())
	canvas.Refresh(r.choice)
}

// Objects implements [fyne.WidgetRenderer].
func (r *choiceRenderer) Objects() []fyne.CanvasObject {
	return append([]fyne.CanvasObject{r.back, r.ring}, r.text...)
}

// Destroy implements [fyne.WidgetRenderer].
func (r *choiceRenderer) Destroy() {}
