package approval_test

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/countersignd/countersign/internal/statement"
	"github.com/countersignd/countersign/server/approval"
	"github.com/countersignd/countersign/server/approval/storetest"
)

// flip flips a bit of what is stored.
func (w *world) flip(bucket, key string) {
	w.t.Helper()
	w.tampered = true
	if err := w.store.Update(w.t.Context(), func(tx approval.Tx) error {
		b, err := tx.Get(bucket, key)
		if err != nil || b == nil {
			return errors.Join(err, errors.New("there is no such row"))
		}
		b = slices.Clone(b)
		b[0] ^= 1
		return tx.Put(bucket, key, b)
	}); err != nil {
		w.t.Fatalf("damaging %s/%s: %v", bucket, key, err)
	}
}

// With a damaged activity nobody comes in, and everything that shuts somebody out
// works as ever.
func TestDamagedActivity(t *testing.T) {
	for name, shut := range map[string]func(w *world, mac, phone *device, s approval.SignIn) error{
		"a device denies": func(w *world, mac, _ *device, s approval.SignIn) error {
			_, err := mac.decide(s.ID, statement.Deny, "")
			return err
		},
		"a device denies a stranger's": func(w *world, mac, _ *device, s approval.SignIn) error {
			_, err := mac.decide(s.ID, statement.Deny, statement.NotMe)
			return err
		},
		"a device revokes another": func(w *world, mac, phone *device, _ approval.SignIn) error {
			return mac.revoke(phone.id)
		},
		"an administrator revokes": func(w *world, _, phone *device, _ approval.SignIn) error {
			_, err := w.admin.RevokeDevice(t.Context(), phone.id, "")
			return err
		},
		"an administrator suspends": func(w *world, mac, _ *device, _ approval.SignIn) error {
			_, err := w.admin.SuspendAccount(t.Context(), "ada", "")
			if screen, err := mac.screen(); err != nil || !screen.Suspended {
				t.Errorf("afterwards the screen says that the account is suspended: %v, %v", screen.Suspended, err)
			}
			return err
		},
		"an administrator removes the application": func(w *world, mac, _ *device, _ approval.SignIn) error {
			err := w.admin.RemoveApplication(t.Context(), "files")
			if screen, err := mac.screen(); err != nil || len(screen.Prompts) != 0 {
				t.Errorf("afterwards the screen has %d prompts, %v", len(screen.Prompts), err)
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, storetest.NewMemory())
			w.account("ada")
			files := w.application("files")
			mac, phone := w.enroll("ada"), w.enroll("ada")
			allowed, s := w.begin(files, "ada"), w.begin(files, "ada")
			code := mac.allow(allowed.ID)
			records := w.records()
			w.flip("activity", "ada")

			if screen, err := mac.screen(); err != nil || len(screen.Prompts) != 1 {
				t.Errorf("the screen has %d prompts, %v, want 1", len(screen.Prompts), err)
			}
			if _, err := w.broker.BeginSignIn(t.Context(), files, w.asking("ada", "", "203.0.113.7")); !errors.Is(err, approval.ErrStoreFailed) {
				t.Errorf("BeginSignIn = %v, want %v", err, approval.ErrStoreFailed)
			}
			if _, err := w.broker.VerifySignIn(t.Context(), files, allowed.ID, code); !errors.Is(err, approval.ErrStoreFailed) {
				t.Errorf("VerifySignIn = %v, want %v", err, approval.ErrStoreFailed)
			}
			if err := shut(w, mac, phone, s); err != nil {
				t.Error(err)
			}
			if now := w.records(); now <= records {
				t.Errorf("there are %d records, and were %d", now, records)
			}
		})
	}
}

// What is damaged of one account does not keep the sign-ins of another from being
// called off, nor the server from starting.
func TestDamageIsOneAccounts(t *testing.T) {
	for name, damage := range map[string]func(w *world, s approval.SignIn){
		"activity": func(w *world, _ approval.SignIn) { w.flip("activity", "ada") },
		"sign-in":  func(w *world, s approval.SignIn) { w.flip("sign_ins", s.ID) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, storetest.NewMemory())
				set := w.setClock()
				w.account("ada")
				w.account("bob")
				files, music := w.application("files"), w.application("music")
				w.enroll("ada")
				bob := w.enroll("bob")
				s := w.begin(files, "ada")
				w.begin(music, "bob")
				damage(w, s)

				if err := w.admin.RemoveApplication(t.Context(), "music"); err != nil {
					t.Errorf("RemoveApplication = %v", err)
				}
				if screen, err := bob.screen(); err != nil || len(screen.Prompts) != 0 {
					t.Errorf("after its application was removed, a sign-in is on %d screens, %v", len(screen.Prompts), err)
				}
				w.begin(files, "bob")
				set(3 * time.Minute)
				time.Sleep(time.Second)
				if err := w.broker.KeepTime(t.Context()); err != nil {
					t.Errorf("KeepTime = %v", err)
				}
				if screen, err := bob.screen(); err != nil || len(screen.Prompts) != 0 {
					t.Errorf("after the clock was set, a sign-in is on %d screens, %v", len(screen.Prompts), err)
				}
				set(-20 * time.Minute)
				if _, err := approval.Open(t.Context(), w.config); err != nil {
					t.Errorf("Open = %v", err)
				}
			})
		})
	}
}

// What is damaged of one account does not keep a clock that was far ahead from
// being put right for all.
func TestDamageDoesNotKeepTheClockWrong(t *testing.T) {
	for _, bucket := range []string{"accounts", "activity", "devices"} {
		t.Run(bucket, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const century = 100 * 365 * 24 * time.Hour
				w := newWorld(t, storetest.NewMemory())
				w.config.Outside = memoryOutside()
				set := w.setClock()
				w.account("ada")
				w.account("bob")
				files := w.application("files")
				set(century)
				w.keepTime()
				ada, bob := w.enroll("ada"), w.enroll("bob")
				w.begin(files, "ada")
				set(-century)
				time.Sleep(time.Hour)
				if bucket == "devices" {
					w.flip(bucket, ada.id)
				} else {
					w.flip(bucket, "ada")
				}
				w.config.AcceptClock = true
				w.restart()
				w.config.AcceptClock = false
				if err := w.broker.Seen(t.Context(), bob.id); err != nil {
					t.Fatal(err)
				}
				s := w.begin(files, "bob")
				if _, err := w.broker.VerifySignIn(t.Context(), files, s.ID, bob.allow(s.ID)); err != nil {
					t.Errorf("bob's code = %v", err)
				}
				if _, err := ada.screen(); err == nil && bucket != "activity" { // with that one she may deny
					t.Error("ada's device has a screen")
				}
			})
		})
	}
}
