package approval_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/countersignd/countersign/internal/code"
	"github.com/countersignd/countersign/internal/statement"
	"github.com/countersignd/countersign/server/approval"
	"github.com/countersignd/countersign/server/approval/storetest"
)

// offline returns the code that the device makes at a moment by its own clock.
func (d *device) offline(at time.Time) string { return code.Offline(d.secret, code.Step(at)) }

func (w *world) verify(token string, s approval.SignIn, typed string) error {
	w.t.Helper()
	_, err := w.broker.VerifySignIn(w.t.Context(), token, s.ID, typed)
	return err
}

// wrongOffline returns eight digits that no device makes now.
func wrongOffline(right ...string) string {
	for i := 0; ; i++ {
		if digits := fmt.Sprintf("%08d", i); code.Find(right, digits) < 0 {
			return digits
		}
	}
}

// around returns the codes that a device whose clock is right could make now,
// and a few more.
func (d *device) around() []string {
	var codes []string
	for i := -5; i <= 5; i++ {
		codes = append(codes, d.offline(time.Now().Add(time.Duration(i)*code.StepLength)))
	}
	return codes
}

func TestS3AnOfflineCodeLetsIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.account("ada")
		files := w.application("files")
		mac, phone := w.enroll("ada"), w.enroll("ada")
		if mac.offline(time.Now()) == phone.offline(time.Now()) {
			t.Error("two devices make the same code")
		}
		s := w.begin(files, "ada")
		got, err := w.broker.VerifySignIn(t.Context(), files, s.ID, code.Group(mac.offline(time.Now())))
		if err != nil {
			t.Fatal(err)
		}
		if got.CodeLength != 8 || got.Receipt.Device != mac.id || got.Receipt.Statement != "" || got.Receipt.ApprovalKey.X == "" {
			t.Errorf("VerifySignIn = %d digits, receipt %+v, want 8 and the device without a statement", got.CodeLength, got.Receipt)
		}
		_, key := w.broker.SigningKey()
		public, err := key.PublicKey()
		if err != nil {
			t.Fatal(err)
		}
		id, _ := w.broker.SigningKey()
		grant, err := statement.Verify[statement.Grant](public, id, got.Grant)
		if err != nil || grant.Acr != "urn:countersign:acr:offline" || !cmp.Equal(grant.Amr, []string{"otp"}) {
			t.Errorf("grant = %+v, %v, want acr offline and amr otp alone", grant, err)
		}
		records, _, err := w.admin.ListRecords(t.Context(), approval.RecordFilter{Account: "ada"}, approval.Page{})
		if err != nil || records[0].Event != approval.EventSignInVerified || records[0].Device != mac.id ||
			records[0].Detail != "urn:countersign:acr:offline" || records[0].Statement != "" {
			t.Errorf("newest record = %+v, %v, want sign_in.verified with the device", records[0], err)
		}

		// After Allow the other devices' offline codes count as well, and the
		// receipt is not the Allow's.
		s = w.begin(files, "ada")
		mac.allow(s.ID)
		if got, err = w.broker.VerifySignIn(t.Context(), files, s.ID, phone.offline(time.Now())); err != nil || got.Receipt.Statement != "" || got.Receipt.Device != phone.id {
			t.Errorf("an offline code after Allow = %+v, %v", got.Receipt, err)
		}
	})
}

// TestOfflineStepsCountOnceAndRise uses a step, and tries it, those before it,
// and those too far away.
func TestOfflineStepsCountOnceAndRise(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.account("ada")
		files := w.application("files")
		mac := w.enroll("ada")
		time.Sleep(time.Hour)
		now := time.Now()
		at := func(steps int) string { return mac.offline(now.Add(time.Duration(steps) * code.StepLength)) }
		for _, steps := range []int{-3, -2, 2, 3} {
			wantReason(t, fmt.Sprintf("%d steps away", steps), w.verify(files, w.begin(files, "ada"), at(steps)), approval.ReasonCodeWrong)
		}
		time.Sleep(24 * time.Hour) // for the budget of wrong ones
		now = time.Now()
		if err := w.verify(files, w.begin(files, "ada"), at(0)); err != nil {
			t.Fatal(err)
		}
		wantReason(t, "the same code again", w.verify(files, w.begin(files, "ada"), at(0)), approval.ReasonCodeWrong)
		wantReason(t, "the code before it", w.verify(files, w.begin(files, "ada"), at(-1)), approval.ReasonCodeWrong)
		w.restart()
		wantReason(t, "the same code after a restart", w.verify(files, w.begin(files, "ada"), at(0)), approval.ReasonCodeWrong)
		if err := w.verify(files, w.begin(files, "ada"), at(1)); err != nil {
			t.Errorf("the code of the next step = %v", err)
		}
	})
}

