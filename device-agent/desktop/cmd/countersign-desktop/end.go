package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"fyne.io/fyne/v2"
)

// endTime is how long the program may take to end. It is longer than a service for
// notifications may take to answer.
const endTime = 6 * time.Second

// endSignals end the program, as they do when a session ends.
var endSignals = []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP}

// takeSignals takes the signals from the toolkit, which listens for them, too, and would
// end before the clipboard is cleared. It must be called when the toolkit has begun.
func (d *desktopAgent) takeSignals() {
	signal.Reset(endSignals...)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, endSignals...)
	d.aside(func() {
		select {
		case <-signals:
			d.quit()
		case <-d.ctx.Done():
		}
	})
}

// aside does something on a goroutine of its own, which the end of the program waits
// for. It must be called on the toolkit's goroutine, or on one that this made.
func (d *desktopAgent) aside(fn func()) {
	if d.ctx.Err() == nil {
		d.work.Go(fn)
	}
}

// end ends the program when the person or the session wants that.
//
// The toolkit is not asked to end, because that can take for ever: it loses what comes
// into its queue after its last look there and before it has marked that (Fyne 2.8.1,
// runGL), and then waits for it (WaitForEvents). It also may not answer, if a screen, a bus
// or another program's clipboard does not. What takes too long is cut off: nothing here
// relies on being finished, as a machine may lose its power at any time.
func (d *desktopAgent) end() {
	<-d.ctx.Done()
	time.AfterFunc(endTime, func() {
		fmt.Fprintf(os.Stderr, "%s: what was under way did not end within %v, and is cut off\n", program, endTime)
		os.Exit(0)
	})
	if d.running.Load() {
		down := make(chan struct{})
		fyne.Do(func() {
			d.takeDown()
			close(down)
		})
		<-down
	}
	d.work.Wait() // for no more, as of now aside does nothing
	d.one.leave()
	os.Exit(0)
}

// takeDown takes all off the screen, and the code off the clipboard.
func (d *desktopAgent) takeDown() {
	for _, w := range d.app.Driver().AllWindows() {
		w.Hide()
	}
	d.clearClipboard()
}
