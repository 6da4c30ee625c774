package approval

import (
	"context"
	"slices"
	"time"

	"github.com/countersignd/countersign/internal/statement"
	"github.com/countersignd/countersign/internal/text"
)

// Unlock clears the counts of wrong codes, the gaps and the silences of the
// caller's account, in all lanes, by the caller's signed statement. What sign-ins
// rang in the last hour stays counted. What devices rang that ask to be trusted
// does not: beyond their budget they are dropped, so that a stranger who knows
// an account's name could keep the owner from asking with a device of hers.
func (b *Broker) Unlock(ctx context.Context, device, jws, address string) error {
	_, claims, err := verified(ctx, b, device, jws, func(u statement.Unlock) claims {
		return claims{deployment: u.Aud, serverKey: u.ServerKey, account: u.Account, approvalKey: u.ApprovalKey, counter: u.Counter}
	})
	if err != nil {
		return err
	}
	now := b.now()
	var refusal error
	var warn, ring []string
	err = b.update(ctx, func(tx *transaction) (err error) {
		refusal, warn, ring = nil, nil, nil
		c, err := b.trusted(tx, device, now)
		if err != nil {
			return err
		}
		standing, err := claims.accepted(c.device)
		if err != nil {
			return err
		}
		switch standing {
		case repeat:
			return nil
		case outdated:
			refusal = errOutdated
			warn, err = b.noteOutdated(tx, now, c.device, claims, address)
			return err
		}
		if err := c.device.called(now); err != nil {
			return err
		}
		c.device.seen(now)
		if err := saveDevice(tx, c.device); err != nil {
			return err
		}
		ring = b.trustedIDs(tx, c.account.Name, now)
		return unlock(tx, now, Record{
			Actor: Actor{Kind: ActorDevice, ID: device}, Account: c.account.Name, Device: device, Address: address, Statement: jws,
		})
	})
	if err != nil {
		return err
	}
	b.hub.ring(ring)
	b.warnCopied(warn, device)
	return refusal
}

// UnlockAccount does the same for an administrator.
func (a Administrator) UnlockAccount(ctx context.Context, name, reason string) (Account, error) {
	if err := text.Check(reason); err != nil {
		return Account{}, invalidField("reason", "%v", err)
	}
	now := a.broker.now()
	var unlocked Account
	var ring []string
	err := a.broker.update(ctx, func(tx *transaction) error {
		ring = nil
		account, err := existingAccount(tx, name)
		if err != nil {
			return err
		}
		unlocked = *account
		ring = a.broker.trustedIDs(tx, name, now)
		return unlock(tx, now, Record{Actor: a.actor, Account: name, Detail: reason})
	})
	if err != nil {
		return Account{}, err
	}
	a.broker.hub.ring(ring)
	return unlocked, nil
}

func unlock(tx *transaction, now time.Time, r Record) error {
	a, err := tx.activity(r.Account)
	if err != nil {
		return err
	}
	a.Failures, a.changed = nil, true
	ringing, err := loadRinging(tx, r.Account, now)
	if err != nil {
		return err
	}
	ringing.InVain, ringing.Silenced, ringing.SilentUntil = nil, nil, time.Time{}
	ringing.Rung = slices.DeleteFunc(ringing.Rung, func(x ring) bool { return x.Lane == LaneEnrolment })
	if err := ringing.save(tx, r.Account); err != nil {
		return err
	}
	r.Event = EventUnlocked
	_, err = record(tx, now, r)
	return err
}

// A LaneStatus says how an account fares in one lane.
type LaneStatus struct {
	Lane          Lane
	Rung          int       // in the last hour
	FailuresDay   int       // wrong codes in 24 hours
	FailuresMonth int       // and in 30 days
	Closed        time.Time // since when no code is compared until it is unlocked; zero while one is
	BarredUntil   time.Time // no code is compared before, because of those wrong ones
	SilentUntil   time.Time // nobody rings before; zero if it may
}

// Lanes returns how an account fares in each lane, and the sources that were
// silenced.
func (a Administrator) Lanes(ctx context.Context, name string) (lanes []LaneStatus, sources []SilencedSource, err error) {
	now := a.broker.now()
	err = a.broker.view(ctx, func(tx *transaction) error {
		lanes, sources = nil, nil
		if _, err := existingAccount(tx, name); err != nil {
			return err
		}
		r, err := loadRinging(tx, name, now)
		if err != nil {
			return err
		}
		for _, lane := range Lanes() {
			f, err := loadFailures(tx, name, lane)
			if err != nil {
				return err
			}
			status := LaneStatus{Lane: lane, Rung: r.count(func(x ring) bool { return x.Lane == lane }), Closed: f.Closed}
			for kind := range failureBudgets {
				status.FailuresDay += f.within(kind, 24*time.Hour, now)
				status.FailuresMonth += f.within(kind, longestWindow, now)
				if until := f.barredUntil(kind, now); until.After(status.BarredUntil) {
					status.BarredUntil = until
				}
			}
			if lane != LaneKnown && now.Before(r.SilentUntil) {
				status.SilentUntil = r.SilentUntil
			}
			lanes = append(lanes, status)
		}
		sources = r.Silenced
		return nil
	})
	return lanes, sources, err
}
