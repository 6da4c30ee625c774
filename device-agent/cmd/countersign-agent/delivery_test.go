package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/countersignd/countersign/internal/code"
	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

// S10: each step of a test prompt is told as it happens.
func TestTestThisDevice(t *testing.T) {
	f := newFake(t)
	dir := enrolled(t, f)
	device := begin(t, []string{"--dir", dir, "run"})
	device.waitFor("connected")
	test := begin(t, []string{"--dir", dir, "test"})
	test.waitFor("It is connected.")
	if out := device.waitFor("Put it away with Enter."); !strings.Contains(out, "This is a test prompt") || !strings.Contains(out, "asked for by: this device") || strings.Contains(out, "Answer with") {
		t.Errorf("run printed:\n%s", out)
	}
	test.waitFor("The device shows it.")
	device.line("")
	device.waitFor("test prompt put away")
	out := test.exits(0)
	for _, want := range []string{"A test prompt is sent to", "The device has it.\n", "The person put it away.\n", ", and somebody saw it.\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("test printed, want %q in it:\n%s", want, out)
		}
	}
	if out := call(t, 0, "--dir", dir, "devices"); strings.Contains(out, "never, as far as is known") || !strings.Contains(out, "woken by     nothing: it is asked only while it is connected") {
		t.Errorf("devices printed:\n%s", out)
	}
}

// A test that does not arrive fails and says why, as far as that is known.
func TestTestThatDoesNotArrive(t *testing.T) {
	f := newFake(t)
	dir := enrolled(t, f)
	f.change(func() {
		f.delivery.lifetime = 50 * time.Millisecond
		f.others = []*pb.Device{
			{Id: strings.Repeat("a", 52), Name: "Phone", State: pb.DeviceState_DEVICE_STATE_TRUSTED, LastSeenTime: timestamppb.New(start)},
			{Id: strings.Repeat("b", 52), Name: "Watch", State: pb.DeviceState_DEVICE_STATE_REVOKED},
		}
	})
	if out := call(t, exitError, "--dir", dir, "test"); !strings.Contains(out, "the agent of this device is not running. Start it with") {
		t.Errorf("test printed:\n%s", out)
	}
	if out := call(t, exitError, "--dir", dir, "test", "Phone"); !strings.Contains(out, "it was last seen 20") {
		t.Errorf("test Phone printed:\n%s", out)
	}
	if out := call(t, exitError, "--dir", dir, "test", "Watch"); !strings.Contains(out, "is revoked, so nothing is sent to it") || strings.Contains(out, "enrol this machine") {
		t.Errorf("test Watch printed:\n%s", out)
	}
	call(t, exitError, "--dir", dir, "test", "Tablet")
	p := begin(t, []string{"--dir", dir, "test", "aaaa", "--json"})
	out := p.exits(exitError)
	var j testJSON
	if err := json.Unmarshal([]byte(out[:strings.Index(out, "\n")]), &j); err != nil || j.Delivery.Received != 0 || j.Created == 0 || j.Device != strings.Repeat("a", 52) {
		t.Errorf("test --json printed %v:\n%s", err, out)
	}
}

