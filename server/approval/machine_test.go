package approval

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/countersignd/countersign/internal/statement"
)

var begun = time.Date(2026, 11, 22, 23, 59, 0, 0, time.UTC)

func pendingSignIn() SignIn {
	return SignIn{ID: "a", Account: "ada", Application: "files", Begun: begun, Expires: begun.Add(5 * time.Minute), CodeLifetime: 2 * time.Minute, MaxTries: maxTries, Recorded: Pending}
}

func allowBy(device string) step {
	return step{kind: stepAllow, device: device, signed: "allow by " + device}
}

func denyBy(device, reason string) step {
	return step{kind: stepDeny, device: device, signed: "deny by " + device, reason: reason}
}

func try(right, requested bool) step {
	return step{kind: stepTry, unprompted: requested, matches: func() bool { return right }}
}

func reasonOf(err error) Reason {
	var e *Error
	if errors.As(err, &e) {
		return e.Reason
	}
	return 0
}

// TestEveryStepInEveryState is the whole machine as a table: what each step
// makes of each state.
func TestEveryStepInEveryState(t *testing.T) {
	soon := begun.Add(time.Minute)
	must := func(s SignIn, st step) SignIn {
		next, err := s.next(st, soon)
		if err != nil {
			t.Fatal(err)
		}
		return next
	}
	exhausted := must(pendingSignIn(), allowBy("mac"))
	for range maxTries {
		exhausted, _ = exhausted.next(try(false, false), soon)
	}
	approved := must(pendingSignIn(), allowBy("mac"))
	late := pendingSignIn()
	late.Expires = soon
	states := map[string]SignIn{
		"zero":      {},
		"pending":   pendingSignIn(),
		"approved":  approved,
		"verified":  must(approved, try(true, false)),
		"denied":    must(pendingSignIn(), denyBy("mac", "")),
		"expired":   late,
		"cancelled": must(pendingSignIn(), step{kind: stepCancel, cause: CancelApplication}),
		"exhausted": exhausted,
	}
	steps := map[string]step{
		"nothing":             {},
		"allow by mac":        allowBy("mac"),
		"allow by phone":      allowBy("phone"),
		"deny by phone":       denyBy("phone", ""),
		"deny, not me":        denyBy("mac", statement.NotMe),
		"right code":          try(true, false),
		"wrong code":          try(false, false),
		"right, requested":    try(true, true),
		"wrong, requested":    try(false, true),
		"right, but too many": {kind: stepTry, unprompted: true, barred: refuse(ReasonTooManyFailures, ""), matches: func() bool { panic("compared") }},
		"refused by policy":   {kind: stepTry, unprompted: true, refused: refuse(ReasonCodeRefused, "No."), matches: func() bool { panic("compared") }},
		"denial is final":     {kind: stepTry, unprompted: true, denialFinal: true, refused: refuse(ReasonCodeRefused, "No."), matches: func() bool { panic("compared") }},
		"cancel":              {kind: stepCancel, cause: CancelApplication},
	}
	type result struct {
		State  State
		Reason Reason
	}
	ok := func(s State) result { return result{s, 0} }
	no := func(s State, r Reason) result { return result{s, r} }
	want := map[string]map[string]result{
		"pending": {
			"nothing": no(Pending, ReasonInvalidField), "allow by mac": ok(Approved), "allow by phone": ok(Approved),
			"deny by phone": ok(Denied), "deny, not me": ok(Denied), "right code": no(Pending, ReasonSignInPending),
			"wrong code": no(Pending, ReasonSignInPending), "right, requested": ok(Verified),
			"wrong, requested": no(Pending, ReasonCodeWrong), "right, but too many": no(Pending, ReasonTooManyFailures), "cancel": ok(Cancelled),
			"refused by policy": no(Pending, ReasonCodeRefused), "denial is final": no(Pending, ReasonCodeRefused),
		},
		"approved": {
			"nothing": no(Approved, ReasonInvalidField), "allow by mac": ok(Approved), "allow by phone": no(Approved, ReasonAllowedElsewhere),
			"deny by phone": ok(Denied), "deny, not me": ok(Denied), "right code": ok(Verified),
			"wrong code": no(Approved, ReasonCodeWrong), "right, requested": ok(Verified),
			"wrong, requested": no(Approved, ReasonCodeWrong), "right, but too many": no(Approved, ReasonTooManyFailures), "cancel": ok(Cancelled),
			"refused by policy": no(Approved, ReasonCodeRefused), "denial is final": no(Approved, ReasonCodeRefused),
		},
		"denied": {
			"nothing": no(Denied, ReasonInvalidField), "allow by mac": no(Denied, ReasonSignInDenied), "allow by phone": no(Denied, ReasonSignInDenied),
			"deny by phone": ok(Denied), "deny, not me": ok(Denied), "right code": no(Denied, ReasonSignInDenied),
			"wrong code": no(Denied, ReasonSignInDenied), "right, requested": ok(Verified),
			"wrong, requested": no(Denied, ReasonCodeWrong), "right, but too many": no(Denied, ReasonTooManyFailures), "cancel": ok(Cancelled),
			"refused by policy": no(Denied, ReasonCodeRefused), "denial is final": no(Denied, ReasonSignInDenied),
		},
	}
	for name, c := range map[string]struct {
		state  State
		reason Reason
	}{
		"zero":      {0, ReasonSignInUnknown},
		"verified":  {Verified, ReasonSignInVerified},
		"expired":   {Expired, ReasonSignInExpired},
		"cancelled": {Cancelled, ReasonSignInCancelled},
		"exhausted": {Cancelled, ReasonTooManyTries},
	} {
		want[name] = map[string]result{}
		for step := range steps {
			want[name][step] = no(c.state, c.reason)
		}
		want[name]["nothing"] = no(c.state, ReasonInvalidField)
	}
	want["cancelled"]["cancel"] = ok(Cancelled)

	for name, s := range states {
		for stepName, st := range steps {
			next, err := s.next(st, soon)
			got := result{next.At(soon), reasonOf(err)}
			if want, listed := want[name][stepName]; !listed || got != want {
				t.Errorf("%s, %s = %v, want %v", name, stepName, got, want)
			}
			if counted := reasonOf(err) == ReasonCodeWrong; err != nil && !counted {
				if diff := cmp.Diff(s, next); diff != "" {
					t.Errorf("%s, %s was refused and changed the sign-in: %s", name, stepName, diff)
				}
			}
		}
	}
}

