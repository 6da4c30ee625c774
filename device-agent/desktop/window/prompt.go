package window

import (
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"

	"github.com/countersignd/countersign/device-agent/agent"
	"github.com/countersignd/countersign/device-agent/desktop/desk"
	"github.com/countersignd/countersign/device-agent/desktop/world"
	"github.com/countersignd/countersign/internal/statement"
)

const allow = statement.Allow

func titleKey(v desk.View) string {
	if v.Prompt.Action == statement.ActionTrustDevice {
		return "trust.title"
	}
	return "ask.title"
}

// An arrangement is how large the parts of a prompt are. The first that has room for
// all of it is taken.
type arrangement struct {
	main, rest float32 // the letters
	maps       float32 // how high the map is; 0 is none
}

var arrangements = []arrangement{
	{22, 19, 176}, {20, 18, 140}, {19, 17, 110}, {17, 15, 0}, {14, 13, 0}, {12, 11, 0},
}

// ask draws a prompt.
func (f *Face) ask(v desk.View) *page {
	y := float32(faceHigh - margin - buttonHigh)
	end := y - 14
	if v.More > 0 {
		end -= 26
	}
	var p *page
	complete := false
	for _, size := range arrangements {
		if p = f.askWith(v, size); p.y <= end {
			complete = true
			break
		}
	}
	if !complete {
		p = f.page()
		p.gap(36)
		p.say(style{size: 19, bold: true, color: f.palette.danger}, f.messages.Say("ask.too-large"))
	}
	title := f.page()
	f.head(title, v)
	p.objects = append(title.objects, p.objects...)
	f.tick = func(left string) []fyne.CanvasObject {
		c := f.page()
		s := style{size: 15, bold: true, color: f.palette.text}
		if v.Prompt.Action == statement.ActionTrustDevice {
			s.color = f.palette.warningText
		}
		words := f.messages.Say("ask.left", "time", left)
		return s.draw(words, f.messages.rtl, !f.messages.rtl, margin, c.y+8, c.room())
	}
	p.y = y
	deny := f.button("ask.deny", desk.Deny)
	if !complete {
		p.put(deny, buttonHigh)
		return p
	}
	p.sideBySide(buttonHigh, deny, f.button("ask.allow", desk.Allow))
	f.more(p, v, y)
	return p
}

// head draws the title. The time is drawn into the same line at the other end.
func (f *Face) head(p *page, v desk.View) {
	s := style{size: 24, bold: true, color: f.palette.text}
	const clock = 100
	var indent float32
	if v.Prompt.Action == statement.ActionTrustDevice {
		s.color, s.size = f.palette.warningText, 20
		p.objects = append(p.objects, f.sign(p.at(margin, 26), p.y+1)...)
		indent = 36
	}
	room := p.room() - clock - indent
	for _, line := range s.wrap(f.messages.Say(titleKey(v)), room) {
		p.objects = append(p.objects, s.draw(line, f.messages.rtl, f.messages.rtl, p.at(margin+indent, room), p.y, room)...)
		p.y += s.height()
	}
	p.gap(6)
	if v.Prompt.Action == statement.ActionTrustDevice {
		p.gap(8)
		p.band(0)
		p.gap(8)
	}
}

// sign draws a warning sign.
func (f *Face) sign(x, y float32) []fyne.CanvasObject {
	back := canvas.NewPolygon(3, f.palette.warningText)
	back.Move(fyne.NewPos(x, y))
	back.Resize(fyne.NewSize(28, 28))
	mark := style{size: 17, bold: true, color: f.palette.warningBack}
	return append([]fyne.CanvasObject{back}, mark.draw("!", false, false, x+14-mark.width("!")/2, y+3, 0)...)
}

func (f *Face) askWith(v desk.View, size arrangement) *page {
	measure := f.page()
	f.head(measure, v)
	p := f.page()
	p.y = measure.y
	if v.Cause == desk.Failed {
		p.say(style{size: 15, bold: true, color: f.palette.danger}, f.messages.Say("ask.failed"))
		f.why(p, v)
		p.gap(6)
	}
	if v.Prompt.Rings > 1 {
		p.say(style{size: 14, bold: true, color: f.palette.text}, f.messages.Say("ask.again"))
		p.gap(4)
	}
	if v.Prompt.Silent {
		p.say(style{size: 14, color: f.palette.muted}, f.messages.Say("ask.silent"))
		p.gap(4)
	}
	if v.Prompt.Action == statement.ActionTrustDevice {
		f.candidate(p, v.Prompt, size)
	} else {
		f.signIn(p, v.Prompt, size)
	}
	return p
}

