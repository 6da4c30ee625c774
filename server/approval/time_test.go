package approval_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/countersignd/countersign/internal/statement"
	"github.com/countersignd/countersign/server/approval"
	"github.com/countersignd/countersign/server/approval/storetest"
)

// setClock gives the world a machine whose clock the test sets. It returns what
// moves it.
func (w *world) setClock() func(time.Duration) {
	var set time.Duration
	w.config.SetWall(func() time.Time { return time.Now().Add(set) })
	w.restart()
	return func(d time.Duration) { set += d }
}

// TestA19AClockThatIsSet sets the clock at every state of what lives for a
// while: while the server runs, once it has noticed, and across a restart. It
// then waits for as long as the thing may live, and uses it.
func TestA19AClockThatIsSet(t *testing.T) {
	type life struct {
		name  string
		lives time.Duration
		begin func(w *world, files string, mac *device) (use func() error)
		over  approval.Reason // of a use when the time is over
		void  approval.Reason // of a use at once, after a large step back; 0 if it is still good
	}
	for _, l := range []life{
		{"a pending sign-in", 5 * time.Minute, func(w *world, files string, mac *device) func() error {
			s := w.begin(files, "ada")
			document := mac.shown(s.ID)
			return func() error {
				_, err := w.broker.Decide(w.t.Context(), mac.id, mac.decision(document, statement.Allow, ""), "")
				return err
			}
		}, approval.ReasonSignInExpired, approval.ReasonSignInCancelled},
		{"an approved sign-in", 2 * time.Minute, func(w *world, files string, mac *device) func() error {
			s := w.begin(files, "ada")
			digits := mac.allow(s.ID)
			return func() error {
				_, err := w.broker.VerifySignIn(w.t.Context(), files, s.ID, digits)
				return err
			}
		}, approval.ReasonSignInExpired, approval.ReasonSignInCancelled},
		{"a code that was asked for", 5 * time.Minute, func(w *world, files string, mac *device) func() error {
			code, err := mac.requestCode()
			if err != nil {
				w.t.Fatal(err)
			}
			return func() error {
				s := w.begin(files, "ada")
				_, err := w.broker.VerifySignIn(w.t.Context(), files, s.ID, code.Digits)
				return err
			}
		}, approval.ReasonSignInPending, approval.ReasonSignInPending},
		{"an invitation", 10 * time.Minute, func(w *world, files string, mac *device) func() error {
			token := w.invite("ada")
			return func() error {
				_, err := w.broker.EnrollDevice(w.t.Context(), w.newDevice().enrolling(token))
				return err
			}
		}, approval.ReasonInvitationInvalid, 0},
		{"a used code", time.Minute, func(w *world, files string, mac *device) func() error {
			s := w.begin(files, "ada")
			digits := mac.allow(s.ID)
			if _, err := w.broker.VerifySignIn(w.t.Context(), files, s.ID, digits); err != nil {
				w.t.Fatal(err)
			}
			return func() error {
				_, err := w.broker.VerifySignIn(w.t.Context(), files, s.ID, digits)
				return err
			}
		}, approval.ReasonSignInVerified, approval.ReasonSignInVerified},
		{"an offline code", 4 * time.Minute, func(w *world, files string, mac *device) func() error {
			digits := mac.offline(time.Now())
			return func() error { return w.verify(files, w.begin(files, "ada"), digits) }
		}, approval.ReasonCodeWrong, 0},
		{"a denied sign-in", 5 * time.Minute, func(w *world, files string, mac *device) func() error {
			s := w.begin(files, "ada")
			digits := mac.allow(s.ID)
			document, err := mac.screen()
			if err != nil {
				w.t.Fatal(err)
			}
			if _, err := w.broker.Decide(w.t.Context(), mac.id, mac.decision(document.Codes[0].Document, statement.Deny, ""), ""); err != nil {
				w.t.Fatal(err)
			}
			return func() error {
				_, err := w.broker.VerifySignIn(w.t.Context(), files, s.ID, digits)
				return err
			}
		}, approval.ReasonSignInDenied, approval.ReasonSignInDenied},
	} {
		for _, step := range []time.Duration{-24 * time.Hour, -time.Minute, time.Minute, 24 * time.Hour} {
			for _, how := range []string{"while it runs", "noticed", "across a restart"} {
				synctest.Test(t, func(t *testing.T) {
					what := l.name + ", set by " + step.String() + " " + how
					w := newWorld(t, nil)
					set := w.setClock()
					w.account("ada")
					files := w.application("files")
					mac := w.enroll("ada")

					use := l.begin(w, files, mac)
					set(step)
					before := w.broker.Now()
					large := step.Abs() > 2*time.Minute
					switch how {
					case "noticed":
						w.keepTime()
					case "across a restart":
						w.restart()
						large = large && step < 0 // a server that was off for a day is nothing unusual
					}
					if now := w.broker.Now(); now.Before(before) {
						t.Errorf("%s: the time went back by %v", what, before.Sub(now))
					}
					over := l.over
					switch {
					case step > l.lives:
						wantReason(t, what+": using it at once", use(), l.over)
					case large && how != "while it runs" && l.void != 0:
						wantReason(t, what+": using it at once", use(), l.void)
						over = l.void
					}
					time.Sleep(l.lives)
					wantReason(t, what+": using it when it is over", use(), over)
				})
			}
		}
	}
}

