package approval

import (
	"context"
	"strings"
	"time"

	"github.com/countersignd/countersign/internal/invitation"
	"github.com/countersignd/countersign/internal/statement"
	"github.com/countersignd/countersign/internal/text"
)

// An Administrator carries out the operations of the person named by an
// [Actor], who goes on record with each change.
type Administrator struct {
	broker *Broker
	actor  Actor
}

// Administrator returns the operations of an administrator. The caller has
// made sure that it is one.
func (b *Broker) Administrator(actor Actor) Administrator {
	return Administrator{broker: b, actor: actor}
}

func (a Administrator) record(tx *transaction, now time.Time, r Record) error {
	r.Actor = a.actor
	_, err := record(tx, now, r)
	return err
}

// AddAccount makes an account without devices.
func (a Administrator) AddAccount(ctx context.Context, name string) (Account, error) {
	if !statement.ValidAccount(name) {
		return Account{}, invalidField("name", "want 1 to 64 characters of a-z, 0-9 and . _ @ + -, beginning with a letter or digit")
	}
	now := a.broker.now()
	made := Account{Name: name, State: AccountActive, Created: now}
	err := a.broker.update(ctx, func(tx *transaction) error {
		old, err := load[Account](tx, bucketAccounts, name)
		if err != nil {
			return err
		}
		if old != nil {
			return refuse(ReasonAccountExists, "There is an account %s already.", name)
		}
		if err := a.broker.room(); err != nil {
			return err
		}
		if err := save(tx, bucketAccounts, name, &made); err != nil {
			return err
		}
		return a.record(tx, now, Record{Event: EventAccountAdded, Account: name})
	})
	if err != nil {
		return Account{}, err
	}
	return made, nil
}

// ListAccounts returns a page of accounts, by name.
func (a Administrator) ListAccounts(ctx context.Context, p Page) ([]Account, string, error) {
	page, next, err := list[Account](ctx, a.broker.store, bucketAccounts, p)
	if err != nil {
		return nil, "", err
	}
	err = a.broker.view(ctx, func(tx *transaction) error {
		for i := range page {
			if err := a.broker.countRecovery(tx, &page[i]); err != nil {
				return err
			}
		}
		return nil
	})
	return page, next, err
}

// Account returns an account and its devices, oldest first.
func (a Administrator) Account(ctx context.Context, name string) (Account, []Device, error) {
	var found Account
	var devices []Device
	err := a.broker.view(ctx, func(tx *transaction) error {
		account, err := existingAccount(tx, name)
		if err != nil {
			return err
		}
		found = *account
		if err := a.broker.countRecovery(tx, &found); err != nil {
			return err
		}
		if devices, err = devicesOf(tx, name); err != nil {
			return err
		}
		for i := range devices {
			a.broker.refresh(&devices[i])
		}
		return nil
	})
	return found, devices, err
}

// Devices returns the devices of an account, revoked ones too, oldest first.
func (a Administrator) Devices(ctx context.Context, account string) ([]Device, error) {
	_, devices, err := a.Account(ctx, account)
	return devices, err
}

// SuspendAccount stops everything for an account and cancels what is open.
func (a Administrator) SuspendAccount(ctx context.Context, name, reason string) (Account, error) {
	if err := text.Check(reason); err != nil {
		return Account{}, invalidField("reason", "%v", err)
	}
	now := a.broker.now()
	var suspended Account
	var ring rings
	err := a.broker.update(ctx, func(tx *transaction) error {
		ring = rings{}
		account, err := existingAccount(tx, name)
		if err != nil {
			return err
		}
		if err := a.broker.countRecovery(tx, account); err != nil {
			return err
		}
		suspended = *account
		if account.State == AccountSuspended {
			return nil
		}
		account.State, account.Suspended, account.SuspendReason = AccountSuspended, now, reason
		suspended = *account
		if err := save(tx, bucketAccounts, name, account); err != nil {
			return err
		}
		if err := a.record(tx, now, Record{Event: EventAccountSuspended, Account: name, Detail: reason}); err != nil {
			return err
		}
		if err := tx.Delete(bucketRequestedCodes, name); err != nil {
			return err
		}
		ring.devices = a.broker.trustedIDs(tx, name, now)
		return cancelOpen(tx, now, name, CancelAccountSuspended, &ring, func(*SignIn) bool { return true })
	})
	if err != nil {
		return Account{}, err
	}
	a.broker.ring(ring.devices, ring.signIns...)
	return suspended, nil
}

// ResumeAccount undoes SuspendAccount, except that what was cancelled stays so.
func (a Administrator) ResumeAccount(ctx context.Context, name string) (Account, error) {
	now := a.broker.now()
	var resumed Account
	var ring []string
	err := a.broker.update(ctx, func(tx *transaction) error {
		ring = nil
		account, err := existingAccount(tx, name)
		if err != nil {
			return err
		}
		if err := a.broker.countRecovery(tx, account); err != nil {
			return err
		}
		resumed = *account
		if account.State == AccountActive {
			return nil
		}
		account.State, account.Suspended, account.SuspendReason, account.Resumed = AccountActive, time.Time{}, "", now
		resumed = *account
		if err := save(tx, bucketAccounts, name, account); err != nil {
			return err
		}
		ring = a.broker.trustedIDs(tx, name, now)
		return a.record(tx, now, Record{Event: EventAccountResumed, Account: name})
	})
	if err != nil {
		return Account{}, err
	}
	a.broker.hub.ring(ring)
	return resumed, nil
}

