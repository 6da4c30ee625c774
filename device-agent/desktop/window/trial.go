package window

import (
	"strings"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"

	"github.com/countersignd/countersign/device-agent/agent"
	"github.com/countersignd/countersign/device-agent/desktop/desk"
)

// test draws a test prompt. It has none of what makes a prompt: nobody who asks, no
// place, no Allow.
func (f *Face) test(v desk.View) *page {
	p := f.page()
	frame := canvas.NewRectangle(nil)
	frame.StrokeColor, frame.StrokeWidth = f.palette.border, 4
	frame.Resize(fyne.NewSize(faceWidth, testHigh))
	p.objects = append(p.objects, frame)
	say := f.messages.Say
	p.say(style{size: 22, bold: true, color: f.palette.text}, say("test.title"))
	p.gap(8)
	p.say(style{size: 17, color: f.palette.text}, say("test.what"))
	p.gap(10)
	rest := style{size: 15, color: f.palette.text}
	if by := v.Test.RequestedBy; isDevice(by) {
		p.field(style{size: 15, mono: true, color: f.palette.text}, say("test.by-device"), agent.Fingerprint(by), "")
	} else {
		p.field(rest, say("test.by"), stranger(by), "")
	}
	p.field(rest, say("field.asked"), v.Test.Created.Local().Format("15:04:05"), "")
	p.foot(buttonHigh)
	p.put(f.button("test.seen", desk.PutAway), buttonHigh)
	return p
}

// isDevice reports whether who asked for a test is a device's id: 52 letters and digits
// of base32.
func isDevice(by string) bool {
	return len(by) == 52 && strings.Trim(by, "abcdefghijklmnopqrstuvwxyz234567") == ""
}
