package main

import (
	"strconv"
	"time"

	"fyne.io/fyne/v2"

	"github.com/countersignd/countersign/device-agent/desktop/desk"
	"github.com/countersignd/countersign/device-agent/desktop/notification"
	"github.com/countersignd/countersign/internal/statement"
	"github.com/countersignd/countersign/internal/text"
)

// What notifications are about.
const (
	aboutPrompts = "prompts"
	aboutTest    = "test"
	aboutNotices = "notices"
)

// notifications returns what the desktop's notifications are to say now. None has a code
// in it, nor a word of who asks: they lie open on locked screens and in the lists of
// other programs. None decides anything: each opens a window.
func (d *desktopAgent) notifications(now time.Time) []notification.Item {
	var items []notification.Item
	if asking := d.desk.Asking(now); len(asking) > 0 {
		p := asking[0]
		item := notification.Item{
			Key: aboutPrompts, Title: d.messages.Say("ask.title"), Action: d.messages.Say("notify.answer"), Urgent: true,
			Rings: d.desk.Rings(), Until: p.ExpireTime(),
		}
		if p.Action == statement.ActionTrustDevice {
			item.Title, item.Body = d.messages.Say("trust.title"), d.messages.Say("notify.trust")
		} else {
			// On a line of its own, as in the window.
			item.Body = text.Isolate(p.Application.Name) + "\n" + d.messages.Say("notify.sign-in")
		}
		switch more := len(asking) - 1; {
		case more == 1:
			item.Body += "\n" + d.messages.Say("ask.more.one", "n", "1")
		case more > 1:
			item.Body += "\n" + d.messages.Say("ask.more.other", "n", strconv.Itoa(more))
		}
		items = append(items, item)
	}
	if v := d.desk.View(now); v.Kind == desk.Test {
		items = append(items, notification.Item{
			Key: aboutTest, Title: d.messages.Say("test.title"), Body: d.messages.Say("notify.test"), Action: d.messages.Say("notify.show"),
			Rings: int(v.Test.Created.Unix()), Until: v.Test.ExpireTime,
		})
	}
	if d.home.telling {
		items = append(items, notification.Item{
			Key: aboutNotices, Title: d.messages.Say("news.title"), Body: d.messages.Say("notify.news"), Action: d.messages.Say("notify.show"),
			Rings: d.home.tellings,
		})
	}
	for i := range items {
		items[i].Icon = program
	}
	return items
}

// newNotifications returns the desktop's service for notifications.
func (d *desktopAgent) newNotifications() *notification.Service {
	return notification.New(
		func(about string) { fyne.Do(func() { d.notePressed(about) }) },
		func(err error) { fyne.Do(func() { d.noted(err) }) })
}

// notePressed opens what a notification is about. To press it is no answer.
func (d *desktopAgent) notePressed(about string) {
	if about == aboutNotices {
		d.home.open("")
		return
	}
	d.startedAgain("")
}

// noted takes whether there is a service for notifications.
func (d *desktopAgent) noted(err error) {
	changed := (err == nil) != (d.notesErr == nil)
	if d.notesErr = err; changed && d.home.live {
		d.home.draw()
	}
}
