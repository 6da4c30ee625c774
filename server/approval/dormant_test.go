package approval_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/countersignd/countersign/internal/statement"
	"github.com/countersignd/countersign/server/approval"
)

// dormantAfter is how long a device may be unseen.
const dormantAfter = 90 * 24 * time.Hour

func (d *device) readmission(target string) string {
	d.w.t.Helper()
	d.counter++
	jws, err := statement.Sign(d.approval, statement.Readmission{
		Account: d.account, ApprovalKey: keyID(d.w.t, d.approval), Aud: d.w.broker.Deployment(), Counter: d.counter,
		Device: d.id, Iat: time.Now().Unix(), Readmitted: target, ServerKey: d.w.broker.ServerKey(),
	})
	if err != nil {
		d.w.t.Fatal(err)
	}
	return jws
}

func (d *device) readmit(target string) error {
	d.w.t.Helper()
	_, err := d.w.broker.ReadmitDevice(d.w.t.Context(), d.id, d.readmission(target), "192.0.2.9")
	return err
}

// everything calls all that a trusted device may.
func (d *device) everything(shown []byte) map[string]error {
	ctx := d.w.t.Context()
	errs := map[string]error{}
	_, errs["Screen"] = d.screen()
	_, errs["Self"] = d.w.broker.Self(ctx, d.id)
	_, errs["Devices"] = d.w.broker.Devices(ctx, d.id)
	_, errs["CreateCode"] = d.requestCode()
	_, errs["Decide"] = d.w.broker.Decide(ctx, d.id, d.decision(shown, statement.Allow, ""), "")
	_, errs["UpdateDevice"] = d.w.broker.UpdateDevice(ctx, d.id, approval.Update{Name: "x"}, "")
	errs["RevokeDevice"] = d.revoke(keyID(d.w.t, newKey(d.w.t)))
	errs["ReadmitDevice"] = d.readmit(keyID(d.w.t, newKey(d.w.t)))
	errs["Seen"] = d.w.broker.Seen(ctx, d.id)
	return errs
}

// TestADeviceUnseenFor90DaysIsSuspended. Nothing that it says counts,
// nor does its calling bring it back; another device or the administrator does.
func TestADeviceUnseenFor90DaysIsSuspended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.account("ada")
		files := w.application("files")
		mac, phone := w.enroll("ada"), w.enroll("ada")
		time.Sleep(dormantAfter - time.Minute)
		if err := w.broker.Seen(t.Context(), mac.id); err != nil {
			t.Fatal(err)
		}
		if d, err := w.admin.Device(t.Context(), phone.id); err != nil || w.broker.StateOf(&d) != approval.DeviceTrusted {
			t.Errorf("a minute before: %v, %v, want trusted", w.broker.StateOf(&d), err)
		}
		s := w.begin(files, "ada")
		document := phone.shown(s.ID)
		time.Sleep(time.Minute)
		for name, err := range phone.everything(document) {
			wantReason(t, name+" by a dormant device", err, approval.ReasonDeviceDormant)
		}
		if _, known := w.broker.Known(t.Context(), phone.id); known {
			t.Error("a dormant device passes for a known one")
		}
		if s := w.begin(files, "ada"); s.Trusted != 1 {
			t.Errorf("a sign-in has %d trusted devices, want 1", s.Trusted)
		}

		// By the other device, on record with its statement, and told.
		if err := mac.readmit(phone.id); err != nil {
			t.Fatal(err)
		}
		if _, err := phone.screen(); err != nil {
			t.Errorf("Screen of a readmitted device = %v", err)
		}
		records, _, err := w.admin.ListRecords(t.Context(), approval.RecordFilter{Account: "ada"}, approval.Page{Size: 1})
		if err != nil || len(records) != 1 || records[0].Event != approval.EventDeviceReadmitted || records[0].Device != phone.id || records[0].Actor.ID != mac.id || records[0].Statement == "" {
			t.Errorf("the record says %+v, %v", records, err)
		}
		d, err := w.admin.Device(t.Context(), phone.id)
		if err != nil || !d.Readmitted.Equal(time.Now()) || d.ReadmittedBy.ID != mac.id {
			t.Errorf("readmitted %v by %v, %v", d.Readmitted, d.ReadmittedBy, err)
		}
		phone.allow(w.begin(files, "ada").ID)

		// The readmission, too, is good for 90 days only. Nobody is left then.
		time.Sleep(dormantAfter)
		for _, d := range []*device{mac, phone} {
			_, err := d.screen()
			wantReason(t, "Screen after 90 more days", err, approval.ReasonDeviceDormant)
		}
		_, err = w.broker.BeginSignIn(t.Context(), files, approval.Request{Account: "ada"})
		wantReason(t, "BeginSignIn with dormant devices only", err, approval.ReasonNoTrustedDevice)
		if want := "No device of the account ada was seen for 90 days"; err == nil || len(err.Error()) < len(want) || err.Error()[:len(want)] != want {
			t.Errorf("BeginSignIn = %v, want it to say that they were not seen", err)
		}
		wantReason(t, "readmission by a dormant device", phone.readmit(mac.id), approval.ReasonDeviceDormant)
		for range 2 { // the second changes nothing
			if _, err := w.admin.ReadmitDevice(t.Context(), mac.id[:8]); err != nil {
				t.Errorf("an administrator's readmission = %v", err)
			}
		}
		mac.allow(w.begin(files, "ada").ID)
		if got := mac.told(); len(got) != 1 {
			t.Errorf("told %q, want one readmission", got)
		}
	})
}

