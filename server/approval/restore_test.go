package approval_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/countersignd/countersign/internal/statement"
	"github.com/countersignd/countersign/server/approval"
	"github.com/countersignd/countersign/server/approval/storetest"
)

// memoryOutside keeps the number in memory, where a restored store leaves it.
func memoryOutside() *approval.Outside {
	var kept uint64
	return &approval.Outside{
		Load: func() (uint64, error) { return kept, nil },
		Save: func(n uint64) error { kept = n; return nil },
	}
}

// copyOf returns a copy of a store, as somebody makes one with cp.
func copyOf(t testing.TB, store approval.Store) approval.Store {
	t.Helper()
	made := storetest.NewMemory()
	err := made.Update(t.Context(), func(to approval.Tx) error {
		return store.View(t.Context(), func(from approval.Tx) error {
			for _, bucket := range approval.Buckets() {
				for key, value := range from.Ascend(bucket, "") {
					if err := to.Put(bucket, key, value); err != nil {
						return err
					}
				}
			}
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// backup returns a copy of the store, as the server makes one: the number moves
// on when it is made.
func (w *world) backup() approval.Store {
	w.t.Helper()
	made := copyOf(w.t, w.store)
	if err := w.broker.NextGeneration(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	return made
}

// restore starts the server with another store.
func (w *world) restore(store approval.Store) {
	w.t.Helper()
	w.store = store
	w.config.Store = &storetest.Faulty{Store: store, Twice: true}
	w.restart()
}

// newRestorable is a world with an account, an application and two devices.
func newRestorable(t *testing.T) (w *world, files string, mac, phone *device) {
	w = newWorld(t, storetest.NewMemory())
	w.config.Outside = memoryOutside()
	w.restore(storetest.NewMemory())
	w.account("ada")
	return w, w.application("files"), w.enroll("ada"), w.enroll("ada")
}

// TestA13AnOldBackupIsRestored: between the backup and its restore a device was
// revoked, a code used, another one asked for and used, and a sign-in denied.
func TestA13AnOldBackupIsRestored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, files, mac, phone := newRestorable(t)
		pending, approved, denied := w.begin(files, "ada"), w.begin(files, "ada"), w.begin(files, "ada")
		onPhone := phone.shown(pending.ID)
		spent := mac.allow(approved.ID)
		requested, err := phone.requestCode()
		if err != nil {
			t.Fatal(err)
		}
		token := w.invite("ada")
		time.Sleep(time.Second)
		old := w.backup()

		if _, err := w.broker.VerifySignIn(t.Context(), files, approved.ID, spent); err != nil {
			t.Fatal(err)
		}
		if _, err := mac.decide(denied.ID, statement.Deny, statement.NotMe); err != nil {
			t.Fatal(err)
		}
		used := w.begin(files, "ada")
		if _, err := w.broker.VerifySignIn(t.Context(), files, used.ID, requested.Digits); err != nil {
			t.Fatal(err)
		}
		if _, err := w.broker.EnrollDevice(t.Context(), w.newDevice().enrolling(token)); err != nil {
			t.Fatal(err)
		}
		if _, err := w.newDevice().recover("ada", mac.codes[0]); err != nil {
			t.Fatal(err)
		}
		offline := mac.offline(time.Now())
		if err := w.verify(files, w.begin(files, "ada"), offline); err != nil {
			t.Fatal(err)
		}
		if _, err := w.admin.RevokeDevice(t.Context(), phone.id, "stolen"); err != nil {
			t.Fatal(err)
		}

		time.Sleep(time.Second)
		w.restore(old)
		if ago := w.broker.Now().Sub(w.broker.Restored()); ago.Abs() > time.Millisecond {
			t.Fatalf("restored %v ago, want now", ago)
		}
		_, err = w.broker.VerifySignIn(t.Context(), files, approved.ID, spent)
		wantReason(t, "the spent code", err, approval.ReasonSignInCancelled)
		_, err = w.broker.VerifySignIn(t.Context(), files, denied.ID, requested.Digits)
		wantReason(t, "the spent code that was asked for", err, approval.ReasonSignInCancelled)
		_, err = w.broker.EnrollDevice(t.Context(), w.newDevice().enrolling(token))
		wantReason(t, "the used invitation", err, approval.ReasonInvitationInvalid)
		_, err = w.newDevice().recover("ada", mac.codes[0])
		wantReason(t, "the used recovery code", err, approval.ReasonRecoveryCodeInvalid)
		_, err = w.newDevice().recover("ada", mac.codes[1])
		wantReason(t, "a recovery code from before", err, approval.ReasonRecoveryCodeInvalid)
		_, err = phone.screen()
		wantReason(t, "the revoked device", err, approval.ReasonDeviceUnconfirmed)
		_, err = w.broker.Decide(t.Context(), phone.id, phone.decision(onPhone, statement.Allow, ""), "")
		wantReason(t, "an Allow by the revoked device", err, approval.ReasonDeviceUnconfirmed)
		_, err = phone.requestCode()
		wantReason(t, "a code for the revoked device", err, approval.ReasonDeviceUnconfirmed)
		wantReason(t, "revoking by the revoked device", phone.revoke(mac.id), approval.ReasonDeviceUnconfirmed)
		_, err = w.broker.BeginSignIn(t.Context(), files, approval.Request{Account: "ada"})
		wantReason(t, "a new sign-in", err, approval.ReasonNoTrustedDevice)

		// Another start does not end it, and a person can.
		w.restart()
		time.Sleep(time.Second)
		if got, err := w.admin.ConfirmDevices(t.Context(), "", []string{mac.id}); err != nil || len(got) != 1 || got[0].ID != mac.id {
			t.Fatalf("ConfirmDevices = %v, %v, want the Mac", got, err)
		}
		_, err = phone.screen()
		wantReason(t, "the revoked device, when another was confirmed", err, approval.ReasonDeviceUnconfirmed)
		wantReason(t, "the used offline code", w.verify(files, w.begin(files, "ada"), offline), approval.ReasonCodeWrong)
		s := w.begin(files, "ada")
		if _, err := w.broker.VerifySignIn(t.Context(), files, s.ID, mac.allow(s.ID)); err != nil {
			t.Errorf("a sign-in afterwards = %v", err)
		}
		if _, err := w.admin.RevokeDevice(t.Context(), phone.id, "stolen"); err != nil {
			t.Fatal(err)
		}
		_, err = w.admin.ConfirmDevices(t.Context(), "", []string{phone.id})
		wantReason(t, "confirming a revoked device", err, approval.ReasonDeviceRevoked)
		if got, err := w.admin.ConfirmDevices(t.Context(), "ada", nil); err != nil || len(got) != 0 {
			t.Errorf("confirming the account = %v, %v, want nothing left", got, err)
		}
		_, err = phone.screen()
		wantReason(t, "the device that was revoked again", err, approval.ReasonDeviceRevoked)
		var restored, confirmed int
		records, _, err := w.admin.ListRecords(t.Context(), approval.RecordFilter{}, approval.Page{})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range records {
			switch r.Event {
			case approval.EventServerRestored:
				restored++
			case approval.EventDeviceConfirmed:
				confirmed++
			}
		}
		if restored != 1 || confirmed != 1 {
			t.Errorf("%d restores and %d confirmed devices on record, want 1 and 1", restored, confirmed)
		}
	})
}

// Nobody revoked anything: one command, and all is as it was, also when the
// backup is older than a device may be unseen.
func TestA13ARestoreCostsOneCommand(t *testing.T) {
	for _, age := range []time.Duration{0, time.Hour, 100 * 24 * time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			w, files, mac, phone := newRestorable(t)
			old := w.backup()
			time.Sleep(age)
			w.restore(old)
			if got, err := w.admin.ConfirmDevices(t.Context(), "ada", nil); err != nil || len(got) != 2 {
				t.Fatalf("ConfirmDevices(ada) = %v, %v, want two devices", got, err)
			}
			for _, d := range []*device{mac, phone} {
				s := w.begin(files, "ada")
				if _, err := w.broker.VerifySignIn(t.Context(), files, s.ID, d.allow(s.ID)); err != nil {
					t.Errorf("a backup that is %v old: a sign-in afterwards = %v", age, err)
				}
			}
			w.restart()
			if _, err := mac.screen(); err != nil {
				t.Errorf("a backup that is %v old: after another start = %v", age, err)
			}
		})
	}
}

// A device that waits after a recovery was revoked since the backup was made: its
// waiting time comes to its end, and it counts for nothing all the same.
func TestA13ADeviceThatWaitedIsNotConfirmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _, mac, _ := newRestorable(t)
		w.config.RecoveryWait = time.Hour
		w.restart()
		thief := w.newDevice()
		if _, err := thief.recover("ada", mac.codes[0]); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		old := w.backup()
		if err := mac.revoke(thief.id); err != nil {
			t.Fatal(err)
		}
		w.restore(old)
		time.Sleep(2 * time.Hour)
		if got, err := thief.resume(); err != nil || w.broker.StateOf(&got.Device) != approval.DeviceUnconfirmed {
			t.Errorf("the device that waited is %v, %v, want unconfirmed", w.broker.StateOf(&got.Device), err)
		}
		_, err := thief.screen()
		wantReason(t, "its screen", err, approval.ReasonDeviceUnconfirmed)
	})
}

