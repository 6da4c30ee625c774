package approval_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/countersignd/countersign/internal/statement"
	"github.com/countersignd/countersign/server/approval"
	"github.com/countersignd/countersign/server/approval/storetest"
)

// waiting returns a world in which recovered devices wait for a day, with one
// trusted device and one that waits.
func waiting(t *testing.T) (w *world, mac, phone *device) {
	t.Helper()
	w = newWorld(t, nil)
	w.config.RecoveryWait = 24 * time.Hour
	w.restart()
	w.account("ada")
	mac, phone = w.enroll("ada"), w.newDevice()
	time.Sleep(time.Second)
	got, err := phone.recover("ada", mac.codes[0])
	if err != nil || got.Device.State != approval.DeviceWaiting || time.Until(got.Device.TrustFrom) != 24*time.Hour || got.CodesLeft != 9 {
		t.Fatalf("RecoverDevice = %+v, %v, want a device that waits for a day", got, err)
	}
	return w, mac, phone
}

func TestARecoveredDeviceWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, mac, phone := waiting(t)
		files := w.application("files")
		s := w.begin(files, "ada")
		if s.Trusted != 1 {
			t.Errorf("%d devices are trusted, want 1", s.Trusted)
		}
		_, err := phone.screen()
		wantReason(t, "its screen", err, approval.ReasonDeviceWaiting)
		_, err = phone.requestCode()
		wantReason(t, "its code request", err, approval.ReasonDeviceWaiting)
		wantReason(t, "its revocation of the other", phone.revoke(mac.id), approval.ReasonDeviceWaiting)
		_, err = w.broker.CreateRecoveryCodes(t.Context(), phone.id, phone.renewal(), "")
		wantReason(t, "its renewal of the codes", err, approval.ReasonDeviceWaiting)
		_, err = w.broker.Decide(t.Context(), phone.id, phone.decision(mac.shown(s.ID), statement.Allow, ""), "")
		wantReason(t, "its answer", err, approval.ReasonDeviceWaiting)
		_, err = w.broker.EnrollDevice(t.Context(), phone.enrolling(w.invite("ada")))
		wantReason(t, "an invitation with its keys", err, approval.ReasonKeyInUse)
		if devices, err := w.broker.Devices(t.Context(), mac.id); err != nil || len(devices) != 2 || devices[1].State != approval.DeviceWaiting {
			t.Errorf("Devices = %+v, %v, want the second one to be seen waiting", devices, err)
		}

		time.Sleep(24*time.Hour - time.Second)
		for _, ask := range []func() (approval.Recovery, error){phone.resume, func() (approval.Recovery, error) { return phone.recover("ada", mac.codes[0]) }} {
			if got, err := ask(); err != nil || got.Device.State != approval.DeviceWaiting {
				t.Errorf("before the time has come = %+v, %v, want it to wait", got, err)
			}
		}
		time.Sleep(time.Second)
		_, err = phone.screen()
		wantReason(t, "its screen before it called again", err, approval.ReasonDeviceWaiting)
		for range 2 {
			if got, err := phone.resume(); err != nil || got.Device.State != approval.DeviceTrusted {
				t.Errorf("when the time has come = %+v, %v, want it trusted", got, err)
			}
		}
		s = w.begin(files, "ada")
		phone.allow(s.ID)
		if a, _, err := w.admin.Account(t.Context(), "ada"); err != nil || a.Trusted != 2 {
			t.Errorf("Account = %+v, %v, want two trusted devices", a, err)
		}
		if got := w.events("ada"); got[4] != "recovery.code_used" || got[5] == "device.enrolled" || got[len(got)-3] != "device.enrolled" {
			t.Errorf("the record says %q, want it used first and enrolled later", got)
		}
	})
}

func TestAWaitingDeviceCanBeVetoed(t *testing.T) {
	for who, veto := range map[string]func(w *world, mac, phone *device) error{
		"a trusted device": func(_ *world, mac, phone *device) error { return mac.revoke(phone.id) },
		"an administrator": func(w *world, _, phone *device) error {
			_, err := w.admin.RevokeDevice(t.Context(), phone.id, "")
			return err
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			w, mac, phone := waiting(t)
			if err := veto(w, mac, phone); err != nil {
				t.Fatal(err)
			}
			time.Sleep(25 * time.Hour)
			_, err := phone.resume()
			wantReason(t, "after the veto of "+who, err, approval.ReasonDeviceRevoked)
			_, err = phone.recover("ada", mac.codes[0])
			wantReason(t, "its code after the veto of "+who, err, approval.ReasonDeviceRevoked)
			if a, _, err := w.admin.Account(t.Context(), "ada"); err != nil || a.Trusted != 1 || a.RecoveryCodes != 9 {
				t.Errorf("Account = %+v, %v, want one trusted device and nine codes", a, err)
			}
		})
	}
}

