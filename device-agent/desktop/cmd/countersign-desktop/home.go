package main

import (
	"errors"
	"strconv"
	"time"

	"fyne.io/fyne/v2"

	"github.com/countersignd/countersign/device-agent/agent"
	"github.com/countersignd/countersign/device-agent/desktop/window"
	"github.com/countersignd/countersign/internal/audit"
	"github.com/countersignd/countersign/internal/text"
)

// A home is the window that a person opens: how it stands, the devices, the first
// start. There is one sheet in it at a time.
type home struct {
	d        *desktopAgent
	window   fyne.Window
	visible  bool                // it is on the screen
	sheet    func(*window.Sheet) // what is in it
	live     bool                // the sheet says how it stands, and is drawn anew when that changes
	kept     bool                // the sheet is shown once, and only its own button leaves it
	next     func(*window.Sheet) // comes up after a sheet that is kept
	telling  bool                // the sheet tells notices
	tellings int                 // how often one has
	told     map[noticeID]bool
	shown    string
	turns    int    // how often another sheet was put up
	place    *place // of new keys; nil until it was looked for
}

func newHome(d *desktopAgent) *home {
	h := &home{d: d, window: d.app.NewWindow("Countersign"), sheet: func(*window.Sheet) {}, told: make(map[noticeID]bool)}
	h.window.SetPadded(false)
	h.window.SetFixedSize(true)
	h.window.CenterOnScreen()
	h.window.SetCloseIntercept(h.close)
	h.window.Canvas().SetOnTypedKey(func(e *fyne.KeyEvent) {
		if e.Name == fyne.KeyEscape {
			h.close()
		}
	})
	return h
}

// open brings the window up, with an invitation if there is one.
func (h *home) open(link string) {
	if link != "" {
		h.invited(link)
	}
	h.visible = true
	h.draw()
	h.window.Show()
	h.window.RequestFocus() // she opened it herself
}

func (h *home) close() {
	if h.kept {
		return
	}
	h.visible = false
	h.window.Hide()
	if h.d.agent != nil {
		h.turnTo(h.status)
	}
}

// turnTo puts another sheet up.
func (h *home) turnTo(sheet func(*window.Sheet)) {
	if h.kept {
		h.next = sheet
		return
	}
	h.sheet, h.live = sheet, false
	h.turns++
	h.draw()
}

// leave leaves a sheet that is shown once, for what has come up meanwhile or else for
// what comes then.
func (h *home) leave(then func()) {
	next := h.next
	h.kept, h.next = false, nil
	if next != nil {
		h.turnTo(next)
	} else {
		then()
	}
}

// draw draws the sheet anew.
func (h *home) draw() {
	s := window.NewSheet(h.d.messages, h.d.palette())
	h.sheet(s)
	h.window.SetContent(s.Content())
	if first := s.First(); first != nil {
		h.window.Canvas().Focus(first)
	}
}

func (h *home) drawIfChanged() {
	screen := h.d.desk.Screen()
	if now := h.oneLine() + strconv.Itoa(h.d.desk.Away(time.Now())) + screen.Record + screen.Status; h.live && now != h.shown {
		h.shown = now
		h.draw()
	}
}

// keepDrawn draws the window once a second. Nothing else may for long, and after a sleep
// of the machine the toolkit would not: see [desktopAgent.keepDrawn].
func (h *home) keepDrawn() {
	if h.visible {
		h.window.Canvas().Refresh(h.window.Content())
	}
}

// fail shows what went wrong, and what to do.
func (h *home) fail(err error) {
	h.turnTo(func(s *window.Sheet) { h.failed(s, err) })
	h.open("")
}

func (h *home) failed(s *window.Sheet, err error) {
	s.Title("home.failed")
	h.trouble(s, err)
	if h.d.agent != nil {
		s.Buttons(h.back())
	} else {
		s.Buttons(window.Button{Label: "home.again", Do: h.d.start}, h.quit())
	}
}

// notMe says what "this wasn't me" means for a password.
func (h *home) notMe(account string) {
	h.turnTo(func(s *window.Sheet) {
		s.Title("not-me.title")
		s.Strong("not-me.advice", "account", account)
		s.Buttons(window.Button{Label: "home.back", Do: func() { h.turnTo(h.status) }})
	})
	h.open("")
}

// trouble says what is wrong, and what to do if this device is not trusted any more.
func (h *home) trouble(s *window.Sheet, err error) {
	s.Trouble(err, h.d.dir)
	if agent.ReactionTo(err) == agent.Reenroll {
		s.Say("problem.reenroll", "dir", text.Escape(h.d.dir))
	}
}

