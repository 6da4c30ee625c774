package agent

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/countersignd/countersign/device-agent/keystore"
	"github.com/countersignd/countersign/internal/invitation"
	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

// enrollAt is Enroll by way of the fake's network.
func enrollAt(ctx context.Context, f *fakeServer, dir string, link invitation.Link) (Enrolled, error) {
	return Enroll(ctx, Enrollment{Dir: dir, Link: link, Name: "Ada’s laptop", Kind: "terminal", dialer: f.dial})
}

// agree fails unless the agent and the server believe the same of the one device.
func agree(t *testing.T, f *fakeServer, dir string) {
	t.Helper()
	state, err := LoadState(dir)
	if err != nil || state.Phase != Trusted {
		t.Fatalf("LoadState = %+v, %v; want a trusted device", state, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.devices) != 1 || f.devices[state.Device] == nil || f.devices[state.Device].Account != state.Account {
		t.Errorf("the server has %v, the agent %+v", f.devices, state)
	}
	a, err := Open(dir, "")
	if err != nil {
		t.Fatalf("Open = %v", err)
	}
	if secret, err := a.offlineSecret(); err != nil || !bytes.Equal(secret, offlineSecret(state.Device)) {
		t.Errorf("the device is trusted and its offline secret is %x, %v", secret, err)
	}
}

func TestEnroll(t *testing.T) {
	f := newFake(t)
	dir := filepath.Join(t.TempDir(), "a", "device")
	link := f.invite("ada")
	state, err := enrollAt(t.Context(), f, dir, link)
	if err != nil || state.Account != "ada" || state.Phase != Trusted || state.Name != "Ada’s laptop" {
		t.Fatalf("Enroll = %+v, %v", state, err)
	}
	agree(t, f, dir)
	err = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		if entry.IsDir() {
			return nil
		}
		data, err := os.ReadFile(path)
		if strings.Contains(string(data), link.Token) {
			t.Errorf("the invitation is still in %s", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	for _, again := range []invitation.Link{{}, link, f.invite("ada")} {
		if _, err := enrollAt(t.Context(), f, dir, again); !errors.Is(err, ErrEnrolled) {
			t.Errorf("Enroll again = %v, want ErrEnrolled", err)
		}
	}
}

// The process dies after each thing that it makes durable.
func TestEnrollAfterCrash(t *testing.T) {
	steps := []string{"keys.pem", counterName, stateName, "EnrollDevice", "answer"}
	for crash, step := range steps {
		for _, resumeWith := range []string{"same link", "no link"} {
			t.Run(step+", "+resumeWith, func(t *testing.T) {
				f := newFake(t)
				dir := filepath.Join(t.TempDir(), "device")
				link := f.invite("ada")
				if err := makeDir(dir); err != nil {
					t.Fatal(err)
				}
				a, err := Enrollment{Dir: dir, Link: link, Name: "x", Kind: "terminal", dialer: f.dial}.begin()
				if err != nil {
					t.Fatal(err)
				}
				if crash >= 3 { // the server was asked, and said yes
					conn, err := a.newConn()
					if err != nil {
						t.Fatal(err)
					}
					device, _, err := a.enroll(t.Context(), conn)
					conn.Close()
					if err != nil {
						t.Fatal(err)
					}
					if crash == 3 { // and nothing was written down
						if err := os.Remove(filepath.Join(dir, offlineName)); err != nil {
							t.Fatal(err)
						}
					}
					if crash == 4 {
						if _, err := a.trusted(device); err != nil {
							t.Fatal(err)
						}
					}
				}
				for _, later := range steps[min(crash+1, 3):3] {
					if err := os.Remove(filepath.Join(dir, later)); err != nil {
						t.Fatal(err)
					}
				}
				if resumeWith == "no link" {
					link = invitation.Link{}
				}
				_, err = enrollAt(t.Context(), f, dir, link)
				switch {
				case crash == 4:
					if !errors.Is(err, ErrEnrolled) {
						t.Errorf("Enroll = %v, want ErrEnrolled", err)
					}
				case crash < 2 && resumeWith == "no link":
					if !errors.Is(err, ErrNotEnrolled) {
						t.Errorf("Enroll = %v, want ErrNotEnrolled", err)
					}
					return
				case err != nil:
					t.Fatalf("Enroll = %v", err)
				}
				agree(t, f, dir)
			})
		}
	}
}

// S7: the answer is lost, again and again; then a retry finishes what was begun.
func TestEnrollLostAnswer(t *testing.T) {
	for _, link2 := range []string{"none", "same", "another"} {
		f := newFake(t)
		dir := filepath.Join(t.TempDir(), "device")
		link := f.invite("ada")
		f.after = func(string) error { return status.Error(codes.Unavailable, "gone") }
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		_, err := enrollAt(ctx, f, dir, link)
		cancel()
		if err == nil || !strings.Contains(err.Error(), "run countersign-agent enroll again") {
			t.Fatalf("Enroll = %v, want an error that says what to do", err)
		}
		if state, err := LoadState(dir); err != nil || state.Phase != Enrolling {
			t.Fatalf("LoadState = %+v, %v; want it begun", state, err)
		}
		if _, err := Open(dir, ""); !errors.Is(err, ErrNotEnrolled) {
			t.Errorf("Open = %v, want ErrNotEnrolled", err)
		}
		f.mu.Lock()
		f.after = func(string) error { return nil }
		f.mu.Unlock()
		next := map[string]invitation.Link{"none": {}, "same": link, "another": f.invite("bob")}[link2]
		state, err := enrollAt(t.Context(), f, dir, next)
		if err != nil || state.Account != "ada" {
			t.Fatalf("Enroll with link %s = %+v, %v; want the account of the first", link2, state, err)
		}
		agree(t, f, dir)
	}
}

func TestEnrollRefusedInvitation(t *testing.T) {
	f := newFake(t)
	dir := filepath.Join(t.TempDir(), "device")
	used := f.invite("ada")
	f.change(func() { f.usedBy[used.Token] = "somebody" })
	_, err := enrollAt(t.Context(), f, dir, used)
	if Reason(err) != pb.ErrorReason_ERROR_REASON_INVITATION_INVALID || !strings.Contains(err.Error(), "With the new invitation, run countersign-agent enroll") {
		t.Fatalf("Enroll = %v", err)
	}
	if _, err := LoadState(dir); !errors.Is(err, ErrNotEnrolled) {
		t.Errorf("LoadState = %v, want nothing", err)
	}
	before, err := keystore.Open(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := enrollAt(t.Context(), f, dir, f.invite("ada")); err != nil {
		t.Fatalf("Enroll with another invitation = %v", err)
	}
	agree(t, f, dir)
	after, err := keystore.Open(dir, "")
	if err != nil || !after.Identity.Public().(*ecdsa.PublicKey).Equal(before.Identity.Public()) {
		t.Errorf("the keys changed: %v", err)
	}
}

// Keys that one server may believe in are not shown to another one.
func TestEnrollElsewhereWhileBegun(t *testing.T) {
	f := newFake(t)
	dir := filepath.Join(t.TempDir(), "device")
	f.stop()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := enrollAt(ctx, f, dir, f.invite("ada")); err == nil || !strings.Contains(err.Error(), "To finish the enrolment") {
		t.Fatalf("Enroll at a dead server = %v", err)
	}
	link := f.invite("ada")
	link.Deployment = strings.Repeat("b", 26)
	if _, err := enrollAt(t.Context(), f, dir, link); err == nil || !strings.Contains(err.Error(), "its outcome is not known") {
		t.Errorf("Enroll at another deployment = %v, want a refusal", err)
	}
	f.start()
	if _, err := enrollAt(t.Context(), f, dir, invitation.Link{}); err != nil {
		t.Errorf("Enroll = %v", err)
	}
	agree(t, f, dir)
}

// A20: a server with another key is not asked.
func TestEnrollWrongPin(t *testing.T) {
	f, stranger := newFake(t), newFake(t)
	stranger.before = func(method string) error { t.Errorf("%s reached the stranger", method); return nil }
	dir := filepath.Join(t.TempDir(), "device")
	_, err := enrollAt(t.Context(), stranger, dir, f.invite("ada"))
	if wrong, ok := errors.AsType[*WrongServerError](err); !ok || wrong.Got != stranger.keyID {
		t.Errorf("Enroll = %v, want the stranger's key named", err)
	}
}

// A10: one invitation, many devices at once: one of them is enrolled.
func TestOneInvitationManyDevices(t *testing.T) {
	f := newFake(t)
	link := f.invite("ada")
	var mu sync.Mutex
	enrolled := 0
	var wg sync.WaitGroup
	for range 10 {
		dir := filepath.Join(t.TempDir(), "device")
		wg.Go(func() {
			_, err := enrollAt(t.Context(), f, dir, link)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				enrolled++
			} else if Reason(err) != pb.ErrorReason_ERROR_REASON_INVITATION_INVALID {
				t.Errorf("Enroll = %v", err)
			}
		})
	}
	wg.Wait()
	if n := get(f, func() int { return len(f.devices) }); enrolled != 1 || n != 1 {
		t.Errorf("%d enrolled, %d devices; want 1", enrolled, n)
	}
}

func TestEnrollRefusesLocally(t *testing.T) {
	f := newFake(t)
	f.before = func(method string) error { t.Errorf("%s was called", method); return nil }
	for _, e := range []Enrollment{
		{Name: "", Kind: "terminal"},
		{Name: "a\u202eb", Kind: "terminal"},
		{Name: strings.Repeat("x", 65), Kind: "terminal"},
		{Name: "x", Kind: ""},
		{Name: "x", Kind: "toaster"},
	} {
		e.Dir, e.Link, e.dialer = filepath.Join(t.TempDir(), "device"), f.invite("ada"), f.dial
		if _, err := Enroll(t.Context(), e); err == nil {
			t.Errorf("Enroll(%q, %q) = nil error", e.Name, e.Kind)
		}
	}
	open := t.TempDir()
	if err := os.Chmod(open, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := enrollAt(t.Context(), f, open, f.invite("ada")); err == nil || !strings.Contains(err.Error(), "chmod 700") {
		t.Errorf("Enroll in an open directory = %v, want a refusal", err)
	}
}
