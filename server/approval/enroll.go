package approval

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/countersignd/countersign/internal/invitation"
	"github.com/countersignd/countersign/internal/pin"
	"github.com/countersignd/countersign/internal/statement"
	"github.com/countersignd/countersign/internal/text"
)

// Enrolling is a request to be trusted by invitation.
type Enrolling struct {
	Device    string // key id of the TLS client key
	Token     string // of the invitation
	Statement string // countersign-enrollment+jws
	Address   string // where it came from, for the record
}

// An Enrolled is a device that is trusted now.
type Enrolled struct {
	Device

	// RecoveryCodes are the account's, if they were made with this device: to
	// be shown once and never stored.
	RecoveryCodes []string
}

// EnrollDevice turns nothing into a trusted device in one transaction. The
// same device with the same invitation may call again and gets the same
// answer, because the first may have been lost.
func (b *Broker) EnrollDevice(ctx context.Context, in Enrolling) (Enrolled, error) {
	e, candidate, err := b.announced(in.Device, in.Statement)
	if err != nil {
		return Enrolled{}, err
	}
	hash := invitation.Hash(in.Token)
	if e.Invitation != hash {
		return Enrolled{}, refuse(ReasonStatementMismatch, "The statement was signed for another invitation.")
	}

	now := b.now()
	codes := newSignInID(now)
	var enrolled Enrolled
	var others []string
	err = b.update(ctx, func(tx *transaction) error {
		enrolled, others = Enrolled{}, nil
		old, err := load[Device](tx, bucketDevices, in.Device)
		if err != nil {
			return err
		}
		if old != nil {
			if err := old.mayRepeat(old.Invitation == hash && old.ApprovalKey == candidate.ApprovalKey); err != nil {
				return err
			}
			enrolled.Device = *old
			enrolled.RecoveryCodes, err = b.recoveryAtEnrollment(tx, now, old, codes, true, in.Address)
			return err
		}
		a, inv, err := redeemable(tx, hash, now)
		if err != nil {
			return err
		}
		if a.Trusted >= b.devices {
			return tooManyDevices(a)
		}
		others = b.trustedIDs(tx, a.Name, now)
		enrolled.Device = candidate.enrolled(a.Name, inv.By, now)
		enrolled.Invitation = hash
		inv.UsedBy = in.Device
		if err := save(tx, bucketInvitations, hash, inv); err != nil {
			return err
		}
		if err := addDevice(tx, now, a, &enrolled.Device, in.Address); err != nil {
			return err
		}
		enrolled.RecoveryCodes, err = b.recoveryAtEnrollment(tx, now, &enrolled.Device, codes, false, in.Address)
		return err
	})
	if err != nil {
		return Enrolled{}, err
	}
	b.hub.ring(others)
	return enrolled, nil
}

// announced checks a device's signed announcement of its keys, by invitation
// or not, and returns what it says of the device.
func (b *Broker) announced(device, jws string) (statement.Enrollment, Candidate, error) {
	e, approvalKey, err := statement.VerifyEnrollment(device, jws)
	if err != nil {
		return e, Candidate{}, asStatementError(err)
	}
	approvalID, err := pin.KeyID(approvalKey)
	if err != nil {
		return e, Candidate{}, refuse(ReasonStatementInvalid, "The approval key was refused: %v.", err)
	}
	if err := b.addressed(e.Aud, e.ServerKey); err != nil {
		return e, Candidate{}, err
	}
	if err := text.Check(e.Name); err != nil {
		return e, Candidate{}, invalidField("name", "%v", err)
	}
	return e, Candidate{
		Device: device, Name: e.Name, Kind: e.Kind, KeyStorage: e.KeyStorage,
		ApprovalKey: e.ApprovalKey, ApprovalID: approvalID, Statement: jws,
	}, nil
}