// What readmission is not for.
func TestOnlyADormantDeviceIsReadmitted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.account("ada")
		w.account("eve")
		mac, phone, eve := w.enroll("ada"), w.enroll("ada"), w.enroll("eve")
		if err := mac.readmit(phone.id); err != nil {
			t.Errorf("readmitting a trusted device = %v, want nil", err)
		}
		if d, err := w.admin.Device(t.Context(), phone.id); err != nil || !d.Readmitted.IsZero() {
			t.Errorf("readmitting a trusted device left %v, %v, want no trace", d.Readmitted, err)
		}
		w.fallDormant(phone)
		wantReason(t, "readmission by another account's device", eve.readmit(phone.id), approval.ReasonNoSuchDevice)
		wantReason(t, "readmission of nothing", mac.readmit(keyID(t, newKey(t))), approval.ReasonNoSuchDevice)

		// The same statement again is a retry; an older one is a replay.
		first := mac.readmission(phone.id)
		for range 2 {
			if _, err := w.broker.ReadmitDevice(t.Context(), mac.id, first, ""); err != nil {
				t.Errorf("ReadmitDevice = %v", err)
			}
		}
		if got := mac.told(); len(got) != 1 {
			t.Errorf("told %q, want one readmission", got)
		}
		w.fallDormant(phone)
		if _, err := mac.requestCode(); err != nil {
			t.Fatal(err)
		}
		_, err := w.broker.ReadmitDevice(t.Context(), mac.id, first, "")
		wantReason(t, "A5: a readmission replayed 90 days later", err, approval.ReasonCounterReused)
		if _, err := phone.screen(); err == nil {
			t.Error("A5: the replayed readmission counted")
		}

		if _, err := w.admin.RevokeDevice(t.Context(), phone.id, ""); err != nil {
			t.Fatal(err)
		}
		wantReason(t, "readmission of a revoked device", mac.readmit(phone.id), approval.ReasonDeviceNotDormant)
		_, err = w.admin.ReadmitDevice(t.Context(), phone.id)
		wantReason(t, "an administrator's readmission of a revoked device", err, approval.ReasonDeviceNotDormant)
		mac.suspendAccount()
		wantReason(t, "readmission while suspended", mac.readmit(phone.id), approval.ReasonAccountSuspended)
	})
}

