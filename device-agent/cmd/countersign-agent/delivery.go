package main

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/countersignd/countersign/internal/text"
	countersignv1 "github.com/countersignd/countersign/proto/countersign/v1"
)

// This file has the words for how far prompts come, and how devices are woken.
// Why a push was refused is told by the server, which has it from a push service
// that a device chose: it is somebody else's words.

// pushJSON is how a device is woken.
type pushJSON struct {
	Service    string `json:"service"`
	Host       string `json:"host"`
	Registered int64  `json:"registered"`
	Accepted   int64  `json:"accepted"`
	Failed     int64  `json:"failed"`
	Failure    string `json:"failure"`
	Dead       bool   `json:"dead"`
}

const pushHelp = `"push" is how a device is woken: {"service" ("none", "apns" or "web_push"), "host" (of the Web Push service), "registered", "accepted" (when the service last took a wake-up), "failed" (when it last refused one, if it took none since), "failure" (why), "dead" (the service says that the registration is no more)}`

func newPushJSON(p *countersignv1.PushStatus) pushJSON {
	return pushJSON{
		Service: serviceWord(p.GetService()), Host: p.GetHost(),
		Registered: unix(p.GetRegisterTime()), Accepted: unix(p.GetAcceptTime()),
		Failed: unix(p.GetFailureTime()), Failure: p.GetFailure(), Dead: p.GetDead(),
	}
}

func serviceWord(s countersignv1.PushService) string {
	switch s {
	case countersignv1.PushService_PUSH_SERVICE_APNS:
		return "apns"
	case countersignv1.PushService_PUSH_SERVICE_WEB_PUSH:
		return "web_push"
	}
	return "none"
}

// serviceName names how a device is woken, for people.
func serviceName(p *countersignv1.PushStatus) string {
	switch p.GetService() {
	case countersignv1.PushService_PUSH_SERVICE_UNSPECIFIED:
		return "nothing"
	case countersignv1.PushService_PUSH_SERVICE_APNS:
		return "Apple's push service"
	case countersignv1.PushService_PUSH_SERVICE_WEB_PUSH:
		if p.GetHost() != "" {
			return "Web Push at " + text.Isolate(p.GetHost())
		}
		return "Web Push"
	}
	return "a service that this version does not know"
}

// wokenLine says how a device is woken, and whether that works.
func wokenLine(p *countersignv1.PushStatus) string {
	name := serviceName(p)
	because := ""
	if p.GetFailure() != "" {
		because = ": " + text.Isolate(p.GetFailure())
	}
	switch {
	case p.GetService() == countersignv1.PushService_PUSH_SERVICE_UNSPECIFIED:
		return "nothing: it is asked only while it is connected"
	case p.GetDead():
		return "nothing any more: " + name + " says that the registration is gone" + because + ". The device must register again"
	case p.GetFailureTime() != nil:
		return name + ", which does not work: refused " + local(p.GetFailureTime()) + because
	case p.GetAcceptTime() != nil:
		return name + ", which last took a wake-up " + local(p.GetAcceptTime())
	}
	return name + ", registered " + local(p.GetRegisterTime()) + ", not used yet"
}

// reachedLine says when a device last had a prompt. The server knows it from the
// device's reports, which old devices do not make.
func reachedLine(d *countersignv1.Device) string {
	if d.GetLastReachedTime() == nil {
		return "never, as far as is known"
	}
	return local(d.GetLastReachedTime())
}

// A step is one thing that became of a prompt on a device.
type step struct {
	id   string // that tells it from the others
	time *timestamppb.Timestamp
	text string
}

// stepsOf returns what is known of a prompt on one device, in the order in which
// things happen. A refused push is listed when it was refused, even if the
// prompt came by itself afterwards.
func stepsOf(d *countersignv1.Delivery) []step {
	var steps []step
	add := func(id string, t *timestamppb.Timestamp, text string) {
		if t != nil {
			steps = append(steps, step{id, t, text})
		}
	}
	refused := "The push was not taken"
	if d.GetPushFailure() != "" {
		refused += ": " + text.Isolate(d.GetPushFailure())
	}
	add("push_failed "+d.GetPushFailureTime().String(), d.GetPushFailureTime(), refused+".")
	add("pushed", d.GetPushTime(), "The push service took the push. Whether that arrives is not known yet.")
	add("received", d.GetReceiveTime(), "The device has it.")
	add("shown", d.GetShowTime(), "The device shows it.")
	add("answered", d.GetAnswerTime(), "The person put it away.")
	return steps
}

// stageLine says in a few words how far a sign-in came on a device.
func stageLine(d *countersignv1.Delivery) string {
	switch d.GetStage() {
	case countersignv1.DeliveryStage_DELIVERY_STAGE_NOT_CONNECTED:
		return "not connected, and nothing was pushed"
	case countersignv1.DeliveryStage_DELIVERY_STAGE_PUSH_REFUSED:
		if d.GetPushFailure() != "" {
			return "not connected, and the push was refused: " + text.Isolate(d.GetPushFailure())
		}
		return "not connected, and the push was refused"
	case countersignv1.DeliveryStage_DELIVERY_STAGE_PUSHED:
		return "pushed " + clock(d.GetPushTime()) + "; nothing was heard of it yet"
	case countersignv1.DeliveryStage_DELIVERY_STAGE_CONNECTED:
		return "sent on its open stream; nothing was heard of it yet"
	case countersignv1.DeliveryStage_DELIVERY_STAGE_RECEIVED:
		return "received " + clock(d.GetReceiveTime()) + ", and not shown"
	case countersignv1.DeliveryStage_DELIVERY_STAGE_SHOWN:
		return "shown " + clock(d.GetShowTime())
	case countersignv1.DeliveryStage_DELIVERY_STAGE_ANSWERED:
		return "answered " + clock(d.GetAnswerTime())
	}
	return "unknown"
}

// clock returns the time of day.
func clock(t *timestamppb.Timestamp) string {
	if t == nil {
		return "at an unknown time"
	}
	return t.AsTime().Local().Format(time.TimeOnly)
}

// An asking is what an application is told of how far its sign-in has come. It
// says something only when it came further.
type asking struct{ said int }

// line returns what is new, or "". A server from before there were counts says
// nothing of them, and so is nothing said.
func (a *asking) line(s *countersignv1.SignIn) string {
	counts := s.GetDelivery()
	if counts == nil {
		return ""
	}
	rank, words := 0, ""
	switch {
	case counts.GetShown() > 0:
		rank, words = 3000+int(counts.GetShown()), "shown on "+devices(counts.GetShown())
	case counts.GetReceived() > 0:
		rank, words = 2000+int(counts.GetReceived()), devices(counts.GetReceived())+have(counts.GetReceived())+" it"
	case s.GetConnectedDevices() > 0:
	case counts.GetPushed() > 0:
		rank, words = 1002, "no device has it yet: none is connected. "+devices(counts.GetPushed())+" will be woken, if the push service does its part. "+orCode
	case counts.GetPushRefused() > 0:
		rank, words = 1001, "no device has it yet: none is connected, and no push service wakes one. "+orCode
	default:
		rank, words = 1000, "no device has it yet: none is connected. "+orCode
	}
	if rank <= a.said {
		return ""
	}
	a.said = rank
	return words
}

// orCode says what to do when no device has a request.
const orCode = "Open the agent on a trusted device, or get a verification code there:  " + program + " code"

func devices(n int32) string {
	if n == 1 {
		return "1 device"
	}
	return fmt.Sprintf("%d devices", n)
}

func have(n int32) string {
	if n == 1 {
		return " has"
	}
	return " have"
}
