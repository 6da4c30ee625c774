package agent

import (
	"errors"
	"fmt"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

// A reason without a row would silently mean Stop.
func TestEveryReasonHasAReaction(t *testing.T) {
	values := pb.ErrorReason(0).Descriptor().Values()
	for i := range values.Len() {
		if reason := pb.ErrorReason(values.Get(i).Number()); reason.String() == "" {
			t.Errorf("reason %d has no name", reason)
		} else if _, ok := reactions[reason]; !ok {
			t.Errorf("%v has no row in the table", reason)
		}
	}
	if len(reactions) != values.Len() {
		t.Errorf("the table has %d rows for %d reasons", len(reactions), values.Len())
	}
}

func TestReason(t *testing.T) {
	with := func(infos ...*errdetails.ErrorInfo) error {
		st := status.New(codes.PermissionDenied, "No.")
		for _, info := range infos {
			var err error
			if st, err = st.WithDetails(info); err != nil {
				t.Fatal(err)
			}
		}
		return st.Err()
	}
	info := func(domain, reason string) *errdetails.ErrorInfo {
		return &errdetails.ErrorInfo{Domain: domain, Reason: reason, Metadata: map[string]string{"tries_left": "4"}}
	}
	revoked := with(info("countersign", "DEVICE_REVOKED"))
	tests := []struct {
		name     string
		err      error
		want     pb.ErrorReason
		reaction Reaction
	}{
		{"nil", nil, pb.ErrorReason_ERROR_REASON_UNSPECIFIED, Retry},
		{"local", errors.New("x"), pb.ErrorReason_ERROR_REASON_UNSPECIFIED, Retry},
		{"bare status", status.Error(codes.Unavailable, "x"), pb.ErrorReason_ERROR_REASON_UNSPECIFIED, Retry},
		{"revoked", revoked, pb.ErrorReason_ERROR_REASON_DEVICE_REVOKED, Reenroll},
		{"wrapped", fmt.Errorf("watching: %w", revoked), pb.ErrorReason_ERROR_REASON_DEVICE_REVOKED, Reenroll},
		{"other domain", with(info("example.org", "DEVICE_REVOKED")), pb.ErrorReason_ERROR_REASON_UNSPECIFIED, Retry},
		{"with prefix", with(info("countersign", "ERROR_REASON_DEVICE_REVOKED")), pb.ErrorReason_ERROR_REASON_UNSPECIFIED, Retry},
		{"unknown", with(info("countersign", "FROM_THE_FUTURE")), pb.ErrorReason_ERROR_REASON_UNSPECIFIED, Retry},
		{"two", with(info("countersign", "DEVICE_REVOKED"), info("countersign", "INTERNAL")), pb.ErrorReason_ERROR_REASON_UNSPECIFIED, Retry},
		{"code", with(info("countersign", "CODE_WRONG")), pb.ErrorReason_ERROR_REASON_CODE_WRONG, Stop},
	}
	for _, test := range tests {
		if got := Reason(test.err); got != test.want {
			t.Errorf("%s: Reason = %v, want %v", test.name, got, test.want)
		}
		if got := ReactionTo(test.err); got != test.reaction {
			t.Errorf("%s: ReactionTo = %v, want %v", test.name, got, test.reaction)
		}
	}
	if got := Metadata(revoked, "tries_left"); got != "4" {
		t.Errorf("Metadata = %q, want 4", got)
	}
	if got := Metadata(errors.New("x"), "tries_left"); got != "" {
		t.Errorf("Metadata of another error = %q", got)
	}
}