// Each way that a test can go wrong has words of its own.
func TestWhyATestDidNotArrive(t *testing.T) {
	at := timestamppb.New(start)
	push := &pb.PushStatus{Service: pb.PushService_PUSH_SERVICE_APNS}
	for _, test := range []struct {
		connected bool
		push      *pb.PushStatus
		delivery  *pb.Delivery
		want      string
	}{
		{false, push, &pb.Delivery{PushTime: at}, "the push service took the push, but the device did not connect afterwards"},
		{true, push, &pb.Delivery{}, "it is connected, but its agent does not say what it shows"},
		{false, push, &pb.Delivery{Stage: pb.DeliveryStage_DELIVERY_STAGE_CONNECTED}, "it is connected, but"},
		{false, push, &pb.Delivery{PushFailureTime: at, PushFailure: "410 Gone"}, "was not taken: \u2068“410 Gone”\u2069"},
		{false, push, &pb.Delivery{PushFailureTime: at}, "it was never seen, and the push was not taken"},
		{false, push, &pb.Delivery{}, "no push was tried"},
		{false, nil, &pb.Delivery{}, "nothing wakes it"},
		{false, &pb.PushStatus{Service: pb.PushService_PUSH_SERVICE_APNS, Dead: true, Failure: "410 Gone"}, &pb.Delivery{PushFailureTime: at}, "nothing wakes it any more: \u2068“410 Gone”\u2069. Open its agent there"},
	} {
		tt := &tester{asJSON: true, env: &environment{out: io.Discard}, device: &pb.Device{Id: "x", Push: test.push}}
		tt.step(&pb.DeviceTest{Connected: test.connected, Delivery: test.delivery, CreateTime: at, ExpireTime: at})
		if got := tt.why(); !strings.Contains(got, test.want) {
			t.Errorf("why(%v) = %q, want %q in it", test.delivery, got, test.want)
		}
	}
}

// A new test takes the place of the one before, which says so.
func TestTestThatIsReplaced(t *testing.T) {
	f := newFake(t)
	dir := enrolled(t, f)
	first := begin(t, []string{"--dir", dir, "test"})
	first.waitFor("It is not connected")
	second := begin(t, []string{"--dir", dir, "test"})
	if out := first.exits(exitError); !strings.Contains(out, "another test took its place") {
		t.Errorf("test printed:\n%s", out)
	}
	second.stop()
	second.exits(exitError)
}

// Who stops a test is not told that the network broke.
func TestTestThatIsStopped(t *testing.T) {
	f := newFake(t)
	dir := enrolled(t, f)
	device := begin(t, []string{"--dir", dir, "run"})
	device.waitFor("connected")
	test := begin(t, []string{"--dir", dir, "test"})
	test.waitFor("The device shows it.")
	test.stop()
	if out := test.exits(0); !strings.Contains(out, "No more is known of it: this was stopped.\n") {
		t.Errorf("test printed:\n%s", out)
	}
}

// A test prompt uses up no line that a script has written for a request.
func TestTestPromptTakesNoScriptsLine(t *testing.T) {
	f := newFake(t)
	dir := enrolled(t, f)
	device := begin(t, []string{"--dir", dir, "run", "--once"})
	device.waitFor("connected")
	begin(t, []string{"--dir", dir, "test"})
	device.waitFor("Put it away with Enter.")
	device.line("a") // long before it is asked
	credentialsFile, _ := f.files()
	app := begin(t, []string{"sign-in", "ada", "--credentials", credentialsFile})
	device.waitFor("code: ")
	app.line(code.Group(f.code))
	app.exits(0)
	if out := device.exits(0); strings.Contains(out, "ignored") {
		t.Errorf("run printed:\n%s", out)
	}
}

// S3: the requesting side sees how far its request came, in few lines.
func TestSignInTellsDelivery(t *testing.T) {
	f := newFake(t)
	dir := enrolled(t, f)
	credentialsFile, _ := f.files()
	app := begin(t, []string{"sign-in", "ada", "--credentials", credentialsFile})
	app.waitFor("no device has it yet: none is connected. Open the agent on a trusted device, or get a verification code there:  countersign-agent code")
	device := begin(t, []string{"--dir", dir, "run", "--once"})
	device.waitFor("Answer with")
	app.waitFor("shown on 1 device")
	f.change(func() { f.delivery.rings = 2 })
	device.waitFor("asked again: sign-in of ada")
	device.line("d")
	device.line("")
	device.exits(0)
	out := app.exits(exitDenied)
	if strings.Count(out, "no device has it yet") != 1 || strings.Count(out, "shown on") != 1 || strings.Count(out, "has it\n") > 1 {
		t.Errorf("sign-in printed:\n%s", out)
	}
}

