package main

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

func TestPushInWords(t *testing.T) {
	at := timestamppb.New(time.Date(2026, 11, 24, 18, 3, 0, 0, time.Local))
	push := func(p *pb.PushStatus) string {
		p.Service, p.Host = pb.PushService_PUSH_SERVICE_WEB_PUSH, "push.example"
		return pushWords(p)
	}
	for _, test := range []struct{ got, want string }{
		{pushWords(nil), "not registered: it is rung only while it is connected"},
		{push(&pb.PushStatus{}), "Web Push at push.example, not used yet"},
		{push(&pb.PushStatus{AcceptTime: at}), "last taken at 2026-11-24 18:03"},
		{push(&pb.PushStatus{AcceptTime: at, FailureTime: at, Failure: "no\x1b"}), `not taken at 2026-11-24 18:03:00`},
		{push(&pb.PushStatus{FailureTime: at, Failure: "no\x1b"}), `(no\u{1b})`},
		{push(&pb.PushStatus{FailureTime: at, Failure: "410", Dead: true}), "(410): open its agent, which registers again"},
		{pushServiceWords(&pb.PushServiceStatus{}), "nothing is known to be wrong"},
		{pushServiceWords(&pb.PushServiceStatus{Trouble: "APNs: InvalidProviderToken", TroubleTime: at}), "refuses this server since 2026-11-24 18:03"},
		{deliveryWords(&pb.Delivery{Stage: pb.DeliveryStage_DELIVERY_STAGE_PUSH_REFUSED, PushFailureTime: at, PushFailure: "APNs: 503"}), "the push failed at 2026-11-24 18:03:00"},
		{deliveryWords(&pb.Delivery{Stage: pb.DeliveryStage_DELIVERY_STAGE_PUSHED, PushTime: at}), "nothing was heard of it yet"},
		{deliveryWords(&pb.Delivery{}), "nothing is known"},
	} {
		if !strings.Contains(test.got, test.want) {
			t.Errorf("%q does not say %q", test.got, test.want)
		}
	}
}