// Whatever a device calls is a sign of life, noted once a minute at most.
func TestEveryCallIsASignOfLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.account("ada")
		files := w.application("files")
		mac, phone := w.enroll("ada"), w.enroll("ada")
		for name, call := range map[string]func() error{
			"Decide":       func() error { _, err := mac.decide(w.begin(files, "ada").ID, statement.Deny, ""); return err },
			"CreateCode":   func() error { _, err := mac.requestCode(); return err },
			"UpdateDevice": func() error { mac.rename("iMac"); return nil },
			"RevokeDevice": func() error { return mac.revoke(w.enroll("ada").id) },
			"Readmit":      func() error { return mac.readmit(phone.id) },
			"Devices":      func() error { _, err := w.broker.Devices(t.Context(), mac.id); return err },
			"Self":         func() error { _, err := w.broker.Self(t.Context(), mac.id); return err },
			"Seen":         func() error { return w.broker.Seen(t.Context(), mac.id) },
		} {
			time.Sleep(10 * time.Minute)
			if err := call(); err != nil {
				t.Errorf("%s = %v", name, err)
			}
			if d, err := w.admin.Device(t.Context(), mac.id); err != nil || !d.LastSeen.Equal(time.Now().Truncate(time.Minute)) {
				t.Errorf("%s left last seen at %v, %v, want now", name, d.LastSeen, err)
			}
		}
	})
}

// TestS11RevokeAllOrAllBefore: an administrator ends the trust in all devices of
// an account, or in the older ones, in one transaction.
func TestS11RevokeAllOrAllBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.account("ada")
		w.account("eve")
		files := w.application("files")
		eve := w.enroll("eve")
		old, older := w.enroll("ada"), w.enroll("ada")
		if err := older.revoke(older.id); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		between := time.Now()
		young := w.enroll("ada")
		allowed := w.begin(files, "ada")
		code := old.allow(allowed.ID)
		requested, err := old.requestCode()
		if err != nil {
			t.Fatal(err)
		}
		_, err = w.admin.RevokeDevices(t.Context(), "ada", time.Now().Add(time.Second), "")
		wantReason(t, "a moment in the future", err, approval.ReasonInvalidField)
		_, err = w.admin.RevokeDevices(t.Context(), "nobody", time.Time{}, "")
		wantReason(t, "no such account", err, approval.ReasonAccountUnknown)

		bell := w.broker.WatchDevice(old.id)
		defer bell.Close()
		revoked, err := w.admin.RevokeDevices(t.Context(), "ada", between, "laptops of last year")
		if err != nil || len(revoked) != 1 || revoked[0].ID != old.id || revoked[0].RevokeReason != "laptops of last year" || revoked[0].RevokedBy.ID != "uid 0 (root)" {
			t.Fatalf("RevokeDevices = %+v, %v, want the older one", revoked, err)
		}
		if err := bell.Wait(t.Context()); err != nil {
			t.Errorf("the revoked device's stream was not rung: %v", err)
		}
		_, err = old.screen()
		wantReason(t, "its Screen", err, approval.ReasonDeviceRevoked)
		_, err = w.broker.VerifySignIn(t.Context(), files, allowed.ID, code)
		wantReason(t, "the code of its Allow", err, approval.ReasonSignInCancelled)
		_, err = w.broker.VerifySignIn(t.Context(), files, w.begin(files, "ada").ID, requested.Digits)
		wantReason(t, "the code that it asked for", err, approval.ReasonSignInPending)
		if _, err := young.screen(); err != nil {
			t.Errorf("Screen of the younger device = %v", err)
		}
		if got := young.told(); len(got) != 1 || got[0] != "device.revoked Mac mini" {
			t.Errorf("the younger device is told %q", got)
		}
		if revoked, err := w.admin.RevokeDevices(t.Context(), "ada", between, ""); err != nil || len(revoked) != 0 {
			t.Errorf("RevokeDevices again = %v, %v, want none", revoked, err)
		}

		revoked, err = w.admin.RevokeDevices(t.Context(), "ada", time.Time{}, "")
		if err != nil || len(revoked) != 1 || revoked[0].ID != young.id {
			t.Errorf("RevokeDevices of all = %+v, %v, want the one that is left", revoked, err)
		}
		if a, _, err := w.admin.Account(t.Context(), "ada"); err != nil || a.Trusted != 0 {
			t.Errorf("the account has %d trusted devices, %v, want none", a.Trusted, err)
		}
		if _, err := eve.screen(); err != nil {
			t.Errorf("Screen of another account's device = %v", err)
		}
	})
}
