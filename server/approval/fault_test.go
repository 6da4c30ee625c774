package approval_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/countersignd/countersign/internal/statement"
	"github.com/countersignd/countersign/server/approval"
	"github.com/countersignd/countersign/server/approval/storetest"
)

// TestAStoreThatFailsLosesNothingThatWasShown runs S1 with a fault at each of
// its updates, before or after it was persisted, and does what a person's
// programs do: ask again.
func TestAStoreThatFailsLosesNothingThatWasShown(t *testing.T) {
	for _, fault := range []storetest.Fault{storetest.Before, storetest.After} {
		for at := 1; at <= 3; at++ {
			faulty := &storetest.Faulty{Store: storetest.NewMemory()}
			w := newWorld(t, faulty)
			w.account("ada")
			files := w.application("files")
			mac := w.enroll("ada")
			start := faulty.Updates()
			faulty.Fault = func(n int) storetest.Fault {
				if n == start+at {
					return fault
				}
				return storetest.None
			}
			retried := 0
			again := func(f func() error) error {
				err := f()
				if errors.Is(err, approval.ErrStoreFailed) {
					retried++
					w.restart()
					err = f()
				}
				return err
			}
			var s approval.SignIn
			if err := again(func() (err error) {
				s, err = w.broker.BeginSignIn(t.Context(), files, approval.Request{Account: "ada"})
				return err
			}); err != nil {
				t.Fatalf("fault %v at %d: BeginSignIn = %v", fault, at, err)
			}
			jws := mac.decision(mac.shown(s.ID), statement.Allow, "")
			var code approval.Code
			if err := again(func() (err error) {
				code, err = w.broker.Decide(t.Context(), mac.id, jws, "")
				return err
			}); err != nil || len(code.Digits) != 6 {
				t.Fatalf("fault %v at %d: Decide = %v, %v", fault, at, code, err)
			}
			err := again(func() error {
				_, err := w.broker.VerifySignIn(t.Context(), files, s.ID, code.Digits)
				return err
			})
			if at == 3 && fault == storetest.After {
				// Used up, and nobody was told: the person begins again.
				wantReason(t, "VerifySignIn after its answer was lost", err, approval.ReasonSignInVerified)
			} else if err != nil {
				t.Errorf("fault %v at %d: VerifySignIn = %v", fault, at, err)
			}
			if retried != 1 {
				t.Errorf("fault %v at %d: %d retries, want 1", fault, at, retried)
			}
		}
	}
}

func TestTheBellIsNeverMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, storetest.NewMemory())
		w.account("ada")
		files := w.application("files")
		mac := w.enroll("ada")
		watch := w.broker.WatchDevice(mac.id)
		if !w.broker.Connected(mac.id) || w.broker.ConnectedDevices() != 1 {
			t.Error("the device is not connected")
		}
		seen := make(chan int)
		go func() {
			defer close(seen)
			for watch.Wait(t.Context()) == nil {
				screen, err := mac.screen()
				if err != nil {
					return
				}
				seen <- len(screen.Prompts)
			}
		}()
		for i := range 3 {
			w.begin(files, "ada")
			if n := <-seen; n != i+1 {
				t.Errorf("after sign-in %d the device shows %d prompts", i+1, n)
			}
		}
		newer := w.broker.WatchDevice(mac.id)
		if _, open := <-seen; open {
			t.Error("the replaced watch went on")
		}
		wantReason(t, "the older watch", watch.Wait(t.Context()), approval.ReasonStreamReplaced)
		watch.Close()
		if !w.broker.Connected(mac.id) {
			t.Error("closing the older watch ended the newer")
		}
		newer.Close()
		if w.broker.Connected(mac.id) || w.broker.ConnectedDevices() != 0 {
			t.Error("the device is still connected")
		}
	})
}

