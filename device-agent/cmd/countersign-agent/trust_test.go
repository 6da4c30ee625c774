package main

import (
	"bufio"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/countersignd/countersign/device-agent/agent"
	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

func TestEnrollCommandLine(t *testing.T) {
	key := strings.Repeat("a", 52)
	for _, args := range [][]string{
		{"--server", "localhost:1"},
		{"--account", "ada"},
		{"--pin", key},
		{"--roots"},
		{"--server", "localhost:1", "--account", "ada", "countersign://x"},
		{"--server", "localhost:1", "--account", "ada", "--pin", key, "--roots"},
		{"--server", "localhost:1", "--account", "ada", "--pin", "abc"},
	} {
		call(t, exitUsage, append([]string{"--dir", filepath.Join(t.TempDir(), "d"), "enroll"}, args...)...)
	}
	// Nobody is there to compare the key: nothing is begun, nobody is called.
	dir := filepath.Join(t.TempDir(), "d")
	if out := call(t, exitError, "--dir", dir, "enroll", "--server", "localhost:1", "--account", "ada"); !strings.Contains(out, "give --pin") {
		t.Errorf("enroll printed:\n%s", out)
	}
	if out := call(t, exitError, "--dir", dir, "enroll", "--server", "localhost:1", "--account", "Ada Lovelace", "--pin", key); !strings.Contains(out, "a-z 0-9") {
		t.Errorf("enroll printed:\n%s", out)
	}
	for _, args := range [][]string{{"code", "--help"}, {"devices", "rename", "--help"}, {"devices", "revoke", "--help"}} {
		if out := call(t, 0, args...); len(out) < 10 {
			t.Errorf("%v printed %q", args, out)
		}
	}
	for _, args := range [][]string{{"code"}, {"devices", "revoke", "abcdef"}, {"devices", "rename", "x"}} {
		call(t, exitNotTrusted, append([]string{"--dir", dir}, args...)...)
	}
}

func TestPick(t *testing.T) {
	one, two := &pb.Device{Id: "abcd" + strings.Repeat("a", 48)}, &pb.Device{Id: "abcc" + strings.Repeat("a", 48)}
	const revoked = pb.DeviceState_DEVICE_STATE_REVOKED
	// No name takes the place of an id, and one that was revoked lends its name.
	posing := &pb.Device{Id: "zzzz" + strings.Repeat("a", 48), Name: one.Id}
	tablet, wiped := &pb.Device{Id: "yyyy", Name: "Tablet"}, &pb.Device{Id: "xxxx", Name: "Tablet", State: revoked}
	gone := &pb.Device{Id: "wwww", Name: "Gone", State: revoked}
	for meant, want := range map[string]*pb.Device{
		one.Id: one, posing.Id: posing, "Tablet": tablet, "yyyy": tablet, "xxxx": wiped, "Gone": gone, "tablet": nil, "": nil,
	} {
		if got, err := pick([]*pb.Device{posing, one, two, wiped, tablet, gone, {}}, meant); got != want || (err == nil) != (want != nil) {
			t.Errorf("pick(%q) = %v, %v, want %v", meant, got, err, want)
		}
	}
	if got, err := pick([]*pb.Device{tablet, {Id: "vvvv", Name: "Tablet"}}, "Tablet"); err == nil {
		t.Errorf("pick of a name that two have = %v, want an error", got)
	}
	devices := []*pb.Device{one, two}
	for meant, want := range map[string]*pb.Device{
		"abcd": one, "abcc": two, one.Id: one, "bafag-babab-babab-babab": nil,
		"abc": nil, "": nil, "zzzz": nil, "ABCD": nil, one.Id + "a": nil,
	} {
		if got, err := pick(devices, meant); got != want || (err == nil) != (want != nil) {
			t.Errorf("pick(%q) = %v, %v, want %v", meant, got, err, want)
		}
	}
	if got, err := pick([]*pb.Device{one, one}, "abcd"); err == nil {
		t.Errorf("pick of two = %v, want an error", got)
	}
}

// S4: a denial stands if no code comes, and only --after-denial waits for one.
func TestSignInAfterDenial(t *testing.T) {
	f := newFake(t)
	agent := begin(t, []string{"--dir", enrolled(t, f), "run"})
	agent.waitFor("connected")
	credentialsFile, _ := f.files()
	app := begin(t, []string{"sign-in", "ada", "--credentials", credentialsFile, "--after-denial"})
	agent.waitFor("Answer with")
	agent.line("d")
	app.waitFor("If that was by accident")
	app.in.Close()
	app.exits(exitDenied)

	// And so does one that takes an Allow back while the code is typed.
	agent.line("")
	app = begin(t, []string{"sign-in", "ada", "--credentials", credentialsFile, "--after-denial"})
	agent.waitForCount("Answer with", 2)
	agent.line("a")
	app.waitFor("approved")
	f.change(func() { f.signIn.State = pb.SignInState_SIGN_IN_STATE_DENIED })
	app.waitFor("If that was by accident")
	app.in.Close()
	app.exits(exitDenied)
}

// What the list says of each device, revoked ones included.
func TestDevicesList(t *testing.T) {
	f := newFake(t)
	dir := enrolled(t, f)
	f.change(func() {
		f.device.EnrolledBy, f.device.KeyStorage = "approval on device "+f.device.Id, "file"
		f.device.RevokedBy, f.device.RevokeReason = "uid 0 (root)", "lost\u202e"
	})
	isolates := strings.NewReplacer("\u2068", "", "\u2069", "")
	out := isolates.Replace(call(t, 0, "--dir", dir, "devices"))
	for _, want := range []string{"* “Ada's iMac” (terminal), this device", "approval on device “Ada's iMac” (" + f.device.Id[:12] + ")", "in a file", "trusted"} {
		if !strings.Contains(out, want) {
			t.Errorf("devices lacks %q:\n%s", want, out)
		}
	}
	revoked := &pb.Device{Id: f.device.Id, Name: "x", State: pb.DeviceState_DEVICE_STATE_REVOKED, RevokedBy: "uid 0 (root)", RevokeReason: "lost"}
	if got, want := isolates.Replace(stateLine(revoked, nil)), "revoked never, by uid 0 (root): “lost”"; got != want {
		t.Errorf("stateLine = %q, want %q", got, want)
	}
}

// The last trusted device is revoked only if there is a way back, and the person
// knows of it.
func TestRevokeTheLastDevice(t *testing.T) {
	f := newFake(t)
	dir := enrolled(t, f)
	out := call(t, exitError, "--dir", dir, "devices", "revoke", f.device.Id, "--yes")
	if !strings.Contains(out, "the last trusted device of ada, and there are no recovery codes") || !strings.Contains(out, "recovery-codes renew") {
		t.Errorf("revoke without recovery codes printed:\n%s", out)
	}
	f.change(func() { f.left = 3 })
	out = call(t, exitError, "--dir", dir, "devices", "revoke", f.device.Id)
	if !strings.Contains(out, "only one of its 3 recovery codes") || !strings.Contains(out, "give --yes") {
		t.Errorf("revoke with recovery codes printed:\n%s", out)
	}
}

func TestFewRecoveryCodesAreSaid(t *testing.T) {
	f := newFake(t)
	dir := enrolled(t, f)
	for left, want := range map[int32]string{10: "10 left\n", 3: "3 left\n", 2: "2 left; make new ones:", 0: "NONE LEFT: if you lose your devices, only an administrator can help; make new ones:"} {
		f.change(func() { f.left = left })
		for _, command := range []string{"status", "recovery-codes"} {
			if out := call(t, 0, "--dir", dir, command); !strings.Contains(out, want) {
				t.Errorf("%s with %d codes left lacks %q:\n%s", command, left, want, out)
			}
		}
	}
}

// The server's key is pinned when a person said that the words are the same,
// and whatever is not a yes is a no.
func TestServerKeyIsCompared(t *testing.T) {
	f := newFake(t)
	for answer, want := range map[string]string{"y\n": f.keyID, "Yes\n": f.keyID, "": "", "\n": "", "n\n": "", "yo\n": ""} {
		var out strings.Builder
		env := &environment{dir: filepath.Join(t.TempDir(), "d"), tty: os.Stdin, err: &out, lines: bufio.NewReader(strings.NewReader(answer))}
		server, err := (&enrollCmd{Server: f.address, Account: "ada"}).server(t.Context(), env)
		if server.Pin != want || (err == nil) != (want != "") {
			t.Errorf("server after %q = %+v, %v; want the pin %q", answer, server, err, want)
		}
		if !strings.Contains(out.String(), agent.Fingerprint(f.keyID)) || strings.Contains(out.String(), f.keyID) {
			t.Errorf("the person was shown:\n%s", out.String())
		}
	}
}
