package agent

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

// Each step is told when it happens, until the person has put the test away.
func TestDeviceTestTellsEachStep(t *testing.T) {
	bubble(t, func(t *testing.T, f *fakeServer, a *Agent, d *desk) {
		var steps []string
		ended := make(chan error, 1)
		go func() {
			ended <- a.TestDevice(t.Context(), a.state.Device, func(test *pb.DeviceTest) {
				steps = append(steps, strings.TrimPrefix(test.GetDelivery().GetStage().String(), "DELIVERY_STAGE_"))
			})
		}()
		synctest.Wait()
		s := d.waitFor(t, "the test", oneTest)
		if got := s.Tests[0].RequestedBy; got != a.state.Device {
			t.Errorf("requested by %q, want this device", got)
		}
		a.PromptsShown(s.Tests[0].ID)
		synctest.Wait()
		a.TestSeen(s.Tests[0].ID)
		if err := <-ended; err != nil {
			t.Errorf("TestDevice = %v", err)
		}
		if got := strings.Join(steps, " "); got != "CONNECTED RECEIVED SHOWN ANSWERED" {
			t.Errorf("steps = %s", got)
		}
	})
}

func TestDeviceTestThatNobodySees(t *testing.T) {
	bubble(t, func(t *testing.T, f *fakeServer, a *Agent, d *desk) {
		other := strings.Repeat("a", 52)
		f.change(func() { f.devices[other] = &fakeDevice{Device: &pb.Device{Id: other, Account: "ada"}} })
		var last *pb.DeviceTest
		if err := a.TestDevice(t.Context(), other, func(test *pb.DeviceTest) { last = test }); err != nil {
			t.Errorf("TestDevice = %v", err)
		}
		if last.GetDelivery().GetReceiveTime() != nil {
			t.Errorf("the last step is %v, want that nobody received it", last)
		}
		err := a.TestDevice(t.Context(), strings.Repeat("b", 52), func(*pb.DeviceTest) { t.Error("a step of no test") })
		if Reason(err) != pb.ErrorReason_ERROR_REASON_NO_SUCH_DEVICE {
			t.Errorf("TestDevice(unknown) = %v, want NO_SUCH_DEVICE", err)
		}
	})
}

func webPush(endpoint string, p256dh, auth []byte) *pb.PushRegistration {
	return &pb.PushRegistration{Service: &pb.PushRegistration_WebPush{WebPush: &pb.WebPushRegistration{Endpoint: endpoint, P256Dh: p256dh, Auth: auth}}}
}

func apns(token string) *pb.PushRegistration {
	return &pb.PushRegistration{Service: &pb.PushRegistration_Apns{Apns: &pb.ApnsRegistration{Token: token}}}
}

func TestRegisterPush(t *testing.T) {
	f := newFake(t)
	a := trustedAgent(t, f, "ada")
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	auth := make([]byte, 16)
	f.change(func() { f.delivery.service = pb.PushService_PUSH_SERVICE_WEB_PUSH })
	d, err := a.RegisterPush(t.Context(), webPush("https://push.example.org/x", point, auth))
	if err != nil || d.GetPush().GetService() != pb.PushService_PUSH_SERVICE_WEB_PUSH {
		t.Fatalf("RegisterPush = %v, %v", d, err)
	}
	if _, err := a.RegisterPush(t.Context(), apns("00ff00ff")); Reason(err) != pb.ErrorReason_ERROR_REASON_PUSH_NOT_CONFIGURED || ReactionTo(err) != Stop {
		t.Errorf("RegisterPush(APNs, which the server has not) = %v, want PUSH_NOT_CONFIGURED", err)
	}
	if d, err := a.RemovePush(t.Context()); err != nil || d.GetPush() != nil {
		t.Errorf("RemovePush = %v, %v", d, err)
	}

	// What no server takes is not sent.
	before := get(f, func() any { return f.delivery.push[a.state.Device] })
	off := append([]byte(nil), point...)
	off[64] ^= 1
	for name, bad := range map[string]*pb.PushRegistration{
		"nothing":      nil,
		"to forget":    {Service: &pb.PushRegistration_None{None: &pb.NoPush{}}},
		"http":         webPush("http://push.example.org/x", point, auth),
		"no host":      webPush("https:///x", point, auth),
		"no URL":       webPush("https://push.example.org/\x7f", point, auth),
		"a user":       webPush("https://a:b@push.example.org/x", point, auth),
		"too long":     webPush("https://push.example.org/"+strings.Repeat("x", 1000), point, auth),
		"off curve":    webPush("https://push.example.org/x", off, auth),
		"compressed":   webPush("https://push.example.org/x", elliptic.MarshalCompressed(elliptic.P256(), key.X, key.Y), auth),
		"no key":       webPush("https://push.example.org/x", nil, auth),
		"short secret": webPush("https://push.example.org/x", point, auth[:15]),
		"odd token":    apns("00ff00ff0"),
		"upper case":   apns("00FF00FF"),
		"short token":  apns("00ff"),
		"long token":   apns(strings.Repeat("00", 101)),
	} {
		if _, err := a.RegisterPush(t.Context(), bad); err == nil || Reason(err) != 0 {
			t.Errorf("%s: RegisterPush = %v, want a refusal of this program's own", name, err)
		}
	}
	if after := get(f, func() any { return f.delivery.push[a.state.Device] }); after != before {
		t.Errorf("the server has %v", after)
	}
}

func TestRecentSignIns(t *testing.T) {
	f := newFake(t)
	a := trustedAgent(t, f, "ada")
	for i := range 60 {
		f.delivery.signIns = append(f.delivery.signIns, &pb.RecentSignIn{SignIn: &pb.SignIn{Id: fmt.Sprintf("%026d", 100-i)}})
	}
	for n, want := range map[int]int{1: 1, 25: 25, 26: 26, 60: 60, 1000: 60} {
		got, err := a.RecentSignIns(t.Context(), n)
		if err != nil || len(got) != want {
			t.Fatalf("RecentSignIns(%d) = %d of them, %v; want %d", n, len(got), err, want)
		}
		if first, last := got[0].GetSignIn().GetId(), got[want-1].GetSignIn().GetId(); first != fmt.Sprintf("%026d", 100) || last != fmt.Sprintf("%026d", 101-want) {
			t.Errorf("RecentSignIns(%d) = %s … %s", n, first, last)
		}
	}
}
