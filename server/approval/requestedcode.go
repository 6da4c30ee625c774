package approval

import (
	"context"
	"time"

	"github.com/countersignd/countersign/internal/statement"
)

// A requestedCode is the one code that an account may have without a prompt.
// Its digits are derived, not stored.
type requestedCode struct {
	ID        string // goes into the digits; like a sign-in id
	Device    string // that asked for it
	Statement string // countersign-code-request+jws
	Created   time.Time
	Expires   time.Time
}

// CreateCode makes a code for the account's next sign-in, or for one that is
// open or was denied by accident. A new code replaces the one before.
func (b *Broker) CreateCode(ctx context.Context, device, jws, address string) (Code, error) {
	_, claims, err := verified(ctx, b, device, jws, func(c statement.CodeRequest) claims {
		return claims{deployment: c.Aud, serverKey: c.ServerKey, account: c.Account, approvalKey: c.ApprovalKey, counter: c.Counter}
	})
	if err != nil {
		return Code{}, err
	}
	now := b.now()
	id := newSignInID(now)
	var answer Code
	var refusal error
	var warn []string
	err = b.update(ctx, func(tx *transaction) (err error) {
		answer, refusal, warn = Code{}, nil, nil
		c, err := b.trusted(tx, device, now)
		if err != nil {
			return err
		}
		standing, err := claims.accepted(c.device)
		if err != nil {
			return err
		}
		if standing != fresh {
			old, err := load[requestedCode](tx, bucketRequestedCodes, c.account.Name)
			if err != nil {
				return err
			}
			if standing == repeat && old != nil && old.Device == device && now.Before(old.Expires) {
				answer = b.requestedAnswer(c, old)
				return nil
			}
			refusal = errOutdated
			warn, err = b.noteOutdated(tx, now, c.device, claims, address)
			return err
		}
		if err := b.room(); err != nil {
			return err
		}
		if err := c.device.called(now); err != nil {
			return err
		}
		made := requestedCode{ID: id, Device: device, Statement: jws, Created: now, Expires: now.Add(requestedCodeLifetime)}
		answer = b.requestedAnswer(c, &made)
		if err := save(tx, bucketRequestedCodes, c.account.Name, &made); err != nil {
			return err
		}
		if _, err := record(tx, now, Record{
			Event: EventCodeRequested, Actor: Actor{Kind: ActorDevice, ID: device}, Account: c.account.Name,
			Device: device, Address: address, Statement: jws,
		}); err != nil {
			return err
		}
		c.device.seen(now)
		return saveDevice(tx, c.device)
	})
	if err != nil {
		return Code{}, err
	}
	b.warnCopied(warn, device)
	return answer, refusal
}

// requestedAnswer is what a device gets for its signed request: the code, and what
// it needs to make codes by itself.
func (b *Broker) requestedAnswer(c caller, r *requestedCode) Code {
	return Code{
		Digits:        b.secrets.requestedCode(c.account.Name, r.ID),
		Expires:       r.Expires,
		OfflineSecret: b.secrets.offlineSecret(b.deployment, c.device),
	}
}

// loadRequestedCode returns the account's code if it is still good: not
// expired, and the device that asked for it still trusted.
func (b *Broker) loadRequestedCode(tx *transaction, a *Account, now time.Time) (*requestedCode, error) {
	r, err := load[requestedCode](tx, bucketRequestedCodes, a.Name)
	if err != nil || r == nil || !now.Before(r.Expires) {
		return nil, err
	}
	c, err := loadCaller(tx, r.Device)
	if err != nil || b.mayApprove(a, c.device, now) != nil {
		return nil, err
	}
	return r, nil
}
