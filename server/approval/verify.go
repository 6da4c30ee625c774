package approval

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"time"

	"github.com/countersignd/countersign/internal/code"
	"github.com/countersignd/countersign/internal/statement"
)

// An Admission is what an application gets for a right code.
type Admission struct {
	Grant   string // JWT, see [statement.Grant]
	Receipt Receipt
}

// A Receipt is what the device signed, with the key to check it.
type Receipt struct {
	Statement   string
	Device      string
	ApprovalKey statement.JWK
}

// What a grant says of how it came about (acr and, by RFC 8176, amr).
const (
	acrCode      = "urn:countersign:acr:code"      // Allow, and the code typed
	acrRequested = "urn:countersign:acr:requested" // a code asked for without a prompt
)

// VerifySignIn compares what the person typed. In one transaction the try is
// counted, the code compared and, if it is right, used up; only then is the
// grant made, so that a code works once whatever happens to the answer.
func (b *Broker) VerifySignIn(ctx context.Context, token, id, typed string) (Admission, error) {
	now := b.now()
	var v verification
	var signIn SignIn
	var refusal error
	var ring []string
	err := b.store.Update(ctx, func(tx Tx) (err error) {
		v, signIn, refusal, ring = verification{}, SignIn{}, nil, nil
		app, s, err := ownSignIn(tx, token, id)
		if err != nil {
			return err
		}
		digits, err := code.Parse(typed)
		if err != nil {
			return invalidField("code", "%v", err)
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
		unwanted := app.Policy.RefuseRequested && v.requested != nil
		if unwanted {
			v.requested = nil
		}
		signIn, refusal = s.next(step{
			kind:        stepTry,
			requested:   v.requested != nil,
			denialFinal: app.Policy.DenialFinal,
			barred:      v.failures.barred(codesShown, now),
			matches:     func() bool { return v.compare(digits) },
		}, now)
		if signIn.Tries == s.Tries { // nothing was compared, so nothing has changed
			if unwanted && s.At(now) == Pending {
				return refuse(ReasonSignInPending, "%s takes no code that was asked for without a prompt. Allow the sign-in on a trusted device.", app.Name)
			}
			return refusal
		}
		ring = b.trustedIDs(tx, a.Name, now)
		return v.write(tx, now, Actor{Kind: ActorApplication, ID: app.ID}, &signIn)
	})
	if err != nil {
		return Admission{}, err
	}
	b.hub.ring(ring, id)
	b.warnClosed(&v)
	if refusal != nil {
		return Admission{}, refusal
	}
	return b.admit(&signIn, &v, now)
}

// verification is what one try is about.
type verification struct {
	account   string
	lane      Lane
	failures  *failures // of the account in the lane
	approver  *Device        // that allowed the sign-in, if one did
	allowed   string         // the code after Allow; empty if there is none
	requested *requestedCode // the code asked for without a prompt, if there is one
	asker     *Device        // that asked for it
	digits    string         // of requested

	// matched is the device whose code it was, nil before a match.
	matched     *Device
	byRequested bool

	closed bool // this try was one too many wrong ones in a row
}

// outstanding finds the codes that exist for a sign-in. The code after Allow
// exists only while the device that allowed is trusted.
func (b *Broker) outstanding(tx Tx, a *Account, s *SignIn, now time.Time) (v verification, err error) {
	v.account, v.lane = a.Name, s.Lane
	if v.failures, err = loadFailures(tx, a.Name, s.Lane); err != nil {
		return v, err
	}
	if s.At(now) == Approved {
		if v.approver, err = load[Device](tx, bucketDevices, s.DecidedBy); err != nil {
			return v, err
		}
		if err := b.mayApprove(a, v.approver, now); err != nil {
			return v, refuse(ReasonSignInCancelled, "The device that allowed the sign-in is not trusted any more. Begin a new one.")
		}
		v.allowed = b.secrets.allowCode(s.ID, s.DecidedBy)
	}
	if v.requested, err = b.loadRequestedCode(tx, a, now); err != nil || v.requested == nil {
		return v, err
	}
	if s.At(now) == Denied && v.requested.Created.Before(s.Ended) {
		v.requested = nil // it was asked for before the denial, which it must not undo
		return v, nil
	}
	if v.asker, err = load[Device](tx, bucketDevices, v.requested.Device); err != nil {
		return v, err
	}
	v.digits = b.secrets.requestedCode(a.Name, v.requested.ID)
	return v, nil
}

// compare compares in constant time, and both codes always.
func (v *verification) compare(digits string) bool {
	allowed := code.Equal(v.allowed, digits)
	requested := code.Equal(v.digits, digits)
	switch {
	case v.approver != nil && allowed:
		v.matched = v.approver
	case v.requested != nil && requested:
		v.matched, v.byRequested = v.asker, true
	}
	return v.matched != nil
}

// write stores what a counted try has changed.
func (v *verification) write(tx Tx, now time.Time, by Actor, after *SignIn) error {
	r := Record{Event: EventCodeWrong, Actor: by, Address: after.Requester.Address}
	if v.matched != nil {
		r.Event, r.Device, r.Detail = EventSignInVerified, v.matched.ID, v.acr()
		if v.byRequested {
			if err := tx.Delete(bucketRequestedCodes, after.Account); err != nil {
				return err
			}
		}
		v.failures.right()
	} else {
		v.closed = v.failures.wrong(codesShown, v.lane, now)
	}
	if err := v.failures.save(tx, v.account, v.lane); err != nil {
		return err
	}
	if err := recordSignIn(tx, now, after, r); err != nil {
		return err
	}
	if v.closed {
		if err := recordSignIn(tx, now, after, Record{
			Event: EventCodesClosed, Actor: Actor{Kind: ActorServer}, Detail: string(v.lane),
		}); err != nil {
			return err
		}
	}
	if after.At(now) == Cancelled {
		if err := recordSignIn(tx, now, after, Record{
			Event: EventSignInCancelled, Actor: Actor{Kind: ActorServer}, Detail: string(after.CancelCause),
		}); err != nil {
			return err
		}
	}
	return saveSignIn(tx, now, after)
}

// warnClosed tells the operator what write has put on record.
func (b *Broker) warnClosed(v *verification) {
	if v.closed {
		b.log.Warn("too many wrong codes in a row: no code is compared in this lane until the account is unlocked", "account", v.account, "lane", v.lane)
	}
}

func (v *verification) acr() string {
	if v.byRequested {
		return acrRequested
	}
	return acrCode
}

// admit makes the grant and the receipt for a sign-in whose code is used up.
func (b *Broker) admit(s *SignIn, v *verification, now time.Time) (Admission, error) {
	key := "swk"
	if v.matched.KeyStorage == "tpm" {
		key = "hwk"
	}
	grant, err := statement.Sign(b.secrets.signing, statement.Grant{
		Acr:      v.acr(),
		Amr:      []string{key, "user", "otp", "mca"},
		Aud:      s.Application,
		AuthTime: now.Unix(),
		Exp:      now.Add(grantLifetime).Unix(),
		Iat:      now.Unix(),
		Iss:      b.deployment,
		Jti:      strings.ToLower(rand.Text()),
		SignInID: s.ID,
		Sub:      s.Account,
	})
	if err != nil {
		return Admission{}, fmt.Errorf("signing the grant: %w", err)
	}
	receipt := Receipt{Statement: s.Decision, Device: v.matched.ID, ApprovalKey: v.matched.ApprovalKey}
	if v.byRequested {
		receipt.Statement = v.requested.Statement
	}
	return Admission{Grant: grant, Receipt: receipt}, nil
}
