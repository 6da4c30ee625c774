package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/countersignd/countersign/device-agent/agent"
	"github.com/countersignd/countersign/device-agent/desktop/desk"
)

// Where the buttons are in the window that asks, which is always of one size.
var (
	denyAt  = spot{128, 608}
	allowAt = spot{352, 608}
	copyAt  = spot{128, 540}
	closeAt = spot{240, 608}
)

const promptTitle, codeTitle, homeTitle = "Sign-In Requested", "Your code", "Countersign"

// enrolled returns a room with a desktop that runs and is trusted.
func enrolled(t *testing.T) (*room, *actor) {
	r := newRoom(t)
	r.run("countersign-agent", "enroll", r.invite(), "--name", "Ada's desktop", "--kind", "desktop")
	d := r.start("countersign-desktop")
	r.await(homeTitle)
	return r, d
}

// settle waits until what is shown has been there long enough for a press to count,
// and then some.
func settle() { time.Sleep(3 * desk.MinLook) }

// TestS1ThroughTheWindow plays a sign-in to its end: the window comes up without taking
// the keyboard, a click on Allow leads to a code, and the code lets in.
func TestS1ThroughTheWindow(t *testing.T) {
	r, _ := enrolled(t)
	home := r.await(homeTitle)
	r.until("the keyboard to be in the window that was opened", func() bool { return r.focused() == home })
	signIn := r.signIn()
	id := r.await(promptTitle)
	settle()
	signIn.await(`shown on 1 device`)
	if got := r.focused(); got != home {
		t.Errorf("the keyboard is in window %s, want it to stay in %s", got, home)
	}
	r.click(id, allowAt)
	signIn.await(`approved`)
	r.await(codeTitle)
	settle()
	r.click(id, copyAt)
	var digits string
	r.until("the code on the clipboard", func() bool {
		out, err := r.command("xclip", "-o", "-selection", "clipboard").Output()
		digits = string(out)
		return err == nil && len(digits) == 6
	})
	if _, err := signIn.stdin.Write([]byte(digits + "\n")); err != nil {
		t.Fatal(err)
	}
	signIn.await(`signed in as ada`)
	r.until("the window to go, as the code was used", func() bool { return r.find(codeTitle) == "" })
	// The same requester asks again, for what was put away: it comes up again, and does
	// not take the keyboard.
	r.signIn()
	r.await(promptTitle)
	r.run("xdotool", "windowfocus", "--sync", id)
	settle()
	r.key("Escape")
	r.until("the window to go, as it was put away", func() bool { return r.find(promptTitle) == "" })
	r.run("xdotool", "windowfocus", "--sync", home)
	time.Sleep(11 * time.Second) // the server lets it ring again after 10
	r.signIn()
	r.await(promptTitle)
	settle()
	if got := r.focused(); got != home {
		t.Errorf("rung again, the keyboard is in window %s, want it to stay in %s", got, home)
	}
}

// TestClickInTheFirstMomentDecidesNothing clicks on Allow the moment the window is
// there. How soon that was is known, and if it was too late to tell anything it is tried
// again, with all anew.
func TestClickInTheFirstMomentDecidesNothing(t *testing.T) {
	for try := 0; ; try++ {
		r, _ := enrolled(t)
		signIn := r.signIn()
		var id string
		var before time.Time // when it was not there yet
		for deadline := time.Now().Add(patience); id == ""; {
			now := time.Now()
			if id = r.find(promptTitle); id == "" {
				before = now
			}
			if now.After(deadline) {
				t.Fatalf("no window came up:\n%s", signIn.text())
			}
		}
		r.click(id, allowAt)
		if time.Since(before) >= desk.MinLook {
			if try == 20 {
				t.Fatalf("this machine never clicks within %v", desk.MinLook)
			}
			continue
		}
		settle()
		if strings.Contains(signIn.text(), "approved") || r.find(promptTitle) == "" {
			t.Fatalf("a click in the first %v was taken:\n%s", desk.MinLook, signIn.text())
		}
		r.click(id, denyAt)
		signIn.await(`denied`)
		return
	}
}

