package approval_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/countersignd/countersign/internal/statement"
	"github.com/countersignd/countersign/server/approval"
	"github.com/countersignd/countersign/server/approval/storetest"
)

func (d *device) requesting(account string) approval.Requesting {
	d.w.t.Helper()
	jwk, err := statement.NewJWK(&d.approval.PublicKey)
	if err != nil {
		d.w.t.Fatal(err)
	}
	jws, err := statement.Sign(d.approval, statement.Enrollment{
		Account: account, ApprovalKey: jwk, Aud: d.w.broker.Deployment(), Device: d.id, Iat: time.Now().Unix(),
		KeyStorage: "file", Kind: "tablet", Name: "New tablet", ServerKey: d.w.broker.ServerKey(),
	})
	if err != nil {
		d.w.t.Fatal(err)
	}
	return approval.Requesting{Device: d.id, Statement: jws, Address: "192.0.2.44"}
}

func (d *device) requestTrust(account string) (id string) {
	d.w.t.Helper()
	id, _, err := d.w.broker.RequestTrust(d.w.t.Context(), d.requesting(account))
	if err != nil {
		d.w.t.Fatal(err)
	}
	return id
}

func (d *device) completeTrust(id, code string) error {
	d.w.t.Helper()
	_, err := d.w.broker.CompleteTrust(d.w.t.Context(), d.id, id, code, "192.0.2.44")
	return err
}

func TestANewDeviceIsTrustedByApproval(t *testing.T) {
	w := newWorld(t, nil)
	w.account("ada")
	mac, tablet := w.enroll("ada"), w.newDevice()
	in := tablet.requesting("ada")
	id, _, err := w.broker.RequestTrust(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	p, err := statement.ParsePrompt(mac.shown(id))
	if err != nil || p.Action != statement.ActionTrustDevice || *p.Candidate != (statement.Candidate{Fingerprint: tablet.id, Kind: "tablet", Name: "New tablet"}) {
		t.Errorf("prompt = %+v, %v", p, err)
	}
	wantReason(t, "a guess before the answer", tablet.completeTrust(id, "123456"), approval.ReasonSignInPending)
	tablet.requestTrust("ada")
	if screen, err := mac.screen(); err != nil || len(screen.Prompts) != 1 {
		t.Errorf("after asking again %d prompts are shown, %v, want 1", len(screen.Prompts), err)
	}
	code := mac.allow(id)
	wantReason(t, "the code on another device", w.newDevice().completeTrust(id, code), approval.ReasonSignInPending)
	wantReason(t, "a wrong code", tablet.completeTrust(id, wrong(code)), approval.ReasonCodeWrong)
	if _, err := tablet.screen(); err == nil {
		t.Error("the tablet is trusted before the code was typed")
	}
	for range 2 { // the answer may be lost
		if err := tablet.completeTrust(id, code); err != nil {
			t.Fatal(err)
		}
	}
	a, devices, err := w.admin.Account(t.Context(), "ada")
	if err != nil || a.Trusted != 2 || devices[1].EnrolledBy != (approval.Actor{Kind: approval.ActorDevice, ID: mac.id}) {
		t.Errorf("Account = %+v, %+v, %v", a, devices, err)
	}
	_, _, err = w.broker.RequestTrust(t.Context(), in)
	wantReason(t, "asking for trust that one has", err, approval.ReasonKeyInUse)
	files := w.application("files")
	s := w.begin(files, "ada")
	tablet.allow(s.ID)
}

// TestA17ARequestForTrustTellsNothing compares what a stranger sees of an
// account that exists with what it sees of one that does not.
func TestA17ARequestForTrustTellsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, storetest.NewMemory())
		w.account("ada")
		w.account("empty")
		w.account("gone")
		mac := w.enroll("ada")
		w.enroll("gone")
		if _, err := w.admin.SuspendAccount(t.Context(), "gone", ""); err != nil {
			t.Fatal(err)
		}
		ids := map[string]string{}
		candidates := map[string]*device{}
		for _, account := range []string{"ada", "empty", "gone", "nobody"} {
			candidates[account] = w.newDevice()
			ids[account] = candidates[account].requestTrust(account)
			if again := candidates[account].requestTrust(account); again == ids[account] {
				t.Errorf("asking %s again tells that it was asked before", account)
			}
		}
		if _, err := mac.decide(ids["ada"], statement.Deny, statement.NotMe); err != nil {
			t.Fatal(err)
		}
		for _, want := range []approval.Reason{approval.ReasonSignInPending, approval.ReasonSignInExpired} {
			for account, id := range ids {
				for range 7 {
					wantReason(t, account, candidates[account].completeTrust(id, "123456"), want)
				}
			}
			time.Sleep(5 * time.Minute)
		}
	})
}

