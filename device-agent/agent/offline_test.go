package agent

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/countersignd/countersign/internal/code"
	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

// S3: a code without the server, which is not even called.
func TestS3OfflineCode(t *testing.T) {
	f := newFake(t)
	a := trustedAgent(t, f, "ada")
	if err := a.keepOfflineSecret(offlineSecret(a.state.Device)); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(7 * time.Second)
		got, err := a.OfflineCode()
		if want := code.Offline(offlineSecret(a.state.Device), code.Step(time.Now())); err != nil || got.Digits != want {
			t.Fatalf("OfflineCode = %v, %v, want %s", got, err, want)
		}
		if left := time.Until(got.ExpireTime); left != 23*time.Second {
			t.Errorf("it changes in %v, want 23 s", left)
		}
		time.Sleep(23 * time.Second)
		if next, err := a.OfflineCode(); err != nil || next.Digits == got.Digits {
			t.Errorf("OfflineCode after a step = %v, %v, want another one", next, err)
		}
	})
	if dials := get(f, func() int { return f.dials }); dials != 0 {
		t.Errorf("the server was called %d times", dials)
	}
}

// A device whose clock is wrong makes the codes of the server's time, once any
// answer has told it.
func TestOfflineCodeAllowsForAWrongClock(t *testing.T) {
	for name, meet := range map[string]func(*testing.T, *Agent) error{
		"status": func(t *testing.T, a *Agent) error {
			_, err := a.Self(t.Context())
			return err
		},
		"code": func(t *testing.T, a *Agent) error {
			c, err := a.NewCode(t.Context())
			if left := time.Until(c.ExpireTime); err == nil && (left < 4*time.Minute || left > 6*time.Minute) {
				err = fmt.Errorf("the code is said to be good for %v", left)
			}
			return err
		},
		"run": func(t *testing.T, a *Agent) error {
			d, stop := running(t, a)
			d.waitFor(t, "connected", func(s Screen) bool { return s.Connected })
			for readClock(a.dir) == 0 {
				time.Sleep(time.Millisecond)
			}
			return stop()
		},
	} {
		for _, behind := range []time.Duration{time.Hour, -26 * time.Minute} {
			t.Run(fmt.Sprint(name, behind), func(t *testing.T) {
				f := newFake(t)
				f.behind = behind
				a := trustedAgent(t, f, "ada")
				if err := errors.Join(a.keepOfflineSecret(offlineSecret(a.state.Device)), meet(t, a)); err != nil {
					t.Fatal(err)
				}
				f.stop()
				a, err := Open(a.dir, "") // another process, later
				if err != nil {
					t.Fatal(err)
				}
				before := code.Step(f.now())
				got, err := a.OfflineCode()
				after := code.Step(f.now())
				secret := offlineSecret(a.state.Device)
				if err != nil || code.Find([]string{code.Offline(secret, before-1), code.Offline(secret, before), code.Offline(secret, after+1)}, got.Digits) < 0 {
					t.Errorf("OfflineCode = %+v, %v, want the code of the server's time", got, err)
				}
				if (got.Ahead - behind).Abs() > 2*clockNoise {
					t.Errorf("the clock is said to be %v ahead, want %v", got.Ahead, behind)
				}
				if left := time.Until(got.ExpireTime); left <= 0 || left > code.StepLength {
					t.Errorf("it changes in %v by this device's clock", left)
				}
			})
		}
	}
}

