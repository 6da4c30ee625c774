package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/countersignd/countersign/internal/code"
	"github.com/countersignd/countersign/internal/output"
	"github.com/countersignd/countersign/internal/statement"
	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

// enrolled returns the directory of a device that the fake trusts.
func enrolled(t *testing.T, f *fakeServer) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "device")
	p := begin(t, []string{"--dir", dir, "enroll", "-", "--name", "Ada's iMac"})
	p.line(f.link())
	out := p.exits(0)
	for _, want := range []string{"sign-ins of the account ada", f.address, "Ada's iMac", "not encrypted"} {
		if !strings.Contains(out, want) {
			t.Fatalf("enroll printed %q, want %q in it", out, want)
		}
	}
	if strings.Contains(out, f.token) {
		t.Errorf("enroll printed the invitation")
	}
	return dir
}

// Where a link or credentials should come from standard input and nothing does, it
// says what to do.
func TestNothingOnStandardInput(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "device")
	if out := call(t, exitError, "--dir", dir, "enroll", "-"); !strings.Contains(out, "copy the whole link that begins with countersign://") {
		t.Errorf("enroll printed:\n%s", out)
	}
	if out := call(t, exitError, "sign-in", "ada", "--credentials", "-"); !strings.Contains(out, "give the JSON object that countersign-server app add --json printed") {
		t.Errorf("sign-in printed:\n%s", out)
	}
}

// Whoever got a command wrong is sent to the help of that command.
func TestUsageNamesTheCommandsHelp(t *testing.T) {
	for line, want := range map[string]string{
		"frob":                           "countersign-agent",
		"devices revoke":                 "countersign-agent devices revoke",
		"enroll --server=127.0.0.1:8443": "countersign-agent enroll",
	} {
		if out := call(t, exitUsage, strings.Fields(line)...); !strings.Contains(out, "(see "+want+" --help)\n") {
			t.Errorf("%s printed:\n%s", line, out)
		}
	}
}

// A list that went to a full disk was shown to nobody.
func TestLostOutputIsAnError(t *testing.T) {
	f := newFake(t)
	dir := enrolled(t, f)
	file, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	file.Close()
	var said strings.Builder
	env := &environment{out: output.New(file), err: &said, getenv: func(string) string { return "" }}
	if code := run(t.Context(), []string{"--dir", dir, "devices"}, env); code != exitError || said.Len() == 0 {
		t.Errorf("run(devices) = %d and says %q, want %d and why", code, said.String(), exitError)
	}
}

func TestSignInEndToEnd(t *testing.T) {
	f := newFake(t)
	agent := begin(t, []string{"--dir", enrolled(t, f), "run", "--once"})
	agent.waitFor("connected to " + f.address)
	credentialsFile, keysFile := f.files()
	app := begin(t, []string{"sign-in", "ada", "--credentials", credentialsFile, "--jwks", keysFile,
		"--device", "MacBook Air", "--place", "Berlin, Germany", "--message", "Hello"})
	prompt := agent.waitFor("Answer with a (Allow) or d (Don't Allow) and Enter.")
	for _, want := range []string{"account: ada", "“MacBook Air”", "“Berlin, Germany”", "address unknown", "“Hello”"} {
		if !strings.Contains(prompt, want) {
			t.Errorf("the prompt lacks %q:\n%s", want, prompt)
		}
	}
	for _, nothing := range []string{"", "yes", "m"} {
		agent.line(nothing)
	}
	agent.line("a")
	agent.waitFor("code: " + code.Group(f.code))
	app.waitFor("approved")
	app.line("no digits")
	app.waitFor("a code has digits from 0 to 9 only")
	app.line("00-00 00")
	app.waitFor("CODE_WRONG")
	app.line(code.Group(f.code))
	out := app.exits(0)
	if !strings.HasSuffix(out, "signed in as ada\n") || !strings.Contains(out, "grant: its signature is right") || !strings.Contains(out, `"acr":"urn:countersign:acr:code"`) {
		t.Errorf("sign-in printed:\n%s", out)
	}
	if out := agent.exits(0); !strings.Contains(out, "code over") {
		t.Errorf("run printed:\n%s", out)
	}
}

func TestSignInDenied(t *testing.T) {
	f := newFake(t)
	agent := begin(t, []string{"--dir", enrolled(t, f), "run", "--once"})
	agent.waitFor("connected")
	credentialsFile, _ := f.files()
	app := begin(t, []string{"sign-in", "ada", "--credentials", credentialsFile})
	agent.waitFor("Answer with")
	agent.line("deny")
	agent.waitFor("Why?")
	agent.line("n")
	agent.waitFor("noted as not by you")
	agent.exits(0)
	if out := app.exits(exitDenied); !strings.Contains(out, "denied on a trusted device") {
		t.Errorf("sign-in printed:\n%s", out)
	}
	f.change(func() {
		if f.signIn.DenyReason != statement.NotMe {
			t.Errorf("reason = %q", f.signIn.DenyReason)
		}
	})
}

