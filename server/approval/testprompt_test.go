package approval_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/countersignd/countersign/internal/statement"
	"github.com/countersignd/countersign/server/approval"
	"github.com/countersignd/countersign/server/approval/storetest"
)

func (d *device) test(target, id string) approval.DeviceTest {
	d.w.t.Helper()
	got, err := d.w.broker.Test(d.w.t.Context(), d.id, target, id)
	if err != nil {
		d.w.t.Fatal(err)
	}
	return got
}

func TestATestPromptFromBeginningToEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _, mac, phone, f := pushed(t, storetest.NewMemory())
		w.keepWaking()
		stream := w.broker.WatchDevice(phone.id)
		defer stream.Close()
		id, err := w.broker.TestDevice(t.Context(), mac.id, phone.id, "192.0.2.9")
		if err != nil {
			t.Fatal(err)
		}
		watch := w.broker.WatchTest(id)
		defer watch.Close()
		if !rung(stream) {
			t.Error("the device was not rung")
		}
		f.wantGot(t, "though the device is connected", "ring 20abcdef")
		screen, err := phone.screen()
		if err != nil || screen.Test == nil || screen.Test.ID != id || len(screen.Prompts) != 0 || !screen.Next.Equal(screen.Test.Expires) {
			t.Fatalf("the device shows %+v, %v, want the test prompt alone, until it expires", screen, err)
		}
		if screen, err := mac.screen(); err != nil || screen.Test != nil {
			t.Errorf("the other device shows %+v, %v, want no test", screen.Test, err)
		}
		if got := mac.test(phone.id, id); !got.Connected || got.Over || got.Delivery.Stage != approval.DeliveryConnected || got.Delivery.Pushed.IsZero() {
			t.Errorf("the test = %+v, want it pushed, and sent to a connected device", got)
		}
		for _, stage := range []approval.DeliveryStage{approval.DeliveryReceived, approval.DeliveryShown, approval.DeliveryAnswered} {
			time.Sleep(time.Second)
			rung(watch) // for what was before
			if err := phone.report(id, stage); err != nil {
				t.Fatal(err)
			}
			if !rung(watch) {
				t.Error("who watches the test was not rung")
			}
			if got := mac.test(phone.id, id); got.Delivery.Stage != stage || got.Over != (stage == approval.DeliveryAnswered) {
				t.Errorf("after the report %v the test = %+v", stage, got)
			}
		}
		if screen, err := phone.screen(); err != nil || screen.Test != nil {
			t.Errorf("the device shows %+v, %v after it was put away, want nothing", screen.Test, err)
		}
		if w.recorded(approval.EventDeviceTested) != 1 || phone.self().Reached.IsZero() {
			t.Error("the test is not on record, or when the device was reached")
		}
	})
}

func TestATestPromptExpiresAndIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _, mac, phone, _ := pushed(t, storetest.NewMemory())
		first, err := w.broker.TestDevice(t.Context(), mac.id, phone.id, "")
		if err != nil {
			t.Fatal(err)
		}
		second, device, err := w.admin.TestDevice(t.Context(), phone.id[:12])
		if err != nil || device != phone.id {
			t.Fatalf("TestDevice = %s, %v", device, err)
		}
		if got := mac.test(phone.id, first); !got.Over || !got.Created.IsZero() {
			t.Errorf("a test that was replaced = %+v, want that it is over", got)
		}
		if err := phone.report(first, approval.DeliveryShown); err != nil {
			t.Error(err)
		}
		time.Sleep(119 * time.Second)
		if got, err := w.admin.Test(t.Context(), phone.id, second); err != nil || got.Over || got.Delivery.Stage != approval.DeliveryNotConnected {
			t.Errorf("the newer test = %+v, %v, want it open", got, err)
		}
		time.Sleep(time.Second)
		if got, err := w.admin.Test(t.Context(), phone.id, second); err != nil || !got.Over {
			t.Errorf("the newer test after 2 min = %+v, %v, want it over", got, err)
		}
		if screen, err := phone.screen(); err != nil || screen.Test != nil {
			t.Errorf("the device shows %+v, %v, want nothing", screen.Test, err)
		}
		if err := phone.report(second, approval.DeliveryShown); err != nil {
			t.Error(err)
		}
		if got, _ := w.admin.Test(t.Context(), phone.id, second); !got.Delivery.Shown.IsZero() {
			t.Error("a report after the end was believed")
		}
	})
}