// enrolled returns the trusted device that the candidate becomes.
func (c *Candidate) enrolled(account string, by Actor, now time.Time) Device {
	return Device{
		ID:          c.Device,
		Account:     account,
		State:       DeviceTrusted,
		Name:        c.Name,
		Kind:        c.Kind,
		KeyStorage:  c.KeyStorage,
		ApprovalKey: c.ApprovalKey,
		ApprovalID:  c.ApprovalID,
		Enrolled:    now,
		EnrolledBy:  by,
		Enrollment:  c.Statement,
	}
}

// mayRepeat tells the repeated call of a device that was just trusted, with
// the same request as then, from a key that is in use.
func (d *Device) mayRepeat(same bool) error {
	switch {
	case d.State == DeviceRevoked:
		return refuse(ReasonDeviceRevoked, "This device was revoked. It can be enrolled again only with new keys.")
	case d.State != DeviceTrusted || !same:
		return refuse(ReasonKeyInUse, "This key belongs to a device already. Enrol with new keys.")
	}
	return nil
}

// redeemable returns an invitation that can be used now, and its account. It
// does not tell an unknown invitation from one that was used or expired.
func redeemable(tx *transaction, hash string, now time.Time) (*Account, *invitationRecord, error) {
	inv, err := load[invitationRecord](tx, bucketInvitations, hash)
	if err != nil {
		return nil, nil, err
	}
	invalid := refuse(ReasonInvitationInvalid, "This invitation is unknown, used or expired, or has ended with the trust in all devices. Ask an administrator for a new one.")
	if inv == nil || inv.UsedBy != "" || !now.Before(inv.Expires) {
		return nil, nil, invalid
	}
	a, err := load[Account](tx, bucketAccounts, inv.Account)
	if err != nil {
		return nil, nil, err
	}
	if a != nil && (inv.Created.Before(a.InvitationsEnded) || inv.Created.Before(a.Resumed)) {
		return nil, nil, invalid
	}
	return a, inv, active(a)
}

// addDevice stores a new device, trusted or waiting, with its indexes, and the
// record of one that is trusted. A key that any device ever had is refused.
func addDevice(tx *transaction, now time.Time, a *Account, d *Device, address string) error {
	if err := unusedKeys(tx, d.ID, d.ApprovalID); err != nil {
		return err
	}
	for _, key := range []string{d.ID, d.ApprovalID} {
		if err := tx.Put(bucketKeys, key, []byte(d.ID)); err != nil {
			return err
		}
	}
	if d.State != DeviceTrusted {
		return saveDevice(tx, d)
	}
	return admitDevice(tx, now, a, d, address)
}

// admitDevice stores and counts a device that has become trusted, and records it.
func admitDevice(tx *transaction, now time.Time, a *Account, d *Device, address string) error {
	enrollment := d.Enrollment
	d.Enrollment = ""
	if err := saveDevice(tx, d); err != nil {
		return err
	}
	a.Trusted++
	if err := save(tx, bucketAccounts, a.Name, a); err != nil {
		return err
	}
	_, err := record(tx, now, Record{
		Event: EventDeviceEnrolled, Actor: d.EnrolledBy, Account: a.Name, Device: d.ID,
		Address: address, Detail: d.Name, Statement: enrollment,
	})
	return err
}

func tooManyDevices(a *Account) error {
	return refuse(ReasonTooManyDevices, "The account %s has %d trusted devices, which is the most; those that were lost count, too. Revoke one on a trusted device, or ask an administrator to, and try again.", a.Name, a.Trusted)
}

// addressed checks that a statement was made for this server.
func (b *Broker) addressed(deployment, serverKey string) error {
	switch {
	case deployment != b.deployment:
		return refuse(ReasonStatementMismatch, "The statement was signed for another deployment.")
	case serverKey != b.serverKey:
		return refuse(ReasonStatementMismatch, "The statement names another server key than this server's: the device was connected to something else, or the server was given a new key in the meantime. Connect again.")
	}
	return nil
}

func sortDevices(devices []Device) {
	slices.SortFunc(devices, func(x, y Device) int {
		if c := x.Enrolled.Compare(y.Enrolled); c != 0 {
			return c
		}
		return strings.Compare(x.ID, y.ID)
	})
}