func TestA3DevicesThatAskToBeTrustedRingThreeTimesAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, storetest.NewMemory())
		w.account("ada")
		mac := w.enroll("ada")
		watch := w.broker.WatchDevice(mac.id)
		defer watch.Close()
		rung := 0
		go func() {
			for watch.Wait(t.Context()) == nil {
				rung++
			}
		}()
		for range 10 * 60 { // one every six seconds for an hour
			w.newDevice().requestTrust("ada")
			time.Sleep(6 * time.Second)
			synctest.Wait()
			if screen, err := mac.screen(); err != nil || len(screen.Prompts) > 3 {
				t.Fatalf("%d requests are shown at once, %v", len(screen.Prompts), err)
			}
		}
		if rung != 3 {
			t.Errorf("rung %d times in an hour, want 3: half of what strangers have", rung)
		}
		time.Sleep(time.Hour)
		tablet := w.newDevice()
		id := tablet.requestTrust("ada")
		if err := tablet.completeTrust(id, mac.allow(id)); err != nil {
			t.Errorf("the owner's own request afterwards = %v", err)
		}
	})
}

func TestA9WhatDoesNotMakeADeviceTrusted(t *testing.T) {
	w := newWorld(t, nil)
	w.account("ada")
	files := w.application("files")
	mac, tablet := w.enroll("ada"), w.newDevice()
	id := tablet.requestTrust("ada")
	requested, err := mac.requestCode()
	if err != nil {
		t.Fatal(err)
	}
	wantReason(t, "a requested code", tablet.completeTrust(id, requested.Digits), approval.ReasonSignInPending)
	code := mac.allow(id)
	if requested.Digits != code {
		wantReason(t, "a requested code after Allow", tablet.completeTrust(id, requested.Digits), approval.ReasonCodeWrong)
	}
	_, err = w.broker.VerifySignIn(t.Context(), files, id, code)
	wantReason(t, "the code as a sign-in's", err, approval.ReasonSignInUnknown)
	s := w.begin(files, "ada")
	other := mac.allow(s.ID)
	if other != code {
		wantReason(t, "a sign-in's code", tablet.completeTrust(s.ID, other), approval.ReasonCodeWrong)
	}
	if _, err := w.admin.SuspendAccount(t.Context(), "ada", ""); err != nil {
		t.Fatal(err)
	}
	wantReason(t, "the code in a suspended account", tablet.completeTrust(id, code), approval.ReasonSignInPending)
	if _, err := w.admin.ResumeAccount(t.Context(), "ada"); err != nil {
		t.Fatal(err)
	}
	wantReason(t, "the code after the account was resumed", tablet.completeTrust(id, code), approval.ReasonSignInPending)
	for i := range 2 {
		wantReason(t, fmt.Sprint("malformed ", i), tablet.completeTrust([]string{"x", id}[i], []string{"123456", "x"}[i]), approval.ReasonInvalidField)
	}
	if a, _, err := w.admin.Account(t.Context(), "ada"); err != nil || a.Trusted != 1 {
		t.Errorf("Account = %+v, %v, want one trusted device", a, err)
	}
}

