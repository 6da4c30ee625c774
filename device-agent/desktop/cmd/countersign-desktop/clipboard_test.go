package main

import (
	"testing"
	"testing/synctest"
	"time"

	"fyne.io/fyne/v2/test"

	"github.com/countersignd/countersign/device-agent/desktop/desk"
	"github.com/countersignd/countersign/device-agent/desktop/window"
)

// A code is taken off the clipboard after a minute, and when the program ends. What the
// person has put there since stays.
func TestCodesLeaveTheClipboard(t *testing.T) {
	app := test.NewTempApp(t)
	synctest.Test(t, func(t *testing.T) {
		messages := window.LoadMessages("en")
		d := &desktopAgent{app: app, messages: messages, desk: desk.New()}
		d.asking = &stage{d: d, face: window.NewFace(messages, d.palette())}
		want := func(want string) {
			t.Helper()
			if got := d.app.Clipboard().Content(); got != want {
				t.Errorf("the clipboard holds %q, want %q", got, want)
			}
		}
		d.lend("482913")
		time.Sleep(copyTime - time.Second)
		synctest.Wait()
		want("482913")
		time.Sleep(2 * time.Second)
		synctest.Wait()
		want("")
		d.lend("482913")
		d.app.Clipboard().SetContent("a letter")
		time.Sleep(2 * copyTime)
		synctest.Wait()
		want("a letter")
		d.lend("482913")
		time.Sleep(copyTime / 2)
		d.lend("111222") // the first one's minute does not end the second one's
		time.Sleep(copyTime/2 + time.Second)
		synctest.Wait()
		want("111222")
		d.clearClipboard()
		want("")
	})
}
