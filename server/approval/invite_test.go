package approval_test

import (
	"context"
	"iter"
	"testing"
	"testing/synctest"
	"time"

	"github.com/countersignd/countersign/server/approval"
	"github.com/countersignd/countersign/server/approval/storetest"
)

// An invitationStore counts the invitations that updates walk through, and those
// that they delete.
type invitationStore struct {
	approval.Store
	read, deleted int
}

func (s *invitationStore) Update(ctx context.Context, fn func(approval.Tx) error) error {
	return s.Store.Update(ctx, func(tx approval.Tx) error { return fn(invitationTx{tx, s}) })
}

type invitationTx struct {
	approval.Tx
	store *invitationStore
}

func (t invitationTx) Ascend(bucket, prefix string) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		for key, value := range t.Tx.Ascend(bucket, prefix) {
			if bucket == "invitations" {
				t.store.read++
			}
			if !yield(key, value) {
				return
			}
		}
	}
}

func (t invitationTx) Delete(bucket, key string) error {
	if bucket == "invitations" {
		t.store.deleted++
	}
	return t.Tx.Delete(bucket, key)
}

// To invite many people does not take longer with each of them, and what has
// expired is collected all the same.
func TestInvitingMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &invitationStore{Store: storetest.NewMemory()}
		w := newWorld(t, store)
		w.account("ada")
		invite := func(n int) {
			for range n {
				if _, _, err := w.admin.CreateInvitation(t.Context(), "ada", 0); err != nil {
					t.Fatal(err)
				}
			}
		}
		const many = 1000
		invite(many)
		// Each finds one in 1,024 of those before it, so all of them some 500.
		if store.read > 4*many {
			t.Errorf("%d invitations looked at %d others, want a few each at most", many, store.read)
		}
		if store.deleted > 0 {
			t.Errorf("%d invitations were collected that had not expired", store.deleted)
		}
		time.Sleep(time.Hour)
		invite(2 * many) // each of the expired ones is met with 86 %
		if store.deleted < many/2 {
			t.Errorf("%d of %d expired invitations were collected, want most of them", store.deleted, many)
		}
	})
}
