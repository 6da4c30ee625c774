package main

import (
	"fyne.io/fyne/v2"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/countersignd/countersign/device-agent/desktop/window"
	countersignv1 "github.com/countersignd/countersign/proto/countersign/v1"
)

// A trial is a test prompt that was asked for here, and what became of it.
type trial struct {
	name  string                    // the device's
	test  *countersignv1.DeviceTest // nil until the server has said something
	over  bool
	err   error // why no more is known of it
	turns int   // of the home, while the sheet with it is up
}

// try sends a test prompt to a device of the account and shows each step it takes.
func (h *home) try(device, name string) {
	a := h.d.agent
	if a == nil {
		return
	}
	t := &trial{name: name}
	h.turnTo(func(s *window.Sheet) { h.trial(s, t) })
	t.turns = h.turns
	h.open("")
	h.d.aside(func() {
		err := a.TestDevice(h.d.ctx, device, func(test *countersignv1.DeviceTest) {
			fyne.Do(func() { t.test = test; h.tried(t) })
		})
		if h.d.ctx.Err() == nil {
			fyne.Do(func() { t.over, t.err = true, err; h.tried(t) })
		}
	})
}

// tryThis sends a test prompt to this device.
func (h *home) tryThis() { h.try(h.d.state.Device, h.d.state.Name) }

// tried shows what is new of a trial, if its sheet is still up.
func (h *home) tried(t *trial) {
	if h.turns == t.turns {
		h.draw()
	}
}

// trial shows the steps of a test prompt with their times.
func (h *home) trial(s *window.Sheet, t *trial) {
	say := h.d.messages.Say
	s.Title("trial.title")
	s.Say("trial.what")
	s.Named("field.device", t.name, "")
	if t.test == nil && t.err == nil {
		s.Say("devices.asking")
	}
	step := func(label string, at *timestamppb.Timestamp) {
		if at != nil {
			s.Field(label, clock(at))
		}
	}
	d := t.test.GetDelivery()
	step("trial.asked", t.test.GetCreateTime())
	if t.test != nil && !t.test.GetConnected() {
		s.Field("trial.connection", say("trial.not-connected"))
	} else if t.test != nil {
		s.Field("trial.connection", say("devices.connected"))
	}
	step("trial.pushed", d.GetPushTime())
	if at := d.GetPushFailureTime(); at != nil {
		s.Item("trial.refused", d.GetPushFailure(), "unknown.why", clock(at))
	}
	step("trial.received", d.GetReceiveTime())
	step("trial.shown", d.GetShowTime())
	step("trial.answered", d.GetAnswerTime())
	switch {
	case t.err != nil:
		s.Strong("trial.broken")
		h.trouble(s, t.err)
	case t.over && d.GetAnswerTime() != nil:
		s.Strong("trial.done")
	case t.over && d.GetShowTime() != nil:
		s.Strong("trial.shown-only")
	case t.over && d.GetReceiveTime() != nil:
		s.Strong("trial.received-only")
	case t.over:
		s.Strong("trial.never")
	case t.test != nil:
		s.Say("trial.waiting")
	}
	s.Buttons(h.back(), window.Button{Label: "home.devices", Do: h.listDevices})
}

// clock is a time of a day that is known, to the second.
func clock(t *timestamppb.Timestamp) string { return t.AsTime().Local().Format("15:04:05") }
