package approval

import (
	"context"
	"errors"
	"time"

	"github.com/countersignd/countersign/internal/statement"
	"github.com/countersignd/countersign/internal/text"
)

// RevokeDevice ends the trust in a device of the caller's account, by the
// caller's signed statement. It works for suspended accounts too. The last
// trusted device goes only if a recovery code is left to come back with.
func (b *Broker) RevokeDevice(ctx context.Context, device, jws, address string) (Device, error) {
	r, claims, err := verified(ctx, b, device, jws, func(r statement.Revocation) claims {
		return claims{deployment: r.Aud, serverKey: r.ServerKey, account: r.Account, approvalKey: r.ApprovalKey, counter: r.Counter}
	})
	if err != nil {
		return Device{}, err
	}
	if err := text.Check(r.Reason); err != nil {
		return Device{}, invalidField("reason", "%v", err)
	}
	now := b.now()
	var target Device
	var refusal error
	var warn []string
	var ring rings
	err = b.update(ctx, func(tx *transaction) (err error) {
		refusal, warn, ring = nil, nil, rings{}
		c, _, err := b.readable(tx, device, now)
		if err != nil {
			return err
		}
		standing, err := claims.accepted(c.device)
		if err != nil {
			return err
		}
		if standing == outdated {
			refusal = errCopied
			if warn, err = b.noteOutdated(tx, now, c.device, claims, address); err != nil {
				return err
			}
		}
		t, err := load[Device](tx, bucketDevices, r.Revoked)
		if err != nil {
			return err
		}
		if t == nil || t.Account != c.device.Account {
			if refusal != nil {
				refusal = errOutdated // there is nothing to do, but what was noted stays
				return nil
			}
			return refuse(ReasonNoSuchDevice, "There is no such device in this account.")
		}
		if t.ID == device { // the caller is trusted, so that only its own revocation can leave nobody
			err := b.notTheLast(tx, c.account, now)
			if refusal != nil && errors.Is(err, &Error{Reason: ReasonLastDevice}) {
				refusal = errOutdated // likewise
				return nil
			}
			if err != nil {
				return err
			}
		}
		c.device.seen(now)
		if err := saveDevice(tx, c.device); err != nil {
			return err
		}
		if t.ID == device {
			t = c.device
		}
		err = b.revoke(tx, now, c.account, t, &ring, Record{
			Actor: Actor{Kind: ActorDevice, ID: device}, Address: address, Detail: r.Reason, Statement: jws,
		})
		target = *t
		return err
	})
	if err != nil {
		return Device{}, err
	}
	b.ring(ring.devices, ring.signIns...)
	b.warnCopied(warn, device)
	return target, refusal
}

// RevokeDevices ends the trust in all devices of an account that were enrolled
// before the moment, or in all if it is zero, which ends its invitations, too. It
// returns those that it revoked.
func (a Administrator) RevokeDevices(ctx context.Context, account string, enrolledBefore time.Time, reason string) ([]Device, error) {
	if err := text.Check(reason); err != nil {
		return nil, invalidField("reason", "%v", err)
	}
	now := a.broker.now()
	if enrolledBefore.After(now) {
		return nil, invalidField("enrolled_before", "want a moment that has passed, or none for all devices")
	}
	var revoked []Device
	var ring rings
	err := a.broker.update(ctx, func(tx *transaction) error {
		revoked, ring = nil, rings{}
		of, err := existingAccount(tx, account)
		if err != nil {
			return err
		}
		devices, err := devicesOf(tx, account)
		if err != nil {
			return err
		}
		for _, d := range devices {
			if d.State == DeviceRevoked || !enrolledBefore.IsZero() && !d.Enrolled.Before(enrolledBefore) {
				continue
			}
			if err := a.broker.revoke(tx, now, of, &d, &ring, Record{Actor: a.actor, Detail: reason}); err != nil {
				return err
			}
			revoked = append(revoked, d)
		}
		if !enrolledBefore.IsZero() {
			return nil
		}
		of.InvitationsEnded = now
		return save(tx, bucketAccounts, account, of)
	})
	if err != nil {
		return nil, err
	}
	a.broker.ring(ring.devices, ring.signIns...)
	return revoked, nil
}

// notTheLast refuses to take the account's last trusted device away if there is
// no recovery code for the way back.
func (b *Broker) notTheLast(tx *transaction, a *Account, now time.Time) error {
	set, err := b.loadRecovery(tx, a.Name)
	if err != nil {
		return err
	}
	if len(b.trustedIDs(tx, a.Name, now)) > 1 || set.left() > 0 {
		return nil
	}
	return refuse(ReasonLastDevice, "This is the last trusted device of %s, and there are no recovery codes, so nobody could approve for the account afterwards. Make recovery codes or enrol another device first, or ask an administrator.", a.Name)
}

// rings collects whom to ring after the commit.
type rings struct{ devices, signIns []string }

// revoke ends the trust in a device: what it allowed and was not used yet is
// void, and so are the codes it asked for. Revoking a revoked device changes
// nothing. The caller rings afterwards.
func (b *Broker) revoke(tx *transaction, now time.Time, a *Account, d *Device, ring *rings, r Record) error {
	if d.State == DeviceRevoked {
		return nil
	}
	devices := b.trustedIDs(tx, a.Name, now)
	ring.devices = append(ring.devices, devices...)
	if d.State == DeviceTrusted {
		a.Trusted--
	}
	if b.hub.connected(d.ID) {
		d.LastSeen = now.Truncate(time.Minute) // its stream ends now, and is not noted
	}
	d.State = DeviceRevoked
	d.Revoked, d.RevokedBy, d.RevokeReason = now, r.Actor, r.Detail
	d.Push = nil
	if err := tx.Delete(bucketTests, d.Account+"/"+d.ID); err != nil {
		return err
	}
	if err := saveDevice(tx, d); err != nil {
		return err
	}
	if err := save(tx, bucketAccounts, a.Name, a); err != nil {
		return err
	}
	r.Event, r.Account, r.Device = EventDeviceRevoked, a.Name, d.ID
	if _, err := record(tx, now, r); err != nil {
		return err
	}
	if err := b.voidRenewed(tx, now, d, r.Actor); err != nil {
		return err
	}
	asked, err := load[requestedCode](tx, bucketRequestedCodes, a.Name)
	if err != nil {
		return err
	}
	if asked != nil && asked.Device == d.ID {
		if err := tx.Delete(bucketRequestedCodes, a.Name); err != nil {
			return err
		}
	}
	return cancelOpen(tx, now, a.Name, CancelDeviceRevoked, ring, func(s *SignIn) bool {
		return s.At(now) == Approved && s.DecidedBy == d.ID
	})
}

// cancelOpen cancels those of an account's open sign-ins that match.
func cancelOpen(tx *transaction, now time.Time, account string, cause CancelCause, ring *rings, match func(*SignIn) bool) error {
	open, err := openSignIns(tx, account, now)
	if err != nil {
		return err
	}
	for _, s := range open {
		if !match(s) {
			continue
		}
		after, err := s.next(step{kind: stepCancel, cause: cause}, now)
		if err != nil {
			return err
		}
		if err := recordSignIn(tx, now, &after, Record{
			Event: EventSignInCancelled, Actor: Actor{Kind: ActorServer}, Detail: string(cause),
		}); err != nil {
			return err
		}
		if err := saveSignIn(tx, now, &after); err != nil {
			return err
		}
		ring.signIns = append(ring.signIns, s.ID)
	}
	return nil
}
