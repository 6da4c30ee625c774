package main

import (
	"context"
	"strings"

	"fyne.io/fyne/v2"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/countersignd/countersign/device-agent/desktop/window"
	countersignv1 "github.com/countersignd/countersign/proto/countersign/v1"
)

// recentCount is how many sign-ins are listed.
const recentCount = 20

// listRecent asks for the recent sign-ins and shows them.
func (h *home) listRecent() {
	a := h.d.agent
	if a == nil {
		return
	}
	h.turnTo(func(s *window.Sheet) {
		s.Title("recent.title")
		s.Say("devices.asking")
		s.Buttons(h.back())
	})
	h.d.call(func(ctx context.Context) error {
		signIns, err := a.RecentSignIns(ctx, recentCount)
		if err == nil {
			fyne.Do(func() { h.turnTo(func(s *window.Sheet) { h.recent(s, signIns) }) })
		}
		return err
	})
}

// recent shows sign-ins, the newest first.
func (h *home) recent(s *window.Sheet, signIns []*countersignv1.RecentSignIn) {
	s.Title("recent.title")
	if len(signIns) == 0 {
		s.Say("recent.none")
	} else {
		s.Say("recent.what")
	}
	s.Buttons(h.back())
	for _, r := range signIns {
		s.Rule()
		h.recentSignIn(s, r)
	}
}

func (h *home) recentSignIn(s *window.Sheet, r *countersignv1.RecentSignIn) {
	signIn := r.GetSignIn()
	s.Quiet(local(signIn.GetBeginTime()))
	s.Strong(recentKey(signIn))
	if c := signIn.GetCandidate(); c != nil {
		s.Named("field.new-device", c.GetName(), "")
	} else {
		s.Named("field.application", r.GetApplicationName(), "")
		s.Item("field.device", signIn.GetRequester().GetDevice(), "unknown.device", "")
	}
	s.Item("field.place", signIn.GetRequester().GetPlace(), "unknown.place", "")
	s.Item("field.address", signIn.GetRequester().GetAddress(), "unknown.address", "")
	if by := signIn.GetDecidedBy(); by != "" {
		note := ""
		switch signIn.GetDenyReason() {
		case "mistake":
			note = h.d.messages.Say("reason.mistake")
		case "not_me":
			note = h.d.messages.Say("reason.not-me")
		}
		if by == h.d.state.Device {
			note = strings.TrimPrefix(note+", "+h.d.messages.Say("devices.this"), ", ")
		}
		s.Item("recent.by", nameOf(by, r.GetDeliveries()), "unknown.device", note)
	}
	if signIn.GetSilent() != "" {
		s.Say("recent.silent")
	}
	for i, d := range r.GetDeliveries() {
		label := "recent.reached"
		if i > 0 {
			label = ""
		}
		s.Item(label, d.GetDeviceName(), "unknown.device", h.progress(d))
	}
}

// recentKey says what became of a sign-in.
func recentKey(signIn *countersignv1.SignIn) string {
	state := strings.ToLower(strings.TrimPrefix(signIn.GetState().String(), "SIGN_IN_STATE_"))
	if signIn.GetCandidate() != nil {
		return "recent-trust." + state
	}
	return "recent." + state
}

// nameOf returns a device's name, as far as one of the deliveries has it.
func nameOf(device string, deliveries []*countersignv1.Delivery) string {
	for _, d := range deliveries {
		if d.GetDeviceId() == device {
			return d.GetDeviceName()
		}
	}
	return ""
}

// progress says how far a prompt has come on a device, and when.
func (h *home) progress(d *countersignv1.Delivery) string {
	stage := strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(d.GetStage().String(), "DELIVERY_STAGE_")), "_", "-")
	words := h.d.messages.Say("stage." + stage)
	var at *timestamppb.Timestamp
	switch d.GetStage() {
	case countersignv1.DeliveryStage_DELIVERY_STAGE_PUSH_REFUSED:
		at = d.GetPushFailureTime()
	case countersignv1.DeliveryStage_DELIVERY_STAGE_PUSHED:
		at = d.GetPushTime()
	case countersignv1.DeliveryStage_DELIVERY_STAGE_RECEIVED:
		at = d.GetReceiveTime()
	case countersignv1.DeliveryStage_DELIVERY_STAGE_SHOWN:
		at = d.GetShowTime()
	case countersignv1.DeliveryStage_DELIVERY_STAGE_ANSWERED:
		at = d.GetAnswerTime()
	}
	if at != nil {
		words += ", " + clock(at)
	}
	return words
}
