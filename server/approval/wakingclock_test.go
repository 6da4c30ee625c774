package approval_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/countersignd/countersign/server/approval"
	"github.com/countersignd/countersign/server/approval/storetest"
)

// A push service has a clock of its own. On a machine whose clock was set back, what
// it is told is when the prompt ends by the machine's clock and not by the Broker's,
// or it would bring a wake-up long after there is anything to answer.
func TestA19APushServiceIsToldTheMachinesTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, files, mac, _, f := pushed(t, storetest.NewMemory())
		set := w.setClock()
		set(time.Hour)
		w.restart()
		set(-time.Hour)
		if err := w.broker.KeepTime(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.keepWaking()
		w.begin(files, "ada")
		if _, err := w.broker.TestDevice(t.Context(), mac.id, "", ""); err != nil {
			t.Fatal(err)
		}
		f.wantGot(t, "after the sign-in and the test began", "ring 10abcdef", "ring 10abcdef", "ring 20abcdef")
		for _, h := range f.handed {
			if lives := time.Until(h.Expires); lives <= 0 || lives > 5*time.Minute {
				t.Errorf("a wake-up expires %v after it was sent, want no more than the prompt lives", lives)
			}
		}
	})
}

// When a registration ceased to be, a push service says by a clock of its own, too.
func TestA19APushServiceSaysWhenByTheMachinesTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, files, mac, phone, f := pushed(t, storetest.NewMemory())
		set := w.setClock()
		set(time.Hour)
		w.restart()
		set(-time.Hour)
		if err := w.broker.KeepTime(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := phone.register("20abcdef"); err != nil {
			t.Fatal(err)
		}
		w.keepWaking()
		time.Sleep(time.Minute)
		since := time.Now()
		f.answers(func(approval.Wakeup) error {
			return &approval.WakeError{Verdict: approval.WakeDead, Why: "APNs: Unregistered", Since: since}
		})
		w.begin(files, "ada")
		f.wantGot(t, "after the sign-in began", "ring 10abcdef", "ring 20abcdef")
		if !mac.self().Push.Dead || !phone.self().Push.Dead {
			t.Error("a registration is alive that was made a minute before it ceased to be")
		}
	})
}

// Where more has changed than can be remembered, an application that begins and
// cancels sign-ins as fast as it can keeps no device of others asleep.
func TestDevicesAreWokenWhenTooManySignInsChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, files, _, _, f := pushed(t, storetest.NewMemory())
		tablet := w.enroll("ada")
		w.broker.ChangeMany()
		w.begin(files, "ada")
		w.keepWaking()
		f.wantGot(t, "at the start", "ring 10abcdef", "ring 20abcdef")

		// Nothing has told of this device, as if what did had not been remembered.
		if _, err := tablet.register("30abcdef"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		f.wantGot(t, "when nothing changed", "ring 10abcdef", "ring 20abcdef")
		w.broker.ChangeMany()
		f.wantGot(t, "when too many changed", "ring 10abcdef", "ring 20abcdef", "ring 30abcdef")
	})
}
