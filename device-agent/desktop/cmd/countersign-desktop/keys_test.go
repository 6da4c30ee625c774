package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"

	"github.com/countersignd/countersign/device-agent/agent"
	"github.com/countersignd/countersign/device-agent/desktop/keys"
	"github.com/countersignd/countersign/internal/invitation"
)

// keyring starts a session's bus, with the keyring of GNOME on it.
func (r *room) keyring() {
	r.t.Helper()
	r.bus()
	daemon := r.start("gnome-keyring-daemon", "--foreground", "--unlock", "--components=secrets")
	if _, err := daemon.stdin.Write([]byte("password")); err != nil {
		r.t.Fatal(err)
	}
	daemon.stdin.Close()
	r.on("org.freedesktop.secrets")
}

// tpm starts a TPM made of software.
func (r *room) tpm(name string) *keys.TPM {
	r.t.Helper()
	dir := filepath.Join(filepath.Dir(r.dir), name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		r.t.Fatal(err)
	}
	socket := filepath.Join(dir, "socket")
	r.start("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+dir, "--flags", "not-need-init,startup-clear",
		"--server", "type=unixio,path="+socket, "--ctrl", "type=unixio,path="+socket+".ctrl")
	tpm := &keys.TPM{Open: func() (transport.TPMCloser, error) { return linuxudstpm.Open(socket) }}
	r.until("the TPM", func() bool { return tpm.Check() == nil })
	return tpm
}

// fails runs a program that is to fail, and returns what it says.
func (r *room) fails(name string, args ...string) string {
	r.t.Helper()
	out, err := r.command(name, args...).CombinedOutput()
	if _, failed := err.(*exec.ExitError); !failed {
		r.t.Fatalf("%s %s: %v, want it to fail\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// says fails the test unless what is said has all the words.
func says(t *testing.T, said string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(said, w) {
			t.Errorf("it does not say %q:\n%s", w, said)
		}
	}
}

// TestEnrolsWithTheKeyring enrols through the window where there is a keyring: the keys
// are in it, everybody is told so, and it lets this device answer after a restart.
func TestEnrolsWithTheKeyring(t *testing.T) {
	r := newRoom(t)
	r.keyring()
	d := r.start("countersign-desktop", r.invite())
	r.until("the keyboard to be in the window", func() bool { return r.focused() == r.await(homeTitle) })
	settle()
	r.key("Tab", "Tab", "Tab", "Tab", "space")
	r.until("the device to be trusted", func() bool {
		state, err := agent.LoadState(r.dir)
		return err == nil && state.Phase == agent.Trusted
	})
	if _, err := os.Stat(filepath.Join(r.dir, "keys.keyring")); err != nil {
		t.Fatal(err)
	}
	says(t, r.run("countersign-server", "device", "list", "ada", "--json"), `"key_storage":"keyring"`)
	says(t, r.fails("countersign-agent", "status"), "in a keyring", "use countersign-desktop")
	d.end()
	r.start("countersign-desktop")
	r.await(homeTitle)
	signIn := r.signIn()
	id := r.await(promptTitle)
	settle()
	r.click(id, allowAt)
	signIn.await(`approved`)
}

// TestEnrolsWithATPM enrols with a TPM (of software) and lets one sign-in in: the server
// is told that the keys are in hardware, and everybody else, too.
func TestEnrolsWithATPM(t *testing.T) {
	r := newRoom(t)
	tpm := r.tpm("first")
	link, err := invitation.Parse(r.invite())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := agent.Enroll(t.Context(), agent.Enrollment{Dir: r.dir, Link: link, Name: "Ada's desktop", Kind: kind, Vault: tpm}); err != nil {
		t.Fatal(err)
	}
	a, err := agent.Open(r.dir, "", tpm)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.NewCode(t.Context()); err != nil { // signed by the TPM
		t.Error(err)
	}
	if _, err := a.OfflineCode(); err != nil { // from what the TPM unseals
		t.Error(err)
	}
	says(t, r.run("countersign-server", "device", "list", "ada", "--json"), `"key_storage":"tpm"`)
	says(t, r.fails("countersign-agent", "status"), "in a TPM", "use countersign-desktop")
	// S6: another TPM, and what is said then.
	other := r.tpm("other")
	if _, err := agent.Open(r.dir, "", other); !errors.Is(err, agent.ErrLost) {
		t.Errorf("Open with another TPM = %v, want ErrLost", err)
	} else {
		says(t, err.Error(), "was cleared or replaced", "move the directory away and enrol it anew", "revoke the old device ("+agent.Fingerprint(a.State().Device)+")")
	}
}
