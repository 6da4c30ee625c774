package agent

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func exampleState() State {
	return State{
		Account: "ada@example.org", Deployment: deployment, Device: strings.Repeat("a", 52), Kind: "terminal",
		Name: "Ada’s laptop", Phase: Trusted, Pin: strings.Repeat("a", 52), Server: "192.0.2.7:8443", Version: 1,
	}
}

func TestStateRoundTrip(t *testing.T) {
	roots := exampleState()
	roots.Pin, roots.Roots = "", "system"
	begun := exampleState()
	begun.Account, begun.Phase, begun.Invitation = "", Enrolling, deployment
	asked := exampleState()
	asked.Phase = Asked
	requested := asked
	requested.Request, requested.RequestExpires = strings.Repeat("0", 26), 1_800_000_000
	recovering := asked
	recovering.Phase = Recovering
	waiting := recovering
	waiting.TrustTime = 1_800_000_000
	for _, want := range []State{exampleState(), roots, begun, asked, requested, recovering, waiting} {
		dir := t.TempDir()
		if err := want.save(dir); err != nil {
			t.Fatalf("save(%+v) = %v", want, err)
		}
		got, err := LoadState(dir)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("LoadState = %v, -want +got:\n%s", err, diff)
		}
		info, err := os.Stat(filepath.Join(dir, stateName))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("mode = %v, %v; want 0600", info.Mode(), err)
		}
	}
	if _, err := LoadState(t.TempDir()); !errors.Is(err, ErrNotEnrolled) {
		t.Errorf("LoadState of an empty directory = %v, want ErrNotEnrolled", err)
	}
}

func TestStateIsStrict(t *testing.T) {
	for name, change := range map[string]func(*State){
		"no phase":              func(s *State) { s.Phase = "" },
		"other phase":           func(s *State) { s.Phase = "maybe" },
		"trusted, no account":   func(s *State) { s.Account = "" },
		"trusted, invitation":   func(s *State) { s.Invitation = deployment },
		"enrolling, no token":   func(s *State) { s.Phase, s.Account = Enrolling, "" },
		"enrolling, an account": func(s *State) { s.Phase, s.Invitation = Enrolling, deployment },
		"asking, no account":    func(s *State) { s.Phase, s.Account = Asked, "" },
		"asking, invitation":    func(s *State) { s.Phase, s.Invitation = Asked, deployment },
		"asking, bad request":   func(s *State) { s.Phase, s.Request, s.RequestExpires = Asked, "x", 1 },
		"request without end":   func(s *State) { s.Phase, s.Request = Asked, strings.Repeat("0", 26) },
		"end without request":   func(s *State) { s.Phase, s.RequestExpires = Asked, 1 },
		"trusted, request":      func(s *State) { s.Request, s.RequestExpires = strings.Repeat("0", 26), 1 },
		"trusted, waiting":      func(s *State) { s.TrustTime = 1 },
		"asking, waiting":       func(s *State) { s.Phase, s.TrustTime = Asked, 1 },
		"waiting backwards":     func(s *State) { s.Phase, s.TrustTime = Recovering, -1 },
		"recovering, a token":   func(s *State) { s.Phase, s.Invitation = Recovering, deployment },
		"recovering, a request": func(s *State) { s.Phase, s.Request, s.RequestExpires = Recovering, strings.Repeat("0", 26), 1 },
		"recovering nobody":     func(s *State) { s.Phase, s.Account = Recovering, "" },
		"neither pin nor roots": func(s *State) { s.Pin = "" },
		"both":                  func(s *State) { s.Roots = "system" },
		"other roots":           func(s *State) { s.Pin, s.Roots = "", "mozilla" },
		"bad pin":               func(s *State) { s.Pin = "abc" },
		"bad device":            func(s *State) { s.Device = strings.ToUpper(s.Device) },
		"bad deployment":        func(s *State) { s.Deployment = "1" },
		"no server":             func(s *State) { s.Server = "" },
		"no port":               func(s *State) { s.Server = "example.org" },
		"newer":                 func(s *State) { s.Version = 2 },
		"no name":               func(s *State) { s.Name = "" },
		"bidirectional name":    func(s *State) { s.Name = "a\u202eb" },
		"other kind":            func(s *State) { s.Kind = "toaster" },
	} {
		s := exampleState()
		change(&s)
		data, err := s.encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseState(data); err == nil {
			t.Errorf("parseState(%s) = nil error", name)
		}
		if err := s.save(t.TempDir()); err == nil {
			t.Errorf("save(%s) = nil error", name)
		}
	}
	good, err := exampleState().encode()
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string]string{
		"empty":     "",
		"cut":       string(good[:len(good)/2]),
		"trailing":  string(good) + "{}",
		"unknown":   strings.Replace(string(good), "{", `{"x": 1,`, 1),
		"twice":     strings.Replace(string(good), `"account"`, `"account": "bob", "account"`, 1),
		"null":      "null",
		"one line":  strings.ReplaceAll(string(good), "\n", ""),
		"other key": strings.Replace(string(good), `"account"`, `"Account"`, 1),
	} {
		if s, err := parseState([]byte(data)); err == nil {
			t.Errorf("parseState(%s) = %+v, want a refusal", name, s)
		}
	}
}

func FuzzParseState(f *testing.F) {
	data, err := exampleState().encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"phase":"enrolling"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := parseState(data)
		if err != nil {
			return
		}
		again, err := s.encode()
		if err != nil || string(again) != string(data) || !s.valid() {
			t.Errorf("parseState accepted %q, which it would not write", data)
		}
	})
}

func TestFingerprint(t *testing.T) {
	if got, want := Fingerprint("abcdefghijklmnopqrstuvwxyz234567abcdefghijklmnopqrsa"), "badah-gamih-sitaf-jifuk"; got != want {
		t.Errorf("Fingerprint = %q, want %q", got, want)
	}
	if got := Fingerprint("short"); got != "" {
		t.Errorf("Fingerprint(short) = %q, want nothing", got)
	}
}