func TestClockIsRememberedAndForgotten(t *testing.T) {
	a := trustedAgent(t, newFake(t), "ada")
	for _, ahead := range []time.Duration{0, time.Hour, -time.Hour, 0} {
		a.noteClock(ahead)
		a.noteClock(ahead + time.Second) // noise
		if got := readClock(a.dir); got != ahead {
			t.Errorf("readClock = %v, want %v", got, ahead)
		}
	}
	for _, damaged := range []string{"", "x\n", "1h\n", "99999999999999999999\n", "9223372036854775807\n"} {
		if err := os.WriteFile(filepath.Join(a.dir, clockName), []byte(damaged), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := readClock(a.dir); got != 0 {
			t.Errorf("readClock of %q = %v, want 0", damaged, got)
		}
	}
}

func TestADeviceWithoutASecretGetsItWithACode(t *testing.T) {
	f := newFake(t)
	a := trustedAgent(t, f, "ada")
	if _, err := a.OfflineCode(); !errors.Is(err, ErrNoOfflineSecret) {
		t.Errorf("OfflineCode = %v, want ErrNoOfflineSecret", err)
	}
	if _, err := a.NewCode(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := a.OfflineCode(); err != nil {
		t.Errorf("OfflineCode after NewCode = %v", err)
	}
}

// TestOfflineSecretOnDisk looks at the file: nobody else may read it, it does not
// show the secret, and none but what was written is taken for it.
func TestOfflineSecretOnDisk(t *testing.T) {
	f := newFake(t)
	a, other := trustedAgent(t, f, "ada"), trustedAgent(t, f, "ada")
	secret := offlineSecret(a.state.Device)
	for _, b := range []*Agent{a, other} {
		if err := b.keepOfflineSecret(secret); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(a.dir, offlineName)
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode = %v, %v, want 0600", info.Mode(), err)
	}
	data, err := os.ReadFile(path)
	if err != nil || bytes.Contains(data, secret) || bytes.Contains(data, []byte(base64.StdEncoding.EncodeToString(secret)[:40])) {
		t.Errorf("the file shows the secret: %v", err)
	}
	if err := a.keepOfflineSecret(secret); err != nil {
		t.Error(err)
	}
	if again, err := os.ReadFile(path); err != nil || !bytes.Equal(again, data) {
		t.Errorf("the same secret was written again: %v", err)
	}
	if err := a.keepOfflineSecret(nil); err != nil {
		t.Errorf("an answer without a secret = %v", err)
	}
	if err := a.keepOfflineSecret(secret[:31]); err == nil {
		t.Error("31 bytes were kept as a secret")
	}
	others, err := os.ReadFile(filepath.Join(other.dir, offlineName))
	if err != nil {
		t.Fatal(err)
	}
	for name, damaged := range map[string][]byte{
		"empty": {}, "of another device": others, "cut off": data[:len(data)-5], "not base64": append([]byte("!"), data...),
	} {
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := a.OfflineCode(); !errors.Is(err, ErrNoOfflineSecret) {
			t.Errorf("%s: OfflineCode = %v, want ErrNoOfflineSecret, which says what to do", name, err)
		}
	}
	if err := a.keepOfflineSecret(secret); err != nil {
		t.Error(err)
	}
	if _, err := a.OfflineCode(); err != nil {
		t.Errorf("OfflineCode after the file was mended = %v", err)
	}
}

// TestTheSecretIsDurableBeforeTheDeviceIsTrusted makes the disk refuse the one
// file: the device then does not believe that it is trusted, and a retry does.
func TestTheSecretIsDurableBeforeTheDeviceIsTrusted(t *testing.T) {
	f := newFake(t)
	dir := filepath.Join(t.TempDir(), "device")
	// A directory in the file's place cannot be replaced.
	if err := os.MkdirAll(filepath.Join(dir, offlineName), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := enrollAt(t.Context(), f, dir, f.invite("ada")); !errors.As(err, new(*localError)) {
		t.Fatalf("Enroll on a disk that fails = %v", err)
	}
	if state, err := LoadState(dir); err != nil || state.Phase != Enrolling {
		t.Errorf("LoadState = %+v, %v, want a device that is not trusted yet", state, err)
	}
	if err := os.Remove(filepath.Join(dir, offlineName)); err != nil {
		t.Fatal(err)
	}
	if _, err := Enroll(t.Context(), Enrollment{Dir: dir, Kind: "terminal", Name: "x", dialer: f.dial}); err != nil {
		t.Fatalf("Enroll again = %v", err)
	}
	agree(t, f, dir)
}

func TestUnreachable(t *testing.T) {
	for err, want := range map[error]bool{
		errors.New("connection refused"): true,
		context.DeadlineExceeded:         true,
		errBusy:                          true,
		reject(14, pb.ErrorReason_ERROR_REASON_SHUTTING_DOWN, ""):    true,
		reject(14, pb.ErrorReason_ERROR_REASON_STORE_FAILED, ""):     true,
		reject(7, pb.ErrorReason_ERROR_REASON_DEVICE_REVOKED, ""):    false,
		reject(7, pb.ErrorReason_ERROR_REASON_DEVICE_DORMANT, ""):    false,
		reject(9, pb.ErrorReason_ERROR_REASON_ACCOUNT_SUSPENDED, ""): false,
		reject(7, pb.ErrorReason_ERROR_REASON_COUNTER_REUSED, ""):    false,
		&WrongServerError{}: false,
		fmt.Errorf("disk: %w", &localError{errors.New("disk full")}): false,
	} {
		if got := Unreachable(err); got != want {
			t.Errorf("Unreachable(%v) = %v, want %v", err, got, want)
		}
	}
}
