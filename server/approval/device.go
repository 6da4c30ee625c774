package approval

import (
	"time"

	"github.com/countersignd/countersign/internal/statement"
)

// A Device is a holder of two keys of an account. Its id is the key id of its
// identity key, which its TLS connections prove.
type Device struct {
	ID           string
	Account      string
	State        DeviceState
	Name         string // written by the device
	Kind         string // as in statement.Enrollment; says nothing about trust
	KeyStorage   string // likewise
	ApprovalKey  statement.JWK
	ApprovalID   string      // key id of ApprovalKey
	Counter      uint64      `json:",omitzero"`  // of the newest statement by this device
	Newest       string      `json:",omitzero"`  // SHA-256 of what that statement signed, in base64
	Stale        stale       `json:",omitzero"`  // statements whose counter did not rise
	Calls        []time.Time `json:",omitempty"` // in the last hour, signed ones that were put on record
	Renames      []time.Time `json:",omitempty"` // likewise, which nothing has to be signed for: names, and more by now
	Enrolled     time.Time
	EnrolledBy   Actor
	LastSeen     time.Time `json:",omitzero"` // to the minute
	Readmitted   time.Time `json:",omitzero"` // zero if it never had to be
	ReadmittedBy Actor     `json:",omitzero"`
	Confirmed    time.Time `json:",omitzero"` // after the store was restored from a backup; zero if it never had to be

	OfflineStep  int64 `json:",omitzero"` // of the newest offline code that was used; none counts at or before it
	OfflineDrift int   `json:",omitzero"` // how many steps the device's clock was ahead then, -2 to 2

	Revoked      time.Time `json:",omitzero"` // zero while trusted
	RevokedBy    Actor     `json:",omitzero"`
	RevokeReason string    `json:",omitzero"`

	// Enrollment is the device's own signed request to be trusted, until that is
	// on record.
	Enrollment string `json:",omitzero"`

	// The request came with an invitation or a recovery code, of which this is the
	// hash, or was allowed by a trusted device in a sign-in. A retry shows the same
	// again.
	Invitation   string `json:",omitzero"`
	TrustRequest string `json:",omitzero"` // sign-in id
	Recovery     string `json:",omitzero"`

	TrustFrom time.Time `json:",omitzero"` // when it may be trusted, if it had to wait; zero else

	Push    *Push     `json:",omitempty"` // how it is woken; nil if it registered nothing
	Reached time.Time `json:",omitzero"`  // when it last said that it has a prompt, to the minute
}

// DeviceState says whether a device's approvals count. In the zero state they
// do not.
type DeviceState string

// The states of a device. The first three are stored; the other two are what
// becomes of a trusted device, see [Device.At].
const (
	DeviceTrusted     DeviceState = "trusted"
	DeviceRevoked     DeviceState = "revoked"
	DeviceWaiting     DeviceState = "waiting"     // enrolled by a recovery code, and not trusted yet
	DeviceDormant     DeviceState = "dormant"     // unseen for 90 days, and not readmitted since
	DeviceUnconfirmed DeviceState = "unconfirmed" // from a restored backup, and not confirmed since
)

// dormantAfter is how long a device may be unseen and count. Nobody would miss
// a device that lies in a drawer, or was given away.
const dormantAfter = 90 * 24 * time.Hour

// At returns what the device is at a moment, given when the store was last
// restored from a backup, which may have forgotten that the device was revoked.
// Zero means never.
func (d *Device) At(now, restored time.Time) DeviceState {
	switch {
	case d.State != DeviceTrusted:
		return d.State
	case d.confirmed().Before(restored):
		return DeviceUnconfirmed
	case now.Sub(d.alive()) >= dormantAfter:
		return DeviceDormant
	}
	return DeviceTrusted
}

// seen notes that the device is there now, to the minute, and reports whether
// that is news. The caller saves it.
func (d *Device) seen(now time.Time) bool {
	if d.wasSeen(now) {
		return false
	}
	d.LastSeen = now.Truncate(time.Minute)
	return true
}

// wasSeen reports whether it is noted that the device is there now.
func (d *Device) wasSeen(now time.Time) bool { return sameMinute(d.LastSeen, now) }

// sameMinute reports whether now is in the minute of a moment, or before it.
func sameMinute(moment, now time.Time) bool { return !now.Truncate(time.Minute).After(moment) }

// alive returns when somebody last knew that the device is in its owner's hands.
func (d *Device) alive() time.Time { return latest(d.Enrolled, d.LastSeen, d.Readmitted, d.Confirmed) }

// confirmed returns when a person last said that the device belongs here.
func (d *Device) confirmed() time.Time { return latest(d.Enrolled, d.Confirmed) }

func latest(first time.Time, others ...time.Time) time.Time {
	for _, t := range others {
		if t.After(first) {
			first = t
		}
	}
	return first
}

// mayApprove is the rule that decides whether a device's statements count: the
// device exists, is trusted at this moment, belongs to the account, and the
// account is active. Every operation of a device asks it, inside its own
// transaction.
func (b *Broker) mayApprove(a *Account, d *Device, now time.Time) error {
	if d == nil || d.ID == "" {
		return refuse(ReasonDeviceUnknown, "This device is not enrolled here. Enrol it with an invitation.")
	}
	switch d.At(now, b.restored) {
	case DeviceTrusted:
	case DeviceRevoked:
		return refuse(ReasonDeviceRevoked, "This device was revoked. It can be enrolled again only with new keys.")
	case DeviceWaiting:
		return refuse(ReasonDeviceWaiting, "This device was enrolled with a recovery code and is not trusted yet. Wait until its time has come.")
	case DeviceDormant:
		return refuse(ReasonDeviceDormant, "This device was not seen for 90 days, so it does not count. Readmit it on another trusted device, or ask an administrator.")
	case DeviceUnconfirmed:
		return refuse(ReasonDeviceUnconfirmed, "The server was restored from a backup, and nobody has confirmed since that this device is still trusted. Ask an administrator to confirm it; then it goes on by itself.")
	default:
		return refuse(ReasonDeviceUnknown, "This device is not trusted. Enrol it with an invitation.")
	}
	if a == nil || a.Name != d.Account {
		return refuse(ReasonAccountUnknown, "The account of this device does not exist. Ask an administrator.")
	}
	return active(a)
}

// StateOf returns what the device is now.
func (b *Broker) StateOf(d *Device) DeviceState { return d.At(b.now(), b.restored) }

// active says whether anything works for an account.
func active(a *Account) error {
	switch {
	case a == nil || a.Name == "":
		return refuse(ReasonAccountUnknown, "There is no such account. Ask the administrator for the account's name.")
	case a.State == AccountSuspended:
		return refuse(ReasonAccountSuspended, "The account %s is suspended. Ask an administrator.", a.Name)
	case a.State != AccountActive:
		return refuse(ReasonAccountUnknown, "The account %s is not usable. Ask an administrator.", a.Name)
	}
	return nil
}
