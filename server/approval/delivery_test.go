package approval_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/countersignd/countersign/internal/statement"
	"github.com/countersignd/countersign/server/approval"
	"github.com/countersignd/countersign/server/approval/storetest"
)

func TestEachStepOfADelivery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, files, mac, phone, f := pushed(t, storetest.NewMemory())
		f.answers(func(approval.Wakeup) error { return &approval.WakeError{Why: "APNs: BadPriority"} })
		w.keepWaking()
		s := w.begin(files, "ada")
		watch := w.broker.WatchSignIn(s.ID)
		defer watch.Close()
		step := func(what string, do func() error, stage approval.DeliveryStage, want approval.DeliveryCounts) {
			t.Helper()
			if err := do(); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			synctest.Wait()
			if got := phone.delivery(s.ID).Stage; got != stage {
				t.Errorf("%s: the phone's stage = %v, want %v", what, got, stage)
			}
			got, err := w.broker.SignIn(t.Context(), files, s.ID)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got.Delivery); diff != "" {
				t.Errorf("%s: the counts differ: %s", what, diff)
			}
			// The pushes may have been refused before anybody watched.
			if !rung(watch) && stage != approval.DeliveryPushRefused {
				t.Errorf("%s: who watches the sign-in was not rung", what)
			}
		}
		step("the pushes are refused", func() error { return nil }, approval.DeliveryPushRefused, approval.DeliveryCounts{PushRefused: 2})
		step("the phone opens its stream", func() error {
			t.Cleanup(w.broker.WatchDevice(phone.id).Close)
			w.broker.Sent(phone.id, s.ID)
			return nil
		}, approval.DeliveryConnected, approval.DeliveryCounts{PushRefused: 2})
		step("it has it", func() error { return phone.report(s.ID, approval.DeliveryReceived) }, approval.DeliveryReceived, approval.DeliveryCounts{PushRefused: 1, Received: 1})
		step("it shows it", func() error { return phone.report(s.ID, approval.DeliveryShown) }, approval.DeliveryShown, approval.DeliveryCounts{PushRefused: 1, Received: 1, Shown: 1})
		step("it is answered", func() error {
			_, err := phone.decide(s.ID, statement.Allow, "")
			return err
		}, approval.DeliveryAnswered, approval.DeliveryCounts{PushRefused: 1, Received: 1, Shown: 1, Answered: 1})
		if got := mac.delivery(s.ID).Stage; got != approval.DeliveryPushRefused {
			t.Errorf("the other device's stage = %v, want that the push was refused", got)
		}
		if got := phone.self().Reached; got.IsZero() {
			t.Error("when the phone was last reached is not known")
		}
	})
}

// TestReportsThatSayNothing: whatever a report is about that the device has not
// to show, it is taken, and nothing changes.
func TestReportsThatSayNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, storetest.NewMemory())
		w.account("ada")
		files := w.application("files")
		mac, phone := w.enroll("ada"), w.enroll("ada")
		w.account("eve")
		eve := w.enroll("eve")
		own := w.begin(files, "ada")
		other := w.begin(files, "eve")
		over := w.begin(files, "ada")
		if _, err := mac.decide(over.ID, statement.Deny, ""); err != nil {
			t.Fatal(err)
		}
		test, err := w.broker.TestDevice(t.Context(), mac.id, "", "")
		if err != nil {
			t.Fatal(err)
		}
		before := dump(t, w.store)
		for name, id := range map[string]string{"another account's": other.ID, "one that is over": over.ID, "none": "00000000000000000000000000", "another device's test": test} {
			for _, stage := range []approval.DeliveryStage{approval.DeliveryReceived, approval.DeliveryShown, approval.DeliveryAnswered} {
				if err := phone.report(id, stage); err != nil {
					t.Errorf("a report about %s = %v, want nothing", name, err)
				}
			}
		}
		if err := phone.report(own.ID, approval.DeliveryAnswered); err != nil {
			t.Errorf("a report that a sign-in was answered = %v, want nothing", err)
		}
		stop := w.keepWaking()
		stop() // it writes what there is
		after := dump(t, w.store)
		for _, d := range []*device{phone, eve} {
			for _, id := range []string{own.ID, other.ID, over.ID, test} {
				if s, _, err := w.admin.SignIn(t.Context(), id); err == nil {
					for _, got := range s.Deliveries {
						if got.Device == d.id && got.Stage > approval.DeliveryConnected {
							t.Errorf("a report was believed: %+v", got)
						}
					}
				}
			}
		}
		delete(before, "deliveries")
		delete(after, "deliveries")
		if diff := cmp.Diff(before, after); diff != "" {
			t.Errorf("the store has changed: %s", diff)
		}
		for name, reports := range map[string][]approval.Report{
			"no report":       nil,
			"too many":        make([]approval.Report, 33),
			"no id":           {{ID: "x", Stage: approval.DeliveryShown}},
			"no stage":        {{ID: own.ID}},
			"a push's stage":  {{ID: own.ID, Stage: approval.DeliveryPushed}},
			"an unknown word": {{ID: own.ID, Stage: 99}},
		} {
			wantReason(t, name, w.broker.ReportPrompts(t.Context(), phone.id, reports), approval.ReasonInvalidField)
		}
	})
}