func (w *world) keepTime() {
	w.t.Helper()
	if err := w.broker.KeepTime(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

// A step is on record, the application and the devices are rung, and the
// records' times do not go back.
func TestA19AStepIsRecordedAndTold(t *testing.T) {
	for step, words := range map[time.Duration]string{-3 * time.Hour: "set back by 3h0m0s", 3 * time.Minute: "set forward by 3m0s"} {
		stepIsRecordedAndTold(t, step, words)
	}
}

func stepIsRecordedAndTold(t *testing.T, step time.Duration, words string) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		set := w.setClock()
		w.account("ada")
		files := w.application("files")
		mac := w.enroll("ada")
		s := w.begin(files, "ada")
		screen, signIn := w.broker.WatchDevice(mac.id), w.broker.WatchSignIn(s.ID)
		defer screen.Close()
		defer signIn.Close()

		set(step)
		w.keepTime()
		if err := screen.Wait(t.Context()); err != nil {
			t.Error(err)
		}
		if err := signIn.Wait(t.Context()); err != nil {
			t.Error(err)
		}
		got, err := w.broker.SignIn(t.Context(), files, s.ID)
		if err != nil || got.At(w.broker.Now()) != approval.Cancelled || got.CancelCause != approval.CancelClockChanged {
			t.Errorf("the open sign-in is %v because of %q, %v, want cancelled because of clock_changed", got.At(w.broker.Now()), got.CancelCause, err)
		}
		if ahead, want := w.broker.ClockAhead(), max(0, -step); ahead != want {
			t.Errorf("ClockAhead = %v, want %v", ahead, want)
		}
		w.keepTime() // once noticed, it is over
		w.restart()
		w.account("bob")
		records, _, err := w.admin.ListRecords(t.Context(), approval.RecordFilter{}, approval.Page{})
		if err != nil {
			t.Fatal(err)
		}
		changes := 0
		for i, r := range records {
			if r.Event == approval.EventClockChanged {
				changes++
				if r.Detail != words {
					t.Errorf("record %d says %q, want %q", r.Sequence, r.Detail, words)
				}
			}
			if i > 0 && r.Time.After(records[i-1].Time) {
				t.Errorf("record %d is of %v, and the one before of %v", records[i-1].Sequence, records[i-1].Time, r.Time)
			}
		}
		want := 1
		if step < 0 {
			want = 2 // once more at the start, when nobody knows how long the server was off
		}
		if changes != want {
			t.Errorf("%d records of the clock, want %d", changes, want)
		}
	})
}

// Grants are compared with applications' clocks, not with the server's time.
func TestA19AGrantCarriesTheMachinesTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		set := w.setClock()
		w.account("ada")
		files := w.application("files")
		mac := w.enroll("ada")
		set(time.Hour)
		w.keepTime()
		set(-time.Hour)
		w.keepTime()
		s := w.begin(files, "ada")
		admission, err := w.broker.VerifySignIn(t.Context(), files, s.ID, mac.allow(s.ID))
		if err != nil {
			t.Fatal(err)
		}
		kid, jwk := w.broker.SigningKey()
		key, err := jwk.PublicKey()
		if err != nil {
			t.Fatal(err)
		}
		grant, err := statement.Verify[statement.Grant](key, kid, admission.Grant)
		if err != nil || grant.Iat != time.Now().Unix() || grant.Exp != time.Now().Add(2*time.Minute).Unix() {
			t.Errorf("grant = %+v, %v, want one that is good for two minutes from %d on", grant, err, time.Now().Unix())
		}
	})
}

// The time is written down once a minute when nothing else happens, and not
// when the disk is nearly full.
func TestTheTimeIsWrittenDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		faulty := &storetest.Faulty{Store: storetest.NewMemory()}
		w := newWorld(t, faulty)
		full := false
		w.config.Full = func() bool { return full }
		set := w.setClock()
		updates := faulty.Updates()
		second := func(n int) int {
			for range n {
				time.Sleep(time.Second)
				w.keepTime()
			}
			return faulty.Updates() - updates
		}
		if got := second(600); got != 10 {
			t.Errorf("%d updates in ten minutes, want 10", got)
		}
		full = true
		if got := second(600); got != 10 {
			t.Errorf("%d updates on a disk that is nearly full, want none", got-10)
		}
		full = false
		second(1)
		before := w.broker.Now()
		set(-time.Hour)
		w.restart()
		if now := w.broker.Now(); now.Before(before) {
			t.Errorf("after a restart the time went back by %v", before.Sub(now))
		}
	})
}

