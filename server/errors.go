package server

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/countersignd/countersign/server/approval"

	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

// errorDomain is the domain of every ErrorInfo this server sends.
const errorDomain = "countersign"

// A refusal is an error that this package answers with itself. All others
// come from package approval and are translated by [toStatus].
type refusal struct {
	code    codes.Code
	reason  pb.ErrorReason
	message string
	field   string // with INVALID_FIELD
}

func (r *refusal) Error() string { return r.message }

// What this package refuses without asking package approval.
var (
	errShuttingDown = &refusal{codes.Unavailable, pb.ErrorReason_ERROR_REASON_SHUTTING_DOWN,
		"The server is stopping. Call again in a moment.", ""}
	errStoreFailed = &refusal{codes.Unavailable, pb.ErrorReason_ERROR_REASON_STORE_FAILED,
		"The server could not read or write its store. Ask an administrator to look at the server's log, then try again.", ""}
	errInternal = &refusal{codes.Internal, pb.ErrorReason_ERROR_REASON_INTERNAL,
		"The server made a mistake. Ask an administrator to look at the server's log.", ""}
	errTooManyStreams = &refusal{codes.ResourceExhausted, pb.ErrorReason_ERROR_REASON_RATE_LIMITED,
		"Too many calls at once on this connection. Wait until one of them has ended.", ""}
	errTooManyCalls = &refusal{codes.ResourceExhausted, pb.ErrorReason_ERROR_REASON_RATE_LIMITED,
		"Too many calls from this address by callers that are not known yet. Try again later.", ""}
	errSlowReader = &refusal{codes.ResourceExhausted, pb.ErrorReason_ERROR_REASON_SLOW_READER,
		"The stream was not read in time, so the server ended it. Call again.", ""}
	errCallerCancelled = &refusal{codes.Canceled, pb.ErrorReason_ERROR_REASON_CALLER_GONE,
		"The caller cancelled the call.", ""}
	errCallerLate = &refusal{codes.DeadlineExceeded, pb.ErrorReason_ERROR_REASON_CALLER_GONE,
		"The caller's deadline passed.", ""}
	errNoCertificate = &refusal{codes.Unauthenticated, pb.ErrorReason_ERROR_REASON_UNAUTHENTICATED,
		"This method needs a TLS client certificate with the device's identity key.", ""}
	errNoToken = &refusal{codes.Unauthenticated, pb.ErrorReason_ERROR_REASON_UNAUTHENTICATED,
		`This method needs the application's token in the metadata, once: "authorization: Bearer <token>".`, ""}
	errStrayToken = &refusal{codes.Unauthenticated, pb.ErrorReason_ERROR_REASON_UNAUTHENTICATED,
		"This method takes no authorization metadata: the TLS client certificate says who calls.", ""}
	errNotAllowed = &refusal{codes.PermissionDenied, pb.ErrorReason_ERROR_REASON_CALLER_NOT_ALLOWED,
		"This method is not for this kind of caller.", ""}
	errNotAdministrator = &refusal{codes.PermissionDenied, pb.ErrorReason_ERROR_REASON_CALLER_NOT_ALLOWED,
		"Only root and the user that the server runs as may administer it.", ""}
)

func invalidField(field, format string, args ...any) error {
	return &refusal{codes.InvalidArgument, pb.ErrorReason_ERROR_REASON_INVALID_FIELD,
		field + ": " + fmt.Sprintf(format, args...), field}
}

func backupFailed(err error) error {
	return &refusal{codes.FailedPrecondition, pb.ErrorReason_ERROR_REASON_BACKUP_FAILED,
		fmt.Sprintf("The backup was not made: %v.", err), ""}
}

// ownReasons are the reasons that this package sends without one of package
// approval: a test holds the two lists together against the enum.
var ownReasons = []pb.ErrorReason{
	pb.ErrorReason_ERROR_REASON_INTERNAL,
	pb.ErrorReason_ERROR_REASON_SHUTTING_DOWN,
	pb.ErrorReason_ERROR_REASON_STORE_FAILED,
	pb.ErrorReason_ERROR_REASON_RATE_LIMITED,
	pb.ErrorReason_ERROR_REASON_SLOW_READER,
	pb.ErrorReason_ERROR_REASON_CALLER_GONE,
	pb.ErrorReason_ERROR_REASON_INVALID_FIELD,
	pb.ErrorReason_ERROR_REASON_UNAUTHENTICATED,
	pb.ErrorReason_ERROR_REASON_CALLER_NOT_ALLOWED,
	pb.ErrorReason_ERROR_REASON_BACKUP_FAILED,
}

