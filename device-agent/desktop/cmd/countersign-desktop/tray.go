package main

import (
	_ "embed"
	"strconv"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/driver/desktop"
)

//go:embed icon.svg
var iconSVG []byte

//go:embed icon-away.svg
var iconAwaySVG []byte

var (
	icon     = fyne.NewStaticResource("countersign.svg", iconSVG)
	iconAway = fyne.NewStaticResource("countersign-away.svg", iconAwaySVG)
)

// A tray is the icon beside the clock, with its menu. Desktops without one show
// nothing, which is why all of it can be reached from the window, too.
type tray struct {
	d     *desktopAgent
	app   desktop.App // nil if there is none
	shown string      // what the menu was made of
}

func newTray(d *desktopAgent) *tray {
	app, _ := d.app.(desktop.App)
	return &tray{d: d, app: app}
}

// draw brings the menu up to date.
func (t *tray) draw() {
	if t.app == nil {
		return
	}
	d := t.d
	status, why := d.home.oneLine(), ""
	if away := d.desk.Screen().Why.Away; away != nil && d.agent != nil && !d.desk.Screen().Connected {
		why = d.messages.Reason(away)
	}
	away := d.desk.Away(time.Now())
	connected := d.agent != nil && d.ended == nil && d.desk.Screen().Connected
	if now := status + why + strconv.Itoa(away) + strconv.FormatBool(d.agent != nil); now == t.shown {
		return
	} else {
		t.shown = now
	}
	var items []*fyne.MenuItem
	for _, words := range []string{status, why} {
		if words != "" {
			line := fyne.NewMenuItem(words, nil)
			line.Disabled = true
			items = append(items, line)
		}
	}
	items = append(items, fyne.NewMenuItemSeparator())
	if away > 0 {
		items = append(items, fyne.NewMenuItem(d.messages.Say("home.away", "n", strconv.Itoa(away)), d.bringBack))
	}
	if d.agent != nil {
		items = append(items,
			fyne.NewMenuItem(d.messages.Say("home.code"), d.getCode),
			fyne.NewMenuItem(d.messages.Say("home.devices"), func() { d.home.open(""); d.home.listDevices() }),
			fyne.NewMenuItem(d.messages.Say("home.recent"), func() { d.home.open(""); d.home.listRecent() }),
			fyne.NewMenuItem(d.messages.Say("home.recovery"), func() { d.home.open(""); d.home.turnTo(d.home.renew) }),
			fyne.NewMenuItem(d.messages.Say("home.test"), d.home.tryThis))
	}
	items = append(items,
		fyne.NewMenuItem(d.messages.Say("home.open"), func() { d.home.open("") }),
		fyne.NewMenuItemSeparator(),
		quitItem(d))
	t.app.SetSystemTrayMenu(fyne.NewMenu("Countersign", items...))
	if connected {
		t.app.SetSystemTrayIcon(icon)
	} else {
		t.app.SetSystemTrayIcon(iconAway)
	}
}

func quitItem(d *desktopAgent) *fyne.MenuItem {
	item := fyne.NewMenuItem(d.messages.Say("home.quit"), func() { d.quit() })
	item.IsQuit = true // so that the toolkit adds none of its own
	return item
}