// A clock was once far ahead. The operator says that it is right now, and
// everything works again: nothing waits for the year it showed.
func TestA19TheOperatorAcceptsTheClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const century = 100 * 365 * 24 * time.Hour
		w := newWorld(t, nil)
		w.config.Outside = memoryOutside()
		set := w.setClock()
		w.account("ada")
		files := w.application("files")
		mac := w.enroll("ada")

		set(century)
		w.keepTime()
		phone := w.enroll("ada")
		music := w.application("music")
		stale := w.invite("ada")
		if _, err := w.admin.SuspendAccount(t.Context(), "ada", ""); err != nil {
			t.Fatal(err)
		}
		if _, err := w.admin.ResumeAccount(t.Context(), "ada"); err != nil {
			t.Fatal(err)
		}
		denied := w.begin(files, "ada")
		if err := w.broker.Seen(t.Context(), phone.id); err != nil {
			t.Fatal(err)
		}
		if _, err := phone.decide(denied.ID, statement.Deny, ""); err != nil {
			t.Fatal(err)
		}
		set(-century)
		w.restart()
		if ahead := w.broker.ClockAhead(); ahead != century {
			t.Errorf("without being told, the server is %v ahead, want %v", ahead, century)
		}

		w.config.AcceptClock = true
		w.restart()
		w.config.AcceptClock = false
		w.restart() // it stays so
		if ahead := w.broker.ClockAhead(); ahead != 0 {
			t.Errorf("the server is %v ahead, want the machine's clock", ahead)
		}
		time.Sleep(time.Second)
		_, err := w.broker.EnrollDevice(t.Context(), w.newDevice().enrolling(stale))
		wantReason(t, "an invitation from that year", err, approval.ReasonInvitationInvalid)
		code, err := phone.requestCode()
		if err != nil {
			t.Fatal(err)
		}
		_, err = w.broker.VerifySignIn(t.Context(), files, denied.ID, code.Digits)
		wantReason(t, "a sign-in that was denied in that year", err, approval.ReasonSignInCancelled)
		for _, d := range []*device{mac, phone} {
			for _, token := range []string{files, music} {
				s := w.begin(token, "ada")
				if _, err := w.broker.VerifySignIn(t.Context(), token, s.ID, d.allow(s.ID)); err != nil {
					t.Errorf("a sign-in afterwards = %v", err)
				}
			}
		}
		time.Sleep(31 * 24 * time.Hour)
		if got := mac.told(); len(got) != 0 {
			t.Errorf("a month later it is still told %q", got)
		}
		time.Sleep(60 * 24 * time.Hour)
		if _, err := phone.screen(); err == nil {
			t.Error("a device that was seen in that year counts for ever")
		}
	})
}

// TestA19WrongCodesOfAYearToCome: what was counted against an account while the
// clock was ahead is forgotten with the operator's word, also if a sign-in of it is
// still open then.
func TestA19WrongCodesOfAYearToCome(t *testing.T) {
	for name, open := range map[string]bool{"with a sign-in open": true, "with none": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const century = 100 * 365 * 24 * time.Hour
				w := newWorld(t, nil)
				w.config.Outside = memoryOutside()
				set := w.setClock()
				w.account("ada")
				files := w.application("files")
				set(century)
				w.keepTime()
				mac := w.enroll("ada")
				for range 2 {
					s := w.begin(files, "ada")
					code := mac.allow(s.ID)
					for range 5 {
						if _, err := w.broker.VerifySignIn(t.Context(), files, s.ID, wrong(code)); err == nil {
							t.Fatal("a wrong code was taken")
						}
					}
					time.Sleep(time.Minute)
				}
				if open {
					w.begin(files, "ada")
					time.Sleep(10 * time.Minute)
				}
				set(-century)
				w.config.AcceptClock = true
				w.restart()
				w.config.AcceptClock = false
				time.Sleep(48 * time.Hour)
				lanes, _, err := w.admin.Lanes(t.Context(), "ada")
				if err != nil {
					t.Fatal(err)
				}
				for _, l := range lanes {
					if l.FailuresDay > 0 || l.Rung > 0 || !l.BarredUntil.IsZero() || !l.SilentUntil.IsZero() {
						t.Errorf("two days later: %+v, want nothing of it", l)
					}
				}
				if err := w.broker.Seen(t.Context(), mac.id); err != nil {
					t.Fatal(err)
				}
				s := w.begin(files, "ada")
				if s.Silent != "" {
					t.Errorf("two days later a sign-in is silent: %q", s.Silent)
				}
				if _, err := w.broker.VerifySignIn(t.Context(), files, s.ID, mac.allow(s.ID)); err != nil {
					t.Errorf("two days later a code = %v", err)
				}
			})
		})
	}
}
