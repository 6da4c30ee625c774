package approval_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/countersignd/countersign/internal/statement"
	"github.com/countersignd/countersign/server/approval"
	"github.com/countersignd/countersign/server/approval/storetest"
)

// besieged is an account under attack, with what its owner has.
type besieged struct {
	*world
	files, token string
	mac, phone   *device
}

// TestA24AStrangerClosesNothingOfTheOwners lets strangers exhaust each thing
// that is bounded, and the owner do each thing that must go on.
func TestA24AStrangerClosesNothingOfTheOwners(t *testing.T) {
	for attack, run := range map[string]func(*testing.T, *besieged){
		"places of unknown requesters": func(t *testing.T, w *besieged) {
			for i := range 10 {
				_, err := w.broker.BeginSignIn(t.Context(), w.files, w.asking("ada", "", fmt.Sprint("198.18.0.", i)))
				if i >= 3 {
					wantReason(t, "one more stranger", err, approval.ReasonTooManySignIns)
				}
			}
		},
		"rings of strangers": func(t *testing.T, w *besieged) {
			for i := range 7 {
				w.ask(w.files, fmt.Sprint("stranger ", i), w.asking("ada", "", fmt.Sprint("198.18.0.", i)), map[bool]approval.Silence{true: approval.SilentBudget}[i == 6])
				time.Sleep(8 * time.Minute)
			}
		},
		"rings of devices": func(t *testing.T, w *besieged) {
			for range 20 {
				w.newDevice().requestTrust("ada")
				time.Sleep(time.Minute)
			}
		},
		"silence after not-me": func(t *testing.T, w *besieged) {
			for i := range 2 {
				s := w.ask(w.files, "a stranger", w.asking("ada", "", fmt.Sprint("198.18.0.", i)), "")
				if _, err := w.mac.decide(s.ID, statement.Deny, statement.NotMe); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Minute)
			}
		},
		"wrong codes in a day": func(t *testing.T, w *besieged) { w.guess(t, 2) },
		"wrong codes in a row": func(t *testing.T, w *besieged) {
			for range 6 {
				w.guess(t, 2)
				time.Sleep(30 * 24 * time.Hour)
				w.live(t)
			}
			lanes, _, err := w.admin.Lanes(t.Context(), "ada")
			if err != nil || lanes[1].Closed.IsZero() || !lanes[0].Closed.IsZero() {
				t.Fatalf("Lanes = %+v, %v, want the unknown one closed and no other", lanes, err)
			}
			if n := w.recorded(approval.EventCodesClosed); n != 6 {
				t.Errorf("%d records that the lane was closed, want one for each month", n)
			}
		},
		"wrong codes of new devices": func(t *testing.T, w *besieged) {
			for range 2 {
				tablet := w.newDevice()
				id := tablet.requestTrust("ada")
				code := w.mac.allow(id)
				for range 5 {
					wantReason(t, "a guess", tablet.completeTrust(id, wrong(code)), approval.ReasonCodeWrong)
				}
				time.Sleep(10 * time.Minute)
			}
		},
	} {
		t.Run(attack, func(t *testing.T) {
			for deed, does := range deeds() {
				synctest.Test(t, func(t *testing.T) {
					w := &besieged{world: newWorld(t, storetest.NewMemory())}
					w.account("ada")
					w.files = w.application("files")
					w.mac, w.phone = w.enroll("ada"), w.enroll("ada")
					w.token = w.known(w.files, w.mac)
					time.Sleep(time.Hour)
					run(t, w)
					if err := does(w); err != nil {
						t.Errorf("the owner cannot %s: %v", deed, err)
					}
				})
			}
		})
	}
}

