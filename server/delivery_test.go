package server_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	"github.com/countersignd/countersign/internal/countersigntest"
	"github.com/countersignd/countersign/internal/statement"
	"github.com/countersignd/countersign/server/approval"

	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

// A webPush is a Web Push service that takes everything, and tells each topic.
type webPush struct{ taken chan string }

func newWebPush() *webPush { return &webPush{taken: make(chan string, 100)} }

// Check implements [approval.Waker].
func (*webPush) Check(a approval.PushAddress) error {
	if !strings.HasPrefix(a.Endpoint, "https://") || len(a.P256DH) != 65 || len(a.Auth) != 16 {
		return errors.New("want an https endpoint with its keys")
	}
	return nil
}

// Wake implements [approval.Waker].
func (p *webPush) Wake(_ context.Context, _ approval.PushAddress, w approval.Wakeup) error {
	if !w.Over {
		p.taken <- w.Topic
	}
	return nil
}

const plantedEndpoint = "https://push.example/planted-endpoint"

var plantedAuth = []byte("planted-auth-key")

func subscription() *pb.PushRegistration {
	return &pb.PushRegistration{Service: &pb.PushRegistration_WebPush{WebPush: &pb.WebPushRegistration{
		Endpoint: plantedEndpoint, P256Dh: slices.Repeat([]byte{4}, 65), Auth: plantedAuth,
	}}}
}

