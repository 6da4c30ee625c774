package server_test

import (
	"context"
	"net"
	"regexp"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/countersignd/countersign/internal/countersigntest"
	"github.com/countersignd/countersign/internal/invitation"
	"github.com/countersignd/countersign/internal/statement"
	"github.com/countersignd/countersign/server/approval"
	"github.com/countersignd/countersign/server/approval/storetest"

	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

// A15: what must not be in a log is in none, at any level, also where a call
// is refused or the secret stands in the wrong field.
func TestA15LogHoldsNoSecret(t *testing.T) {
	system := countersigntest.New(t, nil)
	system.AddAccount("ada")
	link := system.Invite("ada")
	inv, err := invitation.Parse(link)
	if err != nil {
		t.Fatal(err)
	}
	phone := system.NewDevice()
	if err := phone.Enroll(t.Context(), link); err != nil {
		t.Fatal(err)
	}
	files := system.AddApplication("files")
	signIn := files.MustBegin("ada")
	prompt := phone.MustPrompt(signIn.GetId())
	signed, err := phone.Decision(prompt, statement.Allow, "")
	if err != nil {
		t.Fatal(err)
	}
	decided, err := phone.Client.DecideSignIn(t.Context(), &pb.DecideSignInRequest{Statement: signed})
	if err != nil {
		t.Fatal(err)
	}
	verified := files.MustVerify(signIn.GetId(), decided.GetCode())
	requested, err := phone.CreateCode(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	rotated, err := system.Admin.RotateApplicationToken(t.Context(), &pb.RotateApplicationTokenRequest{Id: "files"})
	if err != nil {
		t.Fatal(err)
	}
	const password = "hunter2-is-my-password"
	conn := system.Dial(nil, grpc.WithPerRPCCredentials(countersigntest.Bearer(password)))
	thief := pb.NewSignInServiceClient(conn)
	thief.BeginSignIn(t.Context(), &pb.BeginSignInRequest{Account: password})
	thief.VerifySignIn(t.Context(), &pb.VerifySignInRequest{SignInId: password, Code: password})
	system.Admin.AddAccount(t.Context(), &pb.AddAccountRequest{Name: password + "!"})
	system.Admin.GetAccount(t.Context(), &pb.GetAccountRequest{Name: password})
	system.Admin.SuspendAccount(t.Context(), &pb.SuspendAccountRequest{Name: "ada", Reason: password})
	phone.Client.DecideSignIn(t.Context(), &pb.DecideSignInRequest{Statement: password})
	system.Stop()

	log := strings.ReplaceAll(system.Log(), "address="+system.Address, "") // its own, at the start
	for name, secret := range map[string]string{
		"the invitation's token":  inv.Token,
		"the application's token": files.Token,
		"the new token":           rotated.GetToken(),
		"the grant":               verified.GetGrant(),
		"the device's statement":  signed,
		"a signature":             signed[strings.LastIndex(signed, ".")+1:],
		"a password":              password,
		"a caller's address":      "127.0.0.1",
		"the requester's address": "192.0.2.7",
		"the requester's place":   "Berlin",
		"the requester's device":  "MacBook",
		"the device's name":       "Test device",
	} {
		if n := strings.Count(log, secret); n != 0 {
			t.Errorf("%s is in the log %d times, want 0", name, n)
		}
	}
	// Six digits may be part of something else, but never stand alone.
	for _, code := range []string{decided.GetCode(), requested} {
		if regexp.MustCompile(`\b` + code + `\b`).MatchString(regexp.MustCompile(`time=\S+`).ReplaceAllString(log, "")) {
			t.Errorf("the code %s is in the log", code)
		}
	}
	for _, want := range []string{"method=EnrollDevice", "method=DecideSignIn", "method=VerifySignIn", "sign_in=" + signIn.GetId(), "device=" + phone.ID} {
		if !strings.Contains(log, want) {
			t.Errorf("the log has no %s", want)
		}
	}
}

// brokenStore fails, or panics, when it is told to.
type brokenStore struct {
	approval.Store
	view func() error
}

func (s *brokenStore) View(ctx context.Context, fn func(approval.Tx) error) error {
	if s.view != nil {
		return s.view()
	}
	return s.Store.View(ctx, fn)
}

func TestFaultsAreToldToTheLogOnly(t *testing.T) {
	store := &brokenStore{Store: storetest.NewMemory()}
	system := countersigntest.New(t, &countersigntest.Options{Store: store})
	system.AddAccount("ada")
	phone := system.EnrollDevice("ada")
	for _, test := range []struct {
		name string
		view func() error
		want string
	}{
		{"a failed store", func() error { return storeError{} }, "STORE_FAILED"},
		{"a panic", func() error { panic("hunter2") }, "INTERNAL"},
		{"an index out of range", func() error { return []error{}[len("hunter2")] }, "INTERNAL"},
	} {
		before := strings.Count(system.Log(), "call failed")
		store.view = test.view
		_, err := phone.Client.GetSelf(t.Context(), &pb.GetSelfRequest{})
		if got := countersigntest.Reason(err); got != test.want || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the caller is told %v, want %s", test.name, err, test.want)
		}
		stream, err := phone.Watch(t.Context())
		for err == nil {
			_, err = stream.Recv()
		}
		if got := countersigntest.Reason(err); got != test.want {
			t.Errorf("%s in a stream: the caller is told %v, want %s", test.name, err, test.want)
		}
		store.view = nil
		if got := strings.Count(system.Log(), "call failed") - before; got != 2 {
			t.Errorf("%s: %d lines in the log for two calls, want 2", test.name, got)
		}
		if _, err := phone.Client.GetSelf(t.Context(), &pb.GetSelfRequest{}); err != nil {
			t.Errorf("%s: a call afterwards: %v", test.name, err)
		}
	}
}

type storeError struct{}

func (storeError) Error() string { return "disk hunter2 is full" }
func (storeError) Unwrap() error { return approval.ErrStoreFailed }

// A16: strangers who take all they can get, while a device is served.
func TestA16Strangers(t *testing.T) {
	system := countersigntest.New(t, nil)
	system.AddAccount("ada")
	phone := system.EnrollDevice("ada")
	stream := phone.MustWatch()
	files := system.AddApplication("files")
	files.MustBegin("ada")
	var idle []net.Conn
	for range 400 {
		raw, err := net.Dial("tcp", system.Address)
		if err != nil {
			t.Fatal(err)
		}
		idle = append(idle, raw)
	}
	defer func() {
		for _, raw := range idle {
			raw.Close()
		}
	}()
	stranger := system.NewDevice()
	for range 40 {
		c := dialRaw(t, system, &stranger.Certificate)
		for range 12 {
			id := c.begin(getSelf)
			c.framer.WriteData(id, false, []byte{0, 0, 0, 255, 255}) // a message that never comes
		}
	}
	began := time.Now()
	for range 50 {
		if _, err := phone.Client.GetSelf(t.Context(), &pb.GetSelfRequest{}); err != nil {
			t.Fatalf("a device's call under flood: %v", err)
		}
	}
	if each := time.Since(began) / 50; each > 250*time.Millisecond {
		t.Errorf("a device's call takes %v under flood, want less than 250ms", each)
	}
	if _, err := stream.Recv(); err != nil {
		t.Errorf("the device's stream ended: %v", err)
	}
	// Whoever comes new gets in, too.
	system.EnrollDevice("ada")
}
