package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	countersignv1 "github.com/countersignd/countersign/proto/countersign/v1"
)

// refusal is an error as a server sends it.
func refusal(t *testing.T, domain, reason, words string) error {
	t.Helper()
	s, err := status.New(codes.PermissionDenied, words).WithDetails(&errdetails.ErrorInfo{Domain: domain, Reason: reason})
	if err != nil {
		t.Fatal(err)
	}
	return s.Err()
}

func TestProblemsOf(t *testing.T) {
	conn := &Conn{address: "a:1"}
	revoked := conn.Explain(refusal(t, errorDomain, "DEVICE_REVOKED", "this device was revoked."))
	refused := Problem{Kind: Refused, Reason: countersignv1.ErrorReason_ERROR_REASON_DEVICE_REVOKED, Detail: "this device was revoked"}
	for name, test := range map[string]struct {
		err  error
		want []Problem
	}{
		"none":              {nil, nil},
		"other":             {errors.New("x"), []Problem{{Detail: "x"}}},
		"refused":           {revoked, []Problem{refused}},
		"refused, within":   {fmt.Errorf("x: %w", revoked), []Problem{refused}},
		"not explained":     {refusal(t, errorDomain, "DEVICE_REVOKED", "this device was revoked"), []Problem{refused}},
		"a newer reason":    {conn.Explain(refusal(t, errorDomain, "NEWER", "newer")), []Problem{{Kind: Refused, Detail: "newer"}}},
		"another's reason":  {conn.Explain(refusal(t, "else", "DEVICE_REVOKED", "x")), []Problem{{Kind: Broke, Server: "a:1", Detail: "x"}}},
		"in time":           {conn.Explain(context.DeadlineExceeded), []Problem{{Kind: Unanswered, Server: "a:1"}}},
		"another server":    {(&Agent{}).explain(&Conn{failure: &WrongServerError{Got: "k"}}, errors.New("x")), []Problem{{Kind: OtherServer, Key: "k"}}},
		"unknown host":      {(&Conn{address: "a:1", failure: &net.DNSError{IsNotFound: true}}).Explain(errors.New("x")), []Problem{{Kind: Unresolved, Server: "a:1", Detail: "there is no host of that name"}}},
		"not confirmed":     {gaveUp(revoked), []Problem{refused, {Kind: NotConfirmed}}},
		"besides what else": {gaveUp(errors.New("x")), []Problem{{Detail: "x"}, {Kind: NotConfirmed}}},
		"a sentinel":        {fmt.Errorf("d: %w", ErrEnrolled), []Problem{{Kind: EnrolledAlready}}},
		"lost":              {lost("d", "gone", errors.New("x")), []Problem{{Kind: NeverAgain}}},
	} {
		if diff := cmp.Diff(test.want, ProblemsOf(test.err)); diff != "" {
			t.Errorf("%s: -want +got:\n%s", name, diff)
		}
	}
}

// What to do stands at the end of a refusal, behind the longest name, too.
func TestALongRefusalIsToldToItsEnd(t *testing.T) {
	refused := refusal(t, errorDomain, "CODE_REFUSED", strings.Repeat("文", 64)+" takes no offline codes, which are the eight digits that a device makes without a network. "+
		"Allow the sign-in on a trusted device, or get a code there while it is connected; both have six digits.")
	const want = "both have six digits"
	if got := (&Conn{}).Explain(refused).Error(); !strings.HasSuffix(got, want) {
		t.Errorf("explained = %q, want it to end with %q", got, want)
	}
	if got := ProblemsOf(refused); len(got) != 1 || !strings.HasSuffix(got[0].Detail, want+".") {
		t.Errorf("ProblemsOf = %+v, want one with a detail that ends with %q", got, want+".")
	}
}

// A server that is not there is told from one that is another.
func TestProblemsOfAServerThatIsNotThere(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	_, err = ServerKey(t.Context(), address)
	want := []Problem{{Kind: NotListening, Server: address, Detail: "connection refused"}}
	if diff := cmp.Diff(want, ProblemsOf(err)); diff != "" {
		t.Errorf("%v: -want +got:\n%s", err, diff)
	}
}
