package agent

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	grpccodes "google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/countersignd/countersign/internal/recovery"
	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

// nowhere fails if a recovery code is in a file of the directory.
func nowhere(t *testing.T, dir string, codes []string) {
	t.Helper()
	if err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		for _, code := range codes {
			for _, spelling := range []string{code, recovery.Group(code), strings.ToLower(code), recovery.Hash("ada", code)} {
				if strings.Contains(string(data), spelling) {
					t.Errorf("%q is in %s", spelling, path)
				}
			}
		}
		return err
	}); err != nil {
		t.Error(err)
	}
}

func TestEnrollShowsRecoveryCodesAndKeepsNone(t *testing.T) {
	f := newFake(t)
	dir := filepath.Join(t.TempDir(), "device")
	codes := f.giveCodes()
	got, err := enrollAt(t.Context(), f, dir, f.invite("ada"))
	if err != nil || len(got.RecoveryCodes) != 10 || got.RecoveryCodes[0] != recovery.Group(codes[0]) {
		t.Fatalf("Enroll = %+v, %v, want the ten codes in groups", got, err)
	}
	nowhere(t, dir, codes)
	f.change(func() { f.codes = []string{"\x1b[2Jnot a code"} })
	if _, err := enrollAt(t.Context(), f, filepath.Join(t.TempDir(), "device"), f.invite("ada")); !errors.Is(err, errNoCodes) {
		t.Errorf("Enroll with hostile codes = %v", err)
	}
}

func TestRecover(t *testing.T) {
	f := newFake(t)
	dir := filepath.Join(t.TempDir(), "device")
	codes := f.giveCodes()
	r, err := Recover(t.Context(), f.asking(dir, "ada"))
	if err != nil || r.State().Phase != Recovering || r.State().TrustTime != 0 {
		t.Fatalf("Recover = %+v, %v", r, err)
	}
	if _, err := LoadState(dir); !errors.Is(err, ErrNotEnrolled) {
		t.Errorf("LoadState before a code was handed in = %v, want nothing", err)
	}
	if err := r.Use(t.Context(), "7K3M"); err == nil || Reason(err) != 0 {
		t.Errorf("Use of a malformed code = %v", err)
	}
	for range 2 { // a wrong one leaves nothing behind
		if err := r.Use(t.Context(), "7K3M-9QWD-2XTB-H0VC"); Reason(err) != pb.ErrorReason_ERROR_REASON_RECOVERY_CODE_INVALID {
			t.Errorf("Use of a wrong code = %v", err)
		}
		if _, err := LoadState(dir); !errors.Is(err, ErrNotEnrolled) {
			t.Errorf("LoadState after a wrong code = %v, want nothing", err)
		}
	}
	if err := r.Use(t.Context(), strings.ToLower(recovery.Group(codes[4]))); err != nil || r.State().Phase != Trusted || r.CodesLeft() != 9 {
		t.Fatalf("Use = %v, %+v, %d left", err, r.State(), r.CodesLeft())
	}
	agree(t, f, dir)
	nowhere(t, dir, codes)
	for _, again := range []Asking{f.asking(dir, "ada"), f.finishing(dir)} {
		if _, err := Recover(t.Context(), again); !errors.Is(err, ErrEnrolled) {
			t.Errorf("Recover again = %v, want ErrEnrolled", err)
		}
	}
}

// S7: the process dies after each thing that it or the server makes durable; a
// second run finishes what was begun, with the same keys, and asks for a code
// only if the first one was not used.
func TestRecoverAfterCrash(t *testing.T) {
	for _, wait := range []time.Duration{0, time.Hour} {
		for _, step := range []string{"keys", "begun", "code used", "answer known"} {
			for _, how := range []string{"same command", "alone"} {
				t.Run(step+", "+how+", "+wait.String(), func(t *testing.T) {
					f := newFake(t)
					f.wait = wait
					codes := f.giveCodes()
					dir := filepath.Join(t.TempDir(), "device")
					in := f.asking(dir, "ada")
					again := in
					if how == "alone" {
						again = f.finishing(dir)
					}
					r, err := Recover(t.Context(), in)
					if err != nil {
						t.Fatal(err)
					}
					device, begun := r.State().Device, r.State()
					switch step {
					case "begun":
						err = begun.save(dir)
					case "code used", "answer known":
						if err = r.Use(t.Context(), codes[0]); err == nil && step == "code used" {
							err = begun.save(dir)
						}
					}
					if err != nil {
						t.Fatal(err)
					}
					r, err = Recover(t.Context(), again)
					switch {
					case step == "answer known" && wait == 0:
						if !errors.Is(err, ErrEnrolled) {
							t.Errorf("Recover = %v, want ErrEnrolled", err)
						}
						return
					case step == "keys" && how == "alone":
						if !errors.Is(err, ErrNotEnrolled) {
							t.Errorf("Recover = %v, want ErrNotEnrolled", err)
						}
						return
					case err != nil:
						t.Fatal(err)
					case step == "keys" || step == "begun":
						if r.State().TrustTime != 0 || r.State().Phase != Recovering {
							t.Fatalf("State = %+v, want one that wants a code", r.State())
						}
						if err := r.Use(t.Context(), codes[0]); err != nil {
							t.Fatal(err)
						}
					}
					if wait > 0 {
						if r.State().Phase != Recovering || time.Until(r.TrustTime()) < 50*time.Minute {
							t.Fatalf("State = %+v, want one that waits", r.State())
						}
						if _, err := Open(dir, ""); !errors.Is(err, ErrNotEnrolled) {
							t.Errorf("Open while it waits = %v", err)
						}
						f.change(func() { f.wait = 0 })
						if r, err = Recover(t.Context(), f.finishing(dir)); err != nil {
							t.Fatal(err)
						}
					}
					if s := r.State(); s.Phase != Trusted || s.Device != device || s.Name != "New tablet" || len(f.spent) != 1 {
						t.Errorf("State = %+v after %d codes, want the keys of the first run and one code", s, len(f.spent))
					}
					agree(t, f, dir)
					nowhere(t, dir, codes)
				})
			}
		}
	}
}