func TestAnApplicationCanBeRemovedAndItsTokenReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.account("ada")
		old := w.application("files")
		mac := w.enroll("ada")
		s := w.begin(old, "ada")
		_, token, err := w.admin.RotateApplicationToken(t.Context(), "files")
		if err != nil {
			t.Fatal(err)
		}
		_, err = w.broker.SignIn(t.Context(), old, s.ID)
		wantReason(t, "the old token", err, approval.ReasonUnauthenticated)
		if _, err = w.broker.SignIn(t.Context(), token, s.ID); err != nil {
			t.Errorf("the new token = %v", err)
		}
		if err := w.admin.RemoveApplication(t.Context(), "files"); err != nil {
			t.Fatal(err)
		}
		if screen, err := mac.screen(); err != nil || len(screen.Prompts) != 0 {
			t.Errorf("the removed application's prompt is still shown: %+v, %v", screen, err)
		}
		_, err = w.broker.SignIn(t.Context(), token, s.ID)
		wantReason(t, "the removed application's token", err, approval.ReasonUnauthenticated)
		time.Sleep(time.Second)
		reborn := w.application("files")
		_, err = w.broker.SignIn(t.Context(), reborn, s.ID)
		wantReason(t, "a sign-in of the application's former life", err, approval.ReasonSignInUnknown)
		_, err = w.broker.SignIn(t.Context(), old, s.ID)
		wantReason(t, "its former token", err, approval.ReasonUnauthenticated)
	})
}

func TestListsComeInPagesNewestFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, storetest.NewMemory())
		files := w.application("files")
		var names, begun []string
		for i := range 150 {
			name := fmt.Sprintf("a%03d", i)
			w.account(name)
			names = append(names, name)
		}
		w.enroll("a000")
		for range 150 {
			s := w.begin(files, "a000")
			begun = append([]string{s.ID}, begun...)
			if _, err := w.broker.CancelSignIn(t.Context(), files, s.ID); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		for _, size := range []int{0, 1, 7, 75, 150, 1000} {
			var accounts, all, own []string
			var records int
			pages(t, size, func(p approval.Page) (n int, next string, err error) {
				page, next, err := w.admin.ListAccounts(t.Context(), p)
				for _, a := range page {
					accounts = append(accounts, a.Name)
				}
				return len(page), next, err
			})
			pages(t, size, func(p approval.Page) (n int, next string, err error) {
				page, next, err := w.admin.ListSignIns(t.Context(), "", p)
				for _, s := range page {
					all = append(all, s.ID)
				}
				return len(page), next, err
			})
			pages(t, size, func(p approval.Page) (n int, next string, err error) {
				page, next, err := w.admin.ListSignIns(t.Context(), "a000", p)
				for _, s := range page {
					own = append(own, s.ID)
				}
				return len(page), next, err
			})
			last := uint64(1 << 62)
			pages(t, size, func(p approval.Page) (n int, next string, err error) {
				page, next, err := w.admin.ListRecords(t.Context(), approval.RecordFilter{Account: "a000"}, p)
				for _, r := range page {
					if r.Sequence >= last {
						t.Errorf("record %d after %d", r.Sequence, last)
					}
					last = r.Sequence
					records++
				}
				return len(page), next, err
			})
			for what, got := range map[string][2][]string{"accounts": {accounts, names}, "sign-ins": {all, begun}, "sign-ins of an account": {own, begun}} {
				if fmt.Sprint(got[0]) != fmt.Sprint(got[1]) {
					t.Errorf("%s in pages of %d = %d, want %d in order", what, size, len(got[0]), len(got[1]))
				}
			}
			if records != 304 { // added, invited, enrolled, recovery codes, and two for each sign-in
				t.Errorf("%d records about the account, want 304", records)
			}
		}
		for _, p := range []approval.Page{{Size: -1}, {Size: 1001}, {Token: strings.Repeat("x", 257)}} {
			_, _, err := w.admin.ListSignIns(t.Context(), "", p)
			wantReason(t, fmt.Sprint(p), err, approval.ReasonInvalidField)
		}
	})
}

func pages(t *testing.T, size int, page func(approval.Page) (int, string, error)) {
	t.Helper()
	for token := ""; ; {
		n, next, err := page(approval.Page{Size: size, Token: token})
		if err != nil {
			t.Fatal(err)
		}
		if size > 0 && n > size {
			t.Fatalf("a page of %d, want at most %d", n, size)
		}
		if next == "" {
			return
		}
		token = next
	}
}