// TestMachineKeepsItsPromises plays random steps at random times and holds
// the machine against what was promised, told by the history alone.
func TestMachineKeepsItsPromises(t *testing.T) {
	devices := []string{"mac", "phone", "tablet"}
	rapid.Check(t, func(t *rapid.T) {
		s := pendingSignIn()
		now := begun
		var (
			final      State     // the first final state seen
			firstAllow string    // device of the first allow that was accepted
			allowedAt  time.Time // and when
			denied     bool      // a deny was accepted
			compared   int
		)
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 40).Draw(t, "seconds")) * time.Second)
			device := rapid.SampledFrom(devices).Draw(t, "device")
			right, requested := rapid.Bool().Draw(t, "right"), rapid.Bool().Draw(t, "requested")
			kind := rapid.SampledFrom([]stepKind{stepAllow, stepAllow, stepDeny, stepTry, stepTry, stepTry, stepCancel}).Draw(t, "kind")
			st := step{
				kind: kind, device: device, cause: CancelApplication, unprompted: requested,
				reason: rapid.SampledFrom([]string{"", statement.Mistake, statement.NotMe}).Draw(t, "reason"),
				matches: func() bool {
					compared++
					return right
				},
			}
			before := s.At(now)
			next, err := s.next(st, now)
			after := next.At(now)
			if final != 0 && after != final {
				t.Fatalf("%v became %v", final, after)
			}
			if s.DenyReason == statement.NotMe && next.DenyReason != statement.NotMe {
				t.Fatalf("%q became %q", s.DenyReason, next.DenyReason)
			}
			switch {
			case err == nil && kind == stepAllow:
				if denied || (firstAllow != "" && firstAllow != device) || !now.Before(begun.Add(5*time.Minute)) && firstAllow == "" {
					t.Fatalf("allow by %s at %v was accepted after denied=%v, first allow by %q", device, now.Sub(begun), denied, firstAllow)
				}
				if firstAllow == "" {
					firstAllow, allowedAt = device, now
				}
				if !now.Before(allowedAt.Add(2 * time.Minute)) {
					t.Fatalf("the code was shown %v after it was made", now.Sub(allowedAt))
				}
			case err == nil && kind == stepDeny:
				denied = true
			case err == nil && kind == stepTry:
				fresh := firstAllow != "" && !denied && now.Before(allowedAt.Add(2*time.Minute))
				if !right || !fresh && !requested {
					t.Fatalf("verified with right=%v, approval fresh=%v, requested=%v", right, fresh, requested)
				}
			}
			if compared > maxTries {
				t.Fatalf("%d codes compared", compared)
			}
			if before.Final() && err == nil && !(before == Cancelled && kind == stepCancel) {
				t.Fatalf("step %v in %v succeeded", kind, before)
			}
			if after.Final() {
				final = after
			}
			s = next
		}
	})
}

func TestSignInIDsSortByTimeAndNeverRepeat(t *testing.T) {
	seen := map[string]bool{}
	last := ""
	for i := range 10_000 {
		id := newSignInID(begun.Add(time.Duration(i) * time.Millisecond))
		if !statement.ValidSignIn(id) || id <= last || seen[id] {
			t.Fatalf("id %d = %q after %q", i, id, last)
		}
		seen[id], last = true, id
	}
	if a, b := newSignInID(begun), newSignInID(begun); a == b || a[:9] != b[:9] {
		t.Errorf("ids of one moment = %q, %q, want the same time and other random bits", a, b)
	}
}