// collected is how many characters of its hash a new invitation has in common
// with those among which it collects the expired ones: one in 1,024 of them. To
// look at all, each time, would make it slow to invite ten thousand people.
const collected = 2

// CreateInvitation makes an invitation and returns its token, which is not
// stored. A lifetime of 0 means ten minutes.
func (a Administrator) CreateInvitation(ctx context.Context, account string, lifetime time.Duration) (token string, expires time.Time, err error) {
	if lifetime == 0 {
		lifetime = invitationLifetime
	}
	if lifetime < time.Second || lifetime > maxInvitationLifetime {
		return "", time.Time{}, invalidField("lifetime", "want 1 s to %v", maxInvitationLifetime)
	}
	now := a.broker.now()
	token, expires = invitation.NewToken(), now.Add(lifetime)
	hash := invitation.Hash(token)
	err = a.broker.update(ctx, func(tx *transaction) error {
		found, err := existingAccount(tx, account)
		if err != nil {
			return err
		}
		if err := active(found); err != nil {
			return err
		}
		if err := a.broker.room(); err != nil {
			return err
		}
		for key, err := range expiredInvitations(tx, now, hash[:collected]) {
			if err != nil {
				return err
			}
			if err := tx.Delete(bucketInvitations, key); err != nil {
				return err
			}
		}
		if err := save(tx, bucketInvitations, hash, &invitationRecord{
			Account: account, Created: now, Expires: expires, By: a.actor,
		}); err != nil {
			return err
		}
		detail := ""
		if lifetime > invitationLifetime {
			detail = "good for " + lifetime.String()
		}
		return a.record(tx, now, Record{Event: EventInvitationCreated, Account: account, Detail: detail})
	})
	if err != nil {
		return "", time.Time{}, err
	}
	return token, expires, nil
}

// RevokeDevice ends the trust in a device, named by its id or an unambiguous
// beginning of it.
func (a Administrator) RevokeDevice(ctx context.Context, id, reason string) (Device, error) {
	if err := text.Check(reason); err != nil {
		return Device{}, invalidField("reason", "%v", err)
	}
	now := a.broker.now()
	var revoked Device
	var ring rings
	err := a.broker.update(ctx, func(tx *transaction) error {
		ring = rings{}
		d, err := deviceByPrefix(tx, id)
		if err != nil {
			return err
		}
		account, err := existingAccount(tx, d.Account)
		if err != nil {
			return err
		}
		err = a.broker.revoke(tx, now, account, d, &ring, Record{Actor: a.actor, Detail: reason})
		revoked = *d
		return err
	})
	if err != nil {
		return Device{}, err
	}
	a.broker.ring(ring.devices, ring.signIns...)
	return revoked, nil
}

// Device returns a device, named as for RevokeDevice.
func (a Administrator) Device(ctx context.Context, id string) (Device, error) {
	var found Device
	err := a.broker.view(ctx, func(tx *transaction) error {
		d, err := deviceByPrefix(tx, id)
		if err != nil {
			return err
		}
		a.broker.refresh(d)
		found = *d
		return nil
	})
	return found, err
}

func existingAccount(tx *transaction, name string) (*Account, error) {
	if !statement.ValidAccount(name) {
		return nil, invalidField("account", "want 1 to 64 characters of a-z, 0-9 and . _ @ + -, beginning with a letter or digit")
	}
	a, err := load[Account](tx, bucketAccounts, name)
	if err != nil {
		return nil, err
	}
	if a == nil {
		return nil, refuse(ReasonAccountUnknown, "There is no account %s. Look for its name in the list of accounts, or add it.", name)
	}
	return a, nil
}

// minDevicePrefix is how much of a device's id must be given.
const minDevicePrefix = 4

// deviceByPrefix takes the beginning of an id as people say it and agents show
// it: in groups, with spaces or hyphens between.
func deviceByPrefix(tx *transaction, prefix string) (*Device, error) {
	prefix = strings.ToLower(strings.NewReplacer(" ", "", "-", "").Replace(prefix))
	if len(prefix) < minDevicePrefix || len(prefix) > 52 {
		return nil, invalidField("device", "want the device's id, or at least its first %d characters", minDevicePrefix)
	}
	var found string
	for key := range tx.Ascend(bucketDevices, prefix) {
		if found != "" {
			return nil, refuse(ReasonNoSuchDevice, "More than one device's id begins so. Give more of it.")
		}
		found = key
	}
	if found == "" {
		return nil, refuse(ReasonNoSuchDevice, "There is no device whose id begins so. See the list of the account's devices.")
	}
	return load[Device](tx, bucketDevices, found)
}