func TestConfirmDevicesRefuses(t *testing.T) {
	w, _, mac, _ := newRestorable(t)
	for _, test := range []struct {
		name    string
		account string
		ids     []string
		want    approval.Reason
	}{
		{"nothing", "", nil, approval.ReasonInvalidField},
		{"both", "ada", []string{mac.id}, approval.ReasonInvalidField},
		{"an unknown account", "bob", nil, approval.ReasonAccountUnknown},
		{"an unknown device", "", []string{"aaaaaaaa"}, approval.ReasonNoSuchDevice},
		{"too many", "", make([]string, 101), approval.ReasonInvalidField},
	} {
		_, err := w.admin.ConfirmDevices(t.Context(), test.account, test.ids)
		wantReason(t, test.name, err, test.want)
	}
	if got, err := w.admin.ConfirmDevices(t.Context(), "", []string{mac.id}); err != nil || len(got) != 0 {
		t.Errorf("confirming a trusted device = %v, %v, want nothing changed", got, err)
	}
}

var errCrash = errors.New("crash")

// TestA13TheGenerationTellsOldFromNew does at random what can happen to a
// server: starts, backups, hours, restores, and crashes before and after each
// write. A copy that was made before the last start, backup or hour is always
// known as an old one; the store itself never is.
func TestA13TheGenerationTellsOldFromNew(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var number uint64
		crash := 0 // at which moment from now on; 0 means never
		crashes := func() bool {
			crash--
			return crash == 0
		}
		live, old := approval.Store(storetest.NewMemory()), false // old: a copy that no server has known for one yet
		var copies []approval.Store                               // made before the number moved on
		w := newWorld(t, storetest.NewMemory())
		w.config.Outside = &approval.Outside{
			Load: func() (uint64, error) { return number, nil },
			Save: func(n uint64) error {
				if crashes() {
					return errCrash
				}
				number = n
				if crashes() {
					return errCrash
				}
				return nil
			},
		}
		running := false
		start := func() {
			w.config.Store = &storetest.Faulty{Store: live, Fault: func(int) storetest.Fault {
				switch {
				case crashes():
					return storetest.Before
				case crashes():
					return storetest.After
				}
				return storetest.None
			}}
			before := metaOf(t, live, "restored")
			b, err := approval.Open(t.Context(), w.config)
			w.broker, running = b, err == nil
			restored := metaOf(t, live, "restored") != before
			if restored && !old {
				rt.Fatal("the store itself was taken for an old copy")
			}
			if running && old && !restored {
				rt.Fatal("an old copy was not known for one")
			}
			old = old && !restored
		}
		for range 30 {
			crash = rapid.IntRange(0, 6).Draw(rt, "crash")
			before := copyOf(t, live)
			switch action := rapid.SampledFrom([]string{"start", "backup", "restore"}).Draw(rt, "action"); {
			case action == "backup" && running:
				running = w.broker.NextGeneration(t.Context()) == nil
			case action == "restore" && len(copies) > 0:
				live, old = copyOf(t, rapid.SampledFrom(copies).Draw(rt, "copy")), true
				start()
			default:
				start()
			}
			if running && metaOf(t, before, "deployment") != "" {
				copies = append(copies, before)
			}
		}
	})
}

func metaOf(t testing.TB, store approval.Store, key string) (value string) {
	t.Helper()
	err := store.View(t.Context(), func(tx approval.Tx) error {
		b, err := tx.Get("meta", key)
		value = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return value
}
