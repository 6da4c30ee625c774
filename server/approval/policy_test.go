package approval_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/countersignd/countersign/internal/statement"
	"github.com/countersignd/countersign/server/approval"
)

func (w *world) policy(id string, change func(*approval.Policy)) error {
	_, err := w.admin.SetApplicationPolicy(w.t.Context(), id, change)
	return err
}

func TestPolicyLimits(t *testing.T) {
	w := newWorld(t, nil)
	w.application("files")
	for name, change := range map[string]func(*approval.Policy){
		"prompt of 8 min 1 s": func(p *approval.Policy) { p.PromptLifetime = 8*time.Minute + time.Second },
		"prompt of 29 s":      func(p *approval.Policy) { p.PromptLifetime = 29 * time.Second },
		"code of 5 min 1 s":   func(p *approval.Policy) { p.CodeLifetime = 5*time.Minute + time.Second },
		"code of 29 s":        func(p *approval.Policy) { p.CodeLifetime = 29 * time.Second },
		"more than 10 min":    func(p *approval.Policy) { p.PromptLifetime, p.CodeLifetime = 8*time.Minute, 2*time.Minute+time.Second },
		"six tries":           func(p *approval.Policy) { p.Tries = 6 },
		"less than no tries":  func(p *approval.Policy) { p.Tries = -1 },
		"a negative lifetime": func(p *approval.Policy) { p.PromptLifetime = -time.Minute },
	} {
		wantReason(t, name, w.policy("files", change), approval.ReasonInvalidField)
	}
	if err := w.policy("files", func(p *approval.Policy) { p.PromptLifetime, p.CodeLifetime = 8*time.Minute, 2*time.Minute }); err != nil {
		t.Errorf("ten minutes = %v", err)
	}
	wantReason(t, "an unknown application", w.policy("nobody", func(*approval.Policy) {}), approval.ReasonApplicationUnknown)
}

func TestPoliciesAreObeyed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.account("ada")
		files, mail := w.application("files"), w.application("mail")
		mac := w.enroll("ada")
		if err := w.policy("files", func(p *approval.Policy) {
			*p = approval.Policy{PromptLifetime: time.Minute, CodeLifetime: 30 * time.Second, Tries: 2, DenialFinal: true, RefuseRequested: false}
		}); err != nil {
			t.Fatal(err)
		}

		s := w.begin(files, "ada")
		if !s.Expires.Equal(s.Begun.Add(time.Minute)) || s.TriesLeft() != 2 {
			t.Errorf("the prompt ends %v after it began, with %d tries, want 1 min and 2", s.Expires.Sub(s.Begun), s.TriesLeft())
		}
		code := mac.allow(s.ID)
		_, err := w.broker.VerifySignIn(t.Context(), files, s.ID, wrong(code))
		wantReason(t, "the first wrong code", err, approval.ReasonCodeWrong)
		_, err = w.broker.VerifySignIn(t.Context(), files, s.ID, wrong(code))
		wantReason(t, "the second wrong code", err, approval.ReasonCodeWrong)
		_, err = w.broker.VerifySignIn(t.Context(), files, s.ID, code)
		wantReason(t, "the third try", err, approval.ReasonTooManyTries)

		s = w.begin(files, "ada")
		code = mac.allow(s.ID)
		time.Sleep(30 * time.Second)
		_, err = w.broker.VerifySignIn(t.Context(), files, s.ID, code)
		wantReason(t, "the code after its 30 s", err, approval.ReasonSignInExpired)

		// Denial final: the code that is asked for afterwards does not help here,
		// and does where the denial is not final.
		for token, want := range map[string]approval.Reason{files: approval.ReasonSignInDenied, mail: 0} {
			s = w.begin(token, "ada")
			if _, err := mac.decide(s.ID, statement.Deny, statement.Mistake); err != nil {
				t.Fatal(err)
			}
			requested, err := mac.requestCode()
			if err != nil {
				t.Fatal(err)
			}
			if _, err = w.broker.VerifySignIn(t.Context(), token, s.ID, requested.Digits); want != 0 {
				wantReason(t, "a requested code after a final denial", err, want)
			} else if err != nil {
				t.Errorf("a requested code after a denial = %v", err)
			}
		}

		// An application that refuses requested codes is asked at the moment of
		// the try, not when the sign-in began.
		s = w.begin(mail, "ada")
		requested, err := mac.requestCode()
		if err != nil {
			t.Fatal(err)
		}
		if err := w.policy("mail", func(p *approval.Policy) { p.RefuseRequested = true }); err != nil {
			t.Fatal(err)
		}
		_, err = w.broker.VerifySignIn(t.Context(), mail, s.ID, requested.Digits)
		wantReason(t, "a requested code that is refused", err, approval.ReasonCodeRefused)
		if want := "The mail takes no code that was asked for without a prompt. Allow the sign-in on a trusted device."; err.Error() != want {
			t.Errorf("the refusal says %q, want %q", err, want)
		}
	})
}

