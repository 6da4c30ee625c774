package main

import (
	"time"

	"fyne.io/fyne/v2"
)

// copyTime is how long a code stays on the clipboard.
const copyTime = time.Minute

// copy puts a code on the clipboard for a while.
func (d *desktopAgent) copy(digits string) {
	d.lend(digits)
	d.refresh()
}

func (d *desktopAgent) lend(digits string) {
	d.app.Clipboard().SetContent(digits)
	d.copied = digits
	d.asking.face.SetCopied(true)
	time.AfterFunc(copyTime, func() {
		fyne.Do(func() {
			if d.copied == digits {
				d.clearClipboard()
			}
		})
	})
}

// clearClipboard takes a code off the clipboard, if it is there still.
func (d *desktopAgent) clearClipboard() {
	if d.copied != "" && d.app.Clipboard().Content() == d.copied {
		d.app.Clipboard().SetContent("")
	}
	d.copied = ""
	d.asking.face.SetCopied(false)
}
