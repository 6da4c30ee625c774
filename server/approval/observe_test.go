package approval_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/countersignd/countersign/internal/statement"
	"github.com/countersignd/countersign/server/approval"
	"github.com/countersignd/countersign/server/approval/storetest"
)

// watched is a world that tells what it observes. Its store runs every function
// twice, and calls back what the test counts only once.
func watched(t *testing.T, store approval.Store) (w *world, seen *[]approval.Observation) {
	t.Helper()
	w, seen = newWorld(t, store), &[]approval.Observation{}
	w.config.Observe.Recorded = func(o approval.Observation) { *seen = append(*seen, o) }
	w.restart()
	return w, seen
}

// What is counted is what is on record: each once, and nothing that was refused.
func TestObservedIsWhatIsRecorded(t *testing.T) {
	w, seen := watched(t, nil)
	w.account("ada")
	files := w.application("files")
	phone, mac := w.enroll("ada"), w.enroll("ada")

	s := w.begin(files, "ada")
	digits := phone.allow(s.ID)
	w.broker.VerifySignIn(t.Context(), files, s.ID, wrong(digits))
	w.broker.VerifySignIn(t.Context(), files, "no such sign-in", digits)
	if _, err := w.broker.VerifySignIn(t.Context(), files, s.ID, digits); err != nil {
		t.Fatal(err)
	}
	w.broker.VerifySignIn(t.Context(), files, s.ID, digits)

	s = w.begin(files, "ada")
	prompt := mac.shown(s.ID)
	for _, reason := range []string{"", statement.NotMe} {
		if _, err := w.broker.Decide(t.Context(), mac.id, mac.decision(prompt, statement.Deny, reason), ""); err != nil {
			t.Fatal(err)
		}
	}
	w.broker.BeginSignIn(t.Context(), files, w.asking("nobody", "", "203.0.113.7"))
	w.begin(files, "ada")
	if err := mac.revoke(phone.id); err != nil {
		t.Fatal(err)
	}
	if _, err := w.admin.SuspendAccount(t.Context(), "ada", ""); err != nil {
		t.Fatal(err)
	}

	entries, _, err := w.admin.ListRecords(t.Context(), approval.RecordFilter{OldestFirst: true}, approval.Page{})
	if err != nil {
		t.Fatal(err)
	}
	var recorded, observed []approval.Event
	for _, e := range entries[1:] { // the first is from before anybody watched
		recorded = append(recorded, e.Event)
	}
	for _, o := range *seen {
		observed = append(observed, o.Event)
	}
	if diff := cmp.Diff(recorded, observed); diff != "" {
		t.Errorf("the record and what was observed of it differ (-record +observed):\n%s", diff)
	}
}

// What a metric is made of says what became of a sign-in, and when it ends by
// itself.
func TestObservationsOfSignIns(t *testing.T) {
	w, seen := watched(t, nil)
	w.account("ada")
	files := w.application("files")
	phone := w.enroll("ada")
	*seen = nil

	first := w.begin(files, "ada")
	digits := phone.allow(first.ID)
	w.broker.VerifySignIn(t.Context(), files, first.ID, wrong(digits))
	w.broker.VerifySignIn(t.Context(), files, first.ID, digits)
	second := w.begin(files, "ada")
	phone.decide(second.ID, statement.Deny, statement.Mistake)
	code, err := phone.requestCode()
	if err != nil {
		t.Fatal(err)
	}
	w.broker.VerifySignIn(t.Context(), files, second.ID, code.Digits)
	third := w.begin(files, "ada")
	w.broker.CancelSignIn(t.Context(), files, third.ID)
	fourth := w.begin(files, "ada")

	of := func(s approval.SignIn, o approval.Observation) approval.Observation {
		o.SignIn, o.Lane, o.Silent = s.ID, s.Lane, s.Silent
		return o
	}
	want := []approval.Observation{
		of(first, approval.Observation{Event: approval.EventSignInBegun, Ends: first.Expires}),
		of(first, approval.Observation{Event: approval.EventSignInAllowed}), // ends when its code does
		of(first, approval.Observation{Event: approval.EventCodeWrong}),
		of(first, approval.Observation{Event: approval.EventSignInVerified, Code: "code"}),
		of(second, approval.Observation{Event: approval.EventSignInBegun, Ends: second.Expires}),
		of(second, approval.Observation{Event: approval.EventSignInDenied, Reason: statement.Mistake}),
		{Event: approval.EventCodeRequested},
		of(second, approval.Observation{Event: approval.EventSignInVerified, Code: "requested"}),
		of(third, approval.Observation{Event: approval.EventSignInBegun, Ends: third.Expires}),
		of(third, approval.Observation{Event: approval.EventSignInCancelled, Cause: approval.CancelApplication}),
		of(fourth, approval.Observation{Event: approval.EventSignInBegun, Ends: fourth.Expires}),
	}
	for i, o := range *seen {
		if o.Event != approval.EventSignInAllowed && o.Event != approval.EventCodeWrong {
			continue
		}
		if left := time.Until(o.Ends); left <= 0 || left > first.CodeLifetime {
			t.Errorf("%s: the sign-in ends in %v, want at most %v", o.Event, left, first.CodeLifetime)
		}
		(*seen)[i].Ends = time.Time{}
	}
	if diff := cmp.Diff(want, *seen); diff != "" {
		t.Errorf("the observations differ (-want +got):\n%s", diff)
	}
	if first.Silent != "" || fourth.Silent != approval.SilentSource {
		t.Errorf("silences = %q, %q: the test wants one that rings and one whose address has rung its share", first.Silent, fourth.Silent)
	}
}