// TestDeliveryIsToldToAllWhoWait plays one sign-in that wakes a device, and
// looks at what application, owner and administrator are told at each step. What
// the device registered is in none of it, nor in the log.
func TestDeliveryIsToldToAllWhoWait(t *testing.T) {
	push := newWebPush()
	system := countersigntest.New(t, &countersigntest.Options{Wakers: map[approval.PushService]approval.Waker{approval.PushWebPush: push}})
	system.AddAccount("ada")
	phone, mac := system.EnrollDevice("ada"), system.EnrollDevice("ada")
	files := system.AddApplication("files")
	var told []proto.Message

	updated, err := phone.Client.UpdateDevice(t.Context(), &pb.UpdateDeviceRequest{Push: subscription()})
	if err != nil {
		t.Fatal(err)
	}
	if got := updated.GetDevice().GetPush(); got.GetService() != pb.PushService_PUSH_SERVICE_WEB_PUSH || got.GetHost() != "push.example" || got.GetRegisterTime() == nil {
		t.Errorf("the registration = %v, want the service, its host and the time", got)
	}
	self, err := phone.Client.GetSelf(t.Context(), &pb.GetSelfRequest{})
	if err != nil || !slices.Equal(self.GetPushServices(), []pb.PushService{pb.PushService_PUSH_SERVICE_WEB_PUSH}) {
		t.Errorf("GetSelf = services %v, %v, want Web Push", self.GetPushServices(), err)
	}
	told = append(told, updated, self)

	signIn := files.MustBegin("ada")
	if topic := <-push.taken; topic != signIn.GetId() {
		t.Errorf("the topic of the push = %q, want the sign-in's id", topic)
	}
	watch, err := files.Client.WatchSignIn(t.Context(), &pb.WatchSignInRequest{SignInId: signIn.GetId()})
	if err != nil {
		t.Fatal(err)
	}
	until := func(what string, reached func(*pb.DeliveryCounts) bool) {
		t.Helper()
		for {
			m, err := watch.Recv()
			if err != nil {
				t.Fatalf("waiting until %s: %v", what, err)
			}
			told = append(told, m)
			if reached(m.GetSignIn().GetDelivery()) {
				return
			}
		}
	}
	until("it is pushed", func(c *pb.DeliveryCounts) bool { return c.GetPushed() == 1 })
	prompt := phone.MustPrompt(signIn.GetId())
	if prompt.GetRingCount() != 1 {
		t.Errorf("the prompt's ring count = %d, want 1", prompt.GetRingCount())
	}
	for _, step := range []struct {
		stage   pb.DeliveryStage
		reached func(*pb.DeliveryCounts) bool
	}{
		{pb.DeliveryStage_DELIVERY_STAGE_RECEIVED, func(c *pb.DeliveryCounts) bool { return c.GetReceived() == 1 && c.GetShown() == 0 }},
		{pb.DeliveryStage_DELIVERY_STAGE_SHOWN, func(c *pb.DeliveryCounts) bool { return c.GetShown() == 1 && c.GetAnswered() == 0 }},
	} {
		if _, err := phone.Client.ReportPrompts(t.Context(), &pb.ReportPromptsRequest{Reports: []*pb.PromptReport{{Id: signIn.GetId(), Stage: step.stage}}}); err != nil {
			t.Fatal(err)
		}
		until(step.stage.String(), step.reached)
	}
	phone.MustAllow(prompt)
	until("it is answered", func(c *pb.DeliveryCounts) bool { return c.GetAnswered() == 1 })

	recent, err := mac.Client.ListRecentSignIns(t.Context(), &pb.ListRecentSignInsRequest{})
	if err != nil || len(recent.GetSignIns()) != 1 || recent.GetSignIns()[0].GetApplicationName() != "The files" || len(recent.GetSignIns()[0].GetDeliveries()) != 2 {
		t.Errorf("ListRecentSignIns = %v, %v, want one with its application and two devices", recent, err)
	}
	shown, err := system.Admin.GetSignIn(t.Context(), &pb.GetSignInRequest{Id: signIn.GetId()})
	if err != nil {
		t.Fatal(err)
	}
	stages := map[string]pb.DeliveryStage{}
	for _, d := range shown.GetDeliveries() {
		stages[d.GetDeviceId()] = d.GetStage()
	}
	if stages[phone.ID] != pb.DeliveryStage_DELIVERY_STAGE_ANSWERED || stages[mac.ID] != pb.DeliveryStage_DELIVERY_STAGE_NOT_CONNECTED {
		t.Errorf("the stages = %v, want answered and not connected", stages)
	}
	device, err := system.Admin.GetAccountDevice(t.Context(), &pb.GetAccountDeviceRequest{Device: phone.ID})
	if err != nil || device.GetDevice().GetLastReachedTime() == nil || device.GetDevice().GetPush().GetAcceptTime() == nil {
		t.Errorf("GetAccountDevice = %v, %v, want when it was reached and its push taken", device, err)
	}
	status, err := system.Admin.GetServer(t.Context(), &pb.GetServerRequest{})
	if err != nil || len(status.GetPushServices()) != 1 || status.GetPushServices()[0].GetTrouble() != "" {
		t.Errorf("GetServer = %v, %v, want one push service without trouble", status.GetPushServices(), err)
	}
	records, err := system.Admin.ListAuditRecords(t.Context(), &pb.ListAuditRecordsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	told = append(told, recent, shown, device, status, records)
	all := system.Log()
	for _, m := range told {
		all += prototext.Format(m)
	}
	for _, planted := range []string{"planted-endpoint", "planted-auth-key"} {
		if strings.Contains(all, planted) {
			t.Errorf("A15: %q is in what is told or logged", planted)
		}
	}
}

// TestATestPromptOverTheWire: each side sees its part of one test.
func TestATestPromptOverTheWire(t *testing.T) {
	push := newWebPush()
	system := countersigntest.New(t, &countersigntest.Options{Wakers: map[approval.PushService]approval.Waker{approval.PushWebPush: push}})
	system.AddAccount("ada")
	phone, mac := system.EnrollDevice("ada"), system.EnrollDevice("ada")
	if _, err := phone.Client.UpdateDevice(t.Context(), &pb.UpdateDeviceRequest{Push: subscription()}); err != nil {
		t.Fatal(err)
	}
	stream := phone.MustWatch()
	byDevice, err := mac.Client.TestDevice(t.Context(), &pb.TestDeviceRequest{DeviceId: phone.ID})
	if err != nil {
		t.Fatal(err)
	}
	if first, err := byDevice.Recv(); err != nil || !first.GetTest().GetConnected() {
		t.Fatalf("TestDevice = %v, %v, want a connected device", first, err)
	}
	byAdmin, err := system.Admin.TestAccountDevice(t.Context(), &pb.TestAccountDeviceRequest{Device: phone.ID[:12]})
	if err != nil {
		t.Fatal(err)
	}
	first, err := byAdmin.Recv()
	if err != nil {
		t.Fatal(err)
	}
	id := first.GetTest().GetId()
	for { // the older test has been replaced
		if _, err := byDevice.Recv(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	for {
		screen, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if len(screen.GetTests()) == 1 && screen.GetTests()[0].GetId() == id {
			if by := screen.GetTests()[0].GetRequestedBy(); !strings.HasPrefix(by, "uid ") {
				t.Errorf("the test was requested by %q, want the administrator", by)
			}
			break
		}
	}
	for _, stage := range []pb.DeliveryStage{pb.DeliveryStage_DELIVERY_STAGE_SHOWN, pb.DeliveryStage_DELIVERY_STAGE_ANSWERED} {
		if _, err := phone.Client.ReportPrompts(t.Context(), &pb.ReportPromptsRequest{Reports: []*pb.PromptReport{{Id: id, Stage: stage}}}); err != nil {
			t.Fatal(err)
		}
	}
	last := first.GetTest()
	for {
		m, err := byAdmin.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		last = m.GetTest()
	}
	d := last.GetDelivery()
	if d.GetStage() != pb.DeliveryStage_DELIVERY_STAGE_ANSWERED || d.GetReceiveTime() == nil || d.GetShowTime() == nil || d.GetAnswerTime() == nil {
		t.Errorf("the test ended as %v, want it answered, with all times", last)
	}
	for screen, err := stream.Recv(); len(screen.GetTests()) > 0; screen, err = stream.Recv() {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestA9NothingPassesASuspensionOrARevocation: no push, test or report does
// anything for an account or a device that does not count.
func TestA9NothingPassesASuspensionOrARevocation(t *testing.T) {
	for _, state := range []struct {
		name                 string
		change               func(*countersigntest.System, *countersigntest.Device)
		update, report, test string // what the device is told
		adminTest            string
	}{
		{"revoked", func(s *countersigntest.System, d *countersigntest.Device) { s.Revoke(d.ID) }, "DEVICE_REVOKED", "DEVICE_REVOKED", "DEVICE_REVOKED", "DEVICE_REVOKED"},
		{"suspended", func(s *countersigntest.System, d *countersigntest.Device) { s.Suspend(d.Account) }, "OK", "OK", "ACCOUNT_SUSPENDED", "ACCOUNT_SUSPENDED"},
	} {
		t.Run(state.name, func(t *testing.T) {
			push := newWebPush()
			system := countersigntest.New(t, &countersigntest.Options{Wakers: map[approval.PushService]approval.Waker{approval.PushWebPush: push}})
			system.AddAccount("ada")
			phone := system.EnrollDevice("ada")
			system.EnrollDevice("ada")
			files := system.AddApplication("files")
			if _, err := phone.Client.UpdateDevice(t.Context(), &pb.UpdateDeviceRequest{Push: subscription()}); err != nil {
				t.Fatal(err)
			}
			signIn := files.MustBegin("ada")
			<-push.taken
			state.change(system, phone)
			_, err := phone.Client.UpdateDevice(t.Context(), &pb.UpdateDeviceRequest{Push: subscription()})
			wantOutcome(t, "registering", err, state.update)
			_, err = phone.Client.ReportPrompts(t.Context(), &pb.ReportPromptsRequest{Reports: []*pb.PromptReport{{Id: signIn.GetId(), Stage: pb.DeliveryStage_DELIVERY_STAGE_SHOWN}}})
			wantOutcome(t, "reporting", err, state.report)
			test, err := phone.Client.TestDevice(t.Context(), &pb.TestDeviceRequest{})
			if err == nil {
				_, err = test.Recv()
			}
			wantOutcome(t, "testing", err, state.test)
			byAdmin, err := system.Admin.TestAccountDevice(t.Context(), &pb.TestAccountDeviceRequest{Device: phone.ID})
			if err == nil {
				_, err = byAdmin.Recv()
			}
			wantOutcome(t, "an administrator's test", err, state.adminTest)
			shown, err := system.Admin.GetSignIn(t.Context(), &pb.GetSignInRequest{Id: signIn.GetId()})
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range shown.GetDeliveries() {
				if d.GetShowTime() != nil {
					t.Error("the report was believed")
				}
			}
			system.Stop() // when it has, nothing is under way
			if len(push.taken) > 0 {
				t.Error("something was pushed")
			}
		})
	}
}

func wantOutcome(t *testing.T, what string, err error, want string) {
	t.Helper()
	if got := outcome(err); got != want {
		t.Errorf("%s = %s (%v), want %s", what, got, err, want)
	}
}

func TestRegistrationsThatCannotBe(t *testing.T) {
	system := countersigntest.New(t, nil)
	system.AddAccount("ada")
	phone := system.EnrollDevice("ada")
	for name, test := range map[string]struct {
		push *pb.PushRegistration
		want string
	}{
		"a service that is not there": {subscription(), "PUSH_NOT_CONFIGURED"},
		"no service":                  {&pb.PushRegistration{}, "INVALID_FIELD"},
		"nothing at all":              {nil, "INVALID_FIELD"},
		"none":                        {&pb.PushRegistration{Service: &pb.PushRegistration_None{}}, "OK"},
	} {
		_, err := phone.Client.UpdateDevice(t.Context(), &pb.UpdateDeviceRequest{Push: test.push})
		wantOutcome(t, name, err, test.want)
	}
}

// TestADenialIsToldAsAnAnswer: also one that beats another device's Allow.
func TestADenialIsToldAsAnAnswer(t *testing.T) {
	system := countersigntest.New(t, nil)
	system.AddAccount("ada")
	phone, mac := system.EnrollDevice("ada"), system.EnrollDevice("ada")
	files := system.AddApplication("files")
	signIn := files.MustBegin("ada")
	denial := mac.MustPrompt(signIn.GetId())
	phone.MustAllow(phone.MustPrompt(signIn.GetId()))
	mac.MustDeny(denial, statement.NotMe)
	shown, err := system.Admin.GetSignIn(t.Context(), &pb.GetSignInRequest{Id: signIn.GetId()})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range shown.GetDeliveries() {
		if d.GetStage() != pb.DeliveryStage_DELIVERY_STAGE_ANSWERED || d.GetAnswerTime() == nil {
			t.Errorf("the delivery = %v, want answered", d)
		}
	}
	if got := shown.GetSignIn().GetDelivery().GetAnswered(); got != 2 {
		t.Errorf("%d devices answered, want 2", got)
	}
}
