package main

import (
	"fmt"

	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

type pushJSON struct {
	Service    string `json:"service"`
	Host       string `json:"host,omitempty"`
	Registered int64  `json:"registered"`
	Accepted   int64  `json:"accepted,omitempty"`
	Failed     int64  `json:"failed,omitempty"`
	Failure    string `json:"failure,omitempty"`
	Dead       bool   `json:"dead"`
}

// pushObject returns how a device is woken, or nil if it registered nothing.
func pushObject(p *pb.PushStatus) *pushJSON {
	if p.GetService() == pb.PushService_PUSH_SERVICE_UNSPECIFIED {
		return nil
	}
	return &pushJSON{
		Service:    enumWord(p.GetService(), "PUSH_SERVICE_"),
		Host:       p.GetHost(),
		Registered: unix(p.GetRegisterTime()),
		Accepted:   unix(p.GetAcceptTime()),
		Failed:     unix(p.GetFailureTime()),
		Failure:    p.GetFailure(),
		Dead:       p.GetDead(),
	}
}

// serviceWords returns a push service's name, with the host that a device named.
func serviceWords(s pb.PushService) string {
	switch s {
	case pb.PushService_PUSH_SERVICE_APNS:
		return "APNs"
	case pb.PushService_PUSH_SERVICE_WEB_PUSH:
		return "Web Push"
	}
	return "none"
}

func servicePlace(p *pb.PushStatus) string {
	words := serviceWords(p.GetService())
	if p.GetHost() != "" {
		words += " at " + safe(p.GetHost())
	}
	return words
}

// pushWords says in one line how a device is woken and whether that works.
func pushWords(p *pb.PushStatus) string {
	switch {
	case p.GetService() == pb.PushService_PUSH_SERVICE_UNSPECIFIED:
		return "not registered: it is rung only while it is connected"
	case p.GetDead():
		return servicePlace(p) + ", dead since " + local(p.GetFailureTime()) + " (" + safe(p.GetFailure()) + "): open its agent, which registers again"
	case p.GetFailureTime() != nil:
		return servicePlace(p) + ", not taken at " + local(p.GetFailureTime()) + " (" + safe(p.GetFailure()) + ")"
	case p.GetAcceptTime() != nil:
		return servicePlace(p) + ", last taken at " + local(p.GetAcceptTime())
	}
	return servicePlace(p) + ", not used yet"
}

func showPush(s sheet, p *pb.PushStatus) {
	if p.GetService() == pb.PushService_PUSH_SERVICE_UNSPECIFIED {
		s.line("Push", pushWords(p))
		return
	}
	s.line("Push", servicePlace(p))
	s.line("Registered", local(p.GetRegisterTime()))
	if p.GetAcceptTime() != nil {
		s.line("Last push taken", local(p.GetAcceptTime()))
	} else {
		s.line("Last push taken", "never")
	}
	if p.GetFailureTime() != nil {
		s.line("Last push failed", local(p.GetFailureTime())+": "+safe(p.GetFailure()))
	}
	if p.GetDead() {
		s.line("Registration", "dead: nothing is pushed to it. Open its agent, which registers again; until then it is rung only while it is connected")
	}
}

type pushServiceJSON struct {
	Service string `json:"service"`
	Trouble string `json:"trouble,omitempty"`
	Since   int64  `json:"since,omitempty"`
}

func pushServiceObjects(all []*pb.PushServiceStatus) []pushServiceJSON {
	objects := make([]pushServiceJSON, len(all))
	for i, p := range all {
		objects[i] = pushServiceJSON{enumWord(p.GetService(), "PUSH_SERVICE_"), p.GetTrouble(), unix(p.GetTroubleTime())}
	}
	return objects
}

// pushServiceWords says whether the server can push through a service.
func pushServiceWords(p *pb.PushServiceStatus) string {
	if p.GetTrouble() == "" {
		return "configured, and nothing is known to be wrong"
	}
	return "refuses this server since " + local(p.GetTroubleTime()) + ": " + safe(p.GetTrouble()) + ". No device is woken through it until this is mended; it is tried again every minute"
}

type deliveryJSON struct {
	Device      string `json:"device"`
	Name        string `json:"name"`
	Stage       string `json:"stage"`
	Pushed      int64  `json:"pushed,omitempty"`
	PushFailed  int64  `json:"push_failed,omitempty"`
	PushFailure string `json:"push_failure,omitempty"`
	Received    int64  `json:"received,omitempty"`
	Shown       int64  `json:"shown,omitempty"`
	Answered    int64  `json:"answered,omitempty"`
}

func deliveryObject(d *pb.Delivery) deliveryJSON {
	return deliveryJSON{
		Device:      d.GetDeviceId(),
		Name:        d.GetDeviceName(),
		Stage:       enumWord(d.GetStage(), "DELIVERY_STAGE_"),
		Pushed:      unix(d.GetPushTime()),
		PushFailed:  unix(d.GetPushFailureTime()),
		PushFailure: d.GetPushFailure(),
		Received:    unix(d.GetReceiveTime()),
		Shown:       unix(d.GetShowTime()),
		Answered:    unix(d.GetAnswerTime()),
	}
}

func deliveryObjects(all []*pb.Delivery) []deliveryJSON {
	objects := make([]deliveryJSON, len(all))
	for i, d := range all {
		objects[i] = deliveryObject(d)
	}
	return objects
}

// listDeliveries prints how far a sign-in came on each device.
func listDeliveries(env *environment, all []*pb.Delivery) {
	if len(all) == 0 {
		return
	}
	fmt.Fprintln(env.out)
	fmt.Fprintln(env.out, "On the devices:")
	for _, d := range all {
		env.hang("", fmt.Sprintf("  %s  %s: %s", short(d.GetDeviceId()), quoted(d.GetDeviceName()), deliveryWords(d)))
	}
}

// deliveryWords says how far a prompt came on a device, and when.
func deliveryWords(d *pb.Delivery) string {
	switch d.GetStage() {
	case pb.DeliveryStage_DELIVERY_STAGE_NOT_CONNECTED:
		return "not connected, and nothing was pushed"
	case pb.DeliveryStage_DELIVERY_STAGE_PUSH_REFUSED:
		return "not connected, and the push failed at " + local(d.GetPushFailureTime()) + " (" + safe(d.GetPushFailure()) + ")"
	case pb.DeliveryStage_DELIVERY_STAGE_PUSHED:
		return "pushed at " + local(d.GetPushTime()) + "; nothing was heard of it yet"
	case pb.DeliveryStage_DELIVERY_STAGE_CONNECTED:
		return "sent on its open stream; nothing was heard of it yet"
	case pb.DeliveryStage_DELIVERY_STAGE_RECEIVED:
		return "received at " + local(d.GetReceiveTime()) + ", and not shown"
	case pb.DeliveryStage_DELIVERY_STAGE_SHOWN:
		return "shown at " + local(d.GetShowTime())
	case pb.DeliveryStage_DELIVERY_STAGE_ANSWERED:
		return "answered at " + local(d.GetAnswerTime())
	}
	return "nothing is known"
}
