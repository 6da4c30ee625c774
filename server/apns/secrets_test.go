package apns_test

import (
	"strings"
	"testing"
	"time"

	"github.com/countersignd/countersign/internal/countersigntest"
	"github.com/countersignd/countersign/server/apns/apnstest"
	"github.com/countersignd/countersign/server/approval"

	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

// A whole sign-in through APNs: the phone is woken and, when the sign-in is over, woken
// again. Nothing of it is in what Apple sees.
func TestA23SignInThroughAPNs(t *testing.T) {
	s := apnstest.Start(t)
	system := countersigntest.New(t, &countersigntest.Options{Wakers: map[approval.PushService]approval.Waker{approval.PushAPNs: newWaker(t, config(s))}})
	system.AddAccount("plantedaccount")
	phone, mac := system.EnrollDevice("plantedaccount"), system.EnrollDevice("plantedaccount")
	if _, err := phone.Client.UpdateDevice(t.Context(), &pb.UpdateDeviceRequest{
		Name: "plantedname",
		Push: &pb.PushRegistration{Service: &pb.PushRegistration_Apns{Apns: &pb.ApnsRegistration{Token: s.Device(apnstest.Topic)}}},
	}); err != nil {
		t.Fatal(err)
	}
	app := system.AddApplication("plantedapp")
	taken := func(n int) {
		for look := time.Tick(time.Millisecond); len(s.Taken()) < n; {
			<-look
		}
	}
	signIn := app.MustBegin("plantedaccount")
	taken(1)
	code := mac.MustAllow(mac.MustPrompt(signIn.GetId()))
	taken(2)
	if _, err := app.Verify(t.Context(), signIn.GetId(), code); err != nil {
		t.Fatal(err)
	}
	planted := []string{"planted", "192.0.2.7", "Berlin", "MacBook", "Firefox", code, phone.ID, mac.ID, app.Token}
	for _, push := range s.Pushes() {
		for _, secret := range planted {
			if strings.Contains(push.Text(), secret) {
				t.Errorf("%q is in a push: %s", secret, push.Text())
			}
		}
	}
}
