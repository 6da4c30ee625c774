package window

import (
	"image"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"

	"github.com/countersignd/countersign/device-agent/desktop/world"
)

const (
	margin     = 24
	labelRoom  = 112 // for labels
	buttonHigh = 56
)

// A page is what is drawn from the top of a window down. Where languages are written
// from right to left, all of it is the other way round.
type page struct {
	messages *Messages
	palette  *Palette
	width    float32
	high     float32 // of the window, for what is at its foot
	y        float32 // where the next thing goes
	objects  []fyne.CanvasObject
}

func (p *page) room() float32 { return p.width - 2*margin }

// at returns where something begins that is so far from where lines begin.
func (p *page) at(offset, width float32) float32 {
	if p.messages.rtl {
		return p.width - offset - width
	}
	return offset
}

func (p *page) gap(h float32) { p.y += h }

// say adds words of this program.
func (p *page) say(s style, words string) {
	for _, line := range s.wrap(words, p.room()) {
		p.objects = append(p.objects, s.draw(line, p.messages.rtl, p.messages.rtl, margin, p.y, p.room())...)
		p.y += s.height()
	}
}

// sayMiddle adds words of this program in the middle.
func (p *page) sayMiddle(s style, words string) {
	for _, line := range s.wrap(words, p.room()) {
		p.objects = append(p.objects, s.draw(line, p.messages.rtl, false, (p.width-s.width(line))/2, p.y, 0)...)
		p.y += s.height()
	}
}

// field adds a label and a value, whose lines all begin behind the label. The value
// is isolated, or else words of this program.
func (p *page) field(s style, label, value, note string) {
	small := style{size: min(15, s.size), color: p.palette.muted}
	room := p.room() - labelRoom
	below := p.y + (s.height()-small.height())/2
	for _, line := range small.wrap(label, labelRoom-8) {
		p.objects = append(p.objects, small.draw(line, p.messages.rtl, p.messages.rtl, p.at(margin, labelRoom-8), below, labelRoom-8)...)
		below += small.height()
	}
	rtl := rightToLeft(value, false)
	for _, line := range s.wrap(value, room) {
		p.objects = append(p.objects, s.draw(line, rtl, p.messages.rtl, p.at(margin+labelRoom, room), p.y, room)...)
		p.y += s.height()
	}
	if note != "" {
		for _, line := range small.wrap(note, room) {
			p.objects = append(p.objects, small.draw(line, p.messages.rtl, p.messages.rtl, p.at(margin+labelRoom, room), p.y, room)...)
			p.y += small.height()
		}
	}
	p.y = max(p.y, below)
	p.gap(s.size / 4)
}

// band colours the page from y to where it is now.
func (p *page) band(y float32) {
	back := canvas.NewRectangle(p.palette.warningBack)
	back.Move(fyne.NewPos(0, y))
	back.Resize(fyne.NewSize(p.width, p.y-y))
	p.objects = append([]fyne.CanvasObject{back}, p.objects...)
}

// mapOf adds a map.
func (p *page) mapOf(spot world.Spot, high float32) {
	m := canvas.NewRaster(func(w, h int) image.Image { return spot.Draw(w, h, p.palette.world) })
	m.Move(fyne.NewPos(margin, p.y))
	m.Resize(fyne.NewSize(p.room(), high))
	frame := canvas.NewRectangle(nil)
	frame.StrokeColor, frame.StrokeWidth = p.palette.line, 1
	frame.Move(m.Position())
	frame.Resize(m.Size())
	p.objects = append(p.objects, m, frame)
	p.y += high
}

// put adds an object over the whole room.
func (p *page) put(o fyne.CanvasObject, high float32) {
	o.Move(fyne.NewPos(margin, p.y))
	o.Resize(fyne.NewSize(p.room(), high))
	p.objects = append(p.objects, o)
	p.y += high
}

// sideBySide adds objects of one size beside each other.
func (p *page) sideBySide(high float32, objects ...fyne.CanvasObject) {
	const between = 16
	width := (p.room() - between*float32(len(objects)-1)) / float32(len(objects))
	for i, o := range objects {
		o.Resize(fyne.NewSize(width, high))
		o.Move(fyne.NewPos(p.at(margin+float32(i)*(width+between), width), p.y))
		p.objects = append(p.objects, o)
	}
	p.y += high
}

// fixed is the layout of a page: everything has its place.
type fixed struct{ size fyne.Size }

// Layout implements [fyne.Layout].
func (fixed) Layout([]fyne.CanvasObject, fyne.Size) {}

// MinSize implements [fyne.Layout].
func (f fixed) MinSize([]fyne.CanvasObject) fyne.Size { return f.size }