// TestA7WhatARevokedDeviceAllowedTrustsNobody revokes the device that allowed
// another one before the code is typed. Once it was typed, the new device stays.
func TestA7WhatARevokedDeviceAllowedTrustsNobody(t *testing.T) {
	w := newWorld(t, nil)
	w.account("ada")
	mac, phone := w.enroll("ada"), w.enroll("ada")
	early, late := w.newDevice(), w.newDevice()
	id := early.requestTrust("ada")
	if err := early.completeTrust(id, phone.allow(id)); err != nil {
		t.Fatal(err)
	}
	id = late.requestTrust("ada")
	code := phone.allow(id)
	if err := mac.revoke(phone.id); err != nil {
		t.Fatal(err)
	}
	wantReason(t, "the code of a device that was revoked meanwhile", late.completeTrust(id, code), approval.ReasonSignInPending)
	if _, err := early.screen(); err != nil {
		t.Errorf("the device that was trusted before = %v", err)
	}
	if trusted, _ := w.trusted("ada"); trusted != 2 {
		t.Errorf("%d devices are trusted, want 2", trusted)
	}
}

// writes is a store that counts what the newest update wrote.
type writes struct {
	approval.Store
	puts int
}

func (s *writes) Update(ctx context.Context, fn func(approval.Tx) error) error {
	return s.Store.Update(ctx, func(tx approval.Tx) error {
		s.puts = 0
		return fn(&writing{tx, s})
	})
}

type writing struct {
	approval.Tx
	store *writes
}

func (tx *writing) Put(bucket, key string, value []byte) error {
	tx.store.puts++
	return tx.Tx.Put(bucket, key, value)
}

// TestA17EveryRequestForTrustIsOneCommit: what a stranger waits for is a commit to
// the disk, whoever the account is and whether anybody is rung.
func TestA17EveryRequestForTrustIsOneCommit(t *testing.T) {
	store := &writes{Store: storetest.NewMemory()}
	faulty := &storetest.Faulty{Store: store}
	w := newWorld(t, faulty)
	w.account("ada")
	w.account("empty")
	w.account("gone")
	w.enroll("ada")
	w.enroll("gone")
	if _, err := w.admin.SuspendAccount(t.Context(), "gone", ""); err != nil {
		t.Fatal(err)
	}
	for _, account := range []string{"ada", "ada", "empty", "gone", "nobody"} { // the second one rings nobody
		tablet := w.newDevice()
		for _, when := range []string{"the first time", "again"} {
			before := faulty.Updates()
			store.puts = 0
			tablet.requestTrust(account)
			if updates := faulty.Updates() - before; updates != 1 || store.puts == 0 {
				t.Errorf("asking %s %s took %d updates, the last with %d writes; want one that writes", account, when, updates, store.puts)
			}
		}
	}
}

// TestA16RequestsForTrustFillNoDisk: what strangers ask beyond the budget of an
// account, or of none, leaves nothing behind.
func TestA16RequestsForTrustFillNoDisk(t *testing.T) {
	memory := storetest.NewMemory()
	w := newWorld(t, memory)
	w.account("ada")
	w.enroll("ada")
	w.newDevice().requestTrust("ada")
	size := func() (n int) {
		t.Helper()
		if err := memory.View(t.Context(), func(tx approval.Tx) error {
			for _, bucket := range approval.Buckets() {
				for key, value := range tx.Ascend(bucket, "") {
					n += len(key) + len(value)
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return n
	}
	w.newDevice().requestTrust("nobody")
	before := size()
	for i := range 500 {
		w.newDevice().requestTrust([]string{"ada", "nobody", fmt.Sprint("nobody", i)}[i%3])
	}
	if after := size(); after != before {
		t.Errorf("500 requests grew the store from %d to %d bytes", before, after)
	}
}