func TestWhoMayReport(t *testing.T) {
	w, files, mac, phone, _ := pushed(t, storetest.NewMemory())
	s := w.begin(files, "ada")
	stranger := w.newDevice()
	wantReason(t, "a stranger's report", stranger.report(s.ID, approval.DeliveryShown), approval.ReasonDeviceUnknown)
	if err := mac.revoke(phone.id); err != nil {
		t.Fatal(err)
	}
	wantReason(t, "a revoked device's report", phone.report(s.ID, approval.DeliveryShown), approval.ReasonDeviceRevoked)
	if err := mac.suspendAccount(); err != nil {
		t.Fatal(err)
	}
	if err := mac.report(s.ID, approval.DeliveryShown); err != nil {
		t.Errorf("a report of a suspended account's device = %v, want nothing", err)
	}
	if got := mac.delivery(s.ID); !got.Shown.IsZero() {
		t.Error("a report of a suspended account's device was believed")
	}
}

func TestReportsAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, files, mac, phone, _ := pushed(t, storetest.NewMemory())
		s := w.begin(files, "ada")
		for i := range 120 {
			if err := mac.report(s.ID, approval.DeliveryShown); err != nil {
				t.Fatalf("report %d = %v", i, err)
			}
		}
		wantReason(t, "one more report", mac.report(s.ID, approval.DeliveryShown), approval.ReasonRateLimited)
		if err := phone.report(s.ID, approval.DeliveryShown); err != nil {
			t.Errorf("another device's report = %v", err)
		}
		time.Sleep(time.Minute)
		if err := mac.report(s.ID, approval.DeliveryShown); err != nil {
			t.Errorf("a report a minute later = %v", err)
		}
	})
}

// TestDeliveryIsWrittenLate: reports are seen at once, cost one transaction a
// second, and survive a restart; the answer survives a crash.
func TestDeliveryIsWrittenLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &storetest.Faulty{Store: storetest.NewMemory()}
		w, files, mac, phone, _ := pushed(t, store)
		w.config.Wakers = nil
		w.restart()
		stop := w.keepWaking()
		var ids []string
		for range 3 {
			ids = append(ids, w.begin(files, "ada").ID)
		}
		synctest.Wait()
		updates := store.Updates()
		for _, id := range ids {
			for _, d := range []*device{mac, phone} {
				for _, stage := range []approval.DeliveryStage{approval.DeliveryReceived, approval.DeliveryShown} {
					if err := d.report(id, stage); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		if got := store.Updates() - updates; got != 0 {
			t.Errorf("12 reports took %d transactions at once, want none", got)
		}
		if got := phone.delivery(ids[0]).Stage; got != approval.DeliveryShown {
			t.Errorf("the stage = %v before it is written, want shown", got)
		}
		time.Sleep(3 * time.Second)
		if got := store.Updates() - updates; got != 1 {
			t.Errorf("12 reports took %d transactions, want 1", got)
		}
		mac.allow(ids[0])
		stop()
		w.restart()
		want := map[string]approval.DeliveryStage{"mac": approval.DeliveryAnswered, "phone": approval.DeliveryShown}
		got := map[string]approval.DeliveryStage{"mac": mac.delivery(ids[0]).Stage, "phone": phone.delivery(ids[0]).Stage}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("after a restart: %s", diff)
		}
		if got := phone.self().Reached; got.IsZero() {
			t.Error("when the phone was last reached is lost")
		}

		// A crash: what was reported and not written is lost, what was answered is not.
		if err := phone.report(ids[1], approval.DeliveryShown); err != nil {
			t.Fatal(err)
		}
		mac.allow(ids[2])
		w.restart()
		if got := mac.delivery(ids[2]).Stage; got != approval.DeliveryAnswered {
			t.Errorf("the stage after a crash = %v, want answered", got)
		}
	})
}

