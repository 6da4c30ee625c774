package main

import (
	"strings"

	"github.com/countersignd/countersign/device-agent/desktop/window"
	countersignv1 "github.com/countersignd/countersign/proto/countersign/v1"
)

// tell shows what happened to the account and was not shown here yet. It is taken for
// shown when the person says that she has read it.
func (h *home) tell() {
	var notices []*countersignv1.Notice
	for _, n := range h.d.desk.Screen().Notices {
		if !h.told[idOf(n)] {
			notices = append(notices, n)
		}
	}
	if len(notices) == 0 || h.telling || h.kept {
		return
	}
	h.telling = true
	h.tellings++
	h.turnTo(func(s *window.Sheet) { h.notices(s, notices) })
	if !h.visible {
		h.visible = true
		h.window.Show()
	}
}

// notices tells them. Only its own buttons leave the sheet.
func (h *home) notices(s *window.Sheet, notices []*countersignv1.Notice) {
	h.kept = true
	s.Title("news.title")
	for i, n := range notices {
		if i > 0 {
			s.Rule()
		}
		h.notice(s, n)
	}
	s.Rule()
	read := window.Button{Label: "news.read", Do: func() {
		h.telling = false
		for _, n := range notices {
			h.told[idOf(n)] = true // until the agent says the same
		}
		if err := h.d.agent.NoticesShown(notices...); err != nil {
			h.leave(func() { h.fail(err) })
			return
		}
		h.leave(func() { h.turnTo(h.status) })
	}}
	devices := read
	devices.Label, devices.Do = "home.devices", func() { read.Do(); h.listDevices() }
	s.Buttons(devices, read)
}

// A noticeID tells notices from each other. The number alone does not, once a server
// was restored from a backup.
type noticeID struct {
	sequence    uint64
	nanoseconds int64
}

func idOf(n *countersignv1.Notice) noticeID {
	return noticeID{n.GetSequence(), n.GetTime().AsTime().UnixNano()}
}

// notice says what one notice tells. Names and details are somebody's words, and stand
// by themselves.
func (h *home) notice(s *window.Sheet, n *countersignv1.Notice) {
	key := "news." + strings.NewReplacer(".", "-", "_", "-").Replace(n.GetEvent())
	if !h.d.messages.Has(key) {
		key = "news.other"
	}
	s.Quiet(local(n.GetTime()))
	s.Strong(key)
	if n.GetDeviceId() != "" {
		note := ""
		if n.GetDeviceId() == h.d.state.Device {
			note = h.d.messages.Say("devices.this")
		}
		s.Named("field.device", n.GetDeviceName(), note)
		s.Words("home.words", n.GetDeviceId())
	}
	by := h.d.messages.Say("news.by-server")
	switch n.GetActorKind() {
	case "device":
		s.Named("news.by", n.GetActorName(), "")
		by = ""
	case "administrator":
		s.Named("news.by-administrator", n.GetActorId(), "")
		by = ""
	case "application":
		s.Named("field.application", n.GetActorId(), "")
		by = ""
	case "recovery":
		by = h.d.messages.Say("news.by-recovery")
	}
	if by != "" {
		s.Field("news.by", by)
	}
	if n.GetAddress() != "" {
		s.Named("field.address", n.GetAddress(), "")
	}
	if n.GetDetail() != "" {
		s.Named("news.detail", n.GetDetail(), "")
	}
}
