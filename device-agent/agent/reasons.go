package agent

import (
	"errors"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"

	countersignv1 "github.com/countersignd/countersign/proto/countersign/v1"
)

// A Reaction is what a program does about an error.
type Reaction int

// The three reactions. The zero Reaction gives up, so a reason that has none
// is never called about again and again.
const (
	Stop     Reaction = iota // calling again changes nothing: tell the person
	Retry                    // it may pass: call again, after a jittered pause
	Reenroll                 // this device is not trusted: tell the person to enrol it
)

// reactions has a row for every value of ErrorReason; a test sees to it.
var reactions = map[countersignv1.ErrorReason]Reaction{
	// No reason that this version knows: the network, a proxy, gRPC itself.
	countersignv1.ErrorReason_ERROR_REASON_UNSPECIFIED: Retry,

	countersignv1.ErrorReason_ERROR_REASON_INTERNAL:      Retry,
	countersignv1.ErrorReason_ERROR_REASON_SHUTTING_DOWN: Retry,
	countersignv1.ErrorReason_ERROR_REASON_STORE_FAILED:  Retry,
	countersignv1.ErrorReason_ERROR_REASON_RATE_LIMITED:  Retry,
	countersignv1.ErrorReason_ERROR_REASON_SLOW_READER:   Retry,
	countersignv1.ErrorReason_ERROR_REASON_CALLER_GONE:   Retry,
	countersignv1.ErrorReason_ERROR_REASON_INVALID_FIELD: Stop,
	// It passes when a person has made room, who must be told that.
	countersignv1.ErrorReason_ERROR_REASON_STORAGE_LOW: Stop,

	countersignv1.ErrorReason_ERROR_REASON_UNAUTHENTICATED:    Stop,
	countersignv1.ErrorReason_ERROR_REASON_DEVICE_UNKNOWN:     Reenroll,
	countersignv1.ErrorReason_ERROR_REASON_DEVICE_REVOKED:     Reenroll,
	countersignv1.ErrorReason_ERROR_REASON_CALLER_NOT_ALLOWED: Stop,
	// Calling again would take the stream from the other process, which would
	// take it back, for ever. If the other one is a thief, the person must know.
	countersignv1.ErrorReason_ERROR_REASON_STREAM_REPLACED: Stop,
	// Somebody else, or time, can make these three pass.
	countersignv1.ErrorReason_ERROR_REASON_DEVICE_WAITING:     Retry,
	countersignv1.ErrorReason_ERROR_REASON_DEVICE_DORMANT:     Retry,
	countersignv1.ErrorReason_ERROR_REASON_DEVICE_UNCONFIRMED: Retry,

	countersignv1.ErrorReason_ERROR_REASON_ACCOUNT_UNKNOWN:     Stop,
	countersignv1.ErrorReason_ERROR_REASON_ACCOUNT_EXISTS:      Stop,
	countersignv1.ErrorReason_ERROR_REASON_ACCOUNT_SUSPENDED:   Stop,
	countersignv1.ErrorReason_ERROR_REASON_NO_TRUSTED_DEVICE:   Stop,
	countersignv1.ErrorReason_ERROR_REASON_APPLICATION_UNKNOWN: Stop,
	countersignv1.ErrorReason_ERROR_REASON_APPLICATION_EXISTS:  Stop,
	countersignv1.ErrorReason_ERROR_REASON_NO_SUCH_DEVICE:      Stop,
	countersignv1.ErrorReason_ERROR_REASON_DEVICE_NOT_DORMANT:  Stop,
	// An operator can change that, and must be told.
	countersignv1.ErrorReason_ERROR_REASON_PUSH_NOT_CONFIGURED: Stop,

	countersignv1.ErrorReason_ERROR_REASON_INVITATION_INVALID: Reenroll,
	countersignv1.ErrorReason_ERROR_REASON_KEY_IN_USE:         Reenroll,
	countersignv1.ErrorReason_ERROR_REASON_TOO_MANY_DEVICES:   Stop,
	countersignv1.ErrorReason_ERROR_REASON_LAST_DEVICE:        Stop,
	// Another code may be good, but the person has to type it.
	countersignv1.ErrorReason_ERROR_REASON_RECOVERY_CODE_INVALID: Stop,

	countersignv1.ErrorReason_ERROR_REASON_STATEMENT_INVALID:  Stop,
	countersignv1.ErrorReason_ERROR_REASON_STATEMENT_MISMATCH: Stop,
	countersignv1.ErrorReason_ERROR_REASON_COUNTER_REUSED:     Stop,

	countersignv1.ErrorReason_ERROR_REASON_SIGN_IN_UNKNOWN:           Stop,
	countersignv1.ErrorReason_ERROR_REASON_TOO_MANY_SIGN_INS:         Stop,
	countersignv1.ErrorReason_ERROR_REASON_SIGN_IN_PENDING:           Stop,
	countersignv1.ErrorReason_ERROR_REASON_SIGN_IN_DENIED:            Stop,
	countersignv1.ErrorReason_ERROR_REASON_SIGN_IN_EXPIRED:           Stop,
	countersignv1.ErrorReason_ERROR_REASON_SIGN_IN_CANCELLED:         Stop,
	countersignv1.ErrorReason_ERROR_REASON_SIGN_IN_VERIFIED:          Stop,
	countersignv1.ErrorReason_ERROR_REASON_SIGN_IN_ALLOWED_ELSEWHERE: Stop,
	countersignv1.ErrorReason_ERROR_REASON_TOO_MANY_TRIES:            Stop,
	countersignv1.ErrorReason_ERROR_REASON_TOO_MANY_FAILURES:         Stop,
	countersignv1.ErrorReason_ERROR_REASON_CODE_WRONG:                Stop,
	countersignv1.ErrorReason_ERROR_REASON_CODE_REFUSED:              Stop,
	countersignv1.ErrorReason_ERROR_REASON_CODES_CLOSED:              Stop,

	countersignv1.ErrorReason_ERROR_REASON_BACKUP_FAILED: Stop,
}

