package server_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/countersignd/countersign/internal/code"
	"github.com/countersignd/countersign/internal/countersigntest"

	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

func TestS3AnOfflineCodeOverTheWire(t *testing.T) {
	system := countersigntest.New(t, nil)
	system.AddAccount("ada")
	mac := system.EnrollDevice("ada")
	files := system.AddApplication("files")
	if len(mac.OfflineSecret) != 32 {
		t.Fatalf("the enrolment handed over %d bytes, want 32", len(mac.OfflineSecret))
	}
	self, err := mac.Client.GetSelf(t.Context(), &pb.GetSelfRequest{})
	if err != nil || !bytes.Equal(self.GetOfflineSecret(), mac.OfflineSecret) {
		t.Errorf("GetSelf: %v, want the secret again, as the first answer may have been lost", err)
	}

	// The server is away while the code is made.
	signIn := files.MustBegin("ada")
	system.Stop()
	digits := code.Offline(mac.OfflineSecret, code.Step(time.Now()))
	system.Restart()
	verified := files.MustVerify(signIn.GetId(), code.Group(digits))
	if verified.GetCodeLength() != 8 || verified.GetReceipt().GetDeviceId() != mac.ID || verified.GetReceipt().GetStatement() != "" {
		t.Errorf("VerifySignIn = %v, want a code of 8 digits and no statement", verified)
	}
	if _, err := files.Verify(t.Context(), files.MustBegin("ada").GetId(), digits); countersigntest.Reason(err) != "CODE_WRONG" {
		t.Errorf("the same code again = %v, want CODE_WRONG", err)
	}

	if _, err := mac.CreateCode(t.Context()); err != nil {
		t.Fatal(err)
	}
	if self, err = mac.Client.GetSelf(t.Context(), &pb.GetSelfRequest{}); err != nil || len(self.GetOfflineSecret()) != 0 {
		t.Errorf("GetSelf after a statement = %d bytes, %v, want none", len(self.GetOfflineSecret()), err)
	}
}

func TestS9TrailingDigitsOverTheWire(t *testing.T) {
	system := countersigntest.New(t, nil)
	system.AddAccount("ada")
	mac := system.EnrollDevice("ada")
	files := system.AddApplication("files")
	signIn := files.MustBegin("ada").GetId()
	if again := files.MustBegin("ada").GetId(); again != signIn {
		t.Fatalf("asking again = %s, want the open sign-in %s", again, signIn)
	}
	digits := mac.MustAllow(mac.MustPrompt(signIn))
	for name, request := range map[string]*pb.VerifySignInRequest{
		"both":    {Code: digits, TrailingDigits: "77" + digits},
		"neither": {},
		"letters": {TrailingDigits: "secret77" + digits},
	} {
		request.SignInId = signIn
		if _, err := files.Client.VerifySignIn(t.Context(), request); countersigntest.Reason(err) != "INVALID_FIELD" {
			t.Errorf("%s = %v, want INVALID_FIELD", name, err)
		}
	}
	if again := files.MustBegin("ada").GetId(); again != signIn {
		t.Fatalf("asking again after Allow = %s, want the open sign-in %s", again, signIn)
	}
	verified, err := files.Client.VerifySignIn(t.Context(), &pb.VerifySignInRequest{SignInId: signIn, TrailingDigits: "77" + digits})
	if err != nil || verified.GetCodeLength() != 6 {
		t.Errorf("VerifySignIn = %d digits, %v, want 6", verified.GetCodeLength(), err)
	}
}