// TestOfflineDrift lets a device's clock run away: a step at a time is followed,
// up to two, and no further; and a device that comes back is found again.
func TestOfflineDrift(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.account("ada")
		files := w.application("files")
		mac := w.enroll("ada")
		try := func(ahead int) error {
			time.Sleep(10 * code.StepLength)
			return w.verify(files, w.begin(files, "ada"), mac.offline(time.Now().Add(time.Duration(ahead)*code.StepLength)))
		}
		wantReason(t, "2 steps ahead at once", try(2), approval.ReasonCodeWrong)
		for _, ahead := range []int{0, 1, 2, 3, 3, 2, 1, 0, -1, -2, -3, -3} {
			if err := try(ahead); err != nil {
				t.Fatalf("%d steps ahead = %v", ahead, err)
			}
		}
		wantReason(t, "4 steps behind", try(-4), approval.ReasonCodeWrong)
		wantReason(t, "right again at once", try(0), approval.ReasonCodeWrong)
		if err := try(-1); err != nil {
			t.Errorf("a step behind again = %v", err)
		}
	})
}

// guesses is how often an attacker guesses at an offline code: 1,000,000 times with
// COUNTERSIGN_GUESSES=1000000, fewer in an ordinary run.
func guesses(t *testing.T) int {
	if s := os.Getenv("COUNTERSIGN_GUESSES"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	return 10_000
}

// TestA1OfflineGuesses guesses without an approval, over several sign-ins.
func TestA1OfflineGuesses(t *testing.T) {
	guesses := guesses(t)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, storetest.NewMemory())
		w.account("ada")
		files := w.application("files")
		right := w.enroll("ada").around()
		compared, refused := 0, 0
		var s approval.SignIn
		for i := range guesses {
			if i%(guesses/4) == 0 { // a new sign-in resets nothing
				s = w.begin(files, "ada")
			}
			guess := fmt.Sprintf("%08d", i*999%100_000_000)
			if code.Find(right, guess) >= 0 {
				guess = wrongOffline(right...)
			}
			switch err := w.verify(files, s, guess); {
			case errors.Is(err, &approval.Error{Reason: approval.ReasonCodeWrong}):
				compared++
			case errors.Is(err, &approval.Error{Reason: approval.ReasonTooManyTries}), errors.Is(err, &approval.Error{Reason: approval.ReasonTooManyFailures}):
				refused++
			default:
				t.Fatalf("guess %d = %v", i, err)
			}
		}
		if compared != 5 || refused != guesses-5 {
			t.Errorf("%d guesses were compared and %d refused, want 5 and %d", compared, refused, guesses-5)
		}
	})
}

// TestA2OfflineBudget guesses at offline codes for months, over as many
// sign-ins as it takes. The owner's code after Allow is compared all the while.
func TestA2OfflineBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, storetest.NewMemory())
		w.account("ada")
		files := w.application("files")
		mac := w.enroll("ada")
		compared := 0
		for day := range 60 {
			perDay := 0
			for range 3 {
				s := w.begin(files, "ada")
				for range 3 {
					guess := wrongOffline(mac.around()...)
					switch err := w.verify(files, s, guess); {
					case errors.Is(err, &approval.Error{Reason: approval.ReasonCodeWrong}):
						perDay++
					case !errors.Is(err, &approval.Error{Reason: approval.ReasonTooManyFailures}):
						t.Fatalf("a guess = %v", err)
					}
				}
				if _, err := w.broker.CancelSignIn(t.Context(), files, s.ID); err != nil {
					t.Fatal(err)
				}
			}
			if perDay > 5 {
				t.Errorf("day %d: %d guesses compared, want at most 5", day, perDay)
			}
			compared += perDay
			if day == 10 {
				s := w.begin(files, "ada")
				wantReason(t, "the right offline code after the budget", w.verify(files, s, mac.offline(time.Now())), approval.ReasonTooManyFailures)
				if err := w.verify(files, s, mac.allow(s.ID)); err != nil {
					t.Errorf("the code after Allow = %v, though only offline codes were guessed at", err)
				}
			}
			time.Sleep(24 * time.Hour)
			w.seen(mac)
		}
		if compared != 40 {
			t.Errorf("%d guesses compared in 60 days, want 40", compared)
		}
	})
}