// TestFirstStartByKeyboard enrols this device by an invitation that another process
// hands over, with nothing but the keyboard, and answers a prompt so, too.
func TestFirstStartByKeyboard(t *testing.T) {
	r := newRoom(t)
	r.start("countersign-desktop")
	r.until("the keyboard to be in the window", func() bool { return r.focused() == r.await(homeTitle) })
	r.run("countersign-desktop", r.invite())
	settle()
	if _, err := os.Stat(filepath.Join(r.dir, "device.json")); err == nil {
		t.Fatal("the invitation was used without a press")
	}
	// From the invitation over the name and the passphrase to the second button.
	r.key("Tab", "Tab", "Tab", "Tab", "space")
	r.until("the device to be trusted", func() bool {
		state, err := agent.LoadState(r.dir)
		return err == nil && state.Phase == agent.Trusted
	})
	settle()
	signIn := r.signIn()
	id := r.await(promptTitle)
	r.run("xdotool", "windowfocus", "--sync", id)
	settle()
	r.key("Return", "space", "a") // nothing is chosen
	settle()
	if got := signIn.text(); strings.Contains(got, "approved") || strings.Contains(got, "denied") {
		t.Fatalf("a key decided though nothing was chosen:\n%s", got)
	}
	r.key("Tab")
	time.Sleep(2 * desk.MinQuiet)
	r.key("space")
	signIn.await(`denied`)
}

// TestEscapePutsAway decides nothing: the prompt comes back when it is asked for.
func TestEscapePutsAway(t *testing.T) {
	r := newRoom(t)
	r.bus()
	r.dunst()
	r.run("countersign-agent", "enroll", r.invite(), "--name", "Ada's desktop", "--kind", "desktop")
	r.start("countersign-desktop", "--hidden")
	signIn := r.signIn()
	id := r.await(promptTitle)
	r.until("the notification", func() bool { return r.displayed() == "1" })
	r.run("xdotool", "windowfocus", "--sync", id)
	settle()
	r.key("Escape")
	r.until("the window to go", func() bool { return r.find(promptTitle) == "" })
	r.until("the notification to go", func() bool { return r.displayed() == "0" })
	if got := signIn.text(); strings.Contains(got, "denied") || strings.Contains(got, "approved") {
		t.Fatalf("Escape decided:\n%s", got)
	}
	r.run("countersign-desktop") // started again, it brings back what was put away
	r.await(promptTitle)
	settle()
	if got := r.displayed(); got != "0" {
		t.Errorf("%s notifications came back with it, want 0", got)
	}
	r.click(id, denyAt)
	signIn.await(`denied`)
}

// TestAnsweredElsewhere says so, and goes.
func TestAnsweredElsewhere(t *testing.T) {
	r, _ := enrolled(t)
	other := filepath.Join(filepath.Dir(r.dir), "other")
	r.run("countersign-agent", "enroll", r.invite(), "--dir", other)
	phone := r.start("countersign-agent", "run", "--dir", other)
	phone.await(`connected to`)
	signIn := r.signIn()
	id := r.await(promptTitle)
	phone.await(`Answer with`)
	if _, err := phone.stdin.Write([]byte("d\n")); err != nil {
		t.Fatal(err)
	}
	signIn.await(`denied`)
	r.until("the prompt to go", func() bool { return r.find(promptTitle) == "" })
	settle()
	r.click(id, closeAt)
	r.until("the window to go", func() bool { return r.visible(id) == "" })
}

// focused returns the window that has the keyboard.
func (r *room) focused() string {
	out, _ := r.command("xdotool", "getwindowfocus").Output() // an error: none has
	return strings.TrimSpace(string(out))
}

// visible returns id if that window is on the screen.
func (r *room) visible(id string) string {
	out, _ := r.command("xdotool", "search", "--onlyvisible", "--name", ".").Output()
	for line := range strings.Lines(string(out)) {
		if strings.TrimSpace(line) == id {
			return id
		}
	}
	return ""
}
