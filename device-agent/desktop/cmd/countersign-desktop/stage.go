package main

import (
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/driver/desktop"

	"github.com/countersignd/countersign/device-agent/desktop/desk"
	"github.com/countersignd/countersign/device-agent/desktop/window"
)

// A stage is a window that comes up by itself, with what is on the desk. There are two:
// one asks and shows codes, and another, smaller one shows test prompts.
type stage struct {
	d       *desktopAgent
	face    *window.Face
	window  fyne.Window
	visible bool
}

func (d *desktopAgent) newStage(face *window.Face) *stage {
	s := &stage{d: d, face: face, window: d.app.NewWindow(face.Title(desk.View{}))}
	face.Press, face.Copy = d.press, d.copy
	face.Drawn = func(id string) { fyne.Do(func() { s.drawn(id) }) }
	s.window.SetContent(face.Content())
	s.window.SetPadded(false)
	s.window.SetFixedSize(true)
	s.window.CenterOnScreen()
	s.window.SetCloseIntercept(func() { d.press(desk.PutAway, false) })
	s.window.Canvas().SetOnTypedKey(face.TypedKey)
	if on, ok := s.window.(desktop.Window); ok {
		on.RequestAlwaysOnTop()
	}
	return s
}

// show brings the window up. If again, it comes to the front though it is up.
func (s *stage) show(v desk.View, again bool) {
	s.window.SetTitle(s.face.Title(v))
	if again && s.visible {
		s.face.Renew()
		s.visible = false
		s.window.Hide() // the only way to the front that leaves the keyboard where it is
	}
	s.face.Show(v)
	if !s.visible {
		s.visible = true
		s.d.desk.Moved(time.Now())
		s.window.Show()
	}
	s.d.keepDrawn(s.window)
}

// keepDrawn has a window drawn anew if the toolkit has forgotten what is in it, which it
// does with what it has not drawn for a minute, and after a sleep of the machine that is
// all there is. It does not draw then what changes, and the person would press what she
// does not see. To ask for what is in a window keeps it from being forgotten, but not
// what is in that: the window must be one that is drawn as often as this is called.
func (d *desktopAgent) keepDrawn(w fyne.Window) {
	if d.app.Driver().CanvasForObject(w.Content()) == nil {
		w.Canvas().Refresh(w.Content())
	}
}

func (s *stage) hide() {
	if s.visible {
		s.visible = false
		s.face.Show(desk.View{})
		s.window.Hide()
	}
}

// drawn is told when something new can first be seen: from then on the person has it
// before her, and whoever waits may know that.
func (s *stage) drawn(id string) {
	s.d.desk.Moved(time.Now())
	if id != "" && s.visible && s.d.agent != nil {
		s.d.agent.PromptsShown(id)
	}
	s.d.refresh()
}
