package approval_test

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/countersignd/countersign/internal/recovery"
	"github.com/countersignd/countersign/internal/statement"
	"github.com/countersignd/countersign/server/approval"
	"github.com/countersignd/countersign/server/approval/storetest"
)

func (d *device) recovering(account, code string) approval.Recovering {
	d.w.t.Helper()
	jwk, err := statement.NewJWK(&d.approval.PublicKey)
	if err != nil {
		d.w.t.Fatal(err)
	}
	canonical, err := recovery.Parse(code)
	if err != nil {
		canonical = code
	}
	jws, err := statement.Sign(d.approval, statement.Enrollment{
		Account: account, ApprovalKey: jwk, Aud: d.w.broker.Deployment(), Device: d.id, Iat: time.Now().Unix(),
		KeyStorage: "file", Kind: "phone", Name: "New phone", Recovery: recovery.Hash(account, canonical), ServerKey: d.w.broker.ServerKey(),
	})
	if err != nil {
		d.w.t.Fatal(err)
	}
	return approval.Recovering{Device: d.id, Statement: jws, Code: code, Address: "192.0.2.77"}
}

func (d *device) recover(account, code string) (approval.Recovery, error) {
	d.w.t.Helper()
	got, err := d.w.broker.RecoverDevice(d.w.t.Context(), d.recovering(account, code))
	if err == nil {
		d.account = account
	}
	return got, err
}

// resume asks what became of the recovery, as a device does that knows no more
// than its keys.
func (d *device) resume() (approval.Recovery, error) {
	return d.w.broker.RecoverDevice(d.w.t.Context(), approval.Recovering{Device: d.id, Address: "192.0.2.77"})
}

func (d *device) renewal() string {
	d.w.t.Helper()
	d.counter++
	jws, err := statement.Sign(d.approval, statement.RecoveryRenewal{
		Account: d.account, ApprovalKey: keyID(d.w.t, d.approval), Aud: d.w.broker.Deployment(), Counter: d.counter,
		Device: d.id, Iat: time.Now().Unix(), ServerKey: d.w.broker.ServerKey(),
	})
	if err != nil {
		d.w.t.Fatal(err)
	}
	return jws
}

func (d *device) renew() []string {
	d.w.t.Helper()
	codes, err := d.w.broker.CreateRecoveryCodes(d.w.t.Context(), d.id, d.renewal(), "192.0.2.9")
	if err != nil {
		d.w.t.Fatal(err)
	}
	return codes
}

// events returns what the record says of an account, oldest first.
func (w *world) events(account string) []string {
	w.t.Helper()
	records, _, err := w.admin.ListRecords(w.t.Context(), approval.RecordFilter{Account: account}, approval.Page{Size: 1000})
	if err != nil {
		w.t.Fatal(err)
	}
	var events []string
	for _, r := range slices.Backward(records) {
		events = append(events, string(r.Event))
	}
	return events
}

func TestTheFirstDeviceGetsTenRecoveryCodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.account("ada")
		mac, in := w.newDevice(), approval.Enrolling{}
		enroll := func() []string {
			got, err := w.broker.EnrollDevice(t.Context(), in)
			if err != nil {
				t.Fatal(err)
			}
			return got.RecoveryCodes
		}
		in = mac.enrolling(w.invite("ada"))
		codes := enroll()
		if len(codes) != 10 || len(slices.Compact(slices.Sorted(slices.Values(codes)))) != 10 {
			t.Fatalf("the first device got %q, want ten codes", codes)
		}
		for _, c := range codes {
			if got, err := recovery.Parse(c); err != nil || got != c {
				t.Errorf("Parse(%q) = %q, %v", c, got, err)
			}
		}
		// The answer was lost, and the server restarted.
		w.restart()
		if again := enroll(); !slices.Equal(again, codes) {
			t.Errorf("repeated EnrollDevice shows %q, want the same codes", again)
		}
		if phone := w.enroll("ada"); phone.codes != nil {
			t.Errorf("the second device got %q", phone.codes)
		}
		time.Sleep(10 * time.Minute)
		if late := enroll(); late != nil {
			t.Errorf("after ten minutes EnrollDevice shows %q", late)
		}
		a, _, err := w.admin.Account(t.Context(), "ada")
		if err != nil || a.RecoveryCodes != 10 || time.Since(a.RecoveryMade) != 10*time.Minute {
			t.Errorf("Account = %+v, %v, want ten codes made ten minutes ago", a, err)
		}
		// Another account's first device gets others.
		w.account("bob")
		if bobs := w.enroll("bob").codes; len(bobs) != 10 || slices.Contains(codes, bobs[0]) {
			t.Errorf("bob got %q", bobs)
		}
	})
}

