package approval_test

import (
	"context"
	"crypto"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/countersignd/countersign/internal/audit"
	"github.com/countersignd/countersign/internal/statement"
	"github.com/countersignd/countersign/server/approval"
	"github.com/countersignd/countersign/server/approval/storetest"
)

// found returns all that a filter finds, page by page.
func (w *world) found(f approval.RecordFilter, size int) []approval.Entry {
	w.t.Helper()
	var all []approval.Entry
	for token := ""; ; {
		page, next, err := w.admin.ListRecords(w.t.Context(), f, approval.Page{Size: size, Token: token})
		if err != nil {
			w.t.Fatalf("ListRecords(%+v) = %v", f, err)
		}
		if all = append(all, page...); next == "" {
			return all
		}
		token = next
	}
}

func numbers(entries []approval.Entry) []uint64 {
	var all []uint64
	for _, e := range entries {
		all = append(all, e.Sequence)
	}
	return all
}

// TestS12FiltersFindWhatTheyName holds every combination of filters, in both
// directions and in pages of several sizes, against a look at each record.
func TestS12FiltersFindWhatTheyName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, storetest.NewMemory())
		w.account("ada")
		w.account("bob")
		w.account("ada2") // whose name begins like another
		files, mail := w.application("files"), w.application("mail")
		mac, phone, other := w.enroll("ada"), w.enroll("ada"), w.enroll("bob")
		start := time.Now()
		for range 12 {
			time.Sleep(10 * time.Minute)
			s := w.begin(files, "ada")
			code := mac.allow(s.ID)
			if _, err := w.broker.VerifySignIn(t.Context(), files, s.ID, code); err != nil {
				t.Fatal(err)
			}
			s = w.begin(mail, "bob")
			if _, err := other.decide(s.ID, statement.Deny, ""); err != nil {
				t.Fatal(err)
			}
		}
		if err := mac.revoke(phone.id); err != nil {
			t.Fatal(err)
		}
		all := w.found(approval.RecordFilter{OldestFirst: true}, 0)
		if len(all) < 60 || all[0].Sequence != 1 || all[len(all)-1].Sequence != uint64(len(all)) {
			t.Fatalf("%d records, from %d to %d", len(all), all[0].Sequence, all[len(all)-1].Sequence)
		}
		for _, account := range []string{"", "ada", "bob", "ada2"} {
			for _, device := range []string{"", mac.id, phone.id[:8], other.id} {
				for _, app := range []string{"", "files", "mail"} {
					for _, event := range []approval.Event{"", approval.EventSignInVerified} {
						for _, bounds := range [][2]time.Time{{}, {start.Add(30 * time.Minute), {}}, {{}, start.Add(time.Hour)}, {start.Add(30 * time.Minute), start.Add(60*time.Minute + 1)}} {
							f := approval.RecordFilter{Account: account, Device: device, Application: app, Event: event, Since: bounds[0], Until: bounds[1], OldestFirst: true}
							var want []uint64
							for _, e := range all {
								about := strings.HasPrefix(e.Device, device) || e.Actor.Kind == approval.ActorDevice && strings.HasPrefix(e.Actor.ID, device)
								if (account == "" || e.Account == account) && (device == "" || about) && (app == "" || e.Application == app) &&
									(event == "" || e.Event == event) && !e.Time.Before(f.Since) && (f.Until.IsZero() || e.Time.Before(f.Until)) {
									want = append(want, e.Sequence)
								}
							}
							if diff := cmp.Diff(want, numbers(w.found(f, 7))); diff != "" {
								t.Errorf("ListRecords(%+v) (-want +got):\n%s", f, diff)
							}
							f.OldestFirst = false
							slices.Reverse(want)
							if diff := cmp.Diff(want, numbers(w.found(f, 10))); diff != "" {
								t.Errorf("ListRecords(%+v) (-want +got):\n%s", f, diff)
							}
						}
					}
				}
			}
		}
	})
}