// signIn draws who wants in, to what, from where and when. What is not known is said
// to be so, because a blank is overlooked.
func (f *Face) signIn(p *page, prompt agent.Prompt, size arrangement) {
	main := style{size: size.main, bold: true, color: f.palette.text}
	rest := style{size: size.rest, color: f.palette.text}
	say := f.messages.Say
	r := prompt.Requester
	p.say(style{size: min(17, size.rest), color: f.palette.text}, say("ask.question"))
	p.gap(12)
	p.field(main, say("field.application"), stranger(prompt.Application.Name), "")
	p.field(main, say("field.account"), prompt.Account, "")
	p.field(rest, say("field.device"), f.known(r.Device, "unknown.device"), "")
	p.field(rest, say("field.program"), f.known(r.Program, "unknown.program"), "")
	spot := world.Find(r.Place)
	note := ""
	switch {
	case r.Place == "":
	case !spot.Known():
		note = say("place.approximate") + " " + say("place.no-map")
	case !spot.Exact():
		note = say("place.approximate") + " " + say("place.country")
	default:
		note = say("place.approximate")
	}
	main.size = size.rest
	p.field(main, say("field.place"), f.known(r.Place, "unknown.place"), note)
	p.field(rest, say("field.address"), f.known(r.Address, "unknown.address"), "")
	if prompt.Message != "" {
		p.field(rest, say("field.message"), stranger(prompt.Message), "")
	}
	p.field(rest, say("field.asked"), askedAt(prompt), "")
	if spot.Known() && size.maps > 0 {
		p.gap(6)
		p.mapOf(spot, size.maps)
	}
}

// candidate draws a device that wants to be trusted. What is signed besides is shown
// too, whatever the server put there.
func (f *Face) candidate(p *page, prompt agent.Prompt, size arrangement) {
	main := style{size: size.main, bold: true, color: f.palette.text}
	rest := style{size: size.rest, color: f.palette.text}
	say := f.messages.Say
	c, r := prompt.Candidate, prompt.Requester
	p.say(style{size: min(17, size.rest), bold: true, color: f.palette.text}, say("trust.warning", "account", prompt.Account))
	p.gap(10)
	p.field(main, say("field.new-device"), stranger(c.Name), say("kind."+c.Kind))
	f.fingerprint(p, c.Fingerprint)
	p.field(rest, say("field.account"), prompt.Account, "")
	p.field(rest, say("field.address"), f.known(r.Address, "unknown.address"), "")
	besides := func(key, value string) {
		if value != "" {
			p.field(rest, say(key), stranger(value), "")
		}
	}
	if r.Device != c.Name {
		besides("field.device", r.Device)
	}
	besides("field.application", prompt.Application.Name)
	besides("field.program", r.Program)
	besides("field.place", r.Place)
	besides("field.message", prompt.Message)
	p.field(rest, say("field.asked"), askedAt(prompt), "")
}

// fingerprint draws the words to be compared, large and in a frame.
func (f *Face) fingerprint(p *page, key string) {
	s := style{size: 25, mono: true, color: f.palette.text}
	p.gap(4)
	p.say(style{size: 14, color: f.palette.muted}, f.messages.Say("trust.fingerprint"))
	p.gap(2)
	frame := canvas.NewRectangle(f.palette.button)
	frame.StrokeColor, frame.StrokeWidth, frame.CornerRadius = f.palette.border, 1.5, 8
	frame.Move(fyne.NewPos(margin, p.y))
	p.objects = append(p.objects, frame)
	y := p.y
	p.gap(8)
	for _, line := range s.wrap(agent.Fingerprint(key), p.room()-16) {
		p.objects = append(p.objects, s.draw(line, false, false, (p.width-s.width(line))/2, p.y, 0)...)
		p.y += s.height()
	}
	p.gap(8)
	frame.Resize(fyne.NewSize(p.room(), p.y-y))
	p.gap(8)
}

// about says in a few fields which prompt something is about.
func (f *Face) about(p *page, v desk.View) {
	s := style{size: 16, color: f.palette.text}
	say := f.messages.Say
	if c := v.Prompt.Candidate; v.Prompt.Action == statement.ActionTrustDevice && c != nil {
		p.field(s, say("field.new-device"), stranger(c.Name), "")
		p.field(s, say("field.account"), v.Prompt.Account, "")
		return
	}
	p.field(s, say("field.application"), stranger(v.Prompt.Application.Name), "")
	p.field(s, say("field.device"), f.known(v.Prompt.Requester.Device, "unknown.device"), "")
	p.field(s, say("field.place"), f.known(v.Prompt.Requester.Place, "unknown.place"), "")
}

func (f *Face) known(value, unknown string) string {
	if value == "" {
		return f.messages.Say(unknown)
	}
	return stranger(value)
}

func askedAt(p agent.Prompt) string {
	return time.Unix(p.Created, 0).Local().Format("15:04:05")
}