func TestCodesAreNotShownAgainOnceOneWasUsed(t *testing.T) {
	w := newWorld(t, nil)
	w.account("ada")
	mac := w.newDevice()
	in := mac.enrolling(w.invite("ada"))
	got, err := w.broker.EnrollDevice(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.newDevice().recover("ada", got.RecoveryCodes[0]); err != nil {
		t.Fatal(err)
	}
	if again, err := w.broker.EnrollDevice(t.Context(), in); err != nil || again.RecoveryCodes != nil {
		t.Errorf("EnrollDevice = %q, %v, want no codes", again.RecoveryCodes, err)
	}
}

// Devices that were lost count until they are revoked, which an owner who has none
// left cannot do: she is told who can, and then her code is good still.
func TestARecoveryCodeOfAFullAccountIsNotSpent(t *testing.T) {
	w := newWorld(t, nil)
	w.account("ada")
	first := w.enroll("ada")
	for range 19 {
		w.enroll("ada")
	}
	phone := w.newDevice()
	_, err := phone.recover("ada", first.codes[0])
	wantReason(t, "a recovery code for the 21st device", err, approval.ReasonTooManyDevices)
	if err == nil || !strings.Contains(err.Error(), "ask an administrator") {
		t.Errorf("recovering the 21st device = %v, want it to say whom to ask", err)
	}
	if _, err := w.admin.RevokeDevice(t.Context(), first.id, "lost"); err != nil {
		t.Fatal(err)
	}
	if got, err := phone.recover("ada", first.codes[0]); err != nil || got.Device.State != approval.DeviceTrusted || got.CodesLeft != 9 {
		t.Errorf("the same code when one was revoked = %+v, %v", got, err)
	}
}

func TestARecoveryCodeEnrolsOneDevice(t *testing.T) {
	w := newWorld(t, nil)
	w.account("ada")
	mac, phone := w.enroll("ada"), w.newDevice()
	watch := w.broker.WatchDevice(mac.id)
	defer watch.Close()
	typed := strings.ToLower(recovery.Group(mac.codes[3]))
	for range 2 { // the answer may be lost
		got, err := phone.recover("ada", typed)
		if err != nil || got.CodesLeft != 9 || got.Device.State != approval.DeviceTrusted || got.Device.EnrolledBy != (approval.Actor{Kind: approval.ActorRecovery}) {
			t.Fatalf("RecoverDevice = %+v, %v", got, err)
		}
		w.restart()
	}
	if got, err := phone.resume(); err != nil || got.Device.ID != phone.id || got.CodesLeft != 9 {
		t.Errorf("RecoverDevice with neither statement nor code = %+v, %v", got, err)
	}
	if err := watch.Wait(t.Context()); err != nil {
		t.Errorf("the other device was not rung: %v", err)
	}
	_, err := w.newDevice().recover("ada", typed)
	wantReason(t, "the used code", err, approval.ReasonRecoveryCodeInvalid)
	_, err = phone.recover("ada", mac.codes[4])
	wantReason(t, "another code for the same keys", err, approval.ReasonKeyInUse)
	_, err = mac.recover("ada", mac.codes[4])
	wantReason(t, "a code for keys that are trusted", err, approval.ReasonKeyInUse)
	_, err = w.newDevice().resume()
	wantReason(t, "going on with nothing", err, approval.ReasonDeviceUnknown)

	files := w.application("files")
	s := w.begin(files, "ada")
	phone.allow(s.ID)
	if self, err := w.broker.Self(t.Context(), mac.id); err != nil || self.RecoveryCodes != 9 {
		t.Errorf("Self = %+v, %v, want nine codes left", self, err)
	}
	want := []string{"account.added", "invitation.created", "device.enrolled", "recovery.codes_created", "recovery.code_used", "device.enrolled"}
	if got := w.events("ada"); !slices.Equal(got[:6], want) {
		t.Errorf("the record says %q, want %q", got, want)
	}
}

func TestRenewedRecoveryCodesVoidTheOlder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.account("ada")
		mac := w.enroll("ada")
		jws := mac.renewal()
		codes, err := w.broker.CreateRecoveryCodes(t.Context(), mac.id, jws, "")
		if err != nil || len(codes) != 10 || slices.Contains(mac.codes, codes[0]) {
			t.Fatalf("CreateRecoveryCodes = %q, %v, want ten others", codes, err)
		}
		if again, err := w.broker.CreateRecoveryCodes(t.Context(), mac.id, jws, ""); err != nil || !slices.Equal(again, codes) {
			t.Errorf("the same statement again = %q, %v, want the same codes", again, err)
		}
		_, err = w.newDevice().recover("ada", mac.codes[0])
		wantReason(t, "an older code", err, approval.ReasonRecoveryCodeInvalid)
		if got, err := w.newDevice().recover("ada", codes[0]); err != nil || got.CodesLeft != 9 {
			t.Errorf("a new code = %+v, %v", got, err)
		}
		_, err = w.broker.CreateRecoveryCodes(t.Context(), mac.id, jws, "")
		wantReason(t, "the same statement after a code was used", err, approval.ReasonCounterReused)

		jws = mac.renewal()
		if _, err := w.broker.CreateRecoveryCodes(t.Context(), mac.id, jws, ""); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute)
		_, err = w.broker.CreateRecoveryCodes(t.Context(), mac.id, jws, "")
		wantReason(t, "the same statement after ten minutes", err, approval.ReasonCounterReused)

		// A statement of another kind makes no codes, and this kind nothing else.
		_, err = w.broker.CreateCode(t.Context(), mac.id, mac.renewal(), "")
		wantReason(t, "a renewal as a code request", err, approval.ReasonStatementInvalid)
		mac.counter++
		request, err := statement.Sign(mac.approval, statement.CodeRequest{
			Account: "ada", ApprovalKey: keyID(t, mac.approval), Aud: w.broker.Deployment(), Counter: mac.counter,
			Device: mac.id, Iat: time.Now().Unix(), ServerKey: w.broker.ServerKey(),
		})
		if err != nil {
			t.Fatal(err)
		}
		_, err = w.broker.CreateRecoveryCodes(t.Context(), mac.id, request, "")
		wantReason(t, "a code request as a renewal", err, approval.ReasonStatementInvalid)
	})
}

