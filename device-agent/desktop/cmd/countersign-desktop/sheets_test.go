package main

import (
	"context"
	"fmt"
	"image"
	"image/color"
	"io/fs"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/test"
	"fyne.io/fyne/v2/theme"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/countersignd/countersign/device-agent/agent"
	"github.com/countersignd/countersign/device-agent/desktop/desk"
	"github.com/countersignd/countersign/device-agent/desktop/keys"
	"github.com/countersignd/countersign/device-agent/desktop/picture"
	"github.com/countersignd/countersign/device-agent/desktop/window"
	"github.com/countersignd/countersign/device-agent/keystore"
	countersignv1 "github.com/countersignd/countersign/proto/countersign/v1"
)

const (
	thisDevice = "mfrggzdfmztwq2lknnwg23tpobyxe43uov3ho6dzpiydcmrtgq2q"
	phone      = "orsxg5bamrsxm2ldmuqg63tfebxwmidunbssa3lbnz4saytpmuqq"
	serverKey  = "nnsxsidpmyqg63tfebxwmidunbssa3lbnz4sa43fojxgk4ttebuq"
)

// noon is when everything on the sheets was.
var noon = time.Unix(1_800_014_400, 0)

func at(minutes time.Duration) *timestamppb.Timestamp {
	return timestamppb.New(noon.Add(minutes * time.Minute))
}

// longName is as long and wide as a name may be.
var longName = strings.Repeat("W", 64)

func devicesOfAda() []*countersignv1.Device {
	return []*countersignv1.Device{
		{
			Id: phone, Name: "Ada's phone", Kind: countersignv1.DeviceKind_DEVICE_KIND_PHONE, State: countersignv1.DeviceState_DEVICE_STATE_TRUSTED,
			EnrollTime: at(-90), LastSeenTime: at(-3000), LastReachedTime: at(-3001), KeyStorage: "hardware",
			Push: &countersignv1.PushStatus{
				Service: countersignv1.PushService_PUSH_SERVICE_WEB_PUSH, Host: "push.example", RegisterTime: at(-80),
				FailureTime: at(-5), Failure: "410 Gone: unsubscribed", Dead: true,
			},
		},
		{
			Id: thisDevice, Name: "Ada's desktop", Kind: countersignv1.DeviceKind_DEVICE_KIND_DESKTOP, State: countersignv1.DeviceState_DEVICE_STATE_TRUSTED,
			EnrollTime: at(-60), LastSeenTime: at(0), Connected: true, LastReachedTime: at(-2), KeyStorage: "tpm",
		},
		{
			Id: serverKey, Name: longName, Kind: countersignv1.DeviceKind_DEVICE_KIND_TABLET, State: countersignv1.DeviceState_DEVICE_STATE_DORMANT,
			EnrollTime: at(-200_000), LastSeenTime: at(-150_000), KeyStorage: "file",
		},
		{
			Id: strings.Repeat("a", 52), Name: "An old laptop", Kind: countersignv1.DeviceKind_DEVICE_KIND_DESKTOP, State: countersignv1.DeviceState_DEVICE_STATE_REVOKED,
			EnrollTime: at(-9000), RevokeTime: at(-8000),
		},
	}
}

func recentOfAda() []*countersignv1.RecentSignIn {
	on := func(id, name string, stage countersignv1.DeliveryStage) *countersignv1.Delivery {
		return &countersignv1.Delivery{DeviceId: id, DeviceName: name, Stage: stage, ReceiveTime: at(-1), ShowTime: at(-1), AnswerTime: at(0), PushTime: at(-1)}
	}
	return []*countersignv1.RecentSignIn{
		{
			ApplicationName: "Files", SignIn: &countersignv1.SignIn{
				State: countersignv1.SignInState_SIGN_IN_STATE_VERIFIED, BeginTime: at(-1), DecidedBy: thisDevice,
				Requester: &countersignv1.Requester{Device: "MacBook Air", Place: "Lisbon, Portugal", Address: "203.0.113.7"},
			},
			Deliveries: []*countersignv1.Delivery{
				on(thisDevice, "Ada's desktop", countersignv1.DeliveryStage_DELIVERY_STAGE_ANSWERED),
				on(phone, "Ada's phone", countersignv1.DeliveryStage_DELIVERY_STAGE_PUSHED),
			},
		},
		{
			ApplicationName: "Mail", SignIn: &countersignv1.SignIn{
				State: countersignv1.SignInState_SIGN_IN_STATE_DENIED, BeginTime: at(-30), DecidedBy: phone, DenyReason: "not_me", Silent: "gap",
				Requester: &countersignv1.Requester{Device: longName},
			},
			Deliveries: []*countersignv1.Delivery{
				{DeviceId: thisDevice, DeviceName: "Ada's desktop", Stage: countersignv1.DeliveryStage_DELIVERY_STAGE_NOT_CONNECTED},
				on(phone, "Ada's phone", countersignv1.DeliveryStage_DELIVERY_STAGE_ANSWERED),
			},
		},
		{SignIn: &countersignv1.SignIn{
			State: countersignv1.SignInState_SIGN_IN_STATE_VERIFIED, BeginTime: at(-60),
			Candidate: &countersignv1.Candidate{Name: "Ada's desktop"}, Requester: &countersignv1.Requester{Address: "203.0.113.7"},
		}},
	}
}