// translate returns the gRPC code and the reason in the API for a reason of
// package approval. It is the only place where the three meet; a reason that
// is not in it is a fault of the server.
func translate(r approval.Reason) (codes.Code, pb.ErrorReason) {
	switch r {
	case approval.ReasonInvalidField:
		return codes.InvalidArgument, pb.ErrorReason_ERROR_REASON_INVALID_FIELD
	case approval.ReasonStorageLow:
		return codes.ResourceExhausted, pb.ErrorReason_ERROR_REASON_STORAGE_LOW
	case approval.ReasonUnauthenticated:
		return codes.Unauthenticated, pb.ErrorReason_ERROR_REASON_UNAUTHENTICATED
	case approval.ReasonDeviceUnknown:
		return codes.Unauthenticated, pb.ErrorReason_ERROR_REASON_DEVICE_UNKNOWN
	case approval.ReasonDeviceRevoked:
		return codes.PermissionDenied, pb.ErrorReason_ERROR_REASON_DEVICE_REVOKED
	case approval.ReasonStreamReplaced:
		return codes.Aborted, pb.ErrorReason_ERROR_REASON_STREAM_REPLACED
	case approval.ReasonDeviceWaiting:
		return codes.PermissionDenied, pb.ErrorReason_ERROR_REASON_DEVICE_WAITING
	case approval.ReasonDeviceDormant:
		return codes.PermissionDenied, pb.ErrorReason_ERROR_REASON_DEVICE_DORMANT
	case approval.ReasonDeviceUnconfirmed:
		return codes.PermissionDenied, pb.ErrorReason_ERROR_REASON_DEVICE_UNCONFIRMED
	case approval.ReasonAccountUnknown:
		return codes.NotFound, pb.ErrorReason_ERROR_REASON_ACCOUNT_UNKNOWN
	case approval.ReasonAccountExists:
		return codes.AlreadyExists, pb.ErrorReason_ERROR_REASON_ACCOUNT_EXISTS
	case approval.ReasonAccountSuspended:
		return codes.FailedPrecondition, pb.ErrorReason_ERROR_REASON_ACCOUNT_SUSPENDED
	case approval.ReasonNoTrustedDevice:
		return codes.FailedPrecondition, pb.ErrorReason_ERROR_REASON_NO_TRUSTED_DEVICE
	case approval.ReasonApplicationUnknown:
		return codes.NotFound, pb.ErrorReason_ERROR_REASON_APPLICATION_UNKNOWN
	case approval.ReasonApplicationExists:
		return codes.AlreadyExists, pb.ErrorReason_ERROR_REASON_APPLICATION_EXISTS
	case approval.ReasonNoSuchDevice:
		return codes.NotFound, pb.ErrorReason_ERROR_REASON_NO_SUCH_DEVICE
	case approval.ReasonDeviceNotDormant:
		return codes.FailedPrecondition, pb.ErrorReason_ERROR_REASON_DEVICE_NOT_DORMANT
	case approval.ReasonPushNotConfigured:
		return codes.FailedPrecondition, pb.ErrorReason_ERROR_REASON_PUSH_NOT_CONFIGURED
	case approval.ReasonInvitationInvalid:
		return codes.PermissionDenied, pb.ErrorReason_ERROR_REASON_INVITATION_INVALID
	case approval.ReasonKeyInUse:
		return codes.AlreadyExists, pb.ErrorReason_ERROR_REASON_KEY_IN_USE
	case approval.ReasonTooManyDevices:
		return codes.ResourceExhausted, pb.ErrorReason_ERROR_REASON_TOO_MANY_DEVICES
	case approval.ReasonLastDevice:
		return codes.FailedPrecondition, pb.ErrorReason_ERROR_REASON_LAST_DEVICE
	case approval.ReasonRecoveryCodeInvalid:
		return codes.PermissionDenied, pb.ErrorReason_ERROR_REASON_RECOVERY_CODE_INVALID
	case approval.ReasonStatementInvalid:
		return codes.InvalidArgument, pb.ErrorReason_ERROR_REASON_STATEMENT_INVALID
	case approval.ReasonStatementMismatch:
		return codes.InvalidArgument, pb.ErrorReason_ERROR_REASON_STATEMENT_MISMATCH
	case approval.ReasonCounterReused:
		return codes.PermissionDenied, pb.ErrorReason_ERROR_REASON_COUNTER_REUSED
	case approval.ReasonSignInUnknown:
		return codes.NotFound, pb.ErrorReason_ERROR_REASON_SIGN_IN_UNKNOWN
	case approval.ReasonTooManySignIns:
		return codes.ResourceExhausted, pb.ErrorReason_ERROR_REASON_TOO_MANY_SIGN_INS
	case approval.ReasonSignInPending:
		return codes.FailedPrecondition, pb.ErrorReason_ERROR_REASON_SIGN_IN_PENDING
	case approval.ReasonSignInDenied:
		return codes.FailedPrecondition, pb.ErrorReason_ERROR_REASON_SIGN_IN_DENIED
	case approval.ReasonSignInExpired:
		return codes.FailedPrecondition, pb.ErrorReason_ERROR_REASON_SIGN_IN_EXPIRED
	case approval.ReasonSignInCancelled:
		return codes.FailedPrecondition, pb.ErrorReason_ERROR_REASON_SIGN_IN_CANCELLED
	case approval.ReasonSignInVerified:
		return codes.FailedPrecondition, pb.ErrorReason_ERROR_REASON_SIGN_IN_VERIFIED
	case approval.ReasonAllowedElsewhere:
		return codes.FailedPrecondition, pb.ErrorReason_ERROR_REASON_SIGN_IN_ALLOWED_ELSEWHERE
	case approval.ReasonTooManyTries:
		return codes.FailedPrecondition, pb.ErrorReason_ERROR_REASON_TOO_MANY_TRIES
	case approval.ReasonTooManyFailures:
		return codes.ResourceExhausted, pb.ErrorReason_ERROR_REASON_TOO_MANY_FAILURES
	case approval.ReasonCodeWrong:
		return codes.PermissionDenied, pb.ErrorReason_ERROR_REASON_CODE_WRONG
	case approval.ReasonRateLimited:
		return codes.ResourceExhausted, pb.ErrorReason_ERROR_REASON_RATE_LIMITED
	case approval.ReasonCodeRefused:
		return codes.FailedPrecondition, pb.ErrorReason_ERROR_REASON_CODE_REFUSED
	case approval.ReasonCodesClosed:
		return codes.FailedPrecondition, pb.ErrorReason_ERROR_REASON_CODES_CLOSED
	}
	return codes.Internal, pb.ErrorReason_ERROR_REASON_INTERNAL
}

