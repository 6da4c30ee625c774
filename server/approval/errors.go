package approval

import "fmt"

// A Reason says why an operation was refused. It is the closed list that
// callers act on; the zero Reason is never used.
type Reason int

// The reasons. Package server maps each to one gRPC status code and one
// ErrorReason of the API, where they are described for callers.
const (
	_ Reason = iota
	ReasonInvalidField
	ReasonStorageLow
	ReasonUnauthenticated
	ReasonDeviceUnknown
	ReasonDeviceRevoked
	ReasonStreamReplaced
	ReasonDeviceWaiting
	ReasonDeviceDormant
	ReasonDeviceUnconfirmed
	ReasonAccountUnknown
	ReasonAccountExists
	ReasonAccountSuspended
	ReasonNoTrustedDevice
	ReasonApplicationUnknown
	ReasonApplicationExists
	ReasonNoSuchDevice
	ReasonDeviceNotDormant
	ReasonPushNotConfigured
	ReasonInvitationInvalid
	ReasonKeyInUse
	ReasonTooManyDevices
	ReasonLastDevice
	ReasonRecoveryCodeInvalid
	ReasonStatementInvalid
	ReasonStatementMismatch
	ReasonCounterReused
	ReasonSignInUnknown
	ReasonTooManySignIns
	ReasonSignInPending
	ReasonSignInDenied
	ReasonSignInExpired
	ReasonSignInCancelled
	ReasonSignInVerified
	ReasonAllowedElsewhere
	ReasonTooManyTries
	ReasonTooManyFailures
	ReasonCodeWrong
	ReasonCodeRefused
	ReasonCodesClosed
	ReasonRateLimited
	reasonEnd
)

// Reasons returns every reason, so that a test can walk them.
func Reasons() []Reason {
	var all []Reason
	for r := Reason(1); r < reasonEnd; r++ {
		all = append(all, r)
	}
	return all
}

// An Error is a refusal: the operation changed nothing, unless its comment
// says otherwise. Errors of the store are not of this type.
type Error struct {
	Reason Reason
	// Message is a sentence for the person at the other end. It says what to
	// do, and holds no secret and nothing that the caller may not know.
	Message string
	// Field names the field that is wrong, with ReasonInvalidField.
	Field string
	// TriesLeft goes with ReasonCodeWrong.
	TriesLeft int
}

func (e *Error) Error() string { return e.Message }

// Is makes errors.Is compare reasons.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Reason == e.Reason
}

func refuse(r Reason, format string, args ...any) *Error {
	return &Error{Reason: r, Message: fmt.Sprintf(format, args...)}
}

func invalidField(field, format string, args ...any) *Error {
	return &Error{Reason: ReasonInvalidField, Field: field, Message: field + ": " + fmt.Sprintf(format, args...)}
}
