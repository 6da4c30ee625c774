package approval

import (
	"context"
	"time"

	"github.com/countersignd/countersign/internal/code"
	"github.com/countersignd/countersign/internal/statement"
)

// An Admission is what an application gets for a right code.
type Admission struct {
	Grant      string // JWT, see [statement.Grant]
	Receipt    Receipt
	CodeLength int // how many digits the code had: 6, or 8 if it was an offline code

	// RequesterToken makes the requester a known one at its next sign-in,
	// until RequesterExpires.
	RequesterToken   string
	RequesterExpires time.Time
}

// A Receipt is what the device signed, with the key to check it. An offline
// code was signed by nobody: then there is no statement, and the device is
// named by the server's word alone.
type Receipt struct {
	Statement   string
	Device      string
	ApprovalKey statement.JWK
}

// What a grant says of how it came about (acr and, by RFC 8176, amr).
const (
	acrCode      = "urn:countersign:acr:code"      // Allow, and the code typed
	acrRequested = "urn:countersign:acr:requested" // a code asked for without a prompt
	acrOffline   = "urn:countersign:acr:offline"   // a code that a device made by itself
)

// VerifySignIn compares what the person typed: the six digits of a code after
// Allow or of one that was asked for, or the eight of an offline code. In one
// transaction the try is counted, the code compared and, if it is right, used
// up; only then is the grant made, so that a code works once whatever happens
// to the answer.
func (b *Broker) VerifySignIn(ctx context.Context, token, id, typed string) (Admission, error) {
	return b.verifySignIn(ctx, token, id, func() (six, eight string, err error) {
		digits, err := code.ParseAny(typed)
		switch {
		case err != nil:
			return "", "", invalidField("code", "%v", err)
		case len(digits) == code.OfflineDigits:
			return "", digits, nil
		}
		return digits, "", nil
	})
}

// VerifyTrailing is VerifySignIn for a code that was typed right behind a
// password. It takes the digits that end the line, six to eight of them, of
// which some may be the password's. The last six and all eight are compared in
// one try.
func (b *Broker) VerifyTrailing(ctx context.Context, token, id, digits string) (Admission, error) {
	return b.verifySignIn(ctx, token, id, func() (six, eight string, err error) {
		if six, eight, err = code.ParseTrailing(digits); err != nil {
			return "", "", invalidField("trailing_digits", "%v", err)
		}
		return six, eight, nil
	})
}

func (b *Broker) verifySignIn(ctx context.Context, token, id string, read func() (six, eight string, err error)) (Admission, error) {
	now := b.now()
	requester := newSignInID(now) // for one that is not known yet
	var v verification
	var signIn SignIn
	var refusal error
	var ring []string
	err := b.update(ctx, func(tx *transaction) (err error) {
		v, signIn, refusal, ring = verification{}, SignIn{}, nil, nil
		app, s, err := ownSignIn(tx, token, id)
		if err != nil {
			return err
		}
		six, eight, err := read()
		if err != nil {
			return err
		}
		a, err := load[Account](tx, bucketAccounts, s.Account)
		if err != nil {
			return err
		}
		if err := active(a); err != nil {
			return err
		}
		if s.Begun.Before(a.Resumed) {
			return s.closed(s.At(now))
		}
		if v, err = b.outstanding(tx, a, s, now); err != nil {
			return err
		}
		st := v.try(app, s, six, eight, now)
		if v.eight != "" && st.barred == nil && !s.At(now).Final() {
			if v.offline, v.offlineDigits, err = b.offlineCodes(tx, a, s, now); err != nil {
				return err
			}
		}
		signIn, refusal = s.next(st, now)
		if signIn.Tries == s.Tries { // nothing was compared, so nothing has changed
			return refusal
		}
		ring = b.trustedIDs(tx, a.Name, now)
		if refusal == nil {
			if v.acr == acrCode {
				ring = []string{s.DecidedBy} // no other device has shown anything of it since it was allowed
				if v.decision, err = decisionOf(tx, s); err != nil {
					return err
				}
			}
			if v.requesterToken, v.requesterExpires, err = b.know(tx, app, &signIn, requester, now); err != nil {
				return err
			}
		}
		return v.write(tx, now, Actor{Kind: ActorApplication, ID: app.ID}, &signIn)
	})
	if err != nil {
		return Admission{}, err
	}
	b.ring(ring, id)
	b.warnClosed(&v)
	if refusal != nil {
		return Admission{}, refusal
	}
	return b.admit(&signIn, &v, now)
}

// try returns the step of comparing what was typed: six digits, or eight, or
// both where it is not known how long the code is. Whether a code is refused is
// decided by its length, the policy and the state of the sign-in, and never by
// its digits; a code that is refused is not compared, and the try not counted.
func (v *verification) try(app *Application, s *SignIn, six, eight string, now time.Time) step {
	policy, approved := app.Policy, s.At(now) == Approved
	if policy.RefuseRequested {
		v.requested = nil
	}
	if !policy.RefuseOffline {
		v.eight = eight
	}
	if approved || v.requested != nil {
		v.six = six
	}
	st := step{
		kind:        stepTry,
		unprompted:  v.six != "" && v.requested != nil || v.eight != "",
		denialFinal: policy.DenialFinal,
		offline:     six == "",
		matches:     v.compare,
	}
	switch {
	case six == "" && policy.RefuseOffline:
		st.refused = app.refusesOffline(s.At(now))
	case six != "" && !approved && policy.RefuseRequested && v.eight == "":
		st.refused = app.refusesRequested(s.At(now))
	}
	shown, offline := v.failures.barred(codesShown, now), v.failures.barred(codesOffline, now)
	switch {
	case v.six == "":
		st.barred = offline
	case v.eight == "" || shown != nil && offline != nil:
		st.barred = shown
	case shown != nil:
		v.six = "" // and the other kind is compared alone
	case offline != nil:
		v.eight = ""
	}
	return st
}

// refusesOffline says that the application takes no offline codes, and what to
// do instead.
func (app *Application) refusesOffline(state State) error {
	instead := "Allow the sign-in on a trusted device and type the six digits that it shows."
	switch {
	case state == Denied && app.Policy.RefuseRequested:
		instead = "Begin a new sign-in and allow it on a trusted device."
	case state == Denied:
		instead = "Get a code of six digits on a trusted device that is connected."
	case state == Pending && !app.Policy.RefuseRequested:
		instead = "Allow the sign-in on a trusted device, or get a code there while it is connected; both have six digits."
	}
	return refuse(ReasonCodeRefused, "%s takes no offline codes, which are the eight digits that a device makes without a network. %s", app.Name, instead)
}

// refusesRequested says that the application takes no codes that were asked
// for without a prompt, and what to do instead.
func (app *Application) refusesRequested(state State) error {
	if state == Denied {
		return refuse(ReasonCodeRefused, "%s takes no code that was asked for without a prompt, and this sign-in was not allowed. Begin a new one and allow it on a trusted device.", app.Name)
	}
	return refuse(ReasonCodeRefused, "%s takes no code that was asked for without a prompt. Allow the sign-in on a trusted device.", app.Name)
}
