package approval_test

import (
	"testing"
	"time"

	"github.com/countersignd/countersign/internal/statement"
	"github.com/countersignd/countersign/server/approval"
)

// TestOnAFullDiskNothingNewBegins: what begins something is refused, what ends
// something goes on, each with its record.
func TestOnAFullDiskNothingNewBegins(t *testing.T) {
	w := newWorld(t, nil)
	full := false
	w.config.Full = func() bool { return full }
	w.restart()
	w.account("ada")
	files := w.application("files")
	mac, phone, tablet := w.enroll("ada"), w.enroll("ada"), w.enroll("ada")
	token := w.invite("ada")
	ask := func(session string) (approval.SignIn, error) {
		return w.broker.BeginSignIn(t.Context(), files, approval.Request{Account: "ada", Requester: approval.Requester{Session: session}})
	}
	open, err := ask("open")
	if err != nil {
		t.Fatal(err)
	}
	approved, denied := w.begin(files, "ada"), w.begin(files, "ada")
	digits := mac.allow(approved.ID)
	document := mac.shown(denied.ID)
	stranger, known := w.newDevice(), w.newDevice()

	full = true
	for _, test := range []struct {
		name string
		do   func() error
		want approval.Reason // 0: it goes on
	}{
		{"BeginSignIn", func() error { _, err := ask("new"); return err }, approval.ReasonStorageLow},
		{"BeginSignIn without a good token", func() error {
			_, err := w.broker.BeginSignIn(t.Context(), "x", approval.Request{Account: "ada"})
			return err
		}, approval.ReasonUnauthenticated},
		{"CreateCode", func() error { _, err := mac.requestCode(); return err }, approval.ReasonStorageLow},
		{"RequestTrust", func() error { return known.askToBeTrusted("ada") }, approval.ReasonStorageLow},
		// A17: for an account that does not exist, the same.
		{"RequestTrust of no account", func() error { return stranger.askToBeTrusted("nobody") }, approval.ReasonStorageLow},
		{"UpdateDevice", func() error {
			_, err := w.broker.UpdateDevice(t.Context(), mac.id, approval.Update{Name: "Other"}, "")
			return err
		}, approval.ReasonStorageLow},
		{"AddAccount", func() error { _, err := w.admin.AddAccount(t.Context(), "bob"); return err }, approval.ReasonStorageLow},
		{"AddApplication", func() error { _, _, err := w.admin.AddApplication(t.Context(), "music", "Music"); return err }, approval.ReasonStorageLow},
		{"CreateInvitation", func() error { _, _, err := w.admin.CreateInvitation(t.Context(), "ada", 0); return err }, approval.ReasonStorageLow},

		{"BeginSignIn of one that is open", func() error {
			s, err := ask("open")
			if s.ID != open.ID {
				t.Errorf("asking again began %s, want %s", s.ID, open.ID)
			}
			return err
		}, 0},
		{"VerifySignIn", func() error { _, err := w.broker.VerifySignIn(t.Context(), files, approved.ID, digits); return err }, 0},
		{"deny", func() error {
			_, err := w.broker.Decide(t.Context(), mac.id, mac.decision(document, statement.Deny, ""), "")
			return err
		}, 0},
		{"this wasn't me", func() error {
			_, err := w.broker.Decide(t.Context(), mac.id, mac.decision(document, statement.Deny, statement.NotMe), "")
			return err
		}, 0},
		{"allow", func() error { _, err := mac.decide(open.ID, statement.Allow, ""); return err }, 0},
		{"EnrollDevice by an invitation from before", func() error {
			_, err := w.broker.EnrollDevice(t.Context(), w.newDevice().enrolling(token))
			return err
		}, 0},
		{"revoke by a device", func() error { return mac.revoke(phone.id) }, 0},
		{"revoke by an administrator", func() error { _, err := w.admin.RevokeDevice(t.Context(), tablet.id, ""); return err }, 0},
		{"replacing a token", func() error { _, _, err := w.admin.RotateApplicationToken(t.Context(), "files"); return err }, 0},
		{"suspend", func() error { _, err := w.admin.SuspendAccount(t.Context(), "ada", ""); return err }, 0},
		{"resume", func() error { _, err := w.admin.ResumeAccount(t.Context(), "ada"); return err }, 0},
		{"that it is full", func() error { return w.broker.NoteStorage(t.Context(), true, "1 MiB free") }, 0},
	} {
		before := w.records()
		err := test.do()
		if test.want != 0 {
			wantReason(t, test.name, err, test.want)
			if n := w.records() - before; n != 0 {
				t.Errorf("%s was refused and made %d records", test.name, n)
			}
		} else if err != nil {
			t.Errorf("%s = %v, want it to go on", test.name, err)
		} else if w.records() == before && test.name != "BeginSignIn of one that is open" {
			t.Errorf("%s is not on record", test.name)
		}
	}
	full = false
	if _, err := w.admin.AddAccount(t.Context(), "bob"); err != nil {
		t.Errorf("with room again = %v", err)
	}
}

func (d *device) askToBeTrusted(account string) error {
	d.w.t.Helper()
	jwk, err := statement.NewJWK(&d.approval.PublicKey)
	if err != nil {
		d.w.t.Fatal(err)
	}
	jws, err := statement.Sign(d.approval, statement.Enrollment{
		Account: account, ApprovalKey: jwk, Aud: d.w.broker.Deployment(), Device: d.id, Iat: time.Now().Unix(),
		KeyStorage: "file", Kind: "terminal", Name: "New one", ServerKey: d.w.broker.ServerKey(),
	})
	if err != nil {
		d.w.t.Fatal(err)
	}
	_, _, err = d.w.broker.RequestTrust(d.w.t.Context(), approval.Requesting{Device: d.id, Statement: jws})
	return err
}

// records returns how many records there are.
func (w *world) records() uint64 {
	w.t.Helper()
	newest, _, err := w.admin.ListRecords(w.t.Context(), approval.RecordFilter{}, approval.Page{Size: 1})
	if err != nil || len(newest) != 1 {
		w.t.Fatalf("ListRecords = %d records, %v", len(newest), err)
	}
	return newest[0].Sequence
}
