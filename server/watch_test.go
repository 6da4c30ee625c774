package server_test

import (
	"errors"
	"io"
	"testing"
	"time"

	"github.com/countersignd/countersign/internal/countersigntest"
	"github.com/countersignd/countersign/internal/statement"

	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

func TestAPromptComesAndGoes(t *testing.T) {
	system := countersigntest.New(t, nil)
	system.AddAccount("ada")
	phone, mac := system.EnrollDevice("ada"), system.EnrollDevice("ada")
	files := system.AddApplication("files")
	phoneStream, macStream := phone.MustWatch(), mac.MustWatch()

	signIn := files.MustBegin("ada")
	if signIn.GetTrustedDevices() != 2 || signIn.GetConnectedDevices() != 2 || signIn.GetTriesLeft() != 5 {
		t.Errorf("the sign-in has %d trusted and %d connected devices and %d tries, want 2, 2 and 5",
			signIn.GetTrustedDevices(), signIn.GetConnectedDevices(), signIn.GetTriesLeft())
	}
	watch, err := files.Client.WatchSignIn(t.Context(), &pb.WatchSignInRequest{SignInId: signIn.GetId()})
	if err != nil {
		t.Fatal(err)
	}
	state := func(want pb.SignInState) {
		t.Helper()
		for {
			resp, err := watch.Recv()
			if err != nil {
				t.Fatalf("the sign-in's stream ended with %v before %v", err, want)
			}
			if resp.GetSignIn().GetState() == want {
				return
			}
		}
	}
	state(pb.SignInState_SIGN_IN_STATE_PENDING)
	prompt, err := countersigntest.PromptIn(phoneStream, signIn.GetId())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := countersigntest.PromptIn(macStream, signIn.GetId()); err != nil {
		t.Fatal(err)
	}
	code := phone.MustAllow(prompt)
	state(pb.SignInState_SIGN_IN_STATE_APPROVED)
	if err := countersigntest.Gone(macStream); err != nil {
		t.Fatalf("the other device: %v, want the prompt withdrawn", err)
	}

	wrong := "000000"
	if code == wrong {
		wrong = "000001"
	}
	_, err = files.Verify(t.Context(), signIn.GetId(), wrong)
	if got := countersigntest.Reason(err); got != "CODE_WRONG" {
		t.Errorf("a wrong code: %v, want CODE_WRONG", err)
	}
	if shown, err := watch.Recv(); err != nil || shown.GetSignIn().GetTriesLeft() != 4 {
		t.Errorf("after a wrong code: %v tries, %v, want 4", shown.GetSignIn().GetTriesLeft(), err)
	}
	files.MustVerify(signIn.GetId(), code[:3]+" "+code[3:])
	state(pb.SignInState_SIGN_IN_STATE_VERIFIED)
	if _, err := watch.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("after a final state: %v, want the end of the stream", err)
	}
	if err := countersigntest.Gone(phoneStream); err != nil {
		t.Errorf("the approving device: %v, want the code withdrawn", err)
	}
}

func TestStreamsEndWithTheirReason(t *testing.T) {
	system := countersigntest.New(t, nil)
	system.AddAccount("ada")
	files := system.AddApplication("files")
	end := func(stream interface {
		Recv() (*pb.WatchPromptsResponse, error)
	}) string {
		for {
			if _, err := stream.Recv(); err != nil {
				return countersigntest.Reason(err)
			}
		}
	}
	phone := system.EnrollDevice("ada")

	old := phone.MustWatch()
	newer := phone.MustWatch()
	if got := end(old); got != "STREAM_REPLACED" {
		t.Errorf("the older stream ended with %s, want STREAM_REPLACED", got)
	}
	began := time.Now()
	system.Revoke(phone.ID)
	if got, took := end(newer), time.Since(began); got != "DEVICE_REVOKED" || took > time.Second {
		t.Errorf("a revoked device's stream ended with %s after %v, want DEVICE_REVOKED within a second", got, took)
	}
	if system.Broker.Connected(phone.ID) {
		t.Error("the revoked device counts as connected")
	}

	mac := system.EnrollDevice("ada")
	stream := mac.MustWatch()
	signIn := files.MustBegin("ada")
	watch, err := files.Client.WatchSignIn(t.Context(), &pb.WatchSignInRequest{SignInId: signIn.GetId()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := watch.Recv(); err != nil {
		t.Fatal(err)
	}
	system.Stop()
	if got := end(stream); got != "SHUTTING_DOWN" {
		t.Errorf("a device's stream ended with %s at a stop, want SHUTTING_DOWN", got)
	}
	for err == nil {
		_, err = watch.Recv()
	}
	if got := countersigntest.Reason(err); got != "SHUTTING_DOWN" {
		t.Errorf("a sign-in's stream ended with %v at a stop, want SHUTTING_DOWN", err)
	}
}

// A denied sign-in may still be verified (S4), so its stream goes on.
func TestADeniedSignInIsWatchedOn(t *testing.T) {
	system := countersigntest.New(t, nil)
	system.AddAccount("ada")
	phone := system.EnrollDevice("ada")
	files := system.AddApplication("files")
	signIn := files.MustBegin("ada")
	watch, err := files.Client.WatchSignIn(t.Context(), &pb.WatchSignInRequest{SignInId: signIn.GetId()})
	if err != nil {
		t.Fatal(err)
	}
	until := func(want pb.SignInState) {
		t.Helper()
		for {
			resp, err := watch.Recv()
			if err != nil {
				t.Fatalf("the stream ended with %v before %v", err, want)
			}
			if resp.GetSignIn().GetState() == want {
				return
			}
		}
	}
	until(pb.SignInState_SIGN_IN_STATE_PENDING)
	phone.MustDeny(phone.MustPrompt(signIn.GetId()), statement.Mistake)
	until(pb.SignInState_SIGN_IN_STATE_DENIED)
	code, err := phone.CreateCode(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	files.MustVerify(signIn.GetId(), code)
	until(pb.SignInState_SIGN_IN_STATE_VERIFIED)
	if _, err := watch.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("after a final state: %v, want the end of the stream", err)
	}
}
