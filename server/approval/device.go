package approval

import (
	"time"

	"github.com/countersignd/countersign/internal/statement"
)

// A Device is a holder of two keys of an account. Its id is the key id of its
// identity key, which its TLS connections prove.
type Device struct {
	ID          string
	Account     string
	State       DeviceState
	Name        string // written by the device
	Kind        string // as in statement.Enrollment; says nothing about trust
	KeyStorage  string // likewise
	ApprovalKey statement.JWK
	ApprovalID  string // key id of ApprovalKey
	Counter     uint64 // of the newest statement by this device
	Newest      string // SHA-256 of what that statement signed, in base64
	Stale       stale  // statements whose counter did not rise
	Enrolled    time.Time
	EnrolledBy  Actor
	LastSeen    time.Time // to the minute

	Revoked      time.Time // zero while trusted
	RevokedBy    Actor
	RevokeReason string

	// Enrollment is the device's own signed request to be trusted. It came
	// with an invitation, of whose token this is the hash, or with a request
	// that a trusted device allowed. A retry shows the same again.
	Enrollment   string
	Invitation   string
	TrustRequest string // sign-in id
}

// DeviceState says whether a device's approvals count. In the zero state they
// do not.
type DeviceState string

// The states of a device.
const (
	DeviceTrusted DeviceState = "trusted"
	DeviceRevoked DeviceState = "revoked"
)

// mayApprove is the rule that decides whether a device's statements count: the
// device exists, is trusted, belongs to the account, and the account is active.
// Every operation of a device asks it, inside its own transaction.
func mayApprove(a *Account, d *Device) error {
	switch {
	case d == nil || d.ID == "":
		return refuse(ReasonDeviceUnknown, "This device is not enrolled here. Enrol it with an invitation.")
	case d.State == DeviceRevoked:
		return refuse(ReasonDeviceRevoked, "This device was revoked. It can be enrolled again only with new keys.")
	case d.State != DeviceTrusted:
		return refuse(ReasonDeviceUnknown, "This device is not trusted. Enrol it with an invitation.")
	case a == nil || a.Name != d.Account:
		return refuse(ReasonAccountUnknown, "The account of this device does not exist. Ask an administrator.")
	}
	return active(a)
}

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