// What is told of delivery only ever goes on, and is nothing where the server
// knows nothing.
func TestAsking(t *testing.T) {
	var a asking
	for i, step := range []struct {
		connected int32
		counts    *pb.DeliveryCounts
		want      string
	}{
		{0, nil, ""},
		{1, &pb.DeliveryCounts{}, ""},
		{0, &pb.DeliveryCounts{}, "no device has it yet: none is connected. Open"},
		{0, &pb.DeliveryCounts{}, ""},
		{0, &pb.DeliveryCounts{PushRefused: 1}, "no push service wakes one"},
		{0, &pb.DeliveryCounts{Pushed: 2, PushRefused: 1}, "being woken through a push service"},
		{1, &pb.DeliveryCounts{Pushed: 2, Received: 1}, "1 device has it"},
		{2, &pb.DeliveryCounts{Pushed: 2, Received: 2}, "2 devices have it"},
		{2, &pb.DeliveryCounts{Received: 2, Shown: 1}, "shown on 1 device"},
		{2, &pb.DeliveryCounts{Received: 3, Shown: 1}, ""},
		{0, &pb.DeliveryCounts{}, ""},
	} {
		got := a.line(&pb.SignIn{ConnectedDevices: step.connected, Delivery: step.counts})
		if step.want == "" && got != "" || !strings.Contains(got, step.want) {
			t.Errorf("step %d: %q, want %q", i, got, step.want)
		}
	}
}

func TestPush(t *testing.T) {
	f := newFake(t)
	dir := enrolled(t, f)
	point, auth := elementOf(t), base64.RawURLEncoding.EncodeToString(make([]byte, 16))
	register := []string{"--dir", dir, "push", "register", "--endpoint", "https://push.example.org/s3cret", "--p256dh", point, "--auth", auth}
	for _, args := range [][]string{{"--dir", dir, "push", "key"}, register} {
		if out := call(t, exitError, args...); !strings.Contains(out, "this server does not wake devices through Web Push: its operator can configure that") {
			t.Errorf("%v printed:\n%s", args, out)
		}
	}
	f.change(func() { f.delivery.key = bytes.Repeat([]byte{4}, 65) })
	if out := call(t, 0, "--dir", dir, "push", "key"); out != base64.RawURLEncoding.EncodeToString(f.delivery.key)+"\n" {
		t.Errorf("push key printed %q", out)
	}
	if out := call(t, 0, register...); !strings.Contains(out, "woken through Web Push at \u2068“push.example.org”\u2069") || strings.Contains(out, "s3cret") {
		t.Errorf("push register printed:\n%s", out)
	}
	if out := call(t, 0, "--dir", dir, "status"); !strings.Contains(out, "registered 20") || strings.Contains(out, "s3cret") {
		t.Errorf("status printed:\n%s", out)
	}
	for _, bad := range [][2]string{{"http://push.example.org/x", auth}, {"https://push.example.org/x", auth[:8]}, {"https://push.example.org/x", "%"}} {
		if out := call(t, exitError, "--dir", dir, "push", "register", "--endpoint", bad[0], "--p256dh", point+"=", "--auth", bad[1]); strings.Contains(out, "Refused") {
			t.Errorf("%v was sent:\n%s", bad, out)
		}
	}
	if out := call(t, 0, "--dir", dir, "push", "remove"); !strings.Contains(out, "woken by nothing any more") {
		t.Errorf("push remove printed:\n%s", out)
	}
}