// The end of input is no answer, and a prompt that goes away takes with it the
// line that was meant for it.
func TestRunWithoutAnswers(t *testing.T) {
	f := newFake(t)
	dir := enrolled(t, f)
	credentialsFile, _ := f.files()
	agent := begin(t, []string{"--dir", dir, "run"})
	agent.waitFor("connected")
	app := begin(t, []string{"sign-in", "ada", "--credentials", credentialsFile})
	agent.waitFor("Answer with")
	f.change(func() { f.signIn.State = pb.SignInState_SIGN_IN_STATE_CANCELLED })
	agent.waitFor("withdrawn: sign-in of ada")
	app.exits(exitNotInTime)
	agent.line("a") // too late
	agent.waitFor("ignored: the line was meant for a request that is gone")
	agent.in.Close()

	app = begin(t, []string{"sign-in", "ada", "--credentials", credentialsFile})
	app.waitFor("sign-in: ")
	agent.waitForCount("Answer with", 2)
	f.change(func() {
		if f.signIn.State != pb.SignInState_SIGN_IN_STATE_PENDING {
			t.Errorf("the sign-in is %v, but nobody has answered", f.signIn.State)
		}
	})
	agent.stop()
	agent.exits(0)
}

func TestRevokedDevice(t *testing.T) {
	f := newFake(t)
	dir := enrolled(t, f)
	agent := begin(t, []string{"--dir", dir, "run"})
	agent.waitFor("connected")
	f.change(func() { f.device.State = pb.DeviceState_DEVICE_STATE_REVOKED })
	if out := agent.exits(exitNotTrusted); !strings.Contains(out, "enroll with a new invitation") {
		t.Errorf("run printed:\n%s", out)
	}
	for _, command := range []string{"status", "devices", "run"} {
		if out := call(t, exitNotTrusted, "--dir", dir, command); !strings.Contains(out, "enroll with a new invitation") {
			t.Errorf("%s printed:\n%s", command, out)
		}
	}
}

func TestStatus(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "device")
	for _, command := range []string{"status", "devices", "run"} {
		if out := call(t, exitNotTrusted, "--dir", empty, command); !strings.Contains(out, "run countersign-agent enroll") {
			t.Errorf("%s printed:\n%s", command, out)
		}
	}
	f := newFake(t)
	dir := enrolled(t, f)
	var r report
	if err := json.Unmarshal([]byte(call(t, 0, "--dir", dir, "status", "--json")), &r); err != nil {
		t.Fatal(err)
	}
	if !r.Trusted || !r.Reachable || r.Account != "ada" || r.Problem != "" || r.ClockOffset != 0 {
		t.Errorf("report = %+v", r)
	}
	if out := call(t, 0, "--dir", dir, "devices"); !strings.Contains(out, r.Fingerprint) {
		t.Errorf("devices printed:\n%s", out)
	}
	f.offset = 10 * time.Minute
	if out := call(t, exitError, "--dir", dir, "status"); !strings.Contains(out, "clock is wrong by 10m0s") {
		t.Errorf("status printed:\n%s", out)
	}
	if err := os.WriteFile(filepath.Join(dir, "device.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := call(t, exitError, "--dir", dir, "status"); !strings.Contains(out, "damaged") {
		t.Errorf("status printed:\n%s", out)
	}
}

func TestPassphrase(t *testing.T) {
	f := newFake(t)
	dir := filepath.Join(t.TempDir(), "device")
	p := begin(t, []string{"--dir", dir, "enroll", f.link()}, "COUNTERSIGN_PASSPHRASE=correct horse")
	if out := p.exits(0); !strings.Contains(out, "encrypted with a passphrase") {
		t.Errorf("enroll printed:\n%s", out)
	}
	if out := call(t, exitError, "--dir", dir, "status"); !strings.Contains(out, "COUNTERSIGN_PASSPHRASE") {
		t.Errorf("status printed:\n%s", out)
	}
	begin(t, []string{"--dir", dir, "status"}, "COUNTERSIGN_PASSPHRASE=correct horse").exits(0)
}

func TestCommandLine(t *testing.T) {
	for _, args := range [][]string{{"bogus"}, {"sign-in"}, {"sign-in", "ada"}, {"enroll", "a", "b"}, {"run", "--bogus"}, {"enroll", "--kind", "toaster"}} {
		call(t, exitUsage, args...)
	}
	for _, args := range [][]string{{"--help"}, {"run", "--help"}, {"enroll", "--help"}, {"sign-in", "--help"}, {"status", "--help"}, {"devices", "--help"}, {"version"}} {
		if out := call(t, 0, args...); len(out) < 10 {
			t.Errorf("%v printed %q", args, out)
		}
	}
	if out := call(t, exitError, "--dir", t.TempDir()+"/d", "enroll", "https://example.org"); !strings.Contains(out, "not an invitation link") {
		t.Errorf("enroll printed:\n%s", out)
	}
}

// A name that is not UTF-8 is refused, and not made another one.
func TestArgumentsAreUTF8(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "device")
	p := begin(t, []string{"--dir", dir, "enroll", "-", "--name", "Gr\xe4fin"})
	if out := p.exits(exitUsage); !strings.Contains(out, "argument 6 of the command line is not valid UTF-8") {
		t.Errorf("enroll printed %q", out)
	}
	p = begin(t, []string{"status"}, "COUNTERSIGN_AGENT_DIR="+dir+"\xe4")
	if out := p.exits(exitUsage); !strings.Contains(out, "COUNTERSIGN_AGENT_DIR is not valid UTF-8") {
		t.Errorf("status printed %q", out)
	}
}
