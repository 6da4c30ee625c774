package main

import (
	"bytes"
	"syscall"
	"testing"
	"time"
)

// TestPromptIsDrawnAfterASleep has the machine sleep while a prompt is on the screen: the
// time that is left goes on in it. The toolkit forgets what was not drawn for a minute,
// here for a second, and looks for that every ten.
func TestPromptIsDrawnAfterASleep(t *testing.T) {
	r := newRoom(t)
	r.env = append(r.env, "FYNE_CACHE=1s")
	r.run("countersign-agent", "enroll", r.invite(), "--name", "Ada's desktop", "--kind", "desktop")
	d := r.start("countersign-desktop", "--hidden")
	signIn := r.signIn()
	r.await(promptTitle)
	signIn.await(`shown on 1 device`)
	settle()
	d.cmd.Process.Signal(syscall.SIGSTOP)
	time.Sleep(12 * time.Second)
	d.cmd.Process.Signal(syscall.SIGCONT)
	settle() // it may draw once before it forgets
	asleep := r.picture()
	r.until("the time that is left to go on", func() bool { return !bytes.Equal(r.picture(), asleep) })
}
