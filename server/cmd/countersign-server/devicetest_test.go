package main

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

// TestWhyNot: who has waited two days for a code is told in one sentence why it
// does not come, and what to do.
func TestWhyNot(t *testing.T) {
	tuesday := timestamppb.New(time.Date(2026, 11, 24, 18, 3, 0, 0, time.Local))
	apns := func(change func(*pb.PushStatus)) *pb.Device {
		p := &pb.PushStatus{Service: pb.PushService_PUSH_SERVICE_APNS, RegisterTime: tuesday}
		change(p)
		return &pb.Device{Name: "Watch", LastSeenTime: tuesday, Push: p}
	}
	for name, test := range map[string]struct {
		device   *pb.Device
		delivery *pb.Delivery
		want     []string
	}{
		"dead": {
			apns(func(p *pb.PushStatus) {
				p.Dead, p.FailureTime, p.Failure = true, tuesday, "APNs: Unregistered"
			}), &pb.Delivery{},
			[]string{`"Watch"`, "last seen on Tuesday, 2026-11-24", "push registration is dead (APNs: Unregistered)", "Open its agent"},
		},
		"no registration": {
			&pb.Device{Name: "Watch", LastSeenTime: tuesday}, &pb.Delivery{},
			[]string{"last seen on Tuesday", "has not registered for pushes", "Open its agent"},
		},
		"refused": {
			apns(func(*pb.PushStatus) {}), &pb.Delivery{PushFailureTime: tuesday, PushFailure: "APNs: InvalidProviderToken"},
			[]string{"APNs did not take the push (APNs: InvalidProviderToken)", "docs/operations.md"},
		},
		"pushed": {
			apns(func(*pb.PushStatus) {}), &pb.Delivery{PushTime: tuesday},
			[]string{"APNs took the push, but the device did not connect", "switched off"},
		},
		"connected, and says nothing": {
			&pb.Device{Name: "Watch", Connected: true}, &pb.Delivery{},
			[]string{"although it is connected", "Restart or update it"},
		},
		"never seen": {
			&pb.Device{Name: "Watch"}, &pb.Delivery{},
			[]string{"it never was", "has not registered for pushes"},
		},
		"a hostile name": {
			&pb.Device{Name: "\x1b[2J\"; all is well", LastSeenTime: tuesday}, &pb.Delivery{},
			[]string{`"\u{1b}[2J\u{22}; all is well"`},
		},
	} {
		got := whyNot(test.device, &pb.DeviceTest{Delivery: test.delivery})
		for _, want := range test.want {
			if !strings.Contains(got, want) {
				t.Errorf("%s: %q does not say %q", name, got, want)
			}
		}
	}
	if got := whyNot(&pb.Device{Name: "Watch"}, nil); !strings.Contains(got, "another test took its place") {
		t.Errorf("a test that was replaced: %q", got)
	}
}
