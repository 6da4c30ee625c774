package approval_test

import (
	"context"
	"encoding/base64"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/countersignd/countersign/internal/invitation"
	"github.com/countersignd/countersign/internal/statement"
	"github.com/countersignd/countersign/server/approval"
	"github.com/countersignd/countersign/server/approval/storetest"
)

func encode64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func TestS1SignInOnANewDevice(t *testing.T) {
	w := newWorld(t, nil)
	w.account("ada")
	files := w.application("files")
	mac, phone := w.enroll("ada"), w.enroll("ada")

	s := w.begin(files, "ada")
	if s.At(time.Now()) != approval.Pending || s.Trusted != 2 || s.Connected != 0 {
		t.Errorf("BeginSignIn = %v, %d trusted, %d connected, want pending, 2, 0", s.At(time.Now()), s.Trusted, s.Connected)
	}
	onMac, onPhone := mac.shown(s.ID), phone.shown(s.ID)
	if string(onMac) == string(onPhone) {
		t.Error("two devices were shown the same nonce")
	}
	prompt, err := statement.ParsePrompt(onMac)
	if err != nil {
		t.Fatal(err)
	}
	if prompt.Account != "ada" || prompt.Application.Name != "The files" || prompt.Requester.Place != "Berlin, Germany" {
		t.Errorf("prompt = %+v", prompt)
	}

	code := mac.allow(s.ID)
	screen, err := phone.screen()
	if err != nil || len(screen.Prompts) != 0 || len(screen.Codes) != 0 {
		t.Errorf("after Allow on the Mac the phone shows %+v, %v, want nothing", screen, err)
	}
	screen, err = mac.screen()
	if err != nil || len(screen.Codes) != 1 || screen.Codes[0].Code != code {
		t.Errorf("the Mac shows %+v, %v, want the code %s", screen, err, code)
	}

	admission, err := w.broker.VerifySignIn(t.Context(), files, s.ID, code[:3]+" "+code[3:])
	if err != nil {
		t.Fatal(err)
	}
	kid, jwk := w.broker.SigningKey()
	key, err := jwk.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	grant, err := statement.Verify[statement.Grant](key, kid, admission.Grant)
	if err != nil || grant.Sub != "ada" || grant.Aud != "files" || grant.SignInID != s.ID || grant.Iss != w.broker.Deployment() ||
		grant.Acr != "urn:countersign:acr:code" || grant.Exp-grant.Iat != 120 {
		t.Errorf("grant = %+v, %v", grant, err)
	}
	key, err = admission.Receipt.ApprovalKey.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	d, err := statement.Verify[statement.Decision](key, mac.id, admission.Receipt.Statement)
	if err != nil || string(d.PromptBytes()) != string(onMac) || d.Decision != statement.Allow {
		t.Errorf("receipt = %+v, %v, want the Mac's decision about what it was shown", d, err)
	}
	_, err = w.broker.VerifySignIn(t.Context(), files, s.ID, code)
	wantReason(t, "the code a second time", err, approval.ReasonSignInVerified)
}

func (d *device) screen() (approval.Screen, error) { return d.w.broker.Screen(d.w.t.Context(), d.id) }

func TestS2DontAllow(t *testing.T) {
	w := newWorld(t, nil)
	w.account("ada")
	files := w.application("files")
	mac, phone := w.enroll("ada"), w.enroll("ada")
	s := w.begin(files, "ada")
	document := mac.shown(s.ID)
	if _, err := mac.decide(s.ID, statement.Deny, ""); err != nil {
		t.Fatal(err)
	}
	if screen, err := phone.screen(); err != nil || len(screen.Prompts) != 0 {
		t.Errorf("the phone still shows %+v, %v", screen, err)
	}
	if _, err := w.broker.Decide(t.Context(), mac.id, mac.decision(document, statement.Deny, statement.NotMe), ""); err != nil {
		t.Errorf("the reason afterwards = %v", err)
	}
	_, err := w.broker.VerifySignIn(t.Context(), files, s.ID, "123456")
	wantReason(t, "a code after the denial", err, approval.ReasonSignInDenied)
	got, records, err := w.admin.SignIn(t.Context(), s.ID)
	if err != nil || got.DenyReason != statement.NotMe {
		t.Errorf("SignIn = %+v, %v, want the reason not_me", got, err)
	}
	var events []approval.Event
	for _, r := range records {
		events = append(events, r.Event)
		if r.Actor.Kind == approval.ActorDevice && r.Statement == "" {
			t.Errorf("%s has no statement", r.Event)
		}
	}
	if len(events) != 4 || events[1] != approval.EventSignInDenied || events[2] != approval.EventDenyReason || events[3] != approval.EventSourceSilenced {
		t.Errorf("record = %v, want begun, denied, deny_reason, source_silenced", events)
	}
}