// The answer is lost, for as long as the first run lasts; the second needs no code.
func TestRecoverLostAnswer(t *testing.T) {
	f := newFake(t)
	dir := filepath.Join(t.TempDir(), "device")
	codes := f.giveCodes()
	r, err := Recover(t.Context(), f.asking(dir, "ada"))
	if err != nil {
		t.Fatal(err)
	}
	f.change(func() { f.after = func(string) error { return status.Error(grpccodes.Unavailable, "gone") } })
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	err = r.Use(ctx, codes[0])
	cancel()
	if err == nil || !strings.Contains(err.Error(), "run countersign-agent enroll again") {
		t.Fatalf("Use = %v, want an error that says what to do", err)
	}
	// Not by another way in the meantime: the server may believe in these keys.
	if _, err := enrollAt(t.Context(), f, dir, f.invite("ada")); !errors.Is(err, errRecoveryBegun) {
		t.Errorf("Enroll = %v, want a refusal", err)
	}
	for _, account := range []string{"ada", "bob"} {
		if _, err := Ask(t.Context(), f.asking(dir, account)); !errors.Is(err, errRecoveryBegun) {
			t.Errorf("Ask = %v, want a refusal", err)
		}
	}
	if _, err := Recover(t.Context(), f.asking(dir, "bob")); !errors.Is(err, errRecoveryBegun) {
		t.Errorf("Recover another account = %v, want a refusal", err)
	}
	f.change(func() { f.after = func(string) error { return nil } })
	r, err = Recover(t.Context(), f.finishing(dir))
	if err != nil || r.State().Phase != Trusted || len(f.spent) != 1 {
		t.Fatalf("Recover = %+v, %v", r, err)
	}
	agree(t, f, dir)
}

// A request whose answer was given up comes to the server late, after the agent
// was told that there was none. Another code is not used up then.
func TestRecoverAfterALateRequest(t *testing.T) {
	f := newFake(t)
	dir := filepath.Join(t.TempDir(), "device")
	codes := f.giveCodes()
	r, err := Recover(t.Context(), f.asking(dir, "ada"))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Use(t.Context(), codes[0]); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, stateName)); err != nil {
		t.Fatal(err)
	}
	if r, err = Recover(t.Context(), f.asking(dir, "ada")); err != nil {
		t.Fatal(err)
	}
	if err := r.Use(t.Context(), codes[1]); err != nil || len(f.spent) != 1 {
		t.Errorf("Use = %v, with %d codes used, want one", err, len(f.spent))
	}
	agree(t, f, dir)
}

func TestRecoverVetoed(t *testing.T) {
	f := newFake(t)
	f.wait = time.Hour
	dir := filepath.Join(t.TempDir(), "device")
	codes := f.giveCodes()
	r, err := Recover(t.Context(), f.asking(dir, "ada"))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Use(t.Context(), codes[0]); err != nil {
		t.Fatal(err)
	}
	f.change(func() { f.devices[r.State().Device].State = pb.DeviceState_DEVICE_STATE_REVOKED })
	if _, err := Recover(t.Context(), f.finishing(dir)); Reason(err) != pb.ErrorReason_ERROR_REASON_DEVICE_REVOKED {
		t.Errorf("Recover after the veto = %v, want DEVICE_REVOKED", err)
	}
}

func TestNewRecoveryCodes(t *testing.T) {
	f := newFake(t)
	dir := filepath.Join(t.TempDir(), "device")
	if _, err := enrollAt(t.Context(), f, dir, f.invite("ada")); err != nil {
		t.Fatal(err)
	}
	codes := f.giveCodes()
	a, err := Open(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	a.dialer = f.dial
	lost := 2
	f.change(func() {
		f.after = func(string) error {
			if lost--; lost >= 0 {
				return status.Error(grpccodes.Unavailable, "gone")
			}
			return nil
		}
	})
	got, err := a.NewRecoveryCodes(t.Context())
	if err != nil || len(got) != 10 || got[9] != recovery.Group(codes[9]) {
		t.Fatalf("NewRecoveryCodes = %q, %v", got, err)
	}
	if len(f.decisions) != 3 || f.decisions[0] != f.decisions[2] {
		t.Errorf("%d statements were sent, want the same one three times", len(f.decisions))
	}
	nowhere(t, dir, codes)
	f.change(func() { f.codes = f.codes[:3] })
	if got, err := a.NewRecoveryCodes(t.Context()); err == nil {
		t.Errorf("NewRecoveryCodes of a server that sends three = %q", got)
	}
}