// seen keeps a device from being dormant.
func (w *world) seen(d *device) {
	w.t.Helper()
	if err := w.broker.Seen(w.t.Context(), d.id); err != nil {
		w.t.Fatal(err)
	}
}

func TestA2WrongCodesAfterAllowTakeNothingFromOfflineOnes(t *testing.T) {
	w := newWorld(t, storetest.NewMemory())
	w.account("ada")
	files := w.application("files")
	mac := w.enroll("ada")
	for range 2 {
		s := w.begin(files, "ada")
		digits := wrong(mac.allow(s.ID))
		for range 5 {
			wantReason(t, "a wrong code", w.verify(files, s, digits), approval.ReasonCodeWrong)
		}
	}
	s := w.begin(files, "ada")
	wantReason(t, "ten wrong codes", w.verify(files, s, mac.allow(s.ID)), approval.ReasonTooManyFailures)
	if err := w.verify(files, s, mac.offline(time.Now())); err != nil {
		t.Errorf("an offline code after ten wrong ones of six digits = %v", err)
	}
}

func TestA2AThousandParallelOfflineTriesMakeFiveComparisons(t *testing.T) {
	w := newWorld(t, storetest.NewMemory())
	w.account("ada")
	files := w.application("files")
	mac := w.enroll("ada")
	guess := wrongOffline(mac.around()...)
	signIns := make([]approval.SignIn, 3) // the most that strangers have open
	for i := range signIns {
		signIns[i] = w.begin(files, "ada")
	}
	var compared, refused atomic.Int32
	var wg sync.WaitGroup
	for i := range 1000 {
		wg.Go(func() {
			switch err := w.verify(files, signIns[i%len(signIns)], guess); {
			case errors.Is(err, &approval.Error{Reason: approval.ReasonCodeWrong}):
				compared.Add(1)
			case errors.Is(err, &approval.Error{Reason: approval.ReasonTooManyTries}), errors.Is(err, &approval.Error{Reason: approval.ReasonTooManyFailures}):
				refused.Add(1)
			}
		})
	}
	wg.Wait()
	if compared.Load() != 5 || refused.Load() != 995 {
		t.Errorf("%d compared, %d refused, want 5 and 995", compared.Load(), refused.Load())
	}
}

func TestAHundredCallersUseOneOfflineCodeOnce(t *testing.T) {
	w := newWorld(t, storetest.NewMemory())
	w.account("ada")
	files := w.application("files")
	mac := w.enroll("ada")
	signIns := make([]approval.SignIn, 3) // the most that strangers have open
	for i := range signIns {
		signIns[i] = w.begin(files, "ada")
	}
	digits := mac.offline(time.Now())
	var wins atomic.Int32
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			if w.verify(files, signIns[i%len(signIns)], digits) == nil {
				wins.Add(1)
			}
		})
	}
	wg.Wait()
	if wins.Load() != 1 {
		t.Errorf("%d callers were let in by one offline code, want 1", wins.Load())
	}
}

