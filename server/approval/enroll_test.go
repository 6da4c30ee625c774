package approval_test

import (
	"crypto/ecdsa"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/countersignd/countersign/server/approval"
	"github.com/countersignd/countersign/server/approval/storetest"
)

// keyed returns a device with these keys.
func (w *world) keyed(identity, approval *ecdsa.PrivateKey) *device {
	return &device{w: w, id: keyID(w.t, identity), approval: approval}
}

// byInvitation and byApproval are the two kinds of enrolment.
func (d *device) byInvitation(account string) error {
	d.w.t.Helper()
	_, err := d.w.broker.EnrollDevice(d.w.t.Context(), d.enrolling(d.w.invite(account)))
	return err
}

func (d *device) byApproval(account string, mac *device) error {
	d.w.t.Helper()
	id, _, err := d.w.broker.RequestTrust(d.w.t.Context(), d.requesting(account))
	if err != nil {
		return err
	}
	return d.completeTrust(id, mac.allow(id))
}

// trusted returns how many trusted devices the account has, and how many entries its list.
func (w *world) trusted(account string) (trusted, listed int) {
	w.t.Helper()
	a, devices, err := w.admin.Account(w.t.Context(), account)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, d := range devices {
		if d.State == approval.DeviceTrusted {
			trusted++
		}
	}
	if trusted != a.Trusted {
		w.t.Errorf("%s counts %d trusted devices, its list has %d", account, a.Trusted, trusted)
	}
	return trusted, len(devices)
}

// A key that is or was a device's is accepted for no other one, of this account
// or another, by no kind of enrolment, in neither role; and no recovery code is
// spent on the attempt.
func TestADeviceKeyIsForOneAccountOnly(t *testing.T) {
	for _, first := range []string{"invitation", "approval", "recovery", "revoked"} {
		w := newWorld(t, nil)
		w.account("ada")
		w.account("bob")
		macs := map[string]*device{"ada": w.enroll("ada"), "bob": w.enroll("bob")}
		codes := map[string][]string{"ada": macs["ada"].renew(), "bob": macs["bob"].renew()}
		identity, approvalKey := newKey(t), newKey(t)
		d := w.keyed(identity, approvalKey)
		var err error
		switch first {
		case "approval":
			err = d.byApproval("ada", macs["ada"])
		case "recovery":
			_, err = d.recover("ada", codes["ada"][0])
		default:
			err = d.byInvitation("ada")
		}
		if err != nil {
			t.Fatal(err)
		}
		whole, left := 2, map[string]int{"ada": 10, "bob": 10}
		switch first {
		case "recovery":
			left["ada"]--
		case "revoked":
			if _, err := w.admin.RevokeDevice(t.Context(), d.id, "lost"); err != nil {
				t.Fatal(err)
			}
			whole = 1
		}
		for keys, again := range map[string]*device{
			"both keys":                       d,
			"the identity key":                w.keyed(identity, newKey(t)),
			"the approval key":                w.keyed(newKey(t), approvalKey),
			"the keys swapped":                w.keyed(approvalKey, identity),
			"the approval key as an identity": w.keyed(approvalKey, newKey(t)),
			"the identity key as an approval": w.keyed(newKey(t), identity),
		} {
			for account, mac := range macs {
				want := approval.ReasonKeyInUse
				if first == "revoked" && again.id == d.id {
					want = approval.ReasonDeviceRevoked
				}
				what := fmt.Sprintf("%s; then %s for %s, by ", first, keys, account)
				wantReason(t, what+"invitation", again.byInvitation(account), want)
				wantReason(t, what+"approval", again.byApproval(account, mac), approval.ReasonKeyInUse)
				_, err := again.recover(account, codes[account][1])
				wantReason(t, what+"recovery", err, want)
			}
		}
		for account, want := range map[string][2]int{"ada": {whole, 2}, "bob": {1, 1}} {
			if trusted, listed := w.trusted(account); trusted != want[0] || listed != want[1] {
				t.Errorf("%s: %s has %d devices trusted of %d, want %d of %d", first, account, trusted, listed, want[0], want[1])
			}
			if a, _, err := w.admin.Account(t.Context(), account); err != nil || a.RecoveryCodes != left[account] {
				t.Errorf("%s: %s has %d recovery codes left, %v, want %d", first, account, a.RecoveryCodes, err, left[account])
			}
		}
	}
}

