package approval

import (
	"bytes"
	"context"
	"time"

	"github.com/countersignd/countersign/internal/statement"
)

// A Code is what a device is shown after Allow, or when it asked for one.
type Code struct {
	Digits  string // six decimal digits; empty after a denial
	Expires time.Time

	// OfflineSecret is what the device makes its offline codes from, if it has
	// asked for a code.
	OfflineSecret []byte
}

// Decide takes a device's signed decision about a sign-in. It is committed
// before anybody is told. The newest decision of a device may be sent again,
// because the answer may have been lost, and gets the same answer.
func (b *Broker) Decide(ctx context.Context, device, jws, address string) (Code, error) {
	d, claims, err := verified(ctx, b, device, jws, func(d statement.Decision) claims {
		return claims{deployment: d.Aud, serverKey: d.ServerKey, account: d.Account, approvalKey: d.ApprovalKey, counter: d.Counter}
	})
	if err != nil {
		return Code{}, err
	}

	now := b.now()
	var answer Code
	var refusal *Error
	var notMe, strangersSilent bool
	var warn, ring []string
	err = b.update(ctx, func(tx *transaction) (err error) {
		answer, refusal, warn, ring = Code{}, nil, nil, nil
		notMe, strangersSilent = false, false
		c, err := b.trusted(tx, device, now)
		if err != nil {
			return err
		}
		standing, err := claims.accepted(c.device)
		if err != nil {
			return err
		}
		s, err := load[SignIn](tx, bucketSignIns, d.SignIn)
		if err != nil {
			return err
		}
		if s == nil || s.Account != c.account.Name {
			return refuse(ReasonSignInUnknown, "There is no such sign-in for this device.")
		}
		if !bytes.Equal(d.PromptBytes(), b.prompt(s, device)) {
			return refuse(ReasonStatementMismatch, "The signed prompt is not the one that this device was shown.")
		}
		if standing == outdated && !s.signedBy(device, claims.digest) {
			refusal = errOutdated
			if d.Decision == statement.Deny {
				refusal = errCopied
			}
			if warn, err = b.noteOutdated(tx, now, c.device, claims, address); err != nil || refusal == errOutdated {
				return err
			}
		}
		after, err := s.next(decisionStep(device, &d, claims.digest), now)
		if err != nil && refusal != nil {
			refusal = errOutdated // too late to do anything, but what was noted stays
			return nil
		}
		if err != nil {
			return err
		}
		if after.At(now) == Approved {
			answer = Code{Digits: b.secrets.allowCode(s.ID, device), Expires: after.CodeExpires}
		}
		if standing != fresh && refusal == nil {
			return nil
		}
		if event := decided(s, &after, now); event != "" {
			if err := recordSignIn(tx, now, &after, Record{
				Event: event, Actor: Actor{Kind: ActorDevice, ID: device}, Device: device,
				Address: address, Detail: d.Reason, Statement: jws,
			}); err != nil {
				return err
			}
			if event != EventDenyReason {
				after.Decision = after.Records[len(after.Records)-1]
			}
			if notMe = s.DenyReason != statement.NotMe && after.DenyReason == statement.NotMe; notMe {
				if strangersSilent, err = wasNotMe(tx, now, &after, Record{Actor: Actor{Kind: ActorServer}, Device: device}); err != nil {
					return err
				}
			}
			if err := noteAnswer(tx, s.ID, device, now); err != nil {
				return err
			}
			ring = b.trustedIDs(tx, s.Account, now)
			if err := saveSignIn(tx, now, &after); err != nil {
				return err
			}
		}
		c.device.seen(now)
		return saveDevice(tx, c.device)
	})
	if err != nil {
		return Code{}, err
	}
	b.ring(ring, d.SignIn)
	b.warnCopied(warn, device)
	if notMe {
		b.log.Warn("the owner says that a sign-in was not hers: somebody may know the password", "account", d.Account, "sign_in", d.SignIn, "strangers_silent", strangersSilent)
	}
	if refusal == nil || refusal == errCopied {
		b.log.Info("decision", "sign_in", d.SignIn, "account", d.Account, "device", device, "decision", d.Decision, "reason", d.Reason)
	}
	if refusal != nil {
		return Code{}, refusal
	}
	return answer, nil
}

func decisionStep(device string, d *statement.Decision, signed string) step {
	st := step{device: device, signed: signed, reason: d.Reason}
	switch d.Decision {
	case statement.Allow:
		st.kind = stepAllow
	case statement.Deny:
		st.kind = stepDeny
	}
	return st
}

// signedBy reports whether the sign-in was decided by the statement that signed
// this.
func (s *SignIn) signedBy(device, signed string) bool {
	return s.DecidedBy == device && s.Signed == signed
}

// decided returns the event that a decision made, if it changed anything.
func decided(before, after *SignIn, now time.Time) Event {
	switch {
	case before.At(now) != Denied && after.At(now) == Denied:
		return EventSignInDenied
	case before.DenyReason != after.DenyReason:
		return EventDenyReason
	case before.At(now) == Pending && after.At(now) == Approved:
		return EventSignInAllowed
	}
	return ""
}
