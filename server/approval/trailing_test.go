package approval_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/countersignd/countersign/internal/code"
	"github.com/countersignd/countersign/server/approval"
)

func TestS9TrailingDigits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.account("ada")
		files := w.application("files")
		mac := w.enroll("ada")
		trailing := func(s approval.SignIn, digits string) (approval.Admission, error) {
			return w.broker.VerifyTrailing(t.Context(), files, s.ID, digits)
		}
		for _, behind := range []string{"", "7", "77"} {
			s := w.begin(files, "ada")
			if got, err := trailing(s, behind+mac.allow(s.ID)); err != nil || got.CodeLength != 6 || got.Receipt.Statement == "" {
				t.Errorf("a code after Allow behind %q = %d digits, %v, want 6", behind, got.CodeLength, err)
			}
		}
		s := w.begin(files, "ada")
		requested, err := mac.requestCode()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := trailing(s, "12"+requested.Digits); err != nil || got.CodeLength != 6 {
			t.Errorf("a requested code = %d digits, %v, want 6", got.CodeLength, err)
		}
		if got, err := trailing(w.begin(files, "ada"), mac.offline(time.Now())); err != nil || got.CodeLength != 8 {
			t.Errorf("an offline code = %d digits, %v, want 8", got.CodeLength, err)
		}
		s = w.begin(files, "ada")
		for _, digits := range []string{"", "12345", "123456789", "12 345678", "secret482913", "1234567x"} {
			_, err := trailing(s, digits)
			wantReason(t, fmt.Sprintf("%q", digits), err, approval.ReasonInvalidField)
		}
		for _, digits := range []string{"123456", "1234567"} {
			_, err = trailing(s, digits)
			wantReason(t, digits+" before Allow", err, approval.ReasonSignInPending)
		}

		// One wrong try is one try, and counts against both kinds.
		digits := mac.allow(s.ID)
		for i := range 5 {
			_, err = trailing(s, wrongOffline(mac.around()...)[:2]+wrong(digits))
			wantReason(t, "wrong digits", err, approval.ReasonCodeWrong)
			var e *approval.Error
			if errors.As(err, &e); e.TriesLeft != 4-i {
				t.Errorf("TriesLeft = %d, want %d", e.TriesLeft, 4-i)
			}
		}
		// The budget of offline codes is used up, and the code after Allow
		// counts all the same, with two digits before it as well.
		s = w.begin(files, "ada")
		time.Sleep(code.StepLength)
		_, err = trailing(s, mac.offline(time.Now()))
		wantReason(t, "an offline code after five wrong ones", err, approval.ReasonTooManyFailures)
		if got, err := trailing(s, "77"+mac.allow(s.ID)); err != nil || got.CodeLength != 6 {
			t.Errorf("a code after Allow = %d digits, %v, want 6", got.CodeLength, err)
		}
	})
}

// TestS9RefusedKindsAreNotCompared has policies that refuse one kind or both,
// for digits of which nobody knows how many are the code.
func TestS9RefusedKindsAreNotCompared(t *testing.T) {
	w := newWorld(t, nil)
	w.account("ada")
	files := w.application("files")
	mac := w.enroll("ada")
	digits := mac.offline(time.Now())
	set := func(requested, offline bool) {
		t.Helper()
		if err := w.policy("files", func(p *approval.Policy) { p.RefuseRequested, p.RefuseOffline = requested, offline }); err != nil {
			t.Fatal(err)
		}
	}
	try := func(s approval.SignIn, digits string) error {
		_, err := w.broker.VerifyTrailing(t.Context(), files, s.ID, digits)
		return err
	}
	set(false, true)
	s := w.begin(files, "ada")
	wantReason(t, "offline refused, nothing asked for", try(s, digits), approval.ReasonSignInPending)
	if err := try(s, "77"+mac.allow(s.ID)); err != nil {
		t.Errorf("offline refused, a code after Allow = %v", err)
	}
	set(true, true)
	s = w.begin(files, "ada")
	wantReason(t, "both refused", try(s, digits), approval.ReasonCodeRefused)
	set(true, false)
	requested, err := mac.requestCode()
	if err != nil {
		t.Fatal(err)
	}
	wantReason(t, "requested refused, six digits", try(s, requested.Digits), approval.ReasonCodeRefused)
	if err := try(s, digits); err != nil {
		t.Errorf("requested refused, an offline code = %v", err)
	}
}
