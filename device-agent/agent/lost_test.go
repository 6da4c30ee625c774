package agent

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/countersignd/countersign/internal/invitation"
	"github.com/countersignd/countersign/internal/pin"
)

// contents returns the files in dir.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, entry := range entries {
		data, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[entry.Name()] = string(data)
	}
	return files
}

// S6: a directory that lost what its device cannot be without is left as it is, and
// whoever runs a command is told what to do.
func TestAWipedDeviceIsToldWhatToDo(t *testing.T) {
	const restore, gone = "restore it, or move its directory away and enrol this device anew", "so it can never answer again"
	for _, test := range []struct {
		name, file string
		wipe       func(path string) error
		phases     []string
		want       string
	}{
		{"keys gone", "keys.pem", os.Remove, []string{Trusted, Enrolling, Asked}, gone},
		{"keys cut off", "keys.pem", cutOff, []string{Trusted, Enrolling, Asked}, restore},
		{"counter gone", counterName, os.Remove, []string{Trusted}, gone},
		{"counter cut off", counterName, cutOff, []string{Trusted}, gone},
		{"state cut off", stateName, cutOff, []string{Trusted, Enrolling, Asked}, "move its directory away and enrol this device anew"},
	} {
		for _, phase := range test.phases {
			f := newFake(t)
			dir := filepath.Join(t.TempDir(), "device")
			link := f.invite("ada")
			var err error
			switch phase {
			case Trusted:
				_, err = enrollAt(t.Context(), f, dir, link)
			case Enrolling:
				if err = makeDir(dir); err == nil {
					_, err = Enrollment{Dir: dir, Link: link, Name: "x", Kind: "terminal"}.begin()
				}
			case Asked:
				_, err = Ask(t.Context(), f.asking(dir, "ada"))
			}
			if err == nil {
				err = test.wipe(filepath.Join(dir, test.file))
			}
			if err != nil {
				t.Fatal(err)
			}
			before := contents(t, dir)
			devices := get(f, func() int { return len(f.devices) })
			for command, run := range map[string]func() error{
				"Open":                            func() error { _, err := Open(dir, ""); return err },
				"Enroll alone":                    func() error { _, err := enrollAt(t.Context(), f, dir, invitation.Link{}); return err },
				"Enroll with the same invitation": func() error { _, err := enrollAt(t.Context(), f, dir, link); return err },
				"Enroll with another invitation":  func() error { _, err := enrollAt(t.Context(), f, dir, f.invite("ada")); return err },
				"Ask alone":                       func() error { _, err := Ask(t.Context(), f.finishing(dir)); return err },
				"Ask":                             func() error { _, err := Ask(t.Context(), f.asking(dir, "ada")); return err },
			} {
				err := run()
				other := test.want
				switch {
				case command == "Open" && phase != Trusted && test.file != stateName:
					other = "is not finished"
				case phase == Trusted && command != "Open" && test.want == restore:
					other = "because it was revoked or its files were damaged, move its directory away"
				case phase == Enrolling && strings.HasPrefix(command, "Ask") && test.want == restore:
					other = "an enrolment by invitation was begun here"
				case phase == Asked && command == "Enroll alone" && test.want == restore:
					other = "a trusted device was asked here"
				}
				if err == nil || !strings.Contains(err.Error(), other) {
					t.Errorf("%s in phase %s: %s = %v, want it to say %q", test.name, phase, command, err, other)
				}
				if lost := errors.Is(err, ErrLost); lost != (other == gone) {
					t.Errorf("%s in phase %s: %s wraps ErrLost: %t", test.name, phase, command, lost)
				}
				if after := contents(t, dir); !maps.Equal(after, before) {
					t.Fatalf("%s in phase %s: %s changed the directory from %q to %q", test.name, phase, command, before, after)
				}
			}
			if n := get(f, func() int { return len(f.devices) }); n != devices {
				t.Errorf("%s in phase %s: the server has %d devices, want %d", test.name, phase, n, devices)
			}
		}
	}
}

func cutOff(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	return os.Truncate(path, info.Size()/2)
}

// Keys without a state are not given to a second account or device: the server says
// what they are.
func TestKeysThatAreTrustedAlready(t *testing.T) {
	for _, how := range []string{"invitation", "approval", "approval for another account"} {
		f := newFake(t)
		dir := filepath.Join(t.TempDir(), "device")
		before, err := Enroll(t.Context(), Enrollment{Dir: dir, Link: f.invite("ada"), Name: "Old name", Kind: "tablet", dialer: f.dial})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(filepath.Join(dir, stateName)); err != nil {
			t.Fatal(err)
		}
		switch how {
		case "invitation":
			_, err = enrollAt(t.Context(), f, dir, f.invite("ada"))
		case "approval":
			_, err = Ask(t.Context(), f.asking(dir, "ada"))
		case "approval for another account":
			if _, err = Ask(t.Context(), f.asking(dir, "bob")); err == nil || !strings.Contains(err.Error(), "for another account") {
				t.Errorf("Ask for another account = %v, want a refusal", err)
			}
			continue
		}
		if err != nil {
			t.Fatalf("by %s: %v", how, err)
		}
		agree(t, f, dir)
		if after, err := LoadState(dir); err != nil || after.Device != before.Device || after.Name != "Old name" {
			t.Errorf("by %s: LoadState = %+v, %v, want the device and name of %+v", how, after, err, before)
		}
	}
}

// A process that learns that its invitation is no good forgets what it began itself
// and nothing else.
func TestForgetLeavesWhatAnotherProcessBegan(t *testing.T) {
	f := newFake(t)
	dir := filepath.Join(t.TempDir(), "device")
	if err := makeDir(dir); err != nil {
		t.Fatal(err)
	}
	slow, err := Enrollment{Dir: dir, Link: f.invite("ada"), Name: "x", Kind: "terminal", dialer: f.dial}.begin()
	if err != nil {
		t.Fatal(err)
	}
	newer := f.invite("ada")
	if _, err := (Enrollment{Dir: dir, Link: newer, Name: "x", Kind: "terminal", dialer: f.dial}).begin(); err != nil {
		t.Fatal(err)
	}
	if err := slow.forget(); err != nil {
		t.Fatal(err)
	}
	if state, err := LoadState(dir); err != nil || state.link() != newer {
		t.Errorf("LoadState = %+v, %v, want what the other process began", state, err)
	}
}

// A server that closes each connection as soon as it stands is not waited for: who
// calls decides whether to try again.
func TestReadyDoesNotWaitForAClosedConnection(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := pin.Certificate(key, "test")
	if err != nil {
		t.Fatal(err)
	}
	id, err := pin.KeyID(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	closing := func(context.Context, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go func() {
			server := tls.Server(theirs, &tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS13})
			go io.Copy(io.Discard, server)
			server.Write([]byte{0, 0, 0, 4, 0, 0, 0, 0, 0}) // SETTINGS (RFC 9113, 6.5): now it is ready
			server.Close()
		}()
		return ours, nil
	}
	for range 50 {
		conn, err := dial(Server{Address: serverAddress, Pin: id}, &certificate, closing)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		conn.Ready(ctx)
		if ctx.Err() != nil {
			t.Error("Ready waited for a connection that was closed")
		}
		cancel()
		conn.Close()
	}
}
