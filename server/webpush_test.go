package server_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"testing"

	"github.com/countersignd/countersign/internal/countersigntest"
	"github.com/countersignd/countersign/server/approval"
	"github.com/countersignd/countersign/server/webpush"
	"github.com/countersignd/countersign/server/webpush/webpushtest"

	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

// A device without a stream is woken through a Web Push service by each sign-in, and
// told when it was answered elsewhere.
func TestWebPushFromSignInToAnswer(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	service := webpushtest.New(t, nil)
	allowed, err := webpush.ParseAllowed([]string{"127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	waker, err := webpush.New(webpush.Config{Key: key, Contact: "mailto:admin@countersign.example", Allowed: allowed, Roots: service.Roots()})
	if err != nil {
		t.Fatal(err)
	}
	system := countersigntest.New(t, &countersigntest.Options{
		Wakers:     map[approval.PushService]approval.Waker{approval.PushWebPush: waker},
		WebPushKey: point,
	})
	system.AddAccount("ada")
	phone, mac := system.EnrollDevice("ada"), system.EnrollDevice("ada")
	files := system.AddApplication("files")
	self, err := phone.Client.GetSelf(t.Context(), &pb.GetSelfRequest{})
	if err != nil {
		t.Fatal(err)
	}
	sub := service.Subscribe(self.GetWebPushKey())
	register := func(endpoint string) error {
		_, err := phone.Client.UpdateDevice(t.Context(), &pb.UpdateDeviceRequest{Push: &pb.PushRegistration{Service: &pb.PushRegistration_WebPush{
			WebPush: &pb.WebPushRegistration{Endpoint: endpoint, P256Dh: sub.P256DH, Auth: sub.Auth},
		}}})
		return err
	}
	for _, endpoint := range []string{"https://10.0.0.1/x", "http://127.0.0.1/x", "https://[::1]/x"} {
		if err := register(endpoint); countersigntest.Reason(err) != "INVALID_FIELD" {
			t.Errorf("registering %s = %v, want INVALID_FIELD", endpoint, err)
		}
	}
	if err := register(sub.Endpoint); err != nil {
		t.Fatal(err)
	}
	signIn := files.MustBegin("ada")
	ring := sub.MustNext()
	if string(ring.Payload) != `{"countersign":"asked"}` {
		t.Errorf("the wake-up says %s", ring.Payload)
	}
	mac.MustAllow(mac.MustPrompt(signIn.Id))
	end := sub.MustNext()
	if string(end.Payload) != `{"countersign":"over"}` || end.Topic != ring.Topic {
		t.Errorf("the end says %s on topic %s, want that of %s", end.Payload, end.Topic, ring.Topic)
	}
}