// deeds are what the owner must be able to do, whatever strangers did.
func deeds() map[string]func(*besieged) error {
	return map[string]func(*besieged) error{
		"sign in on her own browser": func(w *besieged) error {
			s, err := w.broker.BeginSignIn(w.t.Context(), w.files, w.asking("ada", w.token, "203.0.113.7"))
			if err != nil {
				return err
			}
			if s.Silent != "" {
				return errors.New("it does not ring")
			}
			_, err = w.broker.VerifySignIn(w.t.Context(), w.files, s.ID, w.mac.allow(s.ID))
			return err
		},
		"sign in by a code that she got": func(w *besieged) error {
			code, err := w.mac.requestCode()
			if err != nil {
				return err
			}
			s, err := w.broker.BeginSignIn(w.t.Context(), w.files, w.asking("ada", w.token, "203.0.113.7"))
			if err != nil {
				return err
			}
			_, err = w.broker.VerifySignIn(w.t.Context(), w.files, s.ID, code.Digits)
			return err
		},
		"deny": func(w *besieged) error {
			s, err := w.broker.BeginSignIn(w.t.Context(), w.files, w.asking("ada", w.token, "203.0.113.7"))
			if err != nil {
				return err
			}
			_, err = w.mac.decide(s.ID, statement.Deny, statement.Mistake)
			return err
		},
		"revoke":     func(w *besieged) error { return w.mac.revoke(w.phone.id) },
		"see a list": func(w *besieged) error { _, err := w.broker.Devices(w.t.Context(), w.mac.id); return err },
		"rename": func(w *besieged) error {
			_, err := w.broker.UpdateDevice(w.t.Context(), w.mac.id, approval.Update{Name: "My Mac"}, "")
			return err
		},
		"unlock, and sign in where she is not known": func(w *besieged) error {
			if err := w.mac.unlock(); err != nil {
				return err
			}
			screen, err := w.mac.screen()
			if err != nil {
				return err
			}
			for _, p := range screen.Prompts { // what strangers have open
				if _, err := w.mac.decide(p.SignIn, statement.Deny, statement.Mistake); err != nil {
					return err
				}
			}
			s, err := w.broker.BeginSignIn(w.t.Context(), w.files, w.asking("ada", "", "203.0.113.7"))
			if err != nil {
				return err
			}
			_, err = w.broker.VerifySignIn(w.t.Context(), w.files, s.ID, w.mac.allow(s.ID))
			return err
		},
	}
}

// live is what the owner does now and then: her devices are there, and she signs
// in on her own browser.
func (w *besieged) live(t *testing.T) {
	t.Helper()
	for _, d := range []*device{w.mac, w.phone} {
		if err := w.broker.Seen(t.Context(), d.id); err != nil {
			t.Fatal(err)
		}
	}
	s := w.ask(w.files, "the owner", w.asking("ada", w.token, "203.0.113.7"), "")
	if _, err := w.broker.VerifySignIn(t.Context(), w.files, s.ID, w.mac.allow(s.ID)); err != nil {
		t.Fatal(err)
	}
}

// guess types five wrong codes in each of n sign-ins that were allowed by mistake.
func (w *besieged) guess(t *testing.T, n int) {
	t.Helper()
	for i := range n {
		s, err := w.broker.BeginSignIn(t.Context(), w.files, w.asking("ada", "", fmt.Sprint("198.18.0.", i)))
		if err != nil {
			t.Fatal(err)
		}
		code := wrong(w.mac.allow(s.ID))
		for range 5 {
			_, err := w.broker.VerifySignIn(t.Context(), w.files, s.ID, code)
			wantReason(t, "a guess", err, approval.ReasonCodeWrong)
		}
	}
}

// TestUnlock shows what it clears and what not, and by whose word.
func TestUnlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &besieged{world: newWorld(t, nil)}
		w.account("ada")
		w.account("bob")
		w.files = w.application("files")
		w.mac, w.phone = w.enroll("ada"), w.enroll("ada")
		bobs := w.enroll("bob")
		administrator := func() error { _, err := w.admin.UnlockAccount(t.Context(), "ada", "she called"); return err }
		for name, unlock := range map[string]func() error{"device": w.mac.unlock, "administrator": administrator} {
			w.guess(t, 2)
			barred := func() error {
				s := w.begin(w.files, "ada")
				_, err := w.broker.VerifySignIn(t.Context(), w.files, s.ID, w.mac.allow(s.ID))
				return err
			}
			wantReason(t, "the right code after ten wrong ones", barred(), approval.ReasonTooManyFailures)
			if err := bobs.unlock(); err != nil {
				t.Fatal(err)
			}
			wantReason(t, "after another account was unlocked", barred(), approval.ReasonTooManyFailures)
			if err := unlock(); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			lanes, sources, err := w.admin.Lanes(t.Context(), "ada")
			if err != nil || len(sources) != 0 || slices.ContainsFunc(lanes, func(l approval.LaneStatus) bool {
				return l.FailuresMonth != 0 || !l.BarredUntil.IsZero() || !l.SilentUntil.IsZero()
			}) {
				t.Errorf("%s: Lanes = %+v, %+v, %v, want all of it cleared", name, lanes, sources, err)
			}
			if lanes[1].Rung == 0 {
				t.Errorf("%s: what was rung is not counted any more", name)
			}
			time.Sleep(10 * time.Minute)
			if err := barred(); err != nil {
				t.Errorf("%s: a right code afterwards = %v", name, err)
			}
			time.Sleep(time.Hour)
		}
		_, err := w.admin.UnlockAccount(t.Context(), "nobody", "")
		wantReason(t, "an account that is not there", err, approval.ReasonAccountUnknown)
		_, err = w.admin.UnlockAccount(t.Context(), "ada", "a\nb")
		wantReason(t, "a hostile reason", err, approval.ReasonInvalidField)

		// By a statement of its own, fresh, of a device that counts.
		w.mac.counter++
		jws, err := statement.Sign(w.mac.approval, statement.Unlock{
			Account: "ada", ApprovalKey: keyID(t, w.mac.approval), Aud: w.broker.Deployment(), Counter: w.mac.counter,
			Device: w.mac.id, Iat: time.Now().Unix(), ServerKey: w.broker.ServerKey(),
		})
		if err != nil {
			t.Fatal(err)
		}
		before := w.recorded(approval.EventUnlocked)
		for range 2 { // the answer may be lost
			if err := w.broker.Unlock(t.Context(), w.mac.id, jws, ""); err != nil {
				t.Fatal(err)
			}
		}
		if n := w.recorded(approval.EventUnlocked) - before; n != 1 {
			t.Errorf("sent twice it is on record %d times, want once", n)
		}
		_, err = w.broker.CreateCode(t.Context(), w.mac.id, jws, "")
		wantReason(t, "A6: unlocking as a code request", err, approval.ReasonStatementInvalid)
		wantReason(t, "another device's", w.broker.Unlock(t.Context(), w.phone.id, jws, ""), approval.ReasonStatementInvalid)
		if _, err := w.mac.requestCode(); err != nil {
			t.Fatal(err)
		}
		wantReason(t, "an old one", w.broker.Unlock(t.Context(), w.mac.id, jws, ""), approval.ReasonCounterReused)
		if err := w.phone.revoke(w.mac.id); err != nil {
			t.Fatal(err)
		}
		wantReason(t, "a revoked device's", w.mac.unlock(), approval.ReasonDeviceRevoked)
	})
}