func TestADenyBeatsAnAllowUntilTheCodeWasUsed(t *testing.T) {
	w := newWorld(t, nil)
	w.account("ada")
	files := w.application("files")
	mac, phone := w.enroll("ada"), w.enroll("ada")
	s := w.begin(files, "ada")
	onPhone := phone.shown(s.ID)
	code := mac.allow(s.ID)
	if _, err := w.broker.Decide(t.Context(), phone.id, phone.decision(onPhone, statement.Deny, ""), ""); err != nil {
		t.Fatal(err)
	}
	_, err := w.broker.VerifySignIn(t.Context(), files, s.ID, code)
	wantReason(t, "the voided code", err, approval.ReasonSignInDenied)

	s = w.begin(files, "ada")
	onPhone = phone.shown(s.ID)
	code = mac.allow(s.ID)
	if _, err := w.broker.VerifySignIn(t.Context(), files, s.ID, code); err != nil {
		t.Fatal(err)
	}
	_, err = w.broker.Decide(t.Context(), phone.id, phone.decision(onPhone, statement.Deny, ""), "")
	wantReason(t, "a denial after the code was used", err, approval.ReasonSignInVerified)
}

func TestAskingAgainRingsNobody(t *testing.T) {
	w := newWorld(t, nil)
	w.account("ada")
	files, mail := w.application("files"), w.application("mail")
	mac := w.enroll("ada")
	watch := w.broker.WatchDevice(mac.id)
	defer watch.Close()
	ask := func(token, session string) string {
		s, err := w.broker.BeginSignIn(t.Context(), token, approval.Request{Account: "ada", Requester: approval.Requester{Device: "MacBook Air", Session: session}})
		if err != nil {
			t.Fatal(err)
		}
		return s.ID
	}
	rung := func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		return watch.Wait(ctx) == nil
	}
	first := ask(files, "a")
	if !rung() {
		t.Error("the first sign-in rang nobody")
	}
	if again := ask(files, "a"); again != first || rung() {
		t.Errorf("asking again = %s, want %s and no ring", again, first)
	}
	for _, other := range [][2]string{{files, "b"}, {mail, "a"}, {files, ""}} {
		id := ask(other[0], other[1])
		if id == first {
			t.Error("another requester got the same sign-in")
		}
		if _, err := w.broker.CancelSignIn(t.Context(), other[0], id); err != nil {
			t.Fatal(err)
		}
	}
	mac.allow(first)
	if again := ask(files, "a"); again != first {
		t.Error("asking again after Allow opened another sign-in")
	}
}