// TestA9ARecoveryCodeNeverYieldsAGrant hands recovery codes, and what a device
// signs with them, in everywhere else; and codes of other kinds here.
func TestA9ARecoveryCodeNeverYieldsAGrant(t *testing.T) {
	w := newWorld(t, nil)
	w.account("ada")
	mac := w.enroll("ada")
	files := w.application("files")
	s := w.begin(files, "ada")
	allowed := mac.allow(s.ID)
	for _, code := range []string{mac.codes[0], recovery.Group(mac.codes[0]), mac.codes[0][:6], mac.codes[0][:8]} {
		if _, err := w.broker.VerifySignIn(t.Context(), files, s.ID, code); err == nil {
			t.Fatalf("VerifySignIn(%q) gave a grant", code)
		}
	}
	phone := w.newDevice()
	in := phone.recovering("ada", mac.codes[0])
	_, _, err := w.broker.RequestTrust(t.Context(), approval.Requesting{Device: phone.id, Statement: in.Statement})
	wantReason(t, "RequestTrust with it", err, approval.ReasonStatementMismatch)
	_, err = w.broker.EnrollDevice(t.Context(), approval.Enrolling{Device: phone.id, Statement: in.Statement, Token: mac.codes[0]})
	wantReason(t, "EnrollDevice with it", err, approval.ReasonStatementMismatch)
	_, err = w.broker.EnrollDevice(t.Context(), phone.enrolling(mac.codes[0]))
	wantReason(t, "it as an invitation", err, approval.ReasonInvitationInvalid)
	wantReason(t, "it as the code after Allow", phone.completeTrust(phone.requestTrust("ada"), mac.codes[0]), approval.ReasonInvalidField)

	_, err = phone.recover("ada", allowed)
	wantReason(t, "a sign-in's code", err, approval.ReasonInvalidField)
	for what, in := range map[string]approval.Recovering{
		"a request for trust": {Device: phone.id, Statement: phone.requesting("ada").Statement, Code: mac.codes[0]},
		"another code":        {Device: phone.id, Statement: in.Statement, Code: mac.codes[1]},
		"no account":          {Device: phone.id, Statement: phone.enrolling(mac.codes[0]).Statement, Code: mac.codes[0]},
	} {
		_, err := w.broker.RecoverDevice(t.Context(), in)
		wantReason(t, "a statement that names "+what, err, approval.ReasonStatementMismatch)
	}
	in.Device = w.newDevice().id
	_, err = w.broker.RecoverDevice(t.Context(), in)
	wantReason(t, "another device's statement", err, approval.ReasonStatementInvalid)
	if a, _, err := w.admin.Account(t.Context(), "ada"); err != nil || a.RecoveryCodes != 10 || a.Trusted != 1 {
		t.Errorf("Account = %+v, %v, want nothing changed", a, err)
	}
}