// record says what is wrong with the server's record, if anything is.
func (h *home) record(s *window.Sheet) {
	err := h.d.desk.Screen().Why.Record
	if err == nil {
		return
	}
	s.Rule()
	s.Strong("status.record")
	alarm, ok := errors.AsType[*agent.RecordAlarm](err)
	if !ok {
		h.trouble(s, err)
		return
	}
	s.Say("status.record.more")
	count := func(head audit.Head) string {
		return h.d.messages.Say("record.count", "n", strconv.FormatUint(uint64(head.Size), 10), "time", head.Time.Local().Format("2006-01-02 15:04"))
	}
	s.Field("record.remembered", count(alarm.Remembered))
	s.Field("record.shown", count(alarm.Shown))
}

func (h *home) quit() window.Button {
	return window.Button{Label: "home.quit", Do: h.d.quit}
}

// oneLine says how it stands.
func (h *home) oneLine() string {
	d := h.d
	switch {
	case d.unlocking:
		return d.messages.Say("status.opening")
	case d.agent == nil:
		return d.messages.Say("status.none")
	case d.ended != nil:
		return d.messages.Say("status.ended")
	case d.desk.Screen().Barred != "":
		return d.messages.Say("status.barred")
	case d.desk.Screen().Suspended:
		return d.messages.Say("status.suspended")
	case d.desk.Screen().Record != "":
		return d.messages.Say("status.record")
	case d.desk.Screen().Connected:
		return d.messages.Say("status.connected")
	}
	return d.messages.Say("status.away")
}

// status says how it stands, and what can be done.
func (h *home) status(s *window.Sheet) {
	h.live = true
	d := h.d
	s.Title("home.title")
	if d.agent == nil {
		s.Strong("status.opening")
		s.Say("status.opening.more")
		s.Buttons(window.Button{Label: "home.close", Do: h.close}, h.quit())
		return
	}
	switch screen := d.desk.Screen(); {
	case d.ended != nil:
		s.Strong("status.ended")
		h.trouble(s, d.ended)
	case screen.Barred != "":
		s.Strong("status.barred")
		h.trouble(s, screen.Why.Barred)
		s.Say("status.barred.more")
	case screen.Suspended:
		s.Strong("status.suspended")
		s.Say("status.suspended.more")
	case screen.Connected:
		s.Strong("status.connected")
		s.Say("status.connected.more")
		if n := screen.Why.Unshown; n > 0 {
			s.Strong("status.unshown", "n", strconv.Itoa(n))
		}
	default:
		s.Strong("status.away")
		s.Say("status.away.more")
		if screen.Why.Away == nil {
			s.Quiet(d.messages.Say("status.connecting", "server", d.state.Server))
		} else {
			h.trouble(s, screen.Why.Away)
		}
	}
	h.record(s)
	state := d.state
	s.Rule()
	s.Field("field.account", state.Account)
	s.Named("field.device", state.Name, "")
	s.Words("home.words", state.Device)
	s.Field("home.keys", d.messages.Say(keysKey(d.dir)))
	s.Field("home.server", state.Server)
	if state.Pin != "" {
		s.Words("home.server-words", state.Pin)
	}
	if d.notesErr == nil {
		s.Field("home.notifications", d.messages.Say("notify.there"))
	} else {
		s.Field("home.notifications", d.messages.Say("notify.none"))
	}
	s.Rule()
	if n := d.desk.Away(time.Now()); n > 0 {
		s.Buttons(window.Button{Label: "home.show-away", Do: d.bringBack})
	}
	s.Buttons(window.Button{Label: "home.code", Do: d.getCode}, window.Button{Label: "home.devices", Do: h.listDevices})
	s.Buttons(window.Button{Label: "home.recent", Do: h.listRecent}, window.Button{Label: "home.test", Do: h.tryThis})
	s.Buttons(window.Button{Label: "home.recovery", Do: func() { h.turnTo(h.renew) }})
	s.Buttons(window.Button{Label: "home.close", Do: h.close}, h.quit())
}

// passphrase asks for the passphrase of the keys.
func (h *home) passphrase(s *window.Sheet, wrong error) {
	s.Title("passphrase.title")
	s.Say("passphrase.why")
	if wrong != nil {
		h.trouble(s, wrong)
	}
	e := s.Entry("passphrase.label", "", true)
	unlock := func() { h.d.unlock(e.Text) }
	e.OnSubmitted = func(string) { unlock() }
	s.Buttons(window.Button{Label: "passphrase.unlock", Do: unlock}, h.quit())
}

// enrolled goes on when this device has become a trusted one. Recovery codes are shown
// now or never.
func (h *home) enrolled(e agent.Enrolled, passphrase string) {
	h.d.unlock(passphrase)
	done := func(s *window.Sheet) {
		s.Title("done.title")
		s.Say("done.what", "account", e.Account)
		s.Fingerprint(e.Device)
		s.Field("home.keys", h.d.messages.Say(keysKey(h.d.dir)))
		s.Say("done.next")
		s.Buttons(window.Button{Label: "done.ok", Do: func() { h.turnTo(h.status) }})
	}
	if len(e.RecoveryCodes) > 0 {
		h.turnTo(h.recoveryCodes(e.State, e.RecoveryCodes, func() { h.turnTo(done) }))
	} else {
		h.turnTo(done)
	}
}