// sheets are what is drawn, by name. Words in the name after a comma say how.
var sheets = map[string]func(*home, *window.Sheet){
	"status":       connected,
	"status, dark": connected,
	"status, he":   connected,
	"status-away, de": func(h *home, s *window.Sheet) {
		_, err := agent.ServerKey(context.Background(), "127.0.0.1:1") // nothing listens there
		h.d.notesErr = context.Canceled
		h.d.desk.Show(agent.Screen{Why: agent.Why{Away: err}}, noon)
		h.status(s)
	},
	"first":     (*home).first,
	"first, he": (*home).first,
	"invitation": func(h *home, s *window.Sheet) {
		h.d.dir = filepath.Join(h.d.dir, "none") // without keys
		h.place = &place{whyNot: []keys.Unusable{{Storage: keystore.InTPM, Err: fs.ErrPermission}, {Storage: keystore.InKeyring}}}
		h.invitation("", nil)(s)
	},
	"invitation-wrong, de, dark": func(h *home, s *window.Sheet) {
		h.d.dir = filepath.Join(h.d.dir, "none") // without keys
		h.place = &place{vault: keys.Keyring{}, whyNot: []keys.Unusable{{Storage: keystore.InTPM}}}
		h.invitation("https://example.com/", h.said("typed.invitation"))(s)
	},
	"compare":    func(h *home, s *window.Sheet) { h.compare(byDevice, agent.Asking{}, serverKey)(s) },
	"passphrase": func(h *home, s *window.Sheet) { h.passphrase(s, keystore.ErrWrongPassphrase) },
	"recovery-codes": func(h *home, s *window.Sheet) {
		codes := make([]string, 10)
		for i := range codes {
			codes[i] = "ABCD-EFGH-JKMN-PQR" + string(rune('0'+i))
		}
		h.recoveryCodes(h.d.state, codes, nil)(s)
	},
	"renew":       (*home).renew,
	"devices":     func(h *home, s *window.Sheet) { h.devices(s, devicesOfAda()) },
	"devices, he": func(h *home, s *window.Sheet) { h.devices(s, devicesOfAda()[:2]) },
	"revoke":      func(h *home, s *window.Sheet) { h.revoke(s, devicesOfAda()[1]) },
	"notices": func(h *home, s *window.Sheet) {
		h.notices(s, []*countersignv1.Notice{
			{Event: "device.enrolled", Time: at(-5), DeviceId: phone, DeviceName: "Ada's phone", ActorKind: "administrator", ActorId: "uid 0 (root)"},
			{Event: "account.codes_closed", Time: at(-1), Address: "203.0.113.7"},
		})
	},
	"recent":           func(h *home, s *window.Sheet) { h.recent(s, recentOfAda()) },
	"recent, dark, de": func(h *home, s *window.Sheet) { h.recent(s, recentOfAda()[:1]) },
	"recent, he":       func(h *home, s *window.Sheet) { h.recent(s, recentOfAda()[:2]) },
	"test-steps": func(h *home, s *window.Sheet) {
		h.trial(s, &trial{name: "Ada's desktop", over: true, test: &countersignv1.DeviceTest{
			CreateTime: at(0), Connected: true, Delivery: &countersignv1.Delivery{ReceiveTime: at(0), ShowTime: at(0), AnswerTime: at(1)},
		}})
	},
	"test-steps-never, de": func(h *home, s *window.Sheet) {
		h.trial(s, &trial{name: "Ada's phone", over: true, test: &countersignv1.DeviceTest{
			CreateTime: at(0), Delivery: &countersignv1.Delivery{PushFailureTime: at(0), PushFailure: "410 Gone\u202e"},
		}})
	},
	"failed": func(h *home, s *window.Sheet) { h.failed(s, fmt.Errorf("writing the counter: %w", syscall.ENOSPC)) },
}

func connected(h *home, s *window.Sheet) {
	h.d.desk.Show(agent.Screen{Connected: true}, noon)
	h.status(s)
}

// TestSheets compares the sheets with golden pictures of their full length.
func TestSheets(t *testing.T) {
	for name, draw := range sheets {
		words := strings.Split(name, ", ")
		t.Run(strings.Join(words, "-"), func(t *testing.T) {
			variant, language := theme.VariantLight, "en"
			for _, w := range words[1:] {
				if w == "dark" {
					variant = theme.VariantDark
				} else {
					language = w
				}
			}
			picture.Compare(t, strings.Join(words, "-"), drawSheet(t, language, variant, draw))
		})
	}
}

// drawSheet draws a sheet of a device that is enrolled, and connected to no server.
func drawSheet(t *testing.T, language string, variant fyne.ThemeVariant, draw func(*home, *window.Sheet)) image.Image {
	t.Helper()
	app := test.NewTempApp(t)
	app.Settings().SetTheme(fixedTheme{window.NewTheme(), variant})
	dir := filepath.Join(t.TempDir(), "device")
	if _, err := keystore.Create(dir, ""); err != nil {
		t.Fatal(err)
	}
	d := &desktopAgent{
		app: app, desk: desk.New(), dir: dir, host: "Ada's desktop", messages: window.LoadMessages(language), agent: new(agent.Agent),
		state: agent.State{Account: "ada", Device: thisDevice, Name: "Ada's desktop", Server: "countersign.example:8443", Pin: serverKey},
	}
	d.home = &home{d: d, told: make(map[noticeID]bool)}
	s := window.NewSheet(d.messages, window.PaletteOf(variant))
	draw(d.home, s)
	w := test.NewTempWindow(t, s.Paper())
	w.SetPadded(false)
	w.Resize(w.Content().MinSize())
	return w.Canvas().Capture()
}

// A fixedTheme is light or dark, whatever the machine is.
type fixedTheme struct {
	window.Theme
	variant fyne.ThemeVariant
}

func (f fixedTheme) Color(name fyne.ThemeColorName, _ fyne.ThemeVariant) color.Color {
	return f.Theme.Color(name, f.variant)
}