func TestFiltersThatNameNothingAreRefused(t *testing.T) {
	w := newWorld(t, nil)
	w.account("ada")
	w.application("files")
	if err := w.admin.RemoveApplication(t.Context(), "files"); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		filter approval.RecordFilter
		want   approval.Reason
	}{
		{approval.RecordFilter{Account: "eve"}, approval.ReasonAccountUnknown},
		{approval.RecordFilter{Account: "/"}, approval.ReasonInvalidField},
		{approval.RecordFilter{Device: "aaaaaa"}, approval.ReasonNoSuchDevice},
		{approval.RecordFilter{Device: "a"}, approval.ReasonInvalidField},
		{approval.RecordFilter{Application: "mail"}, approval.ReasonApplicationUnknown},
		{approval.RecordFilter{Application: "files/"}, approval.ReasonInvalidField},
		{approval.RecordFilter{Event: "sign_in.made_up"}, approval.ReasonInvalidField},
	} {
		_, _, err := w.admin.ListRecords(t.Context(), test.filter, approval.Page{})
		wantReason(t, fmt.Sprintf("ListRecords(%+v)", test.filter), err, test.want)
	}
	// What was removed is still on record.
	if got := w.found(approval.RecordFilter{Application: "files"}, 0); len(got) != 2 {
		t.Errorf("%d records of the removed application, want 2", len(got))
	}
	for _, token := range []string{"zzzz", "\xff", "0000000000000001/", "account/ada/"} {
		_, _, err := w.admin.ListRecords(t.Context(), approval.RecordFilter{Account: "ada"}, approval.Page{Token: token})
		wantReason(t, fmt.Sprintf("ListRecords with the token %q", token), err, approval.ReasonInvalidField)
		_, _, err = w.admin.ListSignIns(t.Context(), "ada", approval.Page{Token: token})
		wantReason(t, fmt.Sprintf("ListSignIns with the token %q", token), err, approval.ReasonInvalidField)
	}
}

// TestOneCallLooksAtAPartOfTheRecord: a search that finds nothing returns now and
// then, and still comes to its end.
func TestOneCallLooksAtAPartOfTheRecord(t *testing.T) {
	w := newWorld(t, storetest.NewMemory())
	for i := range 5100 {
		w.account(fmt.Sprintf("a%04d", i))
	}
	calls := 0
	for token := ""; ; {
		page, next, err := w.admin.ListRecords(t.Context(), approval.RecordFilter{Event: approval.EventSignInVerified}, approval.Page{Token: token})
		if err != nil || len(page) > 0 {
			t.Fatalf("ListRecords = %d records, %v, want none", len(page), err)
		}
		calls++
		if token = next; token == "" {
			break
		}
	}
	if calls != 2 {
		t.Errorf("%d calls for 5,101 records, want 2", calls)
	}
}

// A countingKey counts its signatures.
type countingKey struct {
	crypto.Signer
	n atomic.Int64
}

func (k *countingKey) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	k.n.Add(1)
	return k.Signer.Sign(random, digest, opts)
}

// TestAThousandStreamsSignOnce: a checkpoint is signed once for each size of the
// record, and once a minute while nothing happens.
func TestAThousandStreamsSignOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := &countingKey{Signer: newKey(t)}
		secrets, err := approval.NewSecrets(make([]byte, 32), key)
		if err != nil {
			t.Fatal(err)
		}
		w := newWorld(t, storetest.NewMemory())
		config := w.config
		config.Secrets = secrets
		if w.broker, err = approval.Open(t.Context(), config); err != nil {
			t.Fatal(err)
		}
		w.account("ada")
		before := key.n.Load()
		thousand := func() (sizes []uint64) {
			var streams sync.WaitGroup
			sizes = make([]uint64, 1000)
			for i := range sizes {
				streams.Go(func() {
					_, size, err := w.broker.Checkpoint(context.Background())
					if err != nil {
						t.Error(err)
					}
					sizes[i] = size
				})
			}
			streams.Wait()
			return sizes
		}
		if sizes := thousand(); slices.Min(sizes) != 2 || slices.Max(sizes) != 2 || key.n.Load() != before+1 {
			t.Errorf("1,000 checkpoints of sizes %d to %d took %d signatures, want 2 and one", slices.Min(sizes), slices.Max(sizes), key.n.Load()-before)
		}
		time.Sleep(time.Minute)
		thousand()
		if got := key.n.Load() - before; got != 2 {
			t.Errorf("%d signatures after a minute, want 2", got)
		}
	})
}