// Keys that ask two accounts at once become a device of the first that says yes.
func TestADeviceKeyAsksTwoAccountsAndIsTrustedByOne(t *testing.T) {
	for _, second := range []string{"the other request", "an invitation"} {
		w := newWorld(t, nil)
		w.account("ada")
		w.account("bob")
		ada, bob := w.enroll("ada"), w.enroll("bob")
		identity, approvalKey := newKey(t), newKey(t)
		one, two := w.keyed(identity, approvalKey), w.keyed(newKey(t), approvalKey)
		first := one.requestTrust("ada")
		code := ada.allow(first)
		if second == "an invitation" {
			if err := two.byInvitation("bob"); err != nil {
				t.Fatal(err)
			}
		} else {
			other := two.requestTrust("bob")
			if err := two.completeTrust(other, bob.allow(other)); err != nil {
				t.Fatal(err)
			}
		}
		wantReason(t, "ada's code after "+second, one.completeTrust(first, code), approval.ReasonKeyInUse)
		if trusted, listed := w.trusted("ada"); trusted != 1 || listed != 1 {
			t.Errorf("after %s ada has %d devices trusted of %d, want 1 of 1", second, trusted, listed)
		}
	}
}

// A device that asks two accounts is answered by the one that it asked last.
func TestACodeOfAnotherAccountsRequestTrustsNobody(t *testing.T) {
	w := newWorld(t, nil)
	w.account("ada")
	w.account("bob")
	ada, bob, tablet := w.enroll("ada"), w.enroll("bob"), w.newDevice()
	first := tablet.requestTrust("ada")
	adas := ada.allow(first)
	other := tablet.requestTrust("bob")
	bobs := bob.allow(other)
	if adas != bobs {
		wantReason(t, "ada's code", tablet.completeTrust(first, adas), approval.ReasonCodeWrong)
	}
	if err := tablet.completeTrust(other, bobs); err != nil {
		t.Fatal(err)
	}
	wantReason(t, "ada's invitation afterwards", tablet.byInvitation("ada"), approval.ReasonKeyInUse)
	for account, want := range map[string]int{"ada": 1, "bob": 2} {
		if trusted, listed := w.trusted(account); trusted != want || listed != want {
			t.Errorf("%s has %d devices trusted of %d, want %d", account, trusted, listed, want)
		}
	}
}

// A device that is enrolled again with new keys is another one: the old one
// stays in the list, trusted, until somebody revokes it.
func TestNewKeysSupersedeNothing(t *testing.T) {
	for _, kind := range []string{"invitation", "approval"} {
		w := newWorld(t, nil)
		w.account("ada")
		mac, old, renewed := w.enroll("ada"), w.newDevice(), w.newDevice()
		enroll := func(d *device) error {
			if kind == "approval" {
				return d.byApproval("ada", mac)
			}
			return d.byInvitation("ada")
		}
		for _, d := range []*device{old, renewed} { // of one name and kind
			if err := enroll(d); err != nil {
				t.Fatal(err)
			}
		}
		if trusted, listed := w.trusted("ada"); trusted != 3 || listed != 3 {
			t.Errorf("by %s: %d of %d devices are trusted, want 3 of 3", kind, trusted, listed)
		}
		if _, err := old.screen(); err != nil {
			t.Errorf("by %s: the old keys = %v, want them as good as before", kind, err)
		}
	}
}

// TestA11AStaleInvitationReplacesNoDevice uses an invitation again at every later
// stage of the device that used it first.
func TestA11AStaleInvitationReplacesNoDevice(t *testing.T) {
	w := newWorld(t, nil)
	w.account("ada")
	mac, phone := w.enroll("ada"), w.newDevice()
	token := w.invite("ada")
	photographed := func(stage string) {
		t.Helper()
		_, err := w.broker.EnrollDevice(t.Context(), w.newDevice().enrolling(token))
		wantReason(t, "the link, photographed, "+stage, err, approval.ReasonInvitationInvalid)
	}
	if _, err := w.broker.EnrollDevice(t.Context(), phone.enrolling(token)); err != nil {
		t.Fatal(err)
	}
	photographed("once it was used")
	if _, err := w.admin.RevokeDevice(t.Context(), phone.id, "lost"); err != nil {
		t.Fatal(err)
	}
	photographed("when the device was revoked")
	_, err := w.broker.EnrollDevice(t.Context(), phone.enrolling(token))
	wantReason(t, "the revoked device with its own link", err, approval.ReasonDeviceRevoked)
	if _, err := w.admin.SuspendAccount(t.Context(), "ada", ""); err != nil {
		t.Fatal(err)
	}
	photographed("when the account was suspended")
	if _, err := w.admin.ResumeAccount(t.Context(), "ada"); err != nil {
		t.Fatal(err)
	}
	photographed("when it was resumed")
	if trusted, listed := w.trusted("ada"); trusted != 1 || listed != 2 {
		t.Errorf("%d of %d devices are trusted, want 1 of 2", trusted, listed)
	}
	if _, err := mac.screen(); err != nil {
		t.Errorf("the other device = %v", err)
	}
}

