package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// shortDir returns a directory whose name is short enough for a socket.
func shortDir(t *testing.T) string {
	t.Setenv("XDG_RUNTIME_DIR", "")
	dir, err := os.MkdirTemp("", "csd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func TestOneInstance(t *testing.T) {
	dir := shortDir(t)
	one, err := enter(dir, "")
	if err != nil || one == nil {
		t.Fatalf("enter(empty) = %v, %v, want an instance", one, err)
	}
	for _, link := range []string{"", "countersign://host:1/enroll?token=x"} {
		type entered struct {
			instance *instance
			err      error
		}
		second := make(chan entered, 1)
		go func() {
			in, err := enter(dir, link)
			second <- entered{in, err}
		}()
		if got := <-one.opened; got != link {
			t.Errorf("it was handed %q, want %q", got, link)
		}
		if got := <-second; got.err != nil || got.instance != nil {
			t.Errorf("second enter = %v, %v, want nil, nil", got.instance, got.err)
		}
	}
	other, err := enter(filepath.Join(dir, "other"), "") // another directory, another device
	if err != nil || other == nil {
		t.Fatalf("enter(other) = %v, %v, want an instance", other, err)
	}
	other.leave()
	one.leave()
	again, err := enter(dir, "")
	if err != nil || again == nil {
		t.Fatalf("enter after leave = %v, %v, want an instance", again, err)
	}
	again.leave()
}

// A process that was killed leaves its socket behind, and is in nobody's way.
func TestSocketLeftBehind(t *testing.T) {
	dir := shortDir(t)
	if err := os.WriteFile(socketPath(dir), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	one, err := enter(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	one.leave()
}

func TestWhatIsNoInvitationIsNotHandedOver(t *testing.T) {
	dir := shortDir(t)
	one, err := enter(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	defer one.leave()
	for _, link := range []string{strings.Repeat("x", maxLine), "a\nb"} {
		if second, err := enter(dir, link); err == nil || second != nil {
			t.Errorf("enter(%.10q…) = %v, %v, want an error", link, second, err)
		}
	}
}

func TestSocketOfTheSession(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", "/run/user/1000")
	a, b := socketPath("/home/ada/"+strings.Repeat("long/", 50)), socketPath("/home/ada/other")
	if filepath.Dir(a) != "/run/user/1000" || len(a) > 100 || a == b {
		t.Errorf("socketPath = %s and %s, want two short ones in the session's directory", a, b)
	}
}
