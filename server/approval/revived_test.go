package approval_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/countersignd/countersign/internal/statement"
	"github.com/countersignd/countersign/server/approval"
)

// These tests show that nothing comes back by another way than the one by which
// it was ended.

// TestA9ARevokedDevicesRecoveryCodesAreVoid: a thief with an unlocked phone makes
// recovery codes before it is revoked.
func TestA9ARevokedDevicesRecoveryCodesAreVoid(t *testing.T) {
	for _, c := range []struct {
		name   string
		revoke func(mac, phone *device) error
	}{
		{"by another device", func(mac, phone *device) error { return mac.revoke(phone.id) }},
		{"by an administrator", func(mac, phone *device) error {
			_, err := phone.w.admin.RevokeDevice(t.Context(), phone.id, "stolen")
			return err
		}},
		{"all, by an administrator", func(mac, phone *device) error {
			_, err := phone.w.admin.RevokeDevices(t.Context(), "ada", time.Time{}, "stolen")
			return err
		}},
		{"by the thief", func(mac, phone *device) error { return phone.revoke(phone.id) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil)
			w.account("ada")
			mac, phone := w.enroll("ada"), w.enroll("ada")
			stolen := phone.renew()
			if err := c.revoke(mac, phone); err != nil {
				t.Fatal(err)
			}
			_, err := w.newDevice().recover("ada", stolen[0])
			wantReason(t, "a code that the revoked device had made", err, approval.ReasonRecoveryCodeInvalid)
			if a, _, err := w.admin.Account(t.Context(), "ada"); err != nil || a.RecoveryCodes != 0 {
				t.Errorf("the account has %d codes left, %v, want none", a.RecoveryCodes, err)
			}
		})
	}
}

// The owner keeps her way back: the codes on her paper do not go with the device
// that showed them when it was enrolled, nor with the last one that signs out.
func TestTheOwnersRecoveryCodesOutliveHerDevices(t *testing.T) {
	t.Run("from the enrolment", func(t *testing.T) {
		w := newWorld(t, nil)
		w.account("ada")
		mac := w.enroll("ada")
		if _, err := w.admin.RevokeDevices(t.Context(), "ada", time.Time{}, "lost"); err != nil {
			t.Fatal(err)
		}
		if _, err := w.newDevice().recover("ada", mac.codes[0]); err != nil {
			t.Errorf("a code from the paper = %v", err)
		}
	})
	t.Run("made by another device", func(t *testing.T) {
		w := newWorld(t, nil)
		w.account("ada")
		mac, phone := w.enroll("ada"), w.enroll("ada")
		codes := mac.renew()
		if err := mac.revoke(phone.id); err != nil {
			t.Fatal(err)
		}
		if _, err := w.newDevice().recover("ada", codes[0]); err != nil {
			t.Errorf("a code that a trusted device made = %v", err)
		}
	})
	t.Run("made by the last", func(t *testing.T) {
		w := newWorld(t, nil)
		w.account("ada")
		mac := w.enroll("ada")
		codes := mac.renew()
		if err := mac.revoke(mac.id); err != nil {
			t.Fatal(err)
		}
		if _, err := w.newDevice().recover("ada", codes[0]); err != nil {
			t.Errorf("a code of the last device, which signed itself out = %v", err)
		}
		// Nobody knows whether that was the owner. Whom an administrator invites, it is.
		next := w.enroll("ada")
		if len(next.codes) != 10 {
			t.Errorf("the device that was invited next is shown %d codes, want new ones", len(next.codes))
		}
		_, err := w.newDevice().recover("ada", codes[1])
		wantReason(t, "an old code then", err, approval.ReasonRecoveryCodeInvalid)
	})
}

// TestA5AReadmissionIsNotRepeated: the newest statement of a device readmits
// nobody a second time, when the other was lost meanwhile.
func TestA5AReadmissionIsNotRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.account("ada")
		w.account("eve")
		mac, phone := w.enroll("ada"), w.enroll("ada")
		w.fallDormant(phone)
		jws := mac.readmission(phone.id)
		for range 2 { // the answer was lost
			got, err := w.broker.ReadmitDevice(t.Context(), mac.id, jws, "")
			if err != nil || w.broker.StateOf(&got) != approval.DeviceTrusted {
				t.Fatalf("ReadmitDevice = %v, %v, want trusted", w.broker.StateOf(&got), err)
			}
		}
		w.fallDormant(phone)
		got, err := w.broker.ReadmitDevice(t.Context(), mac.id, jws, "")
		if err != nil || w.broker.StateOf(&got) != approval.DeviceDormant {
			t.Errorf("the same statement 90 days later = %v, %v, want dormant", w.broker.StateOf(&got), err)
		}
	})
}

