package main

import (
	"context"
	"strings"

	"fyne.io/fyne/v2"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/countersignd/countersign/device-agent/desktop/window"
	countersignv1 "github.com/countersignd/countersign/proto/countersign/v1"
)

// listDevices asks for the devices and shows them.
func (h *home) listDevices() {
	a := h.d.agent
	if a == nil {
		return
	}
	h.turnTo(func(s *window.Sheet) {
		s.Title("devices.title")
		s.Say("devices.asking")
		s.Buttons(h.back())
	})
	h.d.call(func(ctx context.Context) error {
		devices, err := a.Devices(ctx)
		if err == nil {
			fyne.Do(func() { h.turnTo(func(s *window.Sheet) { h.devices(s, devices) }) })
		}
		return err
	})
}

func (h *home) back() window.Button {
	return window.Button{Label: "home.back", Do: func() { h.turnTo(h.status) }}
}

// devices shows the devices, those that may approve first.
func (h *home) devices(s *window.Sheet, devices []*countersignv1.Device) {
	self := h.d.state.Device
	s.Title("devices.title")
	s.Say("devices.what")
	s.Buttons(h.back())
	for _, revoked := range []bool{false, true} {
		for _, d := range devices {
			if isRevoked(d) != revoked {
				continue
			}
			s.Rule()
			note := h.d.messages.Say("kind." + kindWord(d))
			if d.GetId() == self {
				note += ", " + h.d.messages.Say("devices.this")
			}
			s.Named("field.device", d.GetName(), note)
			s.Words("home.words", d.GetId())
			s.Field("devices.state", h.d.messages.Say("state."+stateWord(d)))
			s.Field("devices.enrolled", local(d.GetEnrollTime()))
			s.Field("devices.seen", h.seen(d))
			h.reached(s, d)
			s.Field("home.keys", h.d.messages.Say("storage."+storageWord(d)))
			if revoked {
				s.Field("devices.revoked", local(d.GetRevokeTime()))
				continue
			}
			buttons := []window.Button{{Label: "devices.revoke", Do: func() { h.turnTo(func(s *window.Sheet) { h.revoke(s, d) }) }}}
			if d.GetState() == countersignv1.DeviceState_DEVICE_STATE_TRUSTED {
				test := window.Button{Label: "devices.test", Do: func() { h.try(d.GetId(), d.GetName()) }}
				buttons = append([]window.Button{test}, buttons...)
			}
			if d.GetId() == self {
				rename := window.Button{Label: "devices.rename", Do: func() { h.turnTo(h.rename) }}
				buttons = append([]window.Button{rename}, buttons...)
			}
			if d.GetState() == countersignv1.DeviceState_DEVICE_STATE_DORMANT {
				buttons = append(buttons, window.Button{Label: "devices.readmit", Do: func() { h.turnTo(func(s *window.Sheet) { h.readmit(s, d) }) }})
			}
			s.Buttons(buttons...)
		}
	}
}

// revoke asks whether a device is to be revoked.
func (h *home) revoke(s *window.Sheet, d *countersignv1.Device) {
	a := h.d.agent
	s.Title("revoke.title")
	s.Named("field.device", d.GetName(), h.d.messages.Say("kind."+kindWord(d)))
	s.Fingerprint(d.GetId())
	s.Say("revoke.what")
	if d.GetId() == h.d.state.Device {
		s.Strong("revoke.self")
	}
	s.Buttons(
		window.Button{Label: "revoke.keep", Do: h.listDevices},
		window.Button{Label: "revoke.do", Do: func() {
			h.turnTo(func(s *window.Sheet) { s.Title("revoke.title"); s.Say("devices.asking") })
			h.d.call(func(ctx context.Context) error {
				_, err := a.Revoke(ctx, d.GetId(), "")
				if err == nil {
					fyne.Do(h.listDevices)
				}
				return err
			})
		}})
}

// readmit asks whether a device that was not seen for long may count again.
func (h *home) readmit(s *window.Sheet, d *countersignv1.Device) {
	a := h.d.agent
	s.Title("readmit.title")
	s.Named("field.device", d.GetName(), h.d.messages.Say("kind."+kindWord(d)))
	s.Fingerprint(d.GetId())
	s.Strong("readmit.what")
	s.Buttons(
		window.Button{Label: "readmit.no", Do: h.listDevices},
		window.Button{Label: "readmit.do", Do: func() {
			h.turnTo(func(s *window.Sheet) { s.Title("readmit.title"); s.Say("devices.asking") })
			h.d.call(func(ctx context.Context) error {
				_, err := a.Readmit(ctx, d.GetId())
				if err == nil {
					fyne.Do(h.listDevices)
				}
				return err
			})
		}})
}

// rename asks for another name of this device.
func (h *home) rename(s *window.Sheet) {
	a := h.d.agent
	s.Title("rename.title")
	e := s.Entry("rename.label", h.d.state.Name, false)
	do := func() {
		name := strings.TrimSpace(e.Text)
		h.d.call(func(ctx context.Context) error {
			err := a.Rename(ctx, name)
			if err == nil {
				fyne.Do(func() { h.d.state.Name = name; h.listDevices() })
			}
			return err
		})
	}
	e.OnSubmitted = func(string) { do() }
	s.Buttons(window.Button{Label: "revoke.keep", Do: h.listDevices}, window.Button{Label: "rename.do", Do: do})
}

// reached says when a device last had a prompt, and whether it can be woken: what to
// look at when prompts do not come.
func (h *home) reached(s *window.Sheet, d *countersignv1.Device) {
	if isRevoked(d) {
		return
	}
	if at := d.GetLastReachedTime(); at != nil {
		s.Field("devices.reached", local(at))
	} else {
		s.Field("devices.reached", h.d.messages.Say("devices.never"))
	}
	push := d.GetPush()
	switch push.GetService() {
	case countersignv1.PushService_PUSH_SERVICE_APNS:
		s.Field("devices.push", h.d.messages.Say("push.apns"))
	case countersignv1.PushService_PUSH_SERVICE_WEB_PUSH:
		s.Item("devices.push", push.GetHost(), "push.web", h.d.messages.Say("push.web"))
	default:
		s.Field("devices.push", h.d.messages.Say("push.none"))
	}
	if push.GetDead() {
		s.Strong("push.dead")
	}
	if at := push.GetFailureTime(); at != nil {
		s.Item("push.failed", push.GetFailure(), "unknown.why", local(at))
	}
}

func (h *home) seen(d *countersignv1.Device) string {
	switch {
	case d.GetConnected():
		return h.d.messages.Say("devices.connected")
	case d.GetLastSeenTime() == nil:
		return h.d.messages.Say("devices.never")
	}
	return local(d.GetLastSeenTime())
}

func isRevoked(d *countersignv1.Device) bool {
	return d.GetState() == countersignv1.DeviceState_DEVICE_STATE_REVOKED
}

func stateWord(d *countersignv1.Device) string {
	return strings.ToLower(strings.TrimPrefix(d.GetState().String(), "DEVICE_STATE_"))
}

func kindWord(d *countersignv1.Device) string {
	return strings.ToLower(strings.TrimPrefix(d.GetKind().String(), "DEVICE_KIND_"))
}

func storageWord(d *countersignv1.Device) string {
	switch storage := d.GetKeyStorage(); storage {
	case "file", "keyring", "tpm":
		return storage
	}
	return "unknown"
}

func local(t *timestamppb.Timestamp) string {
	if t == nil {
		return "–"
	}
	return t.AsTime().Local().Format("2006-01-02 15:04")
}
