package approval

import "time"

// A Record is one line of the audit record: data like any other, written in
// the same transaction as the deed it tells of.
type Record struct {
	Sequence    uint64 // from 1, without gaps
	Time        time.Time
	Event       Event
	Actor       Actor
	Account     string `json:",omitzero"`
	Device      string `json:",omitzero"`
	Application string `json:",omitzero"`
	SignIn      string `json:",omitzero"`
	Address     string `json:",omitzero"`
	Detail      string `json:",omitzero"`
	Statement   string `json:",omitzero"` // the signed statement, where there is one
}

// An Event is what a [Record] tells of.
type Event string

// The events.
const (
	EventServerInitialised  Event = "server.initialised"
	EventServerRestored     Event = "server.restored"
	EventClockChanged       Event = "server.clock_changed"
	EventStorageLow         Event = "server.storage_low"
	EventStorageFreed       Event = "server.storage_freed"
	EventAccountAdded       Event = "account.added"
	EventAccountSuspended   Event = "account.suspended"
	EventAccountResumed     Event = "account.resumed"
	EventInvitationCreated  Event = "invitation.created"
	EventDeviceEnrolled     Event = "device.enrolled"
	EventDeviceRenamed      Event = "device.renamed"
	EventDeviceRevoked      Event = "device.revoked"
	EventDeviceConfirmed    Event = "device.confirmed"
	EventDeviceReadmitted   Event = "device.readmitted"
	EventCounterReused      Event = "device.counter_reused"
	EventApplicationAdded   Event = "application.added"
	EventApplicationRotated Event = "application.token_rotated"
	EventApplicationPolicy  Event = "application.policy_set"
	EventApplicationRemoved Event = "application.removed"
	EventRecoveryCreated    Event = "recovery.codes_created"
	EventRecoveryRenewed    Event = "recovery.codes_renewed"
	EventRecoveryUsed       Event = "recovery.code_used"
	EventRecoveryVoided     Event = "recovery.codes_voided"
	EventTrustRequested     Event = "trust.requested"
	EventSignInBegun        Event = "sign_in.begun"
	EventSignInAllowed      Event = "sign_in.allowed"
	EventSignInDenied       Event = "sign_in.denied"
	EventDenyReason         Event = "sign_in.deny_reason"
	EventSignInVerified     Event = "sign_in.verified"
	EventSignInCancelled    Event = "sign_in.cancelled"
	EventCodeRequested      Event = "code.requested"
	EventCodeWrong          Event = "code.wrong"
	EventCodesClosed        Event = "account.codes_closed"
	EventSourceSilenced     Event = "account.source_silenced"
	EventLaneSilenced       Event = "account.strangers_silenced"
	EventUnlocked           Event = "account.unlocked"
)

// Events returns every event, for documentation tests.
func Events() []Event {
	return []Event{
		EventServerInitialised, EventServerRestored, EventClockChanged, EventStorageLow, EventStorageFreed, EventAccountAdded, EventAccountSuspended, EventAccountResumed,
		EventInvitationCreated, EventDeviceEnrolled, EventDeviceRenamed, EventDeviceRevoked, EventDeviceConfirmed,
		EventDeviceReadmitted, EventCounterReused, EventApplicationAdded, EventApplicationRotated, EventApplicationPolicy, EventApplicationRemoved,
		EventRecoveryCreated, EventRecoveryRenewed, EventRecoveryUsed, EventRecoveryVoided,
		EventTrustRequested, EventSignInBegun, EventSignInAllowed, EventSignInDenied, EventDenyReason, EventSignInVerified,
		EventSignInCancelled, EventCodeRequested, EventCodeWrong, EventCodesClosed,
		EventSourceSilenced, EventLaneSilenced, EventUnlocked,
	}
}
