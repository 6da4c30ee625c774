package approval

import (
	"context"
	"crypto/subtle"
	"time"

	"github.com/countersignd/countersign/internal/recovery"
	"github.com/countersignd/countersign/internal/statement"
)

// A recoverySet is the recovery codes that an account has. The codes are derived
// and not stored ([Secrets]), so that they can be shown again when the answer was
// lost. What is stored of each is a MAC of its hash, under another key outside
// the store: 80 bits are too few to lie about as a plain hash for years (NIST SP
// 800-63B-4, 3.1.2.2).
type recoverySet struct {
	ID      string // goes into the codes; like a sign-in id
	Made    time.Time
	Device  string // that was shown them
	Renewal string `json:",omitzero"` // digest of the statement that asked for them; empty for those made at enrolment
	Codes   []recoveryCode
}

type recoveryCode struct {
	Hash string
	Used time.Time `json:",omitzero"`
	By   string    `json:",omitzero"` // id of the device that it enrolled
}

// showAgain is how long codes are shown again to the device that they were made
// for: as long as an answer can be on its way, and a person in front of it.
const showAgain = 10 * time.Minute

// makeRecoveryCodes replaces the account's codes by new ones. id is fresh.
func (b *Broker) makeRecoveryCodes(tx *transaction, now time.Time, account, id, device, renewal string) ([]string, error) {
	set := &recoverySet{ID: id, Made: now, Device: device, Renewal: renewal}
	codes := b.secrets.recoveryCodes(account, id)
	for _, c := range codes {
		set.Codes = append(set.Codes, recoveryCode{Hash: b.secrets.recoveryHash(account, id, recovery.Hash(account, c))})
	}
	return codes, save(tx, bucketRecovery, account, set)
}

// loadRecovery returns the account's set, which is empty if it has none that
// counts: a store that came back from a backup may have forgotten which codes were used.
func (b *Broker) loadRecovery(tx *transaction, account string) (*recoverySet, error) {
	set, err := load[recoverySet](tx, bucketRecovery, account)
	if err != nil {
		return nil, err
	}
	if set == nil || set.Made.Before(b.restored) {
		return &recoverySet{}, nil
	}
	return set, nil
}

// countRecovery notes how many codes the account has left.
func (b *Broker) countRecovery(tx *transaction, a *Account) error {
	set, err := b.loadRecovery(tx, a.Name)
	if err != nil {
		return err
	}
	if a.RecoveryCodes = set.left(); a.RecoveryCodes > 0 {
		a.RecoveryMade = set.Made
	}
	return nil
}

// left returns how many codes were not used yet.
func (s *recoverySet) left() int {
	n := 0
	for _, c := range s.Codes {
		if c.Used.IsZero() {
			n++
		}
	}
	return n
}

// find returns the code with this hash if it was not used yet, or nil. How long
// it takes does not depend on which it is.
func (s *recoverySet) find(hash string) *recoveryCode {
	var found *recoveryCode
	for i := range s.Codes {
		if c := &s.Codes[i]; subtle.ConstantTimeCompare([]byte(c.Hash), []byte(hash)) == 1 && c.Used.IsZero() {
			found = c
		}
	}
	return found
}

// mayShow reports whether the codes may be shown once more to the device, which
// asks again in the way in which it asked for them.
func (s *recoverySet) mayShow(device, renewal string, now time.Time) bool {
	return s.Device == device && s.Renewal == renewal && s.left() == recovery.Codes && now.Sub(s.Made) < showAgain
}

// voidRenewed voids the recovery codes that a device has asked for when it is
// revoked: who had the device may have them, and could come back with one.
// Those that an account got at an enrolment were shown before anybody could
// take the device away, and stay; and so do those of the last device when it
// signs itself out, because they are its owner's way back.
func (b *Broker) voidRenewed(tx *transaction, now time.Time, d *Device, by Actor) error {
	set, err := b.loadRecovery(tx, d.Account)
	if err != nil || set.Renewal == "" || set.Device != d.ID || set.left() == 0 {
		return err
	}
	if by.ID == d.ID && len(b.trustedIDs(tx, d.Account, now)) == 0 {
		return nil
	}
	if err := tx.Delete(bucketRecovery, d.Account); err != nil {
		return err
	}
	_, err = record(tx, now, Record{Event: EventRecoveryVoided, Actor: by, Account: d.Account, Device: d.ID})
	return err
}

