package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/countersignd/countersign/device-agent/agent"
	"github.com/countersignd/countersign/device-agent/desktop/desk"
	"github.com/countersignd/countersign/device-agent/desktop/window"
	"github.com/countersignd/countersign/internal/statement"
)

// bus starts a session's bus. Nothing is started on it by itself.
func (r *room) bus() *actor {
	r.t.Helper()
	home := filepath.Dir(r.dir)
	socket, config := filepath.Join(home, "bus"), filepath.Join(home, "bus.conf")
	words := fmt.Sprintf(`<busconfig><type>session</type><listen>unix:path=%s</listen><auth>EXTERNAL</auth>
		<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>`, socket)
	if err := os.WriteFile(config, []byte(words), 0o600); err != nil {
		r.t.Fatal(err)
	}
	r.env = append(r.env, "XDG_RUNTIME_DIR="+home, "DBUS_SESSION_BUS_ADDRESS=unix:path="+socket)
	bus := r.start("dbus-daemon", "--nofork", "--nopidfile", "--config-file="+config)
	r.until("the bus", func() bool {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	return bus
}

// on waits until somebody on the bus has a name.
func (r *room) on(name string) {
	r.t.Helper()
	r.until(name, func() bool {
		out, err := r.command("dbus-send", "--session", "--print-reply", "--dest=org.freedesktop.DBus", "/",
			"org.freedesktop.DBus.NameHasOwner", "string:"+name).Output()
		return err == nil && strings.Contains(string(out), "boolean true")
	})
}

// dunst starts a desktop's service for notifications, and returns what is said on the bus
// from then on.
func (r *room) dunst() (said *actor) {
	r.t.Helper()
	config := filepath.Join(filepath.Dir(r.dir), "dunstrc")
	if err := os.WriteFile(config, []byte("[global]\nfont = Sans 11\nwidth = 360\nheight = 300\nformat = \"<b>%s</b>\\n%b\"\nmarkup = full\n"), 0o600); err != nil {
		r.t.Fatal(err)
	}
	r.start("dunst", "-config", config)
	r.on("org.freedesktop.Notifications")
	said = r.start("dbus-monitor", "--session", "interface='org.freedesktop.Notifications'")
	said.await(`NameAcquired`)
	return said
}

// displayed returns how many notifications are on the screen.
func (r *room) displayed() string {
	out, _ := r.command("dunstctl", "count", "displayed").Output()
	return strings.TrimSpace(string(out))
}

// TestNotificationOpensTheWindow puts a prompt away under another window, and comes back to
// it by its notification. To press that decides nothing; no code is in any.
func TestNotificationOpensTheWindow(t *testing.T) {
	r := newRoom(t)
	r.bus()
	said := r.dunst()
	r.run("countersign-agent", "enroll", r.invite(), "--name", "Ada's desktop", "--kind", "desktop")
	r.start("countersign-desktop", "--hidden")
	signIn := r.signIn()
	id := r.await(promptTitle)
	said.await(`string "Sign-In Requested"\s+string "\S*“Files”`)
	r.until("the notification", func() bool { return r.displayed() == "1" })
	r.run("xdotool", "windowunmap", "--sync", id)
	settle()
	r.run("dunstctl", "action", "0")
	r.until("the window, with the keyboard", func() bool { return r.focused() == id && r.visible(id) == id })
	settle()
	if got := signIn.text(); strings.Contains(got, "approved") || strings.Contains(got, "denied") {
		t.Fatalf("a notification decided:\n%s", got)
	}
	r.click(id, allowAt)
	signIn.await(`approved`)
	r.await(codeTitle)
	r.until("the notification to go", func() bool { return r.displayed() == "0" })
	settle()
	r.click(id, copyAt)
	var digits string
	r.until("the code on the clipboard", func() bool {
		out, err := r.command("xclip", "-o", "-selection", "clipboard").Output()
		digits = string(out)
		return err == nil && regexp.MustCompile(`^\d{6}$`).MatchString(digits)
	})
	if _, err := signIn.stdin.Write([]byte(digits + "\n")); err != nil {
		t.Fatal(err)
	}
	signIn.await(`signed in as ada`)
	// A23: what lies on a locked screen and in the lists of others has neither the code
	// nor who asks.
	for _, secret := range []string{digits, digits[:3] + " " + digits[3:], "A new laptop", "Lisbon"} {
		if strings.Contains(said.text(), secret) {
			t.Errorf("%q was in a notification:\n%s", secret, said.text())
		}
	}
}

// TestNotificationGoes when its prompt was answered elsewhere. An application's name is
// no markup in it.
func TestNotificationGoes(t *testing.T) {
	r := newRoom(t)
	r.bus()
	notifications := r.dunst()
	evil := r.run("countersign-server", "app", "add", "evil", "--name", "<b>Files</b> & Co", "--json")
	if err := os.WriteFile(r.credit, []byte(evil), 0o600); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(filepath.Dir(r.dir), "other")
	r.run("countersign-agent", "enroll", r.invite(), "--dir", other)
	r.run("countersign-agent", "enroll", r.invite(), "--name", "Ada's desktop", "--kind", "desktop")
	r.start("countersign-desktop", "--hidden")
	phone := r.start("countersign-agent", "run", "--dir", other)
	phone.await(`connected to`)
	signIn := r.signIn()
	r.await(promptTitle)
	r.until("the notification", func() bool { return r.displayed() == "1" })
	if said := notifications.text(); !strings.Contains(said, "“&lt;b&gt;Files&lt;/b&gt; &amp; Co”") {
		t.Errorf("the name is markup, or is not there:\n%s", said)
	}
	phone.await(`Answer with`)
	if _, err := phone.stdin.Write([]byte("d\n")); err != nil {
		t.Fatal(err)
	}
	signIn.await(`denied`)
	r.until("it to go", func() bool { return r.displayed() == "0" })
}

// TestA23NotificationsSayNothingOfWhoAsks has them about all there can be, with names that
// must not be in any.
func TestA23NotificationsSayNothingOfWhoAsks(t *testing.T) {
	signIn := statement.Prompt{
		SignIn: strings.Repeat("a", 26), Account: "secret-account", Action: statement.ActionSignIn, Expires: noon.Unix() + 300,
		Application: statement.Application{ID: "secret-id", Name: "Files\n<b>\u202e"},
		Requester:   statement.Requester{Address: "secret-address", Place: "secret-place", Device: "secret-device", Program: "secret-program"},
		Message:     "secret-message",
	}
	trust := signIn
	trust.Action, trust.Application = statement.ActionTrustDevice, statement.Application{}
	trust.Candidate = &statement.Candidate{Name: "secret-candidate", Kind: "phone", Fingerprint: thisDevice}
	silent := agent.Prompt{Prompt: signIn, Silent: true}
	test := agent.TestPrompt{ID: strings.Repeat("b", 26), RequestedBy: "secret-administrator", Created: noon, ExpireTime: noon.Add(time.Minute)}
	for name, c := range map[string]struct {
		screen agent.Screen
		code   bool
		want   string // the titles
	}{
		"nothing": {agent.Screen{}, false, ""},
		"sign-in": {agent.Screen{Prompts: []agent.Prompt{{Prompt: signIn}}}, false, "Sign-In Requested"},
		"trust":   {agent.Screen{Prompts: []agent.Prompt{{Prompt: trust}}}, false, "A device wants to be trusted"},
		"silent":  {agent.Screen{Prompts: []agent.Prompt{silent}}, false, ""},
		"test":    {agent.Screen{Tests: []agent.TestPrompt{test}}, false, "This is a test prompt"},
		"code":    {agent.Screen{}, true, ""},
	} {
		d := &desktopAgent{desk: desk.New(), messages: window.LoadMessages("en"), home: &home{}}
		d.desk.Show(c.screen, noon)
		if c.code {
			d.desk.Add(agent.Code{Digits: "482913", ExpireTime: noon.Add(time.Minute)}, noon)
		}
		var titles []string
		for _, item := range d.notifications(noon) {
			titles = append(titles, item.Title)
			if said := fmt.Sprint(item); strings.Contains(said, "secret") || strings.Contains(said, "482") || strings.Contains(item.Body, "\u202e") {
				t.Errorf("%s: a notification says %s", name, said)
			}
		}
		if got := strings.Join(titles, ", "); got != c.want {
			t.Errorf("%s: the notifications are %q, want %q", name, got, c.want)
		}
	}
}