// TestA17ARecoveryTellsNothing compares all that a stranger may hit upon: the
// answers are the same, word for word, and none leaves a trace in the account.
func TestA17ARecoveryTellsNothing(t *testing.T) {
	w := newWorld(t, nil)
	for _, name := range []string{"ada", "empty", "gone"} {
		w.account(name)
	}
	mac, gone := w.enroll("ada"), w.enroll("gone")
	if _, err := w.admin.SuspendAccount(t.Context(), "gone", ""); err != nil {
		t.Fatal(err)
	}
	voided := mac.codes[0]
	codes := mac.renew()
	if _, err := w.newDevice().recover("ada", codes[0]); err != nil {
		t.Fatal(err)
	}
	before := w.events("ada")
	var first error
	for i, c := range []struct{ what, account, code string }{
		{"a wrong code", "ada", "0000-0000-0000-0000"},
		{"a used code", "ada", codes[0]},
		{"a voided code", "ada", voided},
		{"a suspended account", "gone", gone.codes[0]},
		{"an account without codes", "empty", codes[1]},
		{"no account", "nobody", codes[1]},
		{"another account", "empty", codes[2]},
	} {
		in := w.newDevice().recovering(c.account, c.code)
		in.Address = fmt.Sprintf("192.0.2.%d", i)
		_, err := w.broker.RecoverDevice(t.Context(), in)
		wantReason(t, c.what, err, approval.ReasonRecoveryCodeInvalid)
		if first == nil {
			first = err
		} else if err != nil && err.Error() != first.Error() {
			t.Errorf("%s is answered with %q, others with %q", c.what, err, first)
		}
	}
	if after := w.events("ada"); len(after) != len(before) {
		t.Errorf("refused codes were recorded: %q", after[len(before):])
	}
	// The code of a suspended account was not used up.
	if _, err := w.admin.ResumeAccount(t.Context(), "gone"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.newDevice().recover("gone", gone.codes[0]); err != nil {
		t.Errorf("the code after the account was resumed = %v", err)
	}
}

// TestA24StrangersCannotUseUpTheTriesOfAnOwner: five refused codes a day for a
// source, whatever the account, and none of another source.
func TestA24StrangersCannotUseUpTheTriesOfAnOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.account("ada")
		mac := w.enroll("ada")
		try := func(address, account, code string) error {
			in := w.newDevice().recovering(account, code)
			in.Address = address
			_, err := w.broker.RecoverDevice(t.Context(), in)
			return err
		}
		const wrong = "0000-0000-0000-0000"
		for i, source := range []struct{ stranger, same, owner string }{
			{"203.0.113.7", "::ffff:203.0.113.7", "203.0.113.8"},
			{"2001:db8:1:2::1", "2001:db8:1:2:ffff::9", "2001:db8:1:3::1"},
			{"", "no address", "198.51.100.1"},
		} {
			for n := range 5 {
				wantReason(t, "malformed", try(source.stranger, "ada", "1234"), approval.ReasonInvalidField)
				account := []string{"ada", "nobody"}[n%2]
				wantReason(t, "a wrong code", try(source.stranger, account, wrong), approval.ReasonRecoveryCodeInvalid)
				w.restart() // counts survive
			}
			for _, account := range []string{"ada", "nobody"} {
				wantReason(t, "the sixth", try(source.same, account, wrong), approval.ReasonTooManyFailures)
				wantReason(t, "the sixth, right or not", try(source.stranger, account, mac.codes[9]), approval.ReasonTooManyFailures)
			}
			if err := try(source.owner, "ada", mac.codes[i]); err != nil {
				t.Errorf("the owner from %s = %v", source.owner, err)
			}
		}
		time.Sleep(24*time.Hour - time.Second)
		wantReason(t, "a second before the day is over", try("203.0.113.7", "ada", wrong), approval.ReasonTooManyFailures)
		time.Sleep(time.Second)
		if err := try("203.0.113.7", "ada", mac.codes[5]); err != nil {
			t.Errorf("a day later = %v", err)
		}
	})
}