// renewedByRevoked reports whether a device asked for the codes that is revoked
// by now, so that nobody knows who has them.
func (s *recoverySet) renewedByRevoked(tx *transaction) (bool, error) {
	if s.Renewal == "" {
		return false, nil
	}
	d, err := load[Device](tx, bucketDevices, s.Device)
	return err == nil && (d == nil || d.State == DeviceRevoked), err
}

// recoveryAtEnrollment returns the codes to show to a device that an invitation
// has enrolled: new ones if the account has none left, or none but those that a
// device has asked for which was revoked since; those that it was shown before
// if it asks again; and else none.
func (b *Broker) recoveryAtEnrollment(tx *transaction, now time.Time, d *Device, id string, again bool, address string) ([]string, error) {
	set, err := b.loadRecovery(tx, d.Account)
	switch {
	case err != nil:
		return nil, err
	case again && set.mayShow(d.ID, "", now):
		return b.secrets.recoveryCodes(d.Account, set.ID), nil
	case again:
		return nil, nil
	}
	if set.left() > 0 {
		if gone, err := set.renewedByRevoked(tx); err != nil || !gone {
			return nil, err
		}
	}
	codes, err := b.makeRecoveryCodes(tx, now, d.Account, id, d.ID, "")
	if err != nil {
		return nil, err
	}
	_, err = record(tx, now, Record{
		Event: EventRecoveryCreated, Actor: Actor{Kind: ActorDevice, ID: d.ID}, Account: d.Account, Device: d.ID, Address: address,
	})
	return codes, err
}

// CreateRecoveryCodes makes new recovery codes by the device's signed statement
// and voids all those before. The same statement again gets the same codes, for
// ten minutes and if none was used.
func (b *Broker) CreateRecoveryCodes(ctx context.Context, device, jws, address string) ([]string, error) {
	_, claims, err := verified(ctx, b, device, jws, func(r statement.RecoveryRenewal) claims {
		return claims{deployment: r.Aud, serverKey: r.ServerKey, account: r.Account, approvalKey: r.ApprovalKey, counter: r.Counter}
	})
	if err != nil {
		return nil, err
	}
	now := b.now()
	id := newSignInID(now)
	var codes []string
	var refusal error
	var warn, ring []string
	err = b.update(ctx, func(tx *transaction) (err error) {
		codes, refusal, warn, ring = nil, nil, nil, nil
		c, err := b.trusted(tx, device, now)
		if err != nil {
			return err
		}
		standing, err := claims.accepted(c.device)
		if err != nil {
			return err
		}
		if standing != fresh {
			old, err := b.loadRecovery(tx, c.account.Name)
			if err != nil {
				return err
			}
			if standing == repeat && old.mayShow(device, claims.digest, now) {
				codes = b.secrets.recoveryCodes(c.account.Name, old.ID)
				return nil
			}
			refusal = errOutdated
			warn, err = b.noteOutdated(tx, now, c.device, claims, address)
			return err
		}
		if err := c.device.called(now); err != nil {
			return err
		}
		if codes, err = b.makeRecoveryCodes(tx, now, c.account.Name, id, device, claims.digest); err != nil {
			return err
		}
		if _, err := record(tx, now, Record{
			Event: EventRecoveryRenewed, Actor: Actor{Kind: ActorDevice, ID: device}, Account: c.account.Name,
			Device: device, Address: address, Statement: jws,
		}); err != nil {
			return err
		}
		ring = b.trustedIDs(tx, c.account.Name, now)
		c.device.seen(now)
		return saveDevice(tx, c.device)
	})
	if err != nil {
		return nil, err
	}
	b.hub.ring(ring)
	b.warnCopied(warn, device)
	return codes, refusal
}
