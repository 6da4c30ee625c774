package main

import (
	"syscall"
	"testing"
	"time"
)

// TestEndsAtAnyMoment ends the program while it starts, comes up and asks, and waits
// until it has.
func TestEndsAtAnyMoment(t *testing.T) {
	r := newRoom(t)
	r.bus()
	r.dunst()
	r.run("countersign-agent", "enroll", r.invite(), "--name", "Ada's desktop", "--kind", "desktop")
	r.signIn().await(`no device has it yet`)
	for moment := range 12 {
		d := r.start("countersign-desktop")
		time.Sleep(time.Duration(moment) * 80 * time.Millisecond)
		d.cmd.Process.Signal(syscall.SIGTERM)
		d.ended()
		// Before it takes signals, it ends by them.
		status := d.cmd.ProcessState.Sys().(syscall.WaitStatus)
		if status.ExitStatus() != 0 && status.Signal() != syscall.SIGTERM {
			t.Errorf("ended after %d · 80 ms with %v:\n%s", moment, d.cmd.ProcessState, d.text())
		}
	}
}

// TestQuitTakesTheCodeOffTheClipboard quits by the tray's menu while a code is lent out.
func TestQuitTakesTheCodeOffTheClipboard(t *testing.T) {
	r := newRoom(t)
	r.bus()
	p := r.panel()
	r.run("countersign-agent", "enroll", r.invite(), "--name", "Ada's desktop", "--kind", "desktop")
	d := r.start("countersign-desktop", "--hidden")
	p.menu()
	p.await("Connected")
	p.press("Get Verification Code")
	id := r.await(codeTitle)
	settle()
	r.click(id, copyAt)
	clipboard := func() string {
		out, _ := r.command("xclip", "-o", "-selection", "clipboard").Output() // an error: it is empty
		return string(out)
	}
	r.until("the code on the clipboard", func() bool { return len(clipboard()) == 6 })
	p.press("Quit")
	d.ended()
	if status := d.cmd.ProcessState; !status.Success() {
		t.Errorf("ended with %v:\n%s", status, d.text())
	}
	if got := clipboard(); got != "" {
		t.Errorf("the clipboard holds %q", got)
	}
}

// TestEndsThoughTheScreenHangs ends the program while its screen does not answer.
func TestEndsThoughTheScreenHangs(t *testing.T) {
	r, d := enrolled(t)
	r.screen.Signal(syscall.SIGSTOP)
	defer r.screen.Signal(syscall.SIGCONT)
	d.end()
}

// TestEndsThoughTheBusHangs ends it while it starts and waits for the session's bus.
func TestEndsThoughTheBusHangs(t *testing.T) {
	r := newRoom(t)
	bus := r.bus().cmd.Process
	r.run("countersign-agent", "enroll", r.invite(), "--name", "Ada's desktop", "--kind", "desktop")
	bus.Signal(syscall.SIGSTOP)
	defer bus.Signal(syscall.SIGCONT)
	d := r.start("countersign-desktop")
	settle()
	d.end()
}
