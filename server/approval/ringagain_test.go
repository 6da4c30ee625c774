package approval_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/countersignd/countersign/internal/statement"
	"github.com/countersignd/countersign/server/approval"
	"github.com/countersignd/countersign/server/approval/storetest"
)

// repeat asks again for what was asked, and expects the same sign-in, which has
// rung so often.
func (w *world) repeat(when, token string, r approval.Request, s approval.SignIn, rings int) approval.SignIn {
	w.t.Helper()
	got, err := w.broker.BeginSignIn(w.t.Context(), token, r)
	if err != nil || got.ID != s.ID || got.Rings != rings {
		w.t.Errorf("asking again %s = %s, which rang %d times, %v; want %s and %d", when, got.ID, got.Rings, err, s.ID, rings)
	}
	return got
}

func TestAskingAgainRingsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, files, mac, _, f := pushed(t, storetest.NewMemory())
		w.keepWaking()
		r := w.asking("ada", "", "203.0.113.7")
		s, err := w.broker.BeginSignIn(t.Context(), files, r)
		if err != nil {
			t.Fatal(err)
		}
		f.wantGot(t, "at first", "ring 10abcdef", "ring 20abcdef")
		watch := w.broker.WatchDevice(mac.id)
		defer watch.Close()
		w.repeat("at once", files, r, s, 1)
		time.Sleep(29 * time.Second)
		w.repeat("after 29 s", files, r, s, 1)
		f.wantGot(t, "within the gap", "ring 10abcdef", "ring 20abcdef")
		time.Sleep(2 * time.Second)
		again := w.repeat("after 31 s", files, r, s, 2)
		if !again.Rung.Equal(time.Now()) || w.recorded(approval.EventSignInRungAgain) != 1 {
			t.Errorf("it rang at %v, with %d records; want now and 1", again.Rung, w.recorded(approval.EventSignInRungAgain))
		}
		if !rung(watch) {
			t.Error("the device was not rung")
		}
		if screen, err := mac.screen(); err != nil || len(screen.Prompts) != 1 || screen.Prompts[0].Rings != 2 {
			t.Errorf("the device shows %+v, %v, want one prompt that rang twice", screen.Prompts, err)
		}
		mac.report(s.ID, approval.DeliveryReceived)
		f.wantGot(t, "after it rang again", "ring 10abcdef", "ring 20abcdef", "ring 20abcdef")
		mac.allow(s.ID)
		time.Sleep(70 * time.Second)
		w.repeat("after Allow", files, r, s, 2)
		if w.recorded(approval.EventSignInRungAgain) != 1 {
			t.Error("a sign-in rang that was answered")
		}
	})
}

func TestAKnownRequesterRingsAgainAfterTenSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, storetest.NewMemory())
		w.account("ada")
		files := w.application("files")
		known := w.known(files, w.enroll("ada"))
		r := w.asking("ada", known, "203.0.113.7")
		s, err := w.broker.BeginSignIn(t.Context(), files, r)
		if err != nil || s.Lane != approval.LaneKnown {
			t.Fatalf("BeginSignIn = lane %s, %v", s.Lane, err)
		}
		w.repeat("at once", files, r, s, 1)
		time.Sleep(9 * time.Second)
		w.repeat("after 9 s", files, r, s, 1)
		rings := 1
		for range 15 {
			time.Sleep(10 * time.Second)
			rings = min(rings+1, 10) // its lane's budget of an hour
			w.repeat("every 10 s", files, r, s, rings)
		}
	})
}

func TestASilentSignInRingsAtLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, files, mac, _, f := pushed(t, storetest.NewMemory())
		w.keepWaking()
		w.begin(files, "ada")
		r := w.asking("ada", "", "198.51.100.7")
		s := w.ask(files, "at once", r, approval.SilentGap)
		time.Sleep(10 * time.Second)
		if got := w.repeat("too soon", files, r, s, 0); got.Silent != approval.SilentGap {
			t.Errorf("asking again too soon = silent %q, want %q", got.Silent, approval.SilentGap)
		}
		before := len(f.got())
		time.Sleep(25 * time.Second)
		if got := w.repeat("after the gap", files, r, s, 1); got.Silent != "" {
			t.Errorf("asking again after the gap = silent %q, want that it rings", got.Silent)
		}
		if got := f.got(); len(got) != before+2 {
			t.Errorf("%d devices were woken, want 2", len(got)-before)
		}
		if _, err := mac.decide(s.ID, statement.Deny, statement.NotMe); err != nil {
			t.Fatal(err)
		}
	})
}

func TestASilencedSourceDoesNotRingAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, storetest.NewMemory())
		w.account("ada")
		files := w.application("files")
		mac := w.enroll("ada")
		r := w.asking("ada", "", "198.51.100.7")
		s := w.ask(files, "at first", r, "")
		if err := mac.notMe("198.51.100.7"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(4 * time.Minute)
		if got := w.repeat("after this wasn't me", files, r, s, 1); got.Silent == "" {
			t.Error("a silenced source rings again")
		}
	})
}

// On a disk that is nearly full nothing new goes on record, so nothing rings.
func TestAskingAgainOnAFullDiskRingsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, storetest.NewMemory())
		full := false
		w.config.Full = func() bool { return full }
		w.restart()
		w.account("ada")
		files := w.application("files")
		w.enroll("ada")
		r := w.asking("ada", "", "198.51.100.7")
		s := w.ask(files, "at first", r, "")
		full = true
		time.Sleep(2 * time.Minute)
		w.repeat("on a full disk", files, r, s, 1)
	})
}
