package approval

import "github.com/countersignd/countersign/internal/audit"

// A Record is one line of the record of what happened: data like any other,
// written in the same transaction as the deed it tells of. Package audit has its
// exact bytes, and checks them.
type Record = audit.Record

// An Event is what a [Record] tells of.
type Event = audit.Event

// The events.
const (
	EventServerInitialised  Event = "server.initialised"
	EventServerRestored     Event = "server.restored"
	EventClockChanged       Event = "server.clock_changed"
	EventStorageLow         Event = "server.storage_low"
	EventStorageFreed       Event = "server.storage_freed"
	EventAccountAdded       Event = audit.EventAccountAdded
	EventAccountSuspended   Event = audit.EventAccountSuspended
	EventAccountResumed     Event = audit.EventAccountResumed
	EventInvitationCreated  Event = "invitation.created"
	EventDeviceEnrolled     Event = audit.EventDeviceEnrolled
	EventDeviceRenamed      Event = "device.renamed"
	EventDeviceRevoked      Event = audit.EventDeviceRevoked
	EventDeviceTested       Event = "device.tested"
	EventPushRegistered     Event = "device.push_registered"
	EventPushRemoved        Event = "device.push_removed"
	EventPushDied           Event = "device.push_died"
	EventDeviceConfirmed    Event = "device.confirmed"
	EventDeviceReadmitted   Event = audit.EventDeviceReadmitted
	EventCounterReused      Event = audit.EventCounterReused
	EventApplicationAdded   Event = "application.added"
	EventApplicationRotated Event = "application.token_rotated"
	EventApplicationPolicy  Event = "application.policy_set"
	EventApplicationRemoved Event = "application.removed"
	EventRecoveryCreated    Event = "recovery.codes_created"
	EventRecoveryRenewed    Event = audit.EventRecoveryRenewed
	EventRecoveryUsed       Event = audit.EventRecoveryUsed
	EventRecoveryVoided     Event = "recovery.codes_voided"
	EventTrustRequested     Event = audit.EventTrustRequested
	EventSignInBegun        Event = audit.EventSignInBegun
	EventSignInRungAgain    Event = audit.EventSignInRungAgain
	EventSignInAllowed      Event = audit.EventSignInAllowed
	EventSignInDenied       Event = audit.EventSignInDenied
	EventDenyReason         Event = audit.EventDenyReason
	EventSignInVerified     Event = audit.EventSignInVerified
	EventSignInCancelled    Event = audit.EventSignInCancelled
	EventCodeRequested      Event = audit.EventCodeRequested
	EventCodeWrong          Event = "code.wrong"
	EventCodesClosed        Event = "account.codes_closed"
	EventSourceSilenced     Event = "account.source_silenced"
	EventLaneSilenced       Event = "account.strangers_silenced"
	EventUnlocked           Event = audit.EventUnlocked
)

// Events returns every event, for documentation tests.
func Events() []Event {
	return []Event{
		EventServerInitialised, EventServerRestored, EventClockChanged, EventStorageLow, EventStorageFreed, EventAccountAdded, EventAccountSuspended, EventAccountResumed,
		EventInvitationCreated, EventDeviceEnrolled, EventDeviceRenamed, EventDeviceRevoked, EventDeviceConfirmed,
		EventDeviceReadmitted, EventDeviceTested, EventPushRegistered, EventPushRemoved, EventPushDied, EventCounterReused, EventApplicationAdded, EventApplicationRotated, EventApplicationPolicy, EventApplicationRemoved,
		EventRecoveryCreated, EventRecoveryRenewed, EventRecoveryUsed, EventRecoveryVoided,
		EventTrustRequested, EventSignInBegun, EventSignInRungAgain, EventSignInAllowed, EventSignInDenied, EventDenyReason, EventSignInVerified,
		EventSignInCancelled, EventCodeRequested, EventCodeWrong, EventCodesClosed,
		EventSourceSilenced, EventLaneSilenced, EventUnlocked,
	}
}