// TestA24AStrangerCannotKeepADeviceFromAsking: with the account's name alone he
// takes all rings of devices that ask to be trusted. The owner, who has a trusted
// device in her hand, takes them back.
func TestA24AStrangerCannotKeepADeviceFromAsking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.account("ada")
		mac := w.enroll("ada")
		for range 40 { // minutes
			w.newDevice().requestTrust("ada")
			time.Sleep(time.Minute)
		}
		time.Sleep(5 * time.Minute)
		tablet := w.newDevice()
		tablet.requestTrust("ada")
		if screen, err := mac.screen(); err != nil || len(screen.Prompts) != 0 {
			t.Fatalf("the owner's request beyond the budget: %d prompts, %v, want none", len(screen.Prompts), err)
		}
		if err := mac.unlock(); err != nil {
			t.Fatal(err)
		}
		id := tablet.requestTrust("ada")
		screen, err := mac.screen()
		if err != nil || len(screen.Prompts) != 1 {
			t.Fatalf("after unlock: %d prompts, %v, want hers", len(screen.Prompts), err)
		}
		if err := tablet.completeTrust(id, mac.allow(screen.Prompts[0].SignIn)); err != nil {
			t.Errorf("her device = %v", err)
		}
	})
}

// TestADenialIsOverAfterAnHour: after an hour nothing happens to a sign-in that was
// denied. It would be on record for ever, where who verifies the record has to
// remember all sign-ins that something can happen to.
func TestADenialIsOverAfterAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.account("ada")
		files := w.application("files")
		mac := w.enroll("ada")
		s := w.begin(files, "ada")
		document := mac.shown(s.ID)
		if _, err := mac.decide(s.ID, statement.Deny, ""); err != nil {
			t.Fatal(err)
		}
		time.Sleep(31 * time.Minute)
		_, err := w.broker.Decide(t.Context(), mac.id, mac.decision(document, statement.Deny, statement.NotMe), "")
		wantReason(t, "the reason half an hour later", err, approval.ReasonSignInDenied)
		_, err = w.broker.CancelSignIn(t.Context(), files, s.ID)
		wantReason(t, "the application's cancelling", err, approval.ReasonSignInDenied)
		time.Sleep(time.Hour)
		_, err = w.broker.Decide(t.Context(), mac.id, mac.decision(document, statement.Deny, statement.NotMe), "")
		wantReason(t, "the reason long afterwards", err, approval.ReasonSignInDenied)
		_, err = w.broker.CancelSignIn(t.Context(), files, s.ID)
		wantReason(t, "the application's cancelling long afterwards", err, approval.ReasonSignInDenied)
	})
}

// TestA12ACopiedKeyShowsThoughNothingCanBeDone: a thief with a copy of all keys
// allows his own sign-in and is in. The owner's Deny comes too late, and her
// counter does not rise.
func TestA12ACopiedKeyShowsThoughNothingCanBeDone(t *testing.T) {
	w := newWorld(t, nil)
	w.account("ada")
	files := w.application("files")
	mac, phone := w.enroll("ada"), w.enroll("ada")
	thief := *mac
	s := w.begin(files, "ada")
	document := mac.shown(s.ID)
	if err := w.verify(files, s, thief.allow(s.ID)); err != nil {
		t.Fatal(err)
	}
	_, err := w.broker.Decide(t.Context(), mac.id, mac.decision(document, statement.Deny, statement.NotMe), "")
	wantReason(t, "the owner's Deny", err, approval.ReasonCounterReused)
	if told := phone.told(); !slices.Contains(told, "device.counter_reused Mac mini") {
		t.Errorf("the other device is told %q, want that the key was copied", told)
	}
}

// TestA12ACopiedKeyShowsThoughNothingIsRevoked is the same of a revocation.
func TestA12ACopiedKeyShowsThoughNothingIsRevoked(t *testing.T) {
	w := newWorld(t, nil)
	w.account("ada")
	mac, phone := w.enroll("ada"), w.enroll("ada")
	thief := *mac
	if err := thief.unlock(); err != nil {
		t.Fatal(err)
	}
	wantReason(t, "revoking nothing that is there", mac.revoke(keyID(t, newKey(t))), approval.ReasonCounterReused)
	if told := phone.told(); !slices.Contains(told, "device.counter_reused Mac mini") {
		t.Errorf("the other device is told %q, want that the key was copied", told)
	}
}
