package server_test

import (
	"testing"
	"testing/synctest"

	"github.com/countersignd/countersign/internal/audit"
	"github.com/countersignd/countersign/internal/countersigntest"

	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

func headOf(t *testing.T, m *pb.Checkpoint) audit.Head {
	t.Helper()
	c, err := countersigntest.Checkpoint(m)
	if err != nil {
		t.Fatal(err)
	}
	head, err := c.Head()
	if err != nil {
		t.Fatalf("Head(%v) = %v", m, err)
	}
	return head
}

// TestDevicesAreShownTheRecord: a stream begins with a checkpoint, brings newer
// ones with changes, and each continues the one before, with the proof that the
// server gives.
func TestDevicesAreShownTheRecord(t *testing.T) {
	system := countersigntest.New(t, nil)
	system.AddAccount("ada")
	mac := system.EnrollDevice("ada")
	files := system.AddApplication("files")
	stream, err := mac.Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	first, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	was := headOf(t, first.GetCheckpoint())
	if was.Size != 6 || was.Deployment != system.Deployment {
		t.Errorf("first checkpoint = %+v, want 6 records of %s", was, system.Deployment)
	}
	for _, session := range []string{"one", "two", "three"} {
		if _, err := files.Client.BeginSignIn(t.Context(), &pb.BeginSignInRequest{Account: "ada", Requester: &pb.Requester{Session: session}}); err != nil {
			t.Fatal(err)
		}
		message, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		is := headOf(t, message.GetCheckpoint())
		if is.Size <= was.Size {
			t.Errorf("checkpoint of %d records after one of %d", is.Size, was.Size)
		}
		proof, err := mac.Client.GetConsistencyProof(t.Context(), &pb.GetConsistencyProofRequest{OldSize: was.Size, NewSize: is.Size})
		if err != nil {
			t.Fatal(err)
		}
		if err := is.Continues(was, proof.GetHashes()); err != nil {
			t.Error(err)
		}
		was = is
	}
	self, err := mac.Client.GetSelf(t.Context(), &pb.GetSelfRequest{})
	if err != nil {
		t.Fatal(err)
	}
	newest, err := system.Admin.GetCheckpoint(t.Context(), &pb.GetCheckpointRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if a, b := headOf(t, self.GetCheckpoint()), headOf(t, newest.GetCheckpoint()); a.Root != was.Root || b.Root != was.Root || newest.GetSize() != was.Size {
		t.Errorf("GetSelf shows %+v, the administrator is told %+v, want %+v", a, b, was)
	}
}

// TestRepetitionsHaveNoCheckpoint: a heartbeat is not a reason for a thousand
// devices to ask for proofs and write files.
func TestRepetitionsHaveNoCheckpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t)
		defer b.stop()
		client, hangUp := b.client()
		defer hangUp()
		stream := must(client.WatchPrompts(t.Context(), &pb.WatchPromptsRequest{}))
		if first := must(stream.Recv()); first.GetCheckpoint() == nil {
			t.Error("the first message has no checkpoint")
		}
		for range 3 {
			if again := must(stream.Recv()); again.GetCheckpoint() != nil {
				t.Error("a repetition has a checkpoint")
			}
		}
	})
}