// toStatus returns the status that the caller is sent for an error of a
// handler. Of an error that is no refusal nothing is told but its kind, and
// fault is true: the operator must look at it.
func toStatus(err error) (st *status.Status, fault bool) {
	if refused, ok := errors.AsType[*approval.Error](err); ok {
		code, reason := translate(refused.Reason)
		if code == codes.Internal {
			return errInternal.status(), true
		}
		info := map[string]string{}
		switch reason {
		case pb.ErrorReason_ERROR_REASON_INVALID_FIELD:
			info["field"] = refused.Field
		case pb.ErrorReason_ERROR_REASON_CODE_WRONG:
			info["tries_left"] = strconv.Itoa(refused.TriesLeft)
		}
		return newStatus(code, reason, refused.Message, info), false
	}
	if r, ok := errors.AsType[*refusal](err); ok {
		return r.status(), false
	}
	switch {
	case errors.Is(err, approval.ErrStoreFailed):
		return errStoreFailed.status(), true
	case errors.Is(err, context.Canceled):
		return errCallerCancelled.status(), false
	case errors.Is(err, context.DeadlineExceeded):
		return errCallerLate.status(), false
	}
	return errInternal.status(), true
}

func (r *refusal) status() *status.Status {
	info := map[string]string{}
	if r.field != "" {
		info["field"] = r.field
	}
	return newStatus(r.code, r.reason, r.message, info)
}

func newStatus(code codes.Code, reason pb.ErrorReason, message string, info map[string]string) *status.Status {
	st, err := status.New(code, message).WithDetails(&errdetails.ErrorInfo{
		Domain:   errorDomain,
		Reason:   reasonName(reason),
		Metadata: info,
	})
	if err != nil {
		// Only an OK status or a message that cannot be encoded gets here.
		panic("server: " + err.Error())
	}
	return st
}

// reasonName returns the name of a reason as it is sent, for example
// "DEVICE_REVOKED".
func reasonName(r pb.ErrorReason) string {
	return strings.TrimPrefix(r.String(), "ERROR_REASON_")
}
