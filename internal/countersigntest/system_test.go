package countersigntest_test

import (
	"strings"
	"testing"

	"github.com/countersignd/countersign/internal/countersigntest"
)

func TestStory(t *testing.T) {
	system := countersigntest.New(t, nil)
	system.AddAccount("ada")
	phone := system.EnrollDevice("ada")
	files := system.AddApplication("files")

	signIn := files.MustBegin("ada")
	prompt := phone.MustPrompt(signIn.GetId())
	code := phone.MustAllow(prompt)
	if got := files.MustVerify(signIn.GetId(), code).GetReceipt().GetDeviceId(); got != phone.ID {
		t.Errorf("the receipt is of device %s, want %s", got, phone.ID)
	}
	if _, err := files.Verify(t.Context(), signIn.GetId(), code); countersigntest.Reason(err) != "SIGN_IN_VERIFIED" {
		t.Errorf("verifying twice: %v, want SIGN_IN_VERIFIED", err)
	}
	if !strings.Contains(system.Log(), signIn.GetId()) {
		t.Error("the log does not name the sign-in")
	}
}

func TestRestart(t *testing.T) {
	system := countersigntest.New(t, nil)
	system.AddAccount("ada")
	phone := system.EnrollDevice("ada")
	files := system.AddApplication("files")
	signIn := files.MustBegin("ada")
	address := system.Address
	stream := phone.MustWatch()

	system.Restart()
	for {
		if _, err := stream.Recv(); err != nil {
			if got := countersigntest.Reason(err); got != "SHUTTING_DOWN" {
				t.Errorf("the stream ended with %v, want SHUTTING_DOWN", err)
			}
			break
		}
	}
	if system.Address != address {
		t.Errorf("Address = %s after a restart, want %s", system.Address, address)
	}
	files.MustVerify(signIn.GetId(), phone.MustAllow(phone.MustPrompt(signIn.GetId())))
}