// TestCheckpointsNeverGoBack takes checkpoints while the record grows: as each is
// signed later, it has as many records or more, and the proofs between them hold.
func TestCheckpointsNeverGoBack(t *testing.T) {
	w := newWorld(t, storetest.NewMemory())
	w.account("ada")
	mac := w.enroll("ada")
	var heads []audit.Head
	var mu sync.Mutex
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 30 {
				c, size, err := w.broker.Checkpoint(context.Background())
				if err != nil {
					t.Error(err)
					return
				}
				head, err := c.Head()
				if err != nil || head.Size != size {
					t.Errorf("Head = %d, %v, want %d records", head.Size, err, size)
				}
				mu.Lock()
				heads = append(heads, head)
				mu.Unlock()
			}
		})
	}
	for i := range 60 {
		w.account(fmt.Sprintf("a%d", i))
	}
	all.Wait()
	last, _, err := w.broker.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	newest, err := last.Head()
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range heads {
		proof, err := w.broker.ConsistencyProof(t.Context(), mac.id, h.Size, newest.Size)
		if err == nil {
			err = newest.Continues(h, proof)
		}
		if err != nil {
			t.Errorf("from %d to %d records: %v", h.Size, newest.Size, err)
		}
	}
	for _, sizes := range [][2]uint64{{0, 1}, {2, 1}, {1, newest.Size + 1}, {1 << 63, 1<<63 + 1}} {
		_, err := w.broker.ConsistencyProof(t.Context(), mac.id, sizes[0], sizes[1])
		wantReason(t, fmt.Sprintf("ConsistencyProof(%d, %d)", sizes[0], sizes[1]), err, approval.ReasonInvalidField)
	}
	_, err = w.broker.ConsistencyProof(t.Context(), keyID(t, newKey(t)), 1, 2)
	wantReason(t, "a stranger's ConsistencyProof", err, approval.ReasonDeviceUnknown)
}

// TestHashesOfRecordsTellNothing: devices are handed hashes of records about
// other accounts, so that what is in a record cannot be guessed from its hash.
func TestHashesOfRecordsTellNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // at one moment, by one person
		salts := map[string]bool{}
		for range 50 {
			w := newWorld(t, storetest.NewMemory())
			for _, e := range w.found(approval.RecordFilter{}, 0) {
				if len(e.Salt) != 22 || salts[e.Salt] {
					t.Fatalf("salt %q is short or was there before", e.Salt)
				}
				salts[e.Salt] = true
			}
		}
	})
}

// TestRecordsOfADeviceThatAskedBefore: what a device asked of other accounts,
// before it was trusted by one, is found as what it did afterwards, in order.
func TestRecordsOfADeviceThatAskedBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, storetest.NewMemory())
		w.account("ada")
		w.account("bob")
		mac := w.enroll("ada")
		w.enroll("bob")
		files := w.application("files")
		tablet := w.newDevice()
		for range 2 {
			tablet.requestTrust("bob")
			time.Sleep(20 * time.Minute)
		}
		id := tablet.requestTrust("ada")
		if got := w.found(approval.RecordFilter{Device: tablet.id}, 0); len(got) != 3 {
			t.Errorf("%d records of a device that asked three times, want 3", len(got))
		}
		if err := tablet.completeTrust(id, mac.allow(id)); err != nil {
			t.Fatal(err)
		}
		for range 30 {
			time.Sleep(10 * time.Minute)
			s := w.begin(files, "ada")
			if _, err := w.broker.VerifySignIn(t.Context(), files, s.ID, mac.allow(s.ID)); err != nil {
				t.Fatal(err)
			}
		}
		tablet.rename("Tablet")
		for _, device := range []string{tablet.id, mac.id} {
			for _, account := range []string{"", "ada", "bob"} {
				var want []uint64
				for _, e := range w.found(approval.RecordFilter{OldestFirst: true}, 0) {
					if (e.Device == device || e.Actor.ID == device) && (account == "" || e.Account == account) {
						want = append(want, e.Sequence)
					}
				}
				for _, size := range []int{1, 3, 100} {
					f := approval.RecordFilter{Device: device, Account: account, OldestFirst: true}
					if diff := cmp.Diff(want, numbers(w.found(f, size))); diff != "" {
						t.Errorf("ListRecords(%+v) in pages of %d (-want +got):\n%s", f, size, diff)
					}
					f.OldestFirst = false
					got := numbers(w.found(f, size))
					slices.Reverse(got)
					if diff := cmp.Diff(want, got); diff != "" {
						t.Errorf("ListRecords(%+v) in pages of %d (-want +got):\n%s", f, size, diff)
					}
				}
			}
		}
	})
}