func TestA9AWaitingDeviceOfASuspendedAccountStaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _, phone := waiting(t)
		if _, err := w.admin.SuspendAccount(t.Context(), "ada", ""); err != nil {
			t.Fatal(err)
		}
		time.Sleep(25 * time.Hour)
		_, err := phone.resume()
		wantReason(t, "in a suspended account", err, approval.ReasonAccountSuspended)
		if _, err := w.admin.ResumeAccount(t.Context(), "ada"); err != nil {
			t.Fatal(err)
		}
		if got, err := phone.resume(); err != nil || got.Device.State != approval.DeviceTrusted {
			t.Errorf("after it was resumed = %+v, %v", got, err)
		}
	})
}

// TestAWaitIsKeptWhenTheServerIsToldAnother: what the owner was told holds.
func TestAWaitIsKeptWhenTheServerIsToldAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _, phone := waiting(t)
		w.config.RecoveryWait = 0
		w.restart()
		time.Sleep(time.Hour)
		if got, err := phone.resume(); err != nil || got.Device.State != approval.DeviceWaiting {
			t.Errorf("RecoverDevice = %+v, %v, want it to wait still", got, err)
		}
		for _, wait := range []time.Duration{-1, 7*24*time.Hour + 1} {
			w.config.RecoveryWait = wait
			if _, err := approval.Open(t.Context(), w.config); err == nil {
				t.Errorf("a waiting time of %v was taken", wait)
			}
		}
	})
}

// TestA10ARecoveryThatFailsIsWholeOrNothing runs the life of recovery codes with
// a fault at each of its updates, before or after it was persisted, and does what
// programs do: ask again. Spent and enrolled are one, and so is what is shown.
func TestA10ARecoveryThatFailsIsWholeOrNothing(t *testing.T) {
	for _, fault := range []storetest.Fault{storetest.Before, storetest.After} {
		for at := 1; at <= 4; at++ {
			synctest.Test(t, func(t *testing.T) {
				faulty := &storetest.Faulty{Store: storetest.NewMemory()}
				w := newWorld(t, faulty)
				w.config.RecoveryWait = time.Hour
				w.restart()
				w.account("ada")
				mac, phone := w.newDevice(), w.newDevice()
				in := mac.enrolling(w.invite("ada"))
				steps, retried := 0, 0
				again := func(f func() error) {
					t.Helper()
					steps++
					start := faulty.Updates()
					faulty.Fault = func(n int) storetest.Fault {
						if steps == at && n == start+1 {
							return fault
						}
						return storetest.None
					}
					err := f()
					if errors.Is(err, approval.ErrStoreFailed) {
						retried++
						w.restart()
						err = f()
					}
					if err != nil {
						t.Fatalf("fault %v at %d: step %d = %v", fault, at, steps, err)
					}
				}
				var got approval.Enrolled
				again(func() (err error) { got, err = w.broker.EnrollDevice(t.Context(), in); return err })
				if mac.account = got.Account; len(got.RecoveryCodes) != 10 {
					t.Fatalf("fault %v at %d: EnrollDevice shows %q", fault, at, got.RecoveryCodes)
				}
				renewal := mac.renewal()
				var codes []string
				again(func() (err error) {
					codes, err = w.broker.CreateRecoveryCodes(t.Context(), mac.id, renewal, "")
					return err
				})
				var recovered approval.Recovery
				again(func() (err error) { recovered, err = phone.recover("ada", codes[0]); return err })
				if recovered.Device.State != approval.DeviceWaiting || recovered.CodesLeft != 9 {
					t.Errorf("fault %v at %d: RecoverDevice = %+v", fault, at, recovered)
				}
				time.Sleep(time.Hour)
				again(func() (err error) { recovered, err = phone.resume(); return err })
				a, devices, err := w.admin.Account(t.Context(), "ada")
				if err != nil || a.Trusted != 2 || len(devices) != 2 || a.RecoveryCodes != 9 || recovered.Device.State != approval.DeviceTrusted {
					t.Errorf("fault %v at %d: Account = %+v, %d devices, %v; the device is %s", fault, at, a, len(devices), err, recovered.Device.State)
				}
				if n := len(w.events("ada")); n != 7 || retried != 1 {
					t.Errorf("fault %v at %d: %d records after %d retries: %q", fault, at, n, retried, w.events("ada"))
				}
			})
		}
	}
}