func TestEnrollmentIsAtomicAndMayBeRepeated(t *testing.T) {
	w := newWorld(t, nil)
	w.account("ada")
	w.account("bob")
	token := w.invite("ada")
	d := w.newDevice()
	in := d.enrolling(token)
	first, err := w.broker.EnrollDevice(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	again, err := w.broker.EnrollDevice(t.Context(), in)
	if err != nil || !again.Enrolled.Equal(first.Enrolled) {
		t.Errorf("repeated EnrollDevice = %+v, %v, want the same device", again, err)
	}
	if a, devices, err := w.admin.Account(t.Context(), "ada"); err != nil || a.Trusted != 1 || len(devices) != 1 {
		t.Errorf("Account = %+v, %d devices, %v, want 1 trusted", a, len(devices), err)
	}

	_, err = w.broker.EnrollDevice(t.Context(), w.newDevice().enrolling(token))
	wantReason(t, "another device with the used invitation", err, approval.ReasonInvitationInvalid)
	_, err = w.broker.EnrollDevice(t.Context(), w.newDevice().enrolling(invitation.NewToken()))
	wantReason(t, "an invitation that never was", err, approval.ReasonInvitationInvalid)
	_, err = w.broker.EnrollDevice(t.Context(), d.enrolling(w.invite("bob")))
	wantReason(t, "the same keys for another account", err, approval.ReasonKeyInUse)
	thief := w.newDevice()
	thief.approval = d.approval
	_, err = w.broker.EnrollDevice(t.Context(), thief.enrolling(w.invite("ada")))
	wantReason(t, "another device's approval key", err, approval.ReasonKeyInUse)
	other := w.newDevice().enrolling(token)
	other.Token = w.invite("ada")
	_, err = w.broker.EnrollDevice(t.Context(), other)
	wantReason(t, "a statement for another invitation", err, approval.ReasonStatementMismatch)
	other = w.newDevice().enrolling(w.invite("ada"))
	other.Device = w.newDevice().id
	_, err = w.broker.EnrollDevice(t.Context(), other)
	wantReason(t, "a statement by another device", err, approval.ReasonStatementInvalid)

	if _, err := w.admin.RevokeDevice(t.Context(), d.id[:12], "lost"); err != nil {
		t.Fatal(err)
	}
	_, err = w.broker.EnrollDevice(t.Context(), in)
	wantReason(t, "the revoked device again", err, approval.ReasonDeviceRevoked)
}

func TestA10OneInvitationAThousandParallelUses(t *testing.T) {
	w := newWorld(t, storetest.NewMemory())
	w.account("ada")
	token := w.invite("ada")
	var wins atomic.Int32
	var wg sync.WaitGroup
	for range 1000 {
		in := w.newDevice().enrolling(token)
		wg.Go(func() {
			if _, err := w.broker.EnrollDevice(t.Context(), in); err == nil {
				wins.Add(1)
			}
		})
	}
	wg.Wait()
	if a, devices, err := w.admin.Account(t.Context(), "ada"); wins.Load() != 1 || a.Trusted != 1 || len(devices) != 1 || err != nil {
		t.Errorf("%d of 1000 uses succeeded, %d devices, %v, want 1", wins.Load(), len(devices), err)
	}
}

func TestTheLimitsHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, storetest.NewMemory())
		w.account("ada")
		files := w.application("files")
		for range 20 {
			w.enroll("ada")
		}
		_, err := w.broker.EnrollDevice(t.Context(), w.newDevice().enrolling(w.invite("ada")))
		wantReason(t, "the 21st device", err, approval.ReasonTooManyDevices)
		for range 3 {
			w.begin(files, "ada")
		}
		_, err = w.broker.BeginSignIn(t.Context(), files, w.asking("ada", "", "203.0.113.7"))
		wantReason(t, "the 4th open sign-in by unknown requesters", err, approval.ReasonTooManySignIns)
		time.Sleep(5 * time.Minute)
		w.begin(files, "ada")

		token := w.invite("ada")
		time.Sleep(10 * time.Minute)
		_, err = w.broker.EnrollDevice(t.Context(), w.newDevice().enrolling(token))
		wantReason(t, "an invitation after ten minutes", err, approval.ReasonInvitationInvalid)
		for _, lifetime := range []time.Duration{-1, time.Millisecond, 24*time.Hour + 1} {
			_, _, err = w.admin.CreateInvitation(t.Context(), "ada", lifetime)
			wantReason(t, "an invitation for "+lifetime.String(), err, approval.ReasonInvalidField)
		}
	})
}

func TestExpiryIsAFunctionOfTheClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.account("ada")
		files := w.application("files")
		mac := w.enroll("ada")

		s := w.begin(files, "ada")
		screen, err := mac.screen()
		if err != nil || !screen.Next.Equal(s.Begun.Add(5*time.Minute)) {
			t.Errorf("Screen.Next = %v, %v, want five minutes after %v", screen.Next, err, s.Begun)
		}
		document := mac.shown(s.ID)
		time.Sleep(5*time.Minute - time.Nanosecond)
		if screen, _ = mac.screen(); len(screen.Prompts) != 1 {
			t.Error("the prompt went before its time")
		}
		time.Sleep(time.Nanosecond)
		if screen, _ = mac.screen(); len(screen.Prompts) != 0 || !screen.Next.IsZero() {
			t.Error("the prompt outlived its time")
		}
		_, err = w.broker.Decide(t.Context(), mac.id, mac.decision(document, statement.Allow, ""), "")
		wantReason(t, "Allow after expiry", err, approval.ReasonSignInExpired)

		s = w.begin(files, "ada")
		time.Sleep(5*time.Minute - time.Second)
		code := mac.allow(s.ID)
		time.Sleep(2*time.Minute - time.Nanosecond)
		if screen, _ = mac.screen(); len(screen.Codes) != 1 {
			t.Error("the code went before its time")
		}
		time.Sleep(time.Nanosecond)
		if screen, _ = mac.screen(); len(screen.Codes) != 0 {
			t.Error("the code outlived its time")
		}
		_, err = w.broker.VerifySignIn(t.Context(), files, s.ID, code)
		wantReason(t, "the code after two minutes", err, approval.ReasonSignInExpired)
	})
}

func TestASuspendedAccountDoesNothing(t *testing.T) {
	w := newWorld(t, nil)
	w.account("ada")
	files := w.application("files")
	mac, phone := w.enroll("ada"), w.enroll("ada")
	pending, approved := w.begin(files, "ada"), w.begin(files, "ada")
	document := mac.shown(pending.ID)
	code := mac.allow(approved.ID)
	if _, err := w.admin.SuspendAccount(t.Context(), "ada", "left the company"); err != nil {
		t.Fatal(err)
	}
	screen, err := mac.screen()
	if err != nil || !screen.Suspended || len(screen.Prompts)+len(screen.Codes) != 0 {
		t.Errorf("Screen = %+v, %v, want suspended and nothing else", screen, err)
	}
	_, err = w.broker.Decide(t.Context(), mac.id, mac.decision(document, statement.Allow, ""), "")
	wantReason(t, "Allow", err, approval.ReasonAccountSuspended)
	_, err = mac.requestCode()
	wantReason(t, "CreateCode", err, approval.ReasonAccountSuspended)
	_, err = w.broker.VerifySignIn(t.Context(), files, approved.ID, code)
	wantReason(t, "VerifySignIn", err, approval.ReasonAccountSuspended)
	_, err = w.broker.BeginSignIn(t.Context(), files, approval.Request{Account: "ada"})
	wantReason(t, "BeginSignIn", err, approval.ReasonAccountSuspended)
	if err := mac.revoke(phone.id); err != nil {
		t.Errorf("revoking in a suspended account = %v, want it done", err)
	}
	if _, err := w.admin.ResumeAccount(t.Context(), "ada"); err != nil {
		t.Fatal(err)
	}
	_, err = w.broker.VerifySignIn(t.Context(), files, approved.ID, code)
	wantReason(t, "the old code after resuming", err, approval.ReasonSignInCancelled)
	w.begin(files, "ada")
}

func TestRequestedCodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.account("ada")
		files := w.application("files")
		mac, phone := w.enroll("ada"), w.enroll("ada")
		request := func(d *device) string {
			code, err := d.requestCode()
			if err != nil || len(code.Digits) != 6 {
				t.Fatalf("CreateCode = %v, %v", code, err)
			}
			return code.Digits
		}

		code := request(mac)
		next := w.begin(files, "ada")
		admission, err := w.broker.VerifySignIn(t.Context(), files, next.ID, code)
		if err != nil || admission.Receipt.Device != mac.id {
			t.Fatalf("VerifySignIn with a requested code = %+v, %v", admission, err)
		}
		other := w.begin(files, "ada")
		_, err = w.broker.VerifySignIn(t.Context(), files, other.ID, code)
		wantReason(t, "the requested code a second time", err, approval.ReasonSignInPending)

		if _, err := mac.decide(other.ID, statement.Deny, statement.Mistake); err != nil {
			t.Fatal(err)
		}
		if _, err := w.broker.VerifySignIn(t.Context(), files, other.ID, request(phone)); err != nil {
			t.Errorf("S4: a requested code after a denial by mistake = %v", err)
		}

		old, renewed := request(mac), request(phone)
		last := w.begin(files, "ada")
		_, err = w.broker.VerifySignIn(t.Context(), files, last.ID, old)
		if old != renewed {
			wantReason(t, "a requested code that was replaced", err, approval.ReasonCodeWrong)
		}
		if _, err := w.admin.RevokeDevice(t.Context(), phone.id, ""); err != nil {
			t.Fatal(err)
		}
		_, err = w.broker.VerifySignIn(t.Context(), files, last.ID, renewed)
		wantReason(t, "the code of a revoked device", err, approval.ReasonSignInPending)

		expired := request(mac)
		time.Sleep(5 * time.Minute)
		last = w.begin(files, "ada")
		_, err = w.broker.VerifySignIn(t.Context(), files, last.ID, expired)
		wantReason(t, "a requested code after five minutes", err, approval.ReasonSignInPending)
	})
}

func TestRevocationNotesWhenADeviceWasThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.account("ada")
		mac, phone := w.enroll("ada"), w.enroll("ada")
		watch := w.broker.WatchDevice(mac.id)
		defer watch.Close()
		for _, d := range []*device{mac, phone} {
			if err := w.broker.Seen(t.Context(), d.id); err != nil {
				t.Fatal(err)
			}
		}
		then := time.Now()
		time.Sleep(11 * time.Minute)
		for d, want := range map[*device]time.Time{mac: time.Now(), phone: then} {
			// As an agent shows it, in groups.
			revoked, err := w.admin.RevokeDevice(t.Context(), d.id[:4]+" "+d.id[4:8]+"-"+d.id[8:12], "")
			if err != nil || !revoked.LastSeen.Equal(want.Truncate(time.Minute)) {
				t.Errorf("last seen %v, %v, want %v", revoked.LastSeen, err, want)
			}
		}
	})
}

func TestTheLastDeviceStays(t *testing.T) {
	w := newWorld(t, nil)
	w.account("ada")
	mac, phone := w.enroll("ada"), w.enroll("ada")
	for _, code := range mac.codes {
		d := w.newDevice()
		if _, err := d.recover("ada", code); err != nil {
			t.Fatal(err)
		}
		if err := mac.revoke(d.id); err != nil {
			t.Fatal(err)
		}
	}
	if err := mac.revoke(phone.id); err != nil {
		t.Fatal(err)
	}
	wantReason(t, "revoking the last device by itself", mac.revoke(mac.id), approval.ReasonLastDevice)
	if _, err := w.admin.RevokeDevice(t.Context(), mac.id, ""); err != nil {
		t.Errorf("an administrator revoking it = %v", err)
	}
	if _, err := w.admin.RevokeDevice(t.Context(), mac.id, ""); err != nil {
		t.Errorf("revoking it again = %v", err)
	}
	if a, _, _ := w.admin.Account(t.Context(), "ada"); a.Trusted != 0 {
		t.Errorf("Trusted = %d, want 0", a.Trusted)
	}
	files := w.application("files")
	_, err := w.broker.BeginSignIn(t.Context(), files, approval.Request{Account: "ada"})
	wantReason(t, "BeginSignIn", err, approval.ReasonNoTrustedDevice)
}