func TestPolicyRefusesOfflineCodes(t *testing.T) {
	w := newWorld(t, nil)
	w.account("ada")
	files := w.application("files")
	mac := w.enroll("ada")
	right := mac.offline(time.Now())
	if err := w.policy("files", func(p *approval.Policy) { p.RefuseOffline = true }); err != nil {
		t.Fatal(err)
	}
	// The answer is the same whether the digits are right or not, nothing is
	// counted, and it says what to do in each state.
	for name, tc := range map[string]struct {
		prepare func(approval.SignIn)
		want    string
	}{
		"pending":  {func(approval.SignIn) {}, "or get a code there while it is connected"},
		"approved": {func(s approval.SignIn) { mac.allow(s.ID) }, "type the six digits that it shows"},
		"denied": {func(s approval.SignIn) {
			if _, err := mac.decide(s.ID, statement.Deny, ""); err != nil {
				t.Fatal(err)
			}
		}, "Get a code of six digits"},
	} {
		s := w.begin(files, "ada")
		tc.prepare(s)
		var said []string
		for _, digits := range []string{right, wrongOffline(mac.around()...)} {
			for range 4 {
				err := w.verify(files, s, digits)
				wantReason(t, name, err, approval.ReasonCodeRefused)
				said = append(said, err.Error())
			}
		}
		if said[0] != said[len(said)-1] || !strings.Contains(said[0], tc.want) || !strings.Contains(said[0], "The files takes no offline codes") {
			t.Errorf("%s: the refusals say %q and %q, want the same with %q", name, said[0], said[len(said)-1], tc.want)
		}
		if got, err := w.broker.SignIn(t.Context(), files, s.ID); err != nil || got.Tries != 0 {
			t.Errorf("%s: %d tries were counted, %v, want none", name, got.Tries, err)
		}
	}
	s := w.begin(files, "ada")
	if err := w.verify(files, s, mac.allow(s.ID)); err != nil {
		t.Errorf("the code after Allow = %v", err)
	}
	if err := w.policy("files", func(p *approval.Policy) { p.RefuseOffline = false }); err != nil {
		t.Fatal(err)
	}
	if err := w.verify(files, w.begin(files, "ada"), right); err != nil {
		t.Errorf("the right code where it is not refused = %v, though it was never compared", err)
	}
}

func TestPolicyRefusesRequestedCodesByTheirForm(t *testing.T) {
	w := newWorld(t, nil)
	w.account("ada")
	files := w.application("files")
	mac := w.enroll("ada")
	if err := w.policy("files", func(p *approval.Policy) { p.RefuseRequested = true }); err != nil {
		t.Fatal(err)
	}
	s := w.begin(files, "ada")
	before := w.verify(files, s, "123456")
	requested, err := mac.requestCode()
	if err != nil {
		t.Fatal(err)
	}
	after := w.verify(files, s, requested.Digits)
	wantReason(t, "six digits before Allow", before, approval.ReasonCodeRefused)
	if before.Error() != after.Error() {
		t.Errorf("with a requested code it says %q, without %q: an application is told whether there is one", after, before)
	}
	if _, err := mac.decide(s.ID, statement.Deny, ""); err != nil {
		t.Fatal(err)
	}
	wantReason(t, "six digits after a denial", w.verify(files, s, requested.Digits), approval.ReasonCodeRefused)
	if got, err := w.broker.SignIn(t.Context(), files, s.ID); err != nil || got.Tries != 0 {
		t.Errorf("%d tries were counted, %v, want none", got.Tries, err)
	}
	if err := w.verify(files, s, "1234567"); !errors.Is(err, &approval.Error{Reason: approval.ReasonInvalidField}) {
		t.Errorf("seven digits = %v, want INVALID_FIELD", err)
	}
}
