package approval

import (
	"time"

	"github.com/countersignd/countersign/internal/audit"
)

// An Account is a person. Its name is its identity: it is never changed, nor
// given to somebody else.
type Account struct {
	Name          string
	State         AccountState
	Created       time.Time
	Suspended     time.Time // zero while active
	SuspendReason string
	Resumed       time.Time // when it was last resumed; what began before stays ended

	// InvitationsEnded is when all of its invitations ended that had not been
	// used, because all devices were revoked.
	InvitationsEnded time.Time `json:",omitzero"`

	// Trusted is how many trusted devices it has: kept here, in the same
	// transaction, so that the limit is checked without counting.
	Trusted int

	// RecoveryCodes is how many recovery codes it had left, and RecoveryMade
	// when these were made, when this was read. Not stored.
	RecoveryCodes int       `json:"-"`
	RecoveryMade  time.Time `json:"-"`
}

// AccountState says whether anything works for an account. In the zero state
// nothing does.
type AccountState string

// The states of an account.
const (
	AccountActive    AccountState = "active"
	AccountSuspended AccountState = "suspended"
)

// An Application asks for approvals. It authenticates with a token of which
// only the hash is stored.
type Application struct {
	ID        string
	Name      string // what prompts show
	TokenHash string
	Created   time.Time
	TokenMade time.Time
	Policy    Policy
}

// An Actor is who did something, for the record.
type Actor = audit.Actor

// ActorKind is a kind of [Actor].
type ActorKind = audit.ActorKind

// The kinds of actors.
const (
	ActorDevice        = audit.ActorDevice
	ActorApplication   = audit.ActorApplication
	ActorAdministrator = audit.ActorAdministrator
	ActorServer        = audit.ActorServer
	ActorRecovery      = audit.ActorRecovery // who holds a recovery code
)

// An invitationRecord lets whoever holds its token enrol one device. It is kept
// under the token's hash and stays, used or expired, until it is collected, so
// that a retried enrolment can be told from a stolen link.
type invitationRecord struct {
	Account string
	Created time.Time
	Expires time.Time
	By      Actor
	UsedBy  string // the id of the device it enrolled; empty until then
}