// TestA16RefusedRecoveryCodesFillNoDisk: what is remembered of sources is bounded,
// and those that are over are forgotten.
func TestA16RefusedRecoveryCodesFillNoDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := storetest.NewMemory()
		w := newWorld(t, memory)
		sources := func() (n int) {
			if err := memory.View(t.Context(), func(tx approval.Tx) error {
				for range tx.Ascend("recovery_tries", "") {
					n++
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			return n
		}
		if err := memory.Update(t.Context(), func(tx approval.Tx) error {
			for i := range 4090 {
				when := strconv.FormatInt(time.Now().Add(time.Duration(i)*time.Millisecond).UnixNano(), 10)
				if err := tx.Put("recovery_tries", fmt.Sprintf("2001:db8:1:%x::", i), []byte(when)); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		in := w.newDevice().recovering("nobody", "0000-0000-0000-0000")
		for i := range 20 {
			in.Address = fmt.Sprintf("2001:db8:2:%x::1", i)
			_, err := w.broker.RecoverDevice(t.Context(), in)
			wantReason(t, "a wrong code", err, approval.ReasonRecoveryCodeInvalid)
		}
		if n := sources(); n != 4096 {
			t.Errorf("%d sources are remembered, want 4096", n)
		}
		for range 4 {
			_, err := w.broker.RecoverDevice(t.Context(), in)
			wantReason(t, "a wrong code", err, approval.ReasonRecoveryCodeInvalid)
		}
		_, err := w.broker.RecoverDevice(t.Context(), in)
		wantReason(t, "the sixth of a source that is remembered", err, approval.ReasonTooManyFailures)
		time.Sleep(24 * time.Hour)
		if _, err := w.broker.RecoverDevice(t.Context(), in); err == nil {
			t.Fatal("a wrong code was taken")
		}
		if n := sources(); n != 1 {
			t.Errorf("a day later %d sources are remembered, want 1", n)
		}
	})
}

func TestA10OneRecoveryCodeAHundredParallelUses(t *testing.T) {
	w := newWorld(t, storetest.NewMemory())
	w.account("ada")
	mac := w.enroll("ada")
	var wins atomic.Int32
	var wg sync.WaitGroup
	for i := range 100 {
		in := w.newDevice().recovering("ada", mac.codes[0])
		in.Address = fmt.Sprintf("192.0.2.%d", i)
		wg.Go(func() {
			if _, err := w.broker.RecoverDevice(t.Context(), in); err == nil {
				wins.Add(1)
			} else if !errors.Is(err, &approval.Error{Reason: approval.ReasonRecoveryCodeInvalid}) {
				t.Errorf("RecoverDevice = %v", err)
			}
		})
	}
	wg.Wait()
	if a, devices, err := w.admin.Account(t.Context(), "ada"); wins.Load() != 1 || a.Trusted != 2 || len(devices) != 2 || a.RecoveryCodes != 9 || err != nil {
		t.Errorf("%d of 100 uses succeeded, %d devices, %d codes left, %v, want 1, 2, 9", wins.Load(), len(devices), a.RecoveryCodes, err)
	}
}

// TestA13RecoveryCodesFromBeforeARestoreAreVoid: the backup may have forgotten
// which were used.
func TestA13RecoveryCodesFromBeforeARestoreAreVoid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.account("ada")
		mac := w.enroll("ada")
		time.Sleep(time.Hour)
		w.broker.Restore(time.Now())
		_, err := w.newDevice().recover("ada", mac.codes[0])
		wantReason(t, "a code from before", err, approval.ReasonRecoveryCodeInvalid)
		if a, _, err := w.admin.Account(t.Context(), "ada"); err != nil || a.RecoveryCodes != 0 || !a.RecoveryMade.IsZero() {
			t.Errorf("Account = %+v, %v, want no codes", a, err)
		}
		time.Sleep(time.Second)
		phone := w.enroll("ada")
		if len(phone.codes) != 10 {
			t.Fatalf("the next device got %q, want ten codes", phone.codes)
		}
		if _, err := w.newDevice().recover("ada", phone.codes[0]); err != nil {
			t.Errorf("a code from afterwards = %v", err)
		}
	})
}