// ReactionTo returns what to do about an error of a call to the server. An
// error that is not the server's own answer is retried, as a broken network is.
func ReactionTo(err error) Reaction {
	return reactions[Reason(err)]
}

// The domain of this API's errors, and what their reasons lack of the names of
// the proto enum.
const (
	errorDomain  = "countersign"
	reasonPrefix = "ERROR_REASON_"
)

// Reason returns why the server refused a call. It is
// ERROR_REASON_UNSPECIFIED for every error that does not carry exactly one
// google.rpc.ErrorInfo of the domain "countersign" with a reason that this
// version knows.
func Reason(err error) countersignv1.ErrorReason {
	info := errorInfo(err)
	if info == nil || strings.HasPrefix(info.GetReason(), reasonPrefix) {
		return countersignv1.ErrorReason_ERROR_REASON_UNSPECIFIED
	}
	return countersignv1.ErrorReason(countersignv1.ErrorReason_value[reasonPrefix+info.GetReason()])
}

// Metadata returns what the server said beside the reason, such as "tries_left",
// or "" if it said nothing under that key.
func Metadata(err error, key string) string {
	return errorInfo(err).GetMetadata()[key]
}

func errorInfo(err error) *errdetails.ErrorInfo {
	var carrier interface{ GRPCStatus() *status.Status }
	if !errors.As(err, &carrier) {
		return nil
	}
	var found *errdetails.ErrorInfo
	for _, detail := range carrier.GRPCStatus().Details() {
		info, ok := detail.(*errdetails.ErrorInfo)
		if !ok || info.GetDomain() != errorDomain {
			continue
		}
		if found != nil {
			return nil
		}
		found = info
	}
	return found
}