// TestA9OfflineCodesOfWhoDoesNotCount has a row for each state of the device,
// the account and the sign-in in which an offline code must let nobody in.
func TestA9OfflineCodesOfWhoDoesNotCount(t *testing.T) {
	type scene struct {
		w          *world
		mac, other *device
		s          approval.SignIn
		files      string
	}
	for name, tc := range map[string]struct {
		do   func(*scene) error
		want approval.Reason
	}{
		"revoked": {func(c *scene) error {
			_, err := c.w.admin.RevokeDevice(c.w.t.Context(), c.mac.id, "stolen")
			return err
		}, approval.ReasonCodeWrong},
		"revoked by another": {func(c *scene) error { return c.other.revoke(c.mac.id) }, approval.ReasonCodeWrong},
		"suspended": {func(c *scene) error {
			_, err := c.w.admin.SuspendAccount(c.w.t.Context(), "ada", "")
			return err
		}, approval.ReasonAccountSuspended},
		"suspended and resumed": {func(c *scene) error {
			_, err := c.w.admin.SuspendAccount(c.w.t.Context(), "ada", "")
			time.Sleep(time.Second)
			_, err2 := c.w.admin.ResumeAccount(c.w.t.Context(), "ada")
			return errors.Join(err, err2)
		}, approval.ReasonSignInCancelled},
		"dormant": {func(c *scene) error {
			time.Sleep(91 * 24 * time.Hour)
			c.other = c.w.enroll("ada")
			c.s = c.w.begin(c.files, "ada")
			return nil
		}, approval.ReasonCodeWrong},
		"waiting": {func(c *scene) error {
			return c.w.changeDevice(c.mac.id, func(d *approval.Device) { d.State = approval.DeviceWaiting })
		}, approval.ReasonCodeWrong},
		"in no state": {func(c *scene) error {
			return c.w.changeDevice(c.mac.id, func(d *approval.Device) { d.State = "" })
		}, approval.ReasonCodeWrong},
		"unconfirmed after a restore": {func(c *scene) error {
			time.Sleep(time.Second)
			c.w.broker.Restore(time.Now())
			time.Sleep(10 * code.StepLength)
			c.other = c.w.enroll("ada")
			c.s = c.w.begin(c.files, "ada")
			return nil
		}, approval.ReasonCodeWrong},
		"of another account": {func(c *scene) error {
			c.w.account("bob")
			c.mac = c.w.enroll("bob")
			return nil
		}, approval.ReasonCodeWrong},
		"denial final": {func(c *scene) error {
			if err := c.w.policy("files", func(p *approval.Policy) { p.DenialFinal = true }); err != nil {
				return err
			}
			_, err := c.other.decide(c.s.ID, statement.Deny, "")
			time.Sleep(2 * code.StepLength)
			return err
		}, approval.ReasonSignInDenied},
		"cancelled": {func(c *scene) error {
			_, err := c.w.broker.CancelSignIn(c.w.t.Context(), c.files, c.s.ID)
			return err
		}, approval.ReasonSignInCancelled},
		"expired": {func(*scene) error {
			time.Sleep(5 * time.Minute)
			return nil
		}, approval.ReasonSignInExpired},
		"verified": {func(c *scene) error { return c.w.verify(c.files, c.s, c.other.allow(c.s.ID)) }, approval.ReasonSignInVerified},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil)
				w.account("ada")
				files := w.application("files")
				c := &scene{w: w, mac: w.enroll("ada"), other: w.enroll("ada"), s: w.begin(files, "ada"), files: files}
				if err := tc.do(c); err != nil {
					t.Fatal(err)
				}
				wantReason(t, "an offline code", w.verify(files, c.s, c.mac.offline(time.Now())), tc.want)
			})
		})
	}
}

// changeDevice writes into the store what nobody does yet.
func (w *world) changeDevice(id string, change func(*approval.Device)) error {
	d, err := w.admin.Device(w.t.Context(), id)
	if err != nil {
		return err
	}
	change(&d)
	return w.store.Update(w.t.Context(), func(tx approval.Tx) error { return approval.SaveDevice(tx, &d) })
}

// TestS4AnOfflineCodeUndoesAMistakenDenial tries a code from before the denial,
// which must not undo it, and the one that begins after it.
func TestS4AnOfflineCodeUndoesAMistakenDenial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.account("ada")
		files := w.application("files")
		mac := w.enroll("ada")
		time.Sleep(7 * time.Second) // somewhere in a step
		before := mac.offline(time.Now())
		s := w.begin(files, "ada")
		if _, err := mac.decide(s.ID, statement.Deny, statement.Mistake); err != nil {
			t.Fatal(err)
		}
		err := w.verify(files, s, before)
		wantReason(t, "the code from before the denial", err, approval.ReasonCodeWrong)
		if !strings.Contains(err.Error(), "next one") {
			t.Errorf("the refusal says %q, want it to say that the next code counts", err)
		}
		time.Sleep(code.StepLength)
		wantReason(t, "the code from before the denial, later", w.verify(files, s, before), approval.ReasonCodeWrong)
		if err := w.verify(files, s, mac.offline(time.Now())); err != nil {
			t.Errorf("the next code = %v", err)
		}
	})
}