// TestS7AStoreThatFailsLeavesNoHalfTrustedDevice runs both kinds of enrolment with a
// fault at each of their updates, before or after it was persisted. At no moment
// is there half a device, and asking again finishes.
func TestS7AStoreThatFailsLeavesNoHalfTrustedDevice(t *testing.T) {
	for kind, updates := range map[string]int{"invitation": 1, "approval": 3} {
		for _, fault := range []storetest.Fault{storetest.Before, storetest.After} {
			for at := 1; at <= updates; at++ {
				faulty := &storetest.Faulty{Store: storetest.NewMemory()}
				w := newWorld(t, faulty)
				w.account("ada")
				mac, tablet := w.enroll("ada"), w.newDevice()
				token := w.invite("ada")
				start, faults := faulty.Updates(), 0
				faulty.Fault = func(n int) storetest.Fault {
					if n == start+at {
						faults++
						return fault
					}
					return storetest.None
				}
				// again does what the programs do, and looks at the list between.
				again := func(f func() error) {
					t.Helper()
					err := f()
					if errors.Is(err, approval.ErrStoreFailed) {
						w.restart()
						_, err := w.broker.Self(t.Context(), tablet.id)
						if trusted, listed := w.trusted("ada"); (trusted == 2) != (err == nil) || trusted != listed {
							t.Errorf("%s, fault %v at %d: %d of %d devices are trusted, and the new one is told %v", kind, fault, at, trusted, listed, err)
						}
						faulty.Fault = nil // what w.restart updates is none of it
						if err := f(); err != nil {
							t.Fatalf("%s, fault %v at %d: again = %v", kind, fault, at, err)
						}
						return
					}
					if err != nil {
						t.Fatal(err)
					}
				}
				if kind == "invitation" {
					in := tablet.enrolling(token)
					again(func() error { _, err := w.broker.EnrollDevice(t.Context(), in); return err })
				} else {
					var id, jws string
					var code approval.Code
					in := tablet.requesting("ada")
					again(func() (err error) { id, _, err = w.broker.RequestTrust(t.Context(), in); return err })
					again(func() (err error) {
						if jws == "" {
							screen, err := mac.screen()
							if err != nil || len(screen.Prompts) != 1 {
								t.Fatalf("the device that approves is shown %d prompts, %v", len(screen.Prompts), err)
							}
							jws = mac.decision(screen.Prompts[0].Document, "allow", "")
						}
						code, err = w.broker.Decide(t.Context(), mac.id, jws, "")
						return err
					})
					again(func() error { return tablet.completeTrust(id, code.Digits) })
				}
				if faults != 1 {
					t.Errorf("%s, fault %v at %d: %d faults, want 1", kind, fault, at, faults)
				}
				if trusted, listed := w.trusted("ada"); trusted != 2 || listed != 2 {
					t.Errorf("%s, fault %v at %d: %d of %d devices are trusted in the end, want 2 of 2", kind, fault, at, trusted, listed)
				}
			}
		}
	}
}

// TestA11InvitationsEndWithTheTrust has open invitations of an account that is
// suspended, or of which all devices are revoked. Until then each is good for a
// device of its own.
func TestA11InvitationsEndWithTheTrust(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.account("ada")
		w.account("bob")
		enroll := func(token string) error {
			time.Sleep(time.Second)
			_, err := w.broker.EnrollDevice(t.Context(), w.newDevice().enrolling(token))
			return err
		}
		invite := func(account string) string {
			defer time.Sleep(time.Second)
			return w.invite(account)
		}
		must := func(_ any, err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		first, second, third, bobs := invite("ada"), invite("ada"), invite("ada"), invite("bob")
		must(nil, enroll(second))
		must(nil, enroll(first))
		must(w.admin.SuspendAccount(t.Context(), "ada", ""))
		time.Sleep(time.Second)
		must(w.admin.ResumeAccount(t.Context(), "ada"))
		wantReason(t, "an invitation from before a suspension", enroll(third), approval.ReasonInvitationInvalid)

		open := invite("ada")
		must(w.admin.RevokeDevices(t.Context(), "ada", time.Now().Add(-time.Hour), "the older ones"))
		must(nil, enroll(open))
		open = invite("ada")
		must(w.admin.RevokeDevices(t.Context(), "ada", time.Time{}, "stolen"))
		wantReason(t, "an invitation from before all devices were revoked", enroll(open), approval.ReasonInvitationInvalid)
		must(nil, enroll(invite("ada")))
		must(nil, enroll(bobs))
	})
}