// TestReportsSurviveAFailedWrite: what could not be written is written next time.
func TestReportsSurviveAFailedWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &storetest.Faulty{Store: storetest.NewMemory()}
		w, files, mac, _, _ := pushed(t, store)
		s := w.begin(files, "ada")
		if err := mac.report(s.ID, approval.DeliveryShown); err != nil {
			t.Fatal(err)
		}
		at := store.Updates() + 1
		store.Fault = func(n int) storetest.Fault {
			if n == at {
				return storetest.Before
			}
			return storetest.None
		}
		stop := w.keepWaking()
		time.Sleep(5 * time.Second)
		if store.Updates() < at {
			t.Fatal("nothing was written")
		}
		stop()
		w.restart()
		if got := mac.delivery(s.ID).Stage; got != approval.DeliveryShown {
			t.Errorf("the stage = %v, want shown", got)
		}
	})
}

// TestDamagedDeliveryDecidesNothing: what is only telemetry keeps nobody from
// denying, from being let in, or from looking.
func TestDamagedDeliveryDecidesNothing(t *testing.T) {
	for name, damaged := range map[string]string{"no JSON": "{", "another kind of JSON": "[1]", "nothing": "null"} {
		t.Run(name, func(t *testing.T) {
			w, files, mac, phone, _ := pushed(t, nil)
			denied, allowed := w.begin(files, "ada"), w.begin(files, "ada")
			for _, id := range []string{denied.ID, allowed.ID} {
				if err := w.store.Update(t.Context(), func(tx approval.Tx) error { return tx.Put("deliveries", id, []byte(damaged)) }); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := w.broker.SignIn(t.Context(), files, denied.ID); err != nil {
				t.Errorf("SignIn = %v", err)
			}
			if _, err := mac.decide(denied.ID, statement.Deny, ""); err != nil {
				t.Errorf("a denial = %v", err)
			}
			code := mac.allow(allowed.ID)
			if _, err := w.broker.VerifySignIn(t.Context(), files, allowed.ID, code); err != nil {
				t.Errorf("VerifySignIn = %v", err)
			}
			if got := mac.delivery(allowed.ID).Stage; got != approval.DeliveryAnswered {
				t.Errorf("the stage = %v, want answered", got)
			}
			if _, _, err := w.broker.RecentSignIns(t.Context(), phone.id, approval.Page{}); err != nil {
				t.Errorf("RecentSignIns = %v", err)
			}
		})
	}
}

// TestOldDeliveriesGo: after 30 days it is not kept how far a sign-in came.
func TestOldDeliveriesGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, files, mac, _, _ := pushed(t, storetest.NewMemory())
		stop := w.keepWaking()
		old := w.begin(files, "ada")
		mac.report(old.ID, approval.DeliveryShown)
		time.Sleep(2 * time.Second)
		stop()
		time.Sleep(31 * 24 * time.Hour)
		w.restart()
		w.keepWaking()
		s := w.begin(files, "ada")
		mac.report(s.ID, approval.DeliveryShown)
		time.Sleep(2 * time.Second)
		kept := dump(t, w.store)["deliveries"]
		if len(kept) != 1 || kept[s.ID] == "" {
			t.Errorf("deliveries of %d sign-ins are kept, want that of the new one", len(kept))
		}
	})
}

// A countingStore counts what is read of each bucket.
type countingStore struct {
	approval.Store
	reads map[string]int
}

type countingTx struct {
	approval.Tx
	reads map[string]int
}

func (s *countingStore) View(ctx context.Context, fn func(approval.Tx) error) error {
	return s.Store.View(ctx, func(tx approval.Tx) error { return fn(countingTx{tx, s.reads}) })
}

func (t countingTx) Get(bucket, key string) ([]byte, error) {
	t.reads[bucket]++
	return t.Tx.Get(bucket, key)
}

// Any device may ask for this as often as it likes, so a page must not read every
// device anew for every sign-in.
func TestRecentSignInsReadEachDeviceOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &countingStore{storetest.NewMemory(), map[string]int{}}
		w := newWorld(t, store)
		w.account("ada")
		files := w.application("files")
		var devices []*device
		for range 10 {
			devices = append(devices, w.enroll("ada"))
		}
		for range 20 {
			s := w.begin(files, "ada")
			if _, err := w.broker.CancelSignIn(t.Context(), files, s.ID); err != nil {
				t.Fatal(err)
			}
		}
		clear(store.reads)
		page, _, err := w.broker.RecentSignIns(t.Context(), devices[0].id, approval.Page{})
		if err != nil || len(page) != 20 || len(page[0].Deliveries) != len(devices) {
			t.Fatalf("RecentSignIns = %d sign-ins, %v, want 20 with all devices", len(page), err)
		}
		if n := store.reads["devices"]; n > len(devices)+1 {
			t.Errorf("%d devices were read, want each of %d once and the caller", n, len(devices))
		}
	})
}