// TestS4ADeviceAheadCannotUndoADenialWithAnOldCode has a device whose clock is
// known to be two steps ahead: what it shows at the denial has a later number.
func TestS4ADeviceAheadCannotUndoADenialWithAnOldCode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.account("ada")
		files := w.application("files")
		mac := w.enroll("ada")
		for ahead := range 3 {
			time.Sleep(5 * code.StepLength)
			if err := w.verify(files, w.begin(files, "ada"), mac.offline(time.Now().Add(time.Duration(ahead)*code.StepLength))); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(5*code.StepLength + time.Second)
		shown := mac.offline(time.Now().Add(2 * code.StepLength))
		s := w.begin(files, "ada")
		if _, err := mac.decide(s.ID, statement.Deny, ""); err != nil {
			t.Fatal(err)
		}
		wantReason(t, "what was shown before the denial", w.verify(files, s, shown), approval.ReasonCodeWrong)
		time.Sleep(code.StepLength)
		if err := w.verify(files, s, mac.offline(time.Now().Add(2*code.StepLength))); err != nil {
			t.Errorf("what it shows next = %v", err)
		}
	})
}

// TestA13SpentOfflineCodesStaySpentAfterARestore goes back to a store that has
// forgotten which codes were used.
func TestA13SpentOfflineCodesStaySpentAfterARestore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.account("ada")
		files := w.application("files")
		mac := w.enroll("ada")
		time.Sleep(time.Hour)
		// As far ahead as any code can have been used: known to be two steps
		// ahead, and one more.
		used := mac.offline(time.Now().Add(3 * code.StepLength))
		w.broker.Restore(time.Now())
		confirm := func(d *approval.Device) { d.Confirmed, d.OfflineDrift = w.broker.Now(), 2 }
		if err := w.changeDevice(mac.id, confirm); err != nil {
			t.Fatal(err)
		}
		for range 4 {
			wantReason(t, "a code from before the restore", w.verify(files, w.begin(files, "ada"), used), approval.ReasonCodeWrong)
			time.Sleep(code.StepLength)
		}
		if err := w.verify(files, w.begin(files, "ada"), mac.offline(time.Now().Add(2*code.StepLength))); err != nil {
			t.Errorf("a code from after the restore = %v", err)
		}
	})
}

// TestOfflineSecretsAreHandedOverOnce says when a device gets its secret, and
// that none is in the store (A15).
func TestOfflineSecretsAreHandedOverOnce(t *testing.T) {
	w := newWorld(t, nil)
	w.account("ada")
	mac := w.newDevice()
	in := mac.enrolling(w.invite("ada"))
	d, err := w.broker.EnrollDevice(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	mac.account = d.Account
	secret := w.broker.OfflineSecret(&d.Device)
	again, err := w.broker.EnrollDevice(t.Context(), in)
	if err != nil || len(secret) != 32 || !cmp.Equal(w.broker.OfflineSecret(&again.Device), secret) {
		t.Errorf("enrolled again: %v, want the same secret of 32 bytes", err)
	}
	self, err := w.broker.Self(t.Context(), mac.id)
	if err != nil || !cmp.Equal(w.broker.OfflineSecret(&self.Device), secret) {
		t.Errorf("Self: %v, want the same secret", err)
	}
	got, err := mac.requestCode()
	if err != nil || !cmp.Equal(got.OfflineSecret, secret) {
		t.Errorf("CreateCode = %v, want the same secret, as it is signed by the approval key", err)
	}
	if self, err = w.broker.Self(t.Context(), mac.id); err != nil || w.broker.OfflineSecret(&self.Device) != nil {
		t.Errorf("Self after the first statement: %v, want no secret for who has only the identity key", err)
	}
	if _, err := w.admin.RevokeDevice(t.Context(), mac.id, ""); err != nil {
		t.Fatal(err)
	}
	revoked, err := w.admin.Device(t.Context(), mac.id)
	if err != nil || w.broker.OfflineSecret(&revoked) != nil {
		t.Errorf("a revoked device: %v, want no secret", err)
	}
	stored := fmt.Sprint(dump(t, w.store))
	for _, form := range []string{string(secret), base64.RawStdEncoding.EncodeToString(secret), encode64(secret), fmt.Sprintf("%x", secret)} {
		if strings.Contains(stored, form) {
			t.Error("the secret is in the store")
		}
	}
}