// Nobody is told of what is not durable, and nobody before it is.
func TestObservedIsDurable(t *testing.T) {
	store := &storetest.Faulty{Store: storetest.NewMemory()}
	w := newWorld(t, store)
	var told int
	w.config.Observe.Recorded = func(approval.Observation) {
		told++
		size, err := w.broker.RecordSize(context.Background()) // would wait for ever within the update
		if err != nil || size != uint64(told)+1 {
			t.Errorf("when told of record %d there are %d, %v", told+1, size, err)
		}
	}
	w.restart()
	w.account("ada")
	store.Fault = func(int) storetest.Fault { return storetest.Before }
	if _, err := w.admin.AddAccount(t.Context(), "bob"); !errors.Is(err, approval.ErrStoreFailed) {
		t.Fatalf("AddAccount on a broken store = %v, want that the store failed", err)
	}
	if told != 1 {
		t.Errorf("told of %d records, want 1", told)
	}
}

// Each attempt to push is counted by what became of it, and each stage of a prompt
// once.
func TestPushesAndStagesAreObserved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, files, mac, _, f := pushed(t, storetest.NewMemory())
		var mu sync.Mutex
		counted := map[string]int{}
		count := func(what string) {
			mu.Lock()
			defer mu.Unlock()
			counted[what]++
		}
		w.config.Observe.Push = func(s approval.PushService, o approval.PushOutcome) { count(string(s) + " " + string(o)) }
		w.config.Observe.Prompt = func(stage approval.DeliveryStage) {
			count(map[approval.DeliveryStage]string{approval.DeliveryReceived: "received", approval.DeliveryShown: "shown"}[stage])
		}
		w.restart()
		answers := []error{
			&approval.WakeError{Verdict: approval.WakeLater, Why: "APNs: TooManyRequests"},
			errors.New("no WakeError at all"),
			&approval.WakeError{Verdict: approval.WakeBroken, Why: "APNs: InvalidProviderToken"},
			nil,
			&approval.WakeError{Verdict: approval.WakeRefused, Why: "APNs: PayloadTooLarge"},
			&approval.WakeError{Verdict: approval.WakeDead, Why: "APNs: Unregistered"},
		}
		f.answer = func(w approval.Wakeup) error {
			if w.Over || len(answers) == 0 {
				return nil
			}
			next := answers[0]
			answers = answers[1:]
			return next
		}
		w.keepWaking()
		defer w.broker.WatchDevice(mac.id).Close()
		for range 3 {
			s := w.begin(files, "ada")
			mac.report(s.ID, approval.DeliveryShown)
			mac.report(s.ID, approval.DeliveryReceived)
			mac.report(s.ID, approval.DeliveryShown)
			time.Sleep(3 * time.Minute)
			if got := w.broker.PushServices(); got[0].Waiting != 0 {
				t.Errorf("%d pushes wait, want none", got[0].Waiting)
			}
			mac.allow(s.ID) // which takes what was pushed away again
			time.Sleep(20 * time.Minute)
		}
		test, _, err := w.admin.TestDevice(t.Context(), mac.id)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // it is pushed, also to a device that is connected
		if err := mac.report(test, approval.DeliveryShown); err != nil {
			t.Fatal(err)
		}
		want := map[string]int{"apns later": 2, "apns broken": 1, "apns taken": 3, "apns refused": 1, "apns dead": 1, "received": 3, "shown": 3}
		mu.Lock()
		defer mu.Unlock()
		if diff := cmp.Diff(want, counted); diff != "" {
			t.Errorf("what was counted differs (-want +got):\n%s", diff)
		}
	})
}