// TestA9NoOtherPathIsOpen tries every path that lets somebody in, in every state
// in which nobody may be let in.
func TestA9NoOtherPathIsOpen(t *testing.T) {
	for state, enter := range map[string]func(*besieged, approval.SignIn){
		"suspended": func(w *besieged, _ approval.SignIn) {
			if _, err := w.admin.SuspendAccount(w.t.Context(), "ada", ""); err != nil {
				w.t.Fatal(err)
			}
		},
		"denied for good": func(w *besieged, s approval.SignIn) {
			if err := w.policy("files", func(p *approval.Policy) { p.DenialFinal = true }); err != nil {
				w.t.Fatal(err)
			}
			if _, err := w.mac.decide(s.ID, statement.Deny, ""); err != nil {
				w.t.Fatal(err)
			}
		},
		"barred by wrong codes": func(w *besieged, _ approval.SignIn) { w.guess(w.t, 2) },
		"no device left": func(w *besieged, _ approval.SignIn) {
			for _, d := range []*device{w.mac, w.phone} {
				if _, err := w.admin.RevokeDevice(w.t.Context(), d.id, ""); err != nil {
					w.t.Fatal(err)
				}
			}
		},
	} {
		t.Run(state, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &besieged{world: newWorld(t, storetest.NewMemory())}
				w.account("ada")
				w.files = w.application("files")
				w.mac, w.phone = w.enroll("ada"), w.enroll("ada")
				s := w.begin(w.files, "ada")
				before, err := w.phone.requestCode()
				if err != nil {
					t.Fatal(err)
				}
				document := w.phone.shown(s.ID)
				time.Sleep(time.Second)
				enter(w, s)
				verify := func(digits string) error {
					_, err := w.broker.VerifySignIn(t.Context(), w.files, s.ID, digits)
					return err
				}
				paths := map[string]func() error{
					"a code that was got before": func() error { return verify(before.Digits) },
					"a code that is got now": func() error {
						code, err := w.phone.requestCode()
						if err != nil {
							return err
						}
						return verify(code.Digits)
					},
					"Allow, and its code": func() error {
						code, err := w.broker.Decide(t.Context(), w.phone.id, w.phone.decision(document, statement.Allow, ""), "")
						if err != nil {
							return err
						}
						return verify(code.Digits)
					},
					"asking again for the same": func() error {
						again, err := w.broker.BeginSignIn(t.Context(), w.files, approval.Request{Account: "ada", Requester: s.Requester})
						if err != nil {
							return err
						}
						return verify(map[bool]string{true: before.Digits, false: "000000"}[again.ID == s.ID])
					},
				}
				for path, try := range paths {
					if err := try(); err == nil {
						t.Errorf("%s lets somebody in", path)
					}
				}
				if got, _, err := w.admin.SignIn(t.Context(), s.ID); err != nil || got.At(time.Now()) == approval.Verified {
					t.Errorf("the sign-in is %v, %v", got.At(time.Now()), err)
				}
			})
		})
	}
}
