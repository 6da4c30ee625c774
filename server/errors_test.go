package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"

	"github.com/countersignd/countersign/server/approval"

	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

func TestEveryReasonIsTranslated(t *testing.T) {
	seen := map[pb.ErrorReason]approval.Reason{}
	for _, r := range approval.Reasons() {
		code, reason := translate(r)
		if code == codes.Internal || code == codes.OK || reason == pb.ErrorReason_ERROR_REASON_UNSPECIFIED {
			t.Errorf("translate(%d) = %v, %v, want a refusal", r, code, reason)
		}
		if other, twice := seen[reason]; twice {
			t.Errorf("reasons %d and %d are both sent as %v", other, r, reason)
		}
		seen[reason] = r
	}
}

func TestEveryErrorReasonIsSent(t *testing.T) {
	sent := slices.Clone(ownReasons)
	for _, r := range approval.Reasons() {
		_, reason := translate(r)
		sent = append(sent, reason)
	}
	for number, name := range pb.ErrorReason_name {
		reason := pb.ErrorReason(number)
		if got, want := slices.Contains(sent, reason), number != 0; got != want {
			t.Errorf("%s is sent: %v, want %v", name, got, want)
		}
	}
}

// The comments of the API name the gRPC code of each reason; callers read
// nothing else.
func TestCodesAreTheDocumentedOnes(t *testing.T) {
	proto, err := os.ReadFile("../proto/countersign/v1/errors.proto")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]string{}
	comment := ""
	value := regexp.MustCompile(`^  ERROR_REASON_(\w+) = \d+;`)
	for line := range strings.Lines(string(proto)) {
		if text, ok := strings.CutPrefix(line, "  // "); ok {
			comment += text
			continue
		}
		if m := value.FindStringSubmatch(line); m != nil {
			documented[m[1]], _, _ = strings.Cut(comment, ".")
		}
		comment = ""
	}
	check := func(code codes.Code, reason pb.ErrorReason) {
		var name codes.Code
		for word := range strings.SplitSeq(documented[reasonName(reason)], " or ") {
			if err := name.UnmarshalJSON([]byte(`"` + word + `"`)); err != nil {
				t.Errorf("%s: the API's comment begins with %q, want a gRPC code", reasonName(reason), word)
			}
			if name == code {
				return
			}
		}
		t.Errorf("%s is sent with %v, but documented with %s", reasonName(reason), code, documented[reasonName(reason)])
	}
	for _, r := range approval.Reasons() {
		check(translate(r))
	}
	for _, r := range []*refusal{
		errShuttingDown, errStoreFailed, errInternal, errTooManyStreams, errTooManyCalls, errSlowReader, errCallerCancelled,
		errCallerLate, errNoCertificate, errNoToken, errStrayToken, errNotAllowed, errNotAdministrator,
	} {
		check(r.code, r.reason)
	}
}

func TestToStatus(t *testing.T) {
	secret := errors.New("open /var/lib/countersign/secrets/root.key: hunter2")
	for _, test := range []struct {
		name   string
		err    error
		code   codes.Code
		reason string
		meta   map[string]string
		fault  bool
	}{
		{"refusal", &approval.Error{Reason: approval.ReasonDeviceRevoked, Message: "Gone."}, codes.PermissionDenied, "DEVICE_REVOKED", nil, false},
		{"wrapped refusal", fmt.Errorf("doing: %w", &approval.Error{Reason: approval.ReasonKeyInUse, Message: "Used."}), codes.AlreadyExists, "KEY_IN_USE", nil, false},
		{"field", &approval.Error{Reason: approval.ReasonInvalidField, Field: "name"}, codes.InvalidArgument, "INVALID_FIELD", map[string]string{"field": "name"}, false},
		{"own field", invalidField("path", "want more"), codes.InvalidArgument, "INVALID_FIELD", map[string]string{"field": "path"}, false},
		{"tries", &approval.Error{Reason: approval.ReasonCodeWrong, TriesLeft: 3}, codes.PermissionDenied, "CODE_WRONG", map[string]string{"tries_left": "3"}, false},
		{"unknown reason", &approval.Error{Reason: 10_000, Message: "hunter2"}, codes.Internal, "INTERNAL", nil, true},
		{"store", fmt.Errorf("%w: %w", approval.ErrStoreFailed, secret), codes.Unavailable, "STORE_FAILED", nil, true},
		{"cancelled", fmt.Errorf("view: %w", context.Canceled), codes.Canceled, "CALLER_GONE", nil, false},
		{"late", context.DeadlineExceeded, codes.DeadlineExceeded, "CALLER_GONE", nil, false},
		{"panic", &panicError{value: "hunter2"}, codes.Internal, "INTERNAL", nil, true},
		{"unknown", secret, codes.Internal, "INTERNAL", nil, true},
	} {
		st, fault := toStatus(test.err)
		if st.Code() != test.code || fault != test.fault {
			t.Errorf("%s: toStatus = %v, %v, want %v, %v", test.name, st.Code(), fault, test.code, test.fault)
		}
		if len(st.Details()) != 1 {
			t.Fatalf("%s: %d details, want 1", test.name, len(st.Details()))
		}
		info, ok := st.Details()[0].(*errdetails.ErrorInfo)
		if !ok || info.GetDomain() != "countersign" || info.GetReason() != test.reason {
			t.Errorf("%s: the detail is %v, want reason %s", test.name, st.Details()[0], test.reason)
		}
		if fmt.Sprint(info.GetMetadata()) != fmt.Sprint(test.meta) {
			t.Errorf("%s: metadata %v, want %v", test.name, info.GetMetadata(), test.meta)
		}
		if test.fault && strings.Contains(st.String(), "hunter2") {
			t.Errorf("%s: the caller is told %q", test.name, st)
		}
	}
}