// TestWhatCannotBeTested: each state says what is to be done.
func TestWhatCannotBeTested(t *testing.T) {
	for _, test := range []struct {
		name    string
		change  func(w *world, mac, phone *device) error
		caller  approval.Reason // what a device is told that tests the phone
		admin   approval.Reason
		because string
	}{
		{"revoked", func(w *world, mac, phone *device) error { return mac.revoke(phone.id) }, approval.ReasonNoSuchDevice, approval.ReasonDeviceRevoked, "was revoked"},
		{"dormant", func(w *world, mac, phone *device) error { w.account("eve"); w.fallDormant(phone); return nil }, approval.ReasonNoSuchDevice, approval.ReasonDeviceDormant, "90 days"},
		{"unconfirmed", func(w *world, mac, phone *device) error {
			at := time.Now().Add(time.Second)
			w.broker.Restore(at)
			time.Sleep(time.Second)
			_, err := w.admin.ConfirmDevices(w.t.Context(), "", []string{mac.id})
			return err
		}, approval.ReasonNoSuchDevice, approval.ReasonDeviceUnconfirmed, "restored from a backup"},
		{"of a suspended account", func(w *world, mac, phone *device) error { return phone.suspendAccount() }, approval.ReasonAccountSuspended, approval.ReasonAccountSuspended, "suspended"},
		{"on a full disk", func(w *world, mac, phone *device) error {
			w.config.Full = func() bool { return true }
			w.restart()
			return nil
		}, approval.ReasonStorageLow, approval.ReasonStorageLow, "nearly full"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, _, mac, phone, f := pushed(t, storetest.NewMemory())
				w.keepWaking()
				id, err := w.broker.TestDevice(t.Context(), mac.id, phone.id, "")
				if err != nil {
					t.Fatal(err)
				}
				tests, before := w.recorded(approval.EventDeviceTested), len(f.got())
				if err := test.change(w, mac, phone); err != nil {
					t.Fatal(err)
				}
				_, err = w.broker.TestDevice(t.Context(), mac.id, phone.id, "")
				wantReason(t, "a device tests it", err, test.caller)
				_, _, adminErr := w.admin.TestDevice(t.Context(), phone.id)
				wantReason(t, "an administrator tests it", adminErr, test.admin)
				for _, err := range []error{err, adminErr} {
					if err == nil || !strings.Contains(err.Error(), test.because) {
						t.Errorf("the error %v does not say %q", err, test.because)
					}
				}
				if test.caller != approval.ReasonStorageLow {
					_, err = w.broker.Test(t.Context(), mac.id, phone.id, id)
					wantReason(t, "the test that was under way", err, test.caller)
				}
				if w.recorded(approval.EventDeviceTested) != tests || len(f.got()) != before {
					t.Error("a test was sent all the same")
				}
			})
		})
	}
}

func TestOnlyDevicesOfTheAccountAreTested(t *testing.T) {
	w, _, mac, _, _ := pushed(t, nil)
	w.account("eve")
	eve := w.enroll("eve")
	_, err := w.broker.TestDevice(t.Context(), eve.id, mac.id, "")
	wantReason(t, "testing another account's device", err, approval.ReasonNoSuchDevice)
	_, err = w.broker.TestDevice(t.Context(), eve.id, "nobody", "")
	wantReason(t, "testing no device", err, approval.ReasonNoSuchDevice)
	id, err := w.broker.TestDevice(t.Context(), mac.id, "", "")
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.broker.Test(t.Context(), eve.id, mac.id, id)
	wantReason(t, "reading another account's test", err, approval.ReasonNoSuchDevice)
	var limited error
	for range 30 {
		if _, limited = w.broker.TestDevice(t.Context(), mac.id, "", ""); limited != nil {
			break
		}
	}
	wantReason(t, "testing too often", limited, approval.ReasonRateLimited)
}

// TestATestPromptIsNoSignIn: whatever is done with a test prompt's id, nobody is
// let in.
func TestATestPromptIsNoSignIn(t *testing.T) {
	w, files, mac, _, _ := pushed(t, nil)
	s := w.begin(files, "ada")
	id, err := w.broker.TestDevice(t.Context(), mac.id, "", "")
	if err != nil {
		t.Fatal(err)
	}
	mac.counter++
	forged := bytes.ReplaceAll(mac.shown(s.ID), []byte(s.ID), []byte(id))
	claims := mac.claims(forged, statement.Allow, "")
	for name, err := range map[string]error{
		"deciding":   func() error { _, err := w.broker.Decide(t.Context(), mac.id, mac.sign(claims), ""); return err }(),
		"verifying":  func() error { _, err := w.broker.VerifySignIn(t.Context(), files, id, "123456"); return err }(),
		"cancelling": func() error { _, err := w.broker.CancelSignIn(t.Context(), files, id); return err }(),
		"reading":    func() error { _, err := w.broker.SignIn(t.Context(), files, id); return err }(),
		"trusting":   w.newDevice().completeTrust(id, "123456"),
		"looking up": func() error { _, _, err := w.admin.SignIn(t.Context(), id); return err }(),
	} {
		var refused *approval.Error
		if !errors.As(err, &refused) {
			t.Errorf("%s a test prompt = %v, want a refusal", name, err)
		}
	}
	if screen, err := mac.screen(); err != nil || len(screen.Codes) != 0 || len(screen.Prompts) != 1 {
		t.Errorf("the device shows %+v, %v, want one prompt and no code", screen, err)
	}
}
