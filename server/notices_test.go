package server_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/countersignd/countersign/internal/countersigntest"
	"github.com/countersignd/countersign/server/approval"

	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

// Every addition and removal is told to the other devices on their open
// streams, with who did it.
func TestAStreamTellsOfOtherDevices(t *testing.T) {
	system := countersigntest.New(t, nil)
	system.AddAccount("ada")
	mac := system.EnrollDevice("ada")
	stream := mac.MustWatch()
	next := func(event string) *pb.Notice {
		t.Helper()
		for {
			m, err := stream.Recv()
			if err != nil {
				t.Fatalf("the stream ended with %v before it told of %s", err, event)
			}
			if n := m.GetNotices(); len(n) > 0 && n[len(n)-1].GetEvent() == event {
				return n[len(n)-1]
			}
		}
	}
	phone := system.EnrollDevice("ada")
	n := next("device.enrolled")
	if n.GetDeviceId() != phone.ID || n.GetDeviceName() != "Test device "+phone.ID[:4] || n.GetDeviceKind() != "terminal" || n.GetActorKind() != "administrator" || n.GetSequence() == 0 || n.GetTime() == nil {
		t.Errorf("the enrolment is told as %v", n)
	}
	if _, err := phone.Client.UpdateDevice(t.Context(), &pb.UpdateDeviceRequest{Name: "Phone"}); err != nil {
		t.Fatal(err)
	}
	n = next("device.renamed")
	if n.GetDeviceName() != "Phone" || n.GetDetail() != "Test device "+phone.ID[:4] || n.GetActorId() != phone.ID || n.GetActorName() != "Phone" {
		t.Errorf("the new name is told as %v", n)
	}
	if err := mac.Revoke(t.Context(), phone.ID, "left on the train"); err != nil {
		t.Fatal(err)
	}
	n = next("device.revoked")
	if n.GetDeviceId() != phone.ID || n.GetDetail() != "left on the train" || n.GetActorId() != mac.ID {
		t.Errorf("the revocation is told as %v", n)
	}
	self, err := mac.Client.GetSelf(t.Context(), &pb.GetSelfRequest{})
	if err != nil || len(self.GetNotices()) != 3 || !proto.Equal(self.GetNotices()[2], n) {
		t.Errorf("GetSelf tells %v, %v, want the same three", self.GetNotices(), err)
	}
}

// The largest set of prompts and notices is a message that devices take.
func TestTheFullestScreenFitsInAMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t)
		client, hangUp := b.client()
		for i := range 21 {
			name := strings.Repeat(string(rune(0x20000+i)), 64)
			if _, err := client.UpdateDevice(t.Context(), &pb.UpdateDeviceRequest{Name: name}); err != nil {
				t.Fatal(err)
			}
		}
		b.begin("one")
		m := must(must(client.WatchPrompts(t.Context(), &pb.WatchPromptsRequest{})).Recv())
		if len(m.GetPrompts()) != 1 || len(m.GetNotices()) != 18 {
			t.Errorf("%d prompts and %d notices, want 1 and all but the two that are about its own enrolment", len(m.GetPrompts()), len(m.GetNotices()))
		}
		// An account has 14 at most, of three lanes.
		if size := proto.Size(m) + 13*(proto.Size(m.GetPrompts()[0])+8); size > 64<<10 {
			t.Errorf("the fullest screen has %d bytes, want 64 KiB at most", size)
		}
		hangUp()
		b.stop()
	})
}

// A device that is there is never taken for one that was not seen, however long
// its streams are; one that was not is told so, until it is readmitted.
func TestDormantDevicesAreToldSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t)
		admin := b.broker.Administrator(approval.Actor{Kind: approval.ActorAdministrator, ID: "uid 0 (root)"})
		client, hangUp := b.client()
		for began := time.Now(); time.Since(began) < 3*time.Hour; {
			stream := must(client.WatchPrompts(t.Context(), &pb.WatchPromptsRequest{}))
			for _, err := stream.Recv(); err == nil; _, err = stream.Recv() {
				if unseen := time.Since(must(admin.Device(t.Context(), b.device)).LastSeen); unseen > time.Hour+10*time.Minute {
					t.Fatalf("a device with an open stream was last seen %v ago", unseen)
				}
			}
		}
		time.Sleep(90 * 24 * time.Hour)
		watch := func() string {
			stream := must(client.WatchPrompts(t.Context(), &pb.WatchPromptsRequest{}))
			_, err := stream.Recv()
			return countersigntest.Reason(err)
		}
		if got := watch(); got != "DEVICE_DORMANT" {
			t.Errorf("WatchPrompts after 90 days = %s, want DEVICE_DORMANT", got)
		}
		must(admin.ReadmitDevice(t.Context(), b.device))
		if got := watch(); got != "OK" {
			t.Errorf("WatchPrompts once readmitted = %s, want OK", got)
		}
		hangUp()
		b.stop()
	})
}