func TestRecentSignInsAreTheOwners(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, files, mac, phone, _ := pushed(t, storetest.NewMemory())
		w.account("eve")
		eve := w.enroll("eve")
		var want []string
		for range 25 {
			s := w.begin(files, "ada")
			want = append([]string{s.ID}, want...)
			time.Sleep(10 * time.Minute)
		}
		mac.w.begin(files, "eve")
		var got []string
		page, next, err := w.broker.RecentSignIns(t.Context(), phone.id, approval.Page{})
		if err != nil || len(page) != 20 || next == "" {
			t.Fatalf("RecentSignIns = %d sign-ins, next %q, %v, want 20 and a token", len(page), next, err)
		}
		second, next, err := w.broker.RecentSignIns(t.Context(), phone.id, approval.Page{Token: next})
		if err != nil || next != "" {
			t.Fatalf("the second page = next %q, %v, want the last", next, err)
		}
		for _, s := range append(page, second...) {
			got = append(got, s.ID)
			if len(s.Deliveries) != 2 {
				t.Errorf("the sign-in was for %d devices, want 2", len(s.Deliveries))
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("the sign-ins differ: %s", diff)
		}
		if theirs, _, err := w.broker.RecentSignIns(t.Context(), eve.id, approval.Page{}); err != nil || len(theirs) != 1 {
			t.Errorf("the other account has %d sign-ins, %v, want its own", len(theirs), err)
		}
		for _, token := range []string{"z", strings.Repeat("z", 256), want[0] + "0", "eve/" + want[0]} {
			_, _, err := w.broker.RecentSignIns(t.Context(), phone.id, approval.Page{Token: token})
			wantReason(t, "a page token that no page has returned", err, approval.ReasonInvalidField)
		}
		for _, size := range []int{-1, 101} {
			_, _, err := w.broker.RecentSignIns(t.Context(), phone.id, approval.Page{Size: size})
			wantReason(t, fmt.Sprint("a page of ", size), err, approval.ReasonInvalidField)
		}
	})
}

func TestRegistrations(t *testing.T) {
	w, _, mac, phone, _ := pushed(t, nil)
	push := func(c approval.PushChange) error {
		_, err := w.broker.UpdateDevice(t.Context(), phone.id, approval.Update{Push: &c}, "")
		return err
	}
	apns := func(token string) approval.PushChange {
		return approval.PushChange{Service: approval.PushAPNs, Address: approval.PushAddress{Token: token}}
	}
	err := push(apns("no token"))
	wantReason(t, "a token that is none", err, approval.ReasonInvalidField)
	var refused *approval.Error
	if errors.As(err, &refused) && refused.Field != "push.apns" {
		t.Errorf("the field = %q, want push.apns", refused.Field)
	}
	wantReason(t, "another service", push(approval.PushChange{Service: approval.PushWebPush}), approval.ReasonPushNotConfigured)
	_, err = w.broker.UpdateDevice(t.Context(), phone.id, approval.Update{}, "")
	wantReason(t, "nothing to change", err, approval.ReasonInvalidField)

	before := w.recorded(approval.EventPushRegistered)
	if err := push(apns("20abcdef")); err != nil || w.recorded(approval.EventPushRegistered) != before {
		t.Errorf("registering the same again = %v, want nothing on record", err)
	}
	if err := push(apns("ffff")); err != nil || w.recorded(approval.EventPushRegistered) != before+1 {
		t.Errorf("registering another address = %v, want it on record", err)
	}
	if err := push(approval.PushChange{}); err != nil || phone.self().Push != nil || w.recorded(approval.EventPushRemoved) != 1 {
		t.Errorf("taking it back = %v, %+v, want none, and that on record", err, phone.self().Push)
	}
	if err := push(approval.PushChange{}); err != nil || w.recorded(approval.EventPushRemoved) != 1 {
		t.Errorf("taking it back twice = %v, want nothing more on record", err)
	}
	if err := push(apns("eeee")); err != nil {
		t.Fatal(err)
	}
	if err := mac.revoke(phone.id); err != nil {
		t.Fatal(err)
	}
	if got := phone.self().Push; got != nil {
		t.Errorf("a revoked device has the registration %+v, want none", got)
	}
	wantReason(t, "a revoked device registers", push(apns("eeee")), approval.ReasonDeviceRevoked)
	var limited error
	for i := range 31 {
		if _, limited = mac.register(fmt.Sprintf("%04x", i)); limited != nil {
			break
		}
	}
	wantReason(t, "too many registrations", limited, approval.ReasonRateLimited)
}