// S10: what is wrong with waking a device is said in plain words.
func TestWokenLine(t *testing.T) {
	at := timestamppb.New(start)
	moment := local(at)
	for want, p := range map[string]*pb.PushStatus{
		"nothing: it is asked only while it is connected":                                                                 nil,
		"Apple's push service, registered " + moment + ", not used yet":                                                   {Service: pb.PushService_PUSH_SERVICE_APNS, RegisterTime: at},
		"Apple's push service, which last took a wake-up " + moment:                                                       {Service: pb.PushService_PUSH_SERVICE_APNS, RegisterTime: at, AcceptTime: at},
		"Web Push at “x.org”, which does not work: refused " + moment + ": “busy”":                                        {Service: pb.PushService_PUSH_SERVICE_WEB_PUSH, Host: "x.org", AcceptTime: at, FailureTime: at, Failure: "busy"},
		"nothing any more: Web Push at “x.org” says that the registration is gone: “410”. The device must register again": {Service: pb.PushService_PUSH_SERVICE_WEB_PUSH, Host: "x.org", FailureTime: at, Failure: "410", Dead: true},
	} {
		if got := strings.NewReplacer("\u2068", "", "\u2069", "").Replace(wokenLine(p)); got != want {
			t.Errorf("wokenLine = %q, want %q", got, want)
		}
	}
}

func TestSignIns(t *testing.T) {
	f := newFake(t)
	dir := enrolled(t, f)
	if out := call(t, 0, "--dir", dir, "sign-ins"); !strings.Contains(out, "Nobody wanted to sign in") {
		t.Errorf("sign-ins printed:\n%s", out)
	}
	at := timestamppb.New(start)
	phone := strings.Repeat("a", 52)
	f.change(func() {
		f.delivery.recent = []*pb.RecentSignIn{
			{
				SignIn: &pb.SignIn{Id: id(2), Account: "ada", Application: "files", State: pb.SignInState_SIGN_IN_STATE_VERIFIED, BeginTime: at, EndTime: at, DecidedBy: f.device.Id,
					Requester: &pb.Requester{Device: "MacBook Air", Program: "Firefox", Address: "192.0.2.7"}},
				ApplicationName: "Files",
				Deliveries: []*pb.Delivery{
					{DeviceId: f.device.Id, DeviceName: "Ada's iMac", Stage: pb.DeliveryStage_DELIVERY_STAGE_ANSWERED, AnswerTime: at},
					{DeviceId: phone, DeviceName: "Phone", Stage: pb.DeliveryStage_DELIVERY_STAGE_PUSH_REFUSED, PushFailure: "410 Gone", PushFailureTime: at},
				},
			},
			{SignIn: &pb.SignIn{Id: id(1), Account: "ada", State: pb.SignInState_SIGN_IN_STATE_DENIED, BeginTime: at, EndTime: at, DecidedBy: phone, DenyReason: "not_me",
				Candidate: &pb.Candidate{DeviceId: strings.Repeat("c", 52), Name: "Tablet", Kind: "tablet"}, Silent: "gap"}},
		}
	})
	isolates := strings.NewReplacer("\u2068", "", "\u2069", "")
	moment, clock := local(at), start.Local().Format("15:04:05")
	want := moment + `  a sign-in to “Files”
    outcome      let in ` + clock + `, allowed on this device
    device       “MacBook Air”
    program      “Firefox”
    place        unknown
    address      “192.0.2.7”
    arrived      this device: answered ` + clock + `
                 “Phone”: not connected, and the push was refused: “410 Gone”

` + moment + `  a device that wanted to be trusted: “Tablet” (tablet)
    outcome      denied on the device babab-babab-babab-babab ` + clock + `, because it was not you
    address      unknown
    did not ring the devices rang a moment ago for a request that came to nothing
`
	if out := isolates.Replace(call(t, 0, "--dir", dir, "sign-ins")); out != want {
		t.Errorf("sign-ins printed:\n%s\nwant:\n%s", out, want)
	}
	if out := call(t, 0, "--dir", dir, "sign-ins", "--limit", "1", "--json"); strings.Count(out, `"state":`) != 1 || !strings.Contains(out, `"stage":"push_refused"`) {
		t.Errorf("sign-ins --json printed:\n%s", out)
	}
	call(t, exitUsage, "--dir", dir, "sign-ins", "--limit", "0")
}

// elementOf returns a P-256 point as subscriptions have it.
func elementOf(t *testing.T) string {
	t.Helper()
	key, _ := newKey(t)
	point, err := key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(point)
}