// TestA15NoRecoveryCodeIsInTheStore looks for the codes in all that is stored,
// in every spelling, and for their plain hashes while they are good.
func TestA15NoRecoveryCodeIsInTheStore(t *testing.T) {
	memory := storetest.NewMemory()
	w := newWorld(t, memory)
	w.account("ada")
	mac := w.enroll("ada")
	all := slices.Concat(mac.codes, mac.renew())
	for _, code := range all[10:13] {
		if _, err := w.newDevice().recover("ada", code); err != nil {
			t.Fatal(err)
		}
	}
	var stored strings.Builder
	if err := memory.View(t.Context(), func(tx approval.Tx) error {
		for _, bucket := range approval.Buckets() {
			for key, value := range tx.Ascend(bucket, "") {
				fmt.Fprintf(&stored, "%s %s\n", key, value)
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	text := strings.ToUpper(stored.String())
	if !strings.Contains(text, `"ID":`) {
		t.Fatal("nothing is stored")
	}
	for i, code := range all {
		for _, planted := range []string{code, recovery.Group(code), code[:8], code[8:]} {
			if strings.Contains(text, planted) {
				t.Errorf("%q is in the store", planted)
			}
		}
		if spent := 10 <= i && i < 13; !spent && strings.Contains(text, strings.ToUpper(recovery.Hash("ada", code))) {
			t.Errorf("the plain hash of code %d is in the store", i)
		}
	}
}

func TestTheLastDeviceGoesIfRecoveryCodesAreLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.account("ada")
		mac, drawer := w.enroll("ada"), w.enroll("ada")
		codes := mac.codes
		// A device that is there but dormant can approve nothing.
		for range 2 {
			time.Sleep(60 * 24 * time.Hour)
			if err := w.broker.Seen(t.Context(), mac.id); err != nil {
				t.Fatal(err)
			}
		}
		if err := mac.revoke(mac.id); err != nil {
			t.Fatalf("with recovery codes: %v", err)
		}
		_, err := drawer.screen()
		wantReason(t, "the device in the drawer", err, approval.ReasonDeviceDormant)
		phone := w.newDevice()
		if _, err := phone.recover("ada", codes[0]); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		for _, code := range codes[1:] {
			d := w.newDevice()
			if _, err := d.recover("ada", code); err != nil {
				t.Fatal(err)
			}
			if err := phone.revoke(d.id); err != nil {
				t.Fatal(err)
			}
		}
		wantReason(t, "without recovery codes", phone.revoke(phone.id), approval.ReasonLastDevice)
		phone.renew()
		if err := phone.revoke(phone.id); err != nil {
			t.Errorf("with new recovery codes: %v", err)
		}
	})
}
