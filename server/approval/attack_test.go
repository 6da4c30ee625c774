package approval_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/countersignd/countersign/internal/statement"
	"github.com/countersignd/countersign/server/approval"
	"github.com/countersignd/countersign/server/approval/storetest"
)

func TestA1NoCodeExistsWithoutAnApproval(t *testing.T) {
	w := newWorld(t, storetest.NewMemory())
	w.account("ada")
	files := w.application("files")
	w.enroll("ada")
	s := w.begin(files, "ada")
	for i := range 50_000 {
		_, err := w.broker.VerifySignIn(t.Context(), files, s.ID, fmt.Sprintf("%06d", i*20))
		if !errors.Is(err, &approval.Error{Reason: approval.ReasonSignInPending}) {
			t.Fatalf("guess %d = %v, want SIGN_IN_PENDING", i, err)
		}
	}
}

func TestA2TheSixthTryIsNeverCompared(t *testing.T) {
	w := newWorld(t, storetest.NewMemory())
	w.account("ada")
	files := w.application("files")
	mac := w.enroll("ada")
	s := w.begin(files, "ada")
	code := mac.allow(s.ID)
	for i := range 5 {
		_, err := w.broker.VerifySignIn(t.Context(), files, s.ID, wrong(code))
		wantReason(t, "a wrong code", err, approval.ReasonCodeWrong)
		var e *approval.Error
		if errors.As(err, &e); e.TriesLeft != 4-i {
			t.Errorf("TriesLeft = %d, want %d", e.TriesLeft, 4-i)
		}
		w.restart() // counts survive
	}
	_, err := w.broker.VerifySignIn(t.Context(), files, s.ID, code)
	wantReason(t, "the right code as the sixth try", err, approval.ReasonTooManyTries)

	// A new sign-in does not reset the account's count: five more and no code
	// is compared at all.
	s = w.begin(files, "ada")
	code = mac.allow(s.ID)
	for range 5 {
		_, err = w.broker.VerifySignIn(t.Context(), files, s.ID, wrong(code))
		wantReason(t, "a wrong code", err, approval.ReasonCodeWrong)
	}
	s = w.begin(files, "ada")
	code = mac.allow(s.ID)
	_, err = w.broker.VerifySignIn(t.Context(), files, s.ID, code)
	wantReason(t, "a right code after ten wrong ones", err, approval.ReasonTooManyFailures)
}

func TestA2AThousandParallelTriesMakeFiveComparisons(t *testing.T) {
	w := newWorld(t, storetest.NewMemory())
	w.account("ada")
	files := w.application("files")
	mac := w.enroll("ada")
	s := w.begin(files, "ada")
	code := wrong(mac.allow(s.ID))
	var compared, dead atomic.Int32
	var wg sync.WaitGroup
	for range 1000 {
		wg.Go(func() {
			switch _, err := w.broker.VerifySignIn(t.Context(), files, s.ID, code); {
			case errors.Is(err, &approval.Error{Reason: approval.ReasonCodeWrong}):
				compared.Add(1)
			case errors.Is(err, &approval.Error{Reason: approval.ReasonTooManyTries}):
				dead.Add(1)
			}
		})
	}
	wg.Wait()
	if compared.Load() != 5 || dead.Load() != 995 {
		t.Errorf("%d compared, %d refused, want 5 and 995", compared.Load(), dead.Load())
	}
}

func TestAHundredCallersVerifyOneCodeOnce(t *testing.T) {
	w := newWorld(t, storetest.NewMemory())
	w.account("ada")
	files := w.application("files")
	mac := w.enroll("ada")
	s := w.begin(files, "ada")
	code := mac.allow(s.ID)
	var wins atomic.Int32
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			if _, err := w.broker.VerifySignIn(t.Context(), files, s.ID, code); err == nil {
				wins.Add(1)
			} else if !errors.Is(err, &approval.Error{Reason: approval.ReasonSignInVerified}) {
				t.Errorf("VerifySignIn = %v", err)
			}
		})
	}
	wg.Wait()
	if wins.Load() != 1 {
		t.Errorf("%d callers were let in, want 1", wins.Load())
	}
}

func TestA4TheCodeOfOneSignInIsWrongForAnother(t *testing.T) {
	w := newWorld(t, nil)
	w.account("ada")
	files, mail := w.application("files"), w.application("mail")
	mac := w.enroll("ada")
	owner, thief := w.begin(files, "ada"), w.begin(files, "ada")
	code := mac.allow(owner.ID)
	_, err := w.broker.VerifySignIn(t.Context(), files, thief.ID, code)
	wantReason(t, "the code at the sign-in beside it", err, approval.ReasonSignInPending)
	if other := mac.allow(thief.ID); other != code {
		_, err = w.broker.VerifySignIn(t.Context(), files, thief.ID, code)
		wantReason(t, "the code at another approved sign-in", err, approval.ReasonCodeWrong)
	}
	_, err = w.broker.VerifySignIn(t.Context(), mail, owner.ID, code)
	wantReason(t, "the code from another application", err, approval.ReasonSignInUnknown)
	_, err = w.broker.SignIn(t.Context(), mail, owner.ID)
	wantReason(t, "another application reading it", err, approval.ReasonSignInUnknown)
}

// TestA5AReplayedDecisionIsRefused hands in a decision where it does not
// belong, with each claim changed on its own, and looks that nothing moved.
func TestA5AReplayedDecisionIsRefused(t *testing.T) {
	w := newWorld(t, nil)
	w.account("ada")
	w.account("bob")
	files := w.application("files")
	mac, phone, bobs := w.enroll("ada"), w.enroll("ada"), w.enroll("bob")
	s, beside := w.begin(files, "ada"), w.begin(files, "ada")
	document := mac.shown(s.ID)
	mac.counter = 7
	good := mac.claims(document, statement.Allow, "")
	another := newWorld(t, nil)
	change := func(f func(*statement.Decision)) string {
		c := good
		f(&c)
		return mac.sign(c)
	}
	prompt := func(f func(*statement.Prompt)) string {
		p, err := statement.ParsePrompt(document)
		if err != nil {
			t.Fatal(err)
		}
		f(&p)
		return mac.sign(mac.claims(p.Encode(), statement.Allow, ""))
	}
	for name, c := range map[string]struct {
		device string
		jws    string
		want   approval.Reason
	}{
		"another deployment":      {mac.id, change(func(c *statement.Decision) { c.Aud = another.broker.Deployment() }), approval.ReasonStatementMismatch},
		"another server key":      {mac.id, change(func(c *statement.Decision) { c.ServerKey = another.broker.ServerKey() }), approval.ReasonStatementMismatch},
		"sent by another device":  {phone.id, mac.sign(good), approval.ReasonStatementInvalid},
		"sent by another account": {bobs.id, mac.sign(good), approval.ReasonStatementInvalid},
		"sent by nobody":          {w.newDevice().id, mac.sign(good), approval.ReasonDeviceUnknown},
		"another message":         {mac.id, prompt(func(p *statement.Prompt) { p.Message = "Pay 1 €" }), approval.ReasonStatementMismatch},
		"another place":           {mac.id, prompt(func(p *statement.Prompt) { p.Requester.Place = "Home" }), approval.ReasonStatementMismatch},
		"another sign-in":         {mac.id, prompt(func(p *statement.Prompt) { p.SignIn = beside.ID }), approval.ReasonStatementMismatch},
		"another nonce":           {mac.id, prompt(func(p *statement.Prompt) { p.Nonce = base64.RawURLEncoding.EncodeToString(make([]byte, 32)) }), approval.ReasonStatementMismatch},
		"the phone's prompt":      {mac.id, mac.sign(mac.claims(phone.shown(s.ID), statement.Allow, "")), approval.ReasonStatementMismatch},
		"another account's name":  {mac.id, prompt(func(p *statement.Prompt) { p.Account = "bob" }), approval.ReasonStatementMismatch},
		"another application":     {mac.id, prompt(func(p *statement.Prompt) { p.Application.ID = "mail" }), approval.ReasonStatementMismatch},
		"no statement":            {mac.id, "", approval.ReasonStatementInvalid},
	} {
		_, err := w.broker.Decide(t.Context(), c.device, c.jws, "")
		wantReason(t, name, err, c.want)
	}
	for _, id := range []string{s.ID, beside.ID} {
		if got, err := w.broker.SignIn(t.Context(), files, id); err != nil || got.At(time.Now()) != approval.Pending {
			t.Errorf("after the replays the sign-in is %v, %v, want pending", got.At(time.Now()), err)
		}
	}
	jws := mac.sign(good)
	first, err := w.broker.Decide(t.Context(), mac.id, jws, "")
	if err != nil {
		t.Fatal(err)
	}
	if again, err := w.broker.Decide(t.Context(), mac.id, jws, ""); err != nil || again.Digits != first.Digits || !again.Expires.Equal(first.Expires) {
		t.Errorf("the same decision again = %v, %v, want %v", again, err, first)
	}
}

func TestA6ADenialIsNeverAnAllow(t *testing.T) {
	w := newWorld(t, nil)
	w.account("ada")
	files := w.application("files")
	mac := w.enroll("ada")
	s := w.begin(files, "ada")
	deny := mac.decision(mac.shown(s.ID), statement.Deny, "")
	parts := strings.Split(deny, ".")
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	parts[1] = base64.RawURLEncoding.EncodeToString([]byte(strings.Replace(string(payload), `"deny"`, `"allow"`, 1)))
	_, err = w.broker.Decide(t.Context(), mac.id, strings.Join(parts, "."), "")
	wantReason(t, "a denial turned into an allow", err, approval.ReasonStatementInvalid)
	_, err = w.broker.CreateCode(t.Context(), mac.id, deny, "")
	wantReason(t, "a denial as a code request", err, approval.ReasonStatementInvalid)
	_, err = w.broker.RevokeDevice(t.Context(), mac.id, deny, "")
	wantReason(t, "a denial as a revocation", err, approval.ReasonStatementInvalid)
}

// pairs is how many revocations race with an answer: 100,000 with
// COUNTERSIGN_PAIRS=100000, fewer in an ordinary run.
func pairs(t *testing.T) int {
	if s := os.Getenv("COUNTERSIGN_PAIRS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	return 300
}

// TestA7NothingOfARevokedDeviceCounts lets an answer race with the revocation
// of the device that gives it. Whoever wins, the code lets nobody in after the
// revocation was confirmed, unless it was used before.
func TestA7NothingOfARevokedDeviceCounts(t *testing.T) {
	const perWorld = 500 // the store in memory is slow when it is full
	var w *world
	var files string
	answered := 0
	for i := range pairs(t) {
		if i%perWorld == 0 {
			w = newWorld(t, storetest.NewMemory())
			files = w.application("files")
		}
		account := fmt.Sprintf("ada%d", i)
		w.account(account)
		mac := w.enroll(account)
		s := w.begin(files, account)
		jws := mac.decision(mac.shown(s.ID), statement.Allow, "")
		var code approval.Code
		var decideErr error
		var wg sync.WaitGroup
		wg.Go(func() { code, decideErr = w.broker.Decide(t.Context(), mac.id, jws, "") })
		wg.Go(func() {
			time.Sleep(time.Duration(i%10) * 25 * time.Microsecond) // either may win
			if _, err := w.admin.RevokeDevice(t.Context(), mac.id, "stolen"); err != nil {
				t.Error(err)
			}
		})
		wg.Wait()
		if decideErr == nil {
			answered++
			_, err := w.broker.VerifySignIn(t.Context(), files, s.ID, code.Digits)
			wantReason(t, "the code of a revoked device", err, approval.ReasonSignInCancelled)
		} else {
			wantReason(t, "the answer of a revoked device", decideErr, approval.ReasonDeviceRevoked)
		}
	}
	t.Logf("%d of %d answers came before the revocation; none let anybody in", answered, pairs(t))
}

func TestA8TwoDevicesAtOnceLeaveOneDecision(t *testing.T) {
	w := newWorld(t, storetest.NewMemory())
	w.account("ada")
	files := w.application("files")
	mac, phone := w.enroll("ada"), w.enroll("ada")
	for range 200 {
		s := w.begin(files, "ada")
		statements := map[*device]string{}
		for _, d := range []*device{mac, phone} {
			statements[d] = d.decision(d.shown(s.ID), statement.Allow, "")
		}
		var codes sync.Map
		var wg sync.WaitGroup
		for d, jws := range statements {
			wg.Go(func() {
				code, err := w.broker.Decide(t.Context(), d.id, jws, "")
				if err == nil {
					codes.Store(d.id, code.Digits)
				} else if !errors.Is(err, &approval.Error{Reason: approval.ReasonAllowedElsewhere}) {
					t.Errorf("Decide = %v", err)
				}
			})
		}
		wg.Wait()
		n := 0
		codes.Range(func(any, any) bool { n++; return true })
		if n != 1 {
			t.Fatalf("%d devices were shown a code, want 1", n)
		}
		if _, err := w.broker.CancelSignIn(t.Context(), files, s.ID); err != nil {
			t.Fatal(err)
		}
	}
}

// TestA12AThiefCannotRunAhead lets a thief with a copied key use up all
// counters. The owner can still deny, and revoke.
func TestA12AThiefCannotRunAhead(t *testing.T) {
	w := newWorld(t, nil)
	w.account("ada")
	files := w.application("files")
	mac, phone := w.enroll("ada"), w.enroll("ada")
	thief := *mac
	thief.counter = 1<<53 - 2
	s := w.begin(files, "ada")
	document := mac.shown(s.ID)
	code := thief.allow(s.ID)
	_, err := w.broker.Decide(t.Context(), mac.id, mac.decision(document, statement.Deny, statement.NotMe), "")
	wantReason(t, "the owner's denial", err, approval.ReasonCounterReused)
	_, err = w.broker.VerifySignIn(t.Context(), files, s.ID, code)
	wantReason(t, "the thief's code after it", err, approval.ReasonSignInDenied)
	wantReason(t, "the owner's revocation", mac.revoke(phone.id), approval.ReasonCounterReused)
	if d, err := w.admin.Device(t.Context(), phone.id); err != nil || d.State != approval.DeviceRevoked {
		t.Errorf("the device is %s, %v, want revoked", d.State, err)
	}
	other := w.begin(files, "ada")
	_, err = mac.decide(other.ID, statement.Allow, "")
	wantReason(t, "an allow with a counter that did not rise", err, approval.ReasonCounterReused)
	if got, err := w.broker.SignIn(t.Context(), files, other.ID); err != nil || got.At(time.Now()) != approval.Pending {
		t.Errorf("the sign-in is %v, %v, want pending", got.At(time.Now()), err)
	}
}

// TestOutdatedStatementsFillNoDisk resends one, and then many.
func TestOutdatedStatementsFillNoDisk(t *testing.T) {
	w := newWorld(t, storetest.NewMemory())
	w.account("ada")
	files := w.application("files")
	mac := w.enroll("ada")
	first, second := w.begin(files, "ada"), w.begin(files, "ada")
	old := mac.decision(mac.shown(second.ID), statement.Allow, "")
	mac.allow(first.ID)
	for range 50 {
		_, err := w.broker.Decide(t.Context(), mac.id, old, "")
		wantReason(t, "an old statement", err, approval.ReasonCounterReused)
	}
	mac.counter -= 2
	for range 50 {
		mac.counter--
		if mac.counter == 0 || mac.counter > 1<<53 {
			mac.counter = 1
		}
		_, err := w.broker.Decide(t.Context(), mac.id, mac.sign(mac.claims(mac.shown(second.ID), statement.Allow, "")), "")
		wantReason(t, "an old statement", err, approval.ReasonCounterReused)
	}
	records, _, err := w.admin.ListRecords(t.Context(), approval.RecordFilter{Account: "ada"}, approval.Page{})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, r := range records {
		if r.Event == approval.EventCounterReused {
			n++
		}
	}
	if n < 1 || n > 5 {
		t.Errorf("%d records of outdated statements, want 1 to 5", n)
	}
}

func TestACodeFromBeforeTheDenialDoesNotUndoIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.account("ada")
		files := w.application("files")
		mac := w.enroll("ada")
		before, err := mac.requestCode()
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		s := w.begin(files, "ada")
		if _, err := mac.decide(s.ID, statement.Deny, statement.NotMe); err != nil {
			t.Fatal(err)
		}
		_, err = w.broker.VerifySignIn(t.Context(), files, s.ID, before.Digits)
		wantReason(t, "a code from before the denial", err, approval.ReasonSignInDenied)
		for _, change := range []func() error{
			func() error { _, err := w.admin.SuspendAccount(t.Context(), "ada", ""); return err },
			func() error { _, err := w.admin.ResumeAccount(t.Context(), "ada"); return err },
		} {
			time.Sleep(time.Second)
			if err := change(); err != nil {
				t.Fatal(err)
			}
		}
		after, err := mac.requestCode()
		if err != nil {
			t.Fatal(err)
		}
		_, err = w.broker.VerifySignIn(t.Context(), files, s.ID, after.Digits)
		wantReason(t, "a sign-in from before the suspension", err, approval.ReasonSignInDenied)
	})
}

func TestAskingForSomethingElseIsAnotherSignIn(t *testing.T) {
	w := newWorld(t, nil)
	w.account("ada")
	files := w.application("files")
	mac := w.enroll("ada")
	ask := func(message, place string) (string, error) {
		s, err := w.broker.BeginSignIn(t.Context(), files, approval.Request{Account: "ada", Message: message, Requester: approval.Requester{Session: "s1", Place: place}})
		return s.ID, err
	}
	cheap, err := ask("Pay 1 € to the shop", "Berlin")
	if err != nil {
		t.Fatal(err)
	}
	code := mac.allow(cheap)
	for _, other := range [][2]string{{"Pay 10,000 € to Mallory", "Berlin"}, {"Pay 1 € to the shop", "Moscow"}} {
		_, err = ask(other[0], other[1])
		wantReason(t, "asking for something else while one is open", err, approval.ReasonTooManySignIns)
	}
	if _, err := w.broker.VerifySignIn(t.Context(), files, cheap, code); err != nil {
		t.Fatal(err)
	}
	for _, other := range [][2]string{{"Pay 10,000 € to Mallory", "Berlin"}, {"Pay 1 € to the shop", "Moscow"}} {
		id, err := ask(other[0], other[1])
		if err != nil || id == cheap {
			t.Errorf("asking for %q from %s = %s, %v, want another sign-in than %s", other[0], other[1], id, err, cheap)
		}
		if _, err := w.broker.CancelSignIn(t.Context(), files, id); err != nil {
			t.Fatal(err)
		}
	}
}

func TestA12ACopiedKeyIsNoticed(t *testing.T) {
	w := newWorld(t, nil)
	var log strings.Builder
	w.config.Log = slog.New(slog.NewTextHandler(&log, nil))
	w.restart()
	w.account("ada")
	files := w.application("files")
	mac := w.enroll("ada")
	copied := *mac
	first, second := w.begin(files, "ada"), w.begin(files, "ada")
	mac.allow(first.ID)
	_, err := copied.decide(second.ID, statement.Allow, "")
	wantReason(t, "the copy's first statement", err, approval.ReasonCounterReused)
	records, _, err := w.admin.ListRecords(t.Context(), approval.RecordFilter{Account: "ada"}, approval.Page{})
	if err != nil || records[0].Event != approval.EventCounterReused || records[0].Statement == "" {
		t.Errorf("newest record = %+v, %v, want device.counter_reused with the statement", records[0], err)
	}
	if !strings.Contains(log.String(), "counter did not rise") || !strings.Contains(log.String(), mac.id) {
		t.Errorf("log = %s, want the operator told of the device", log.String())
	}
	if got, err := w.broker.SignIn(t.Context(), files, second.ID); err != nil || got.At(time.Now()) != approval.Pending {
		t.Errorf("the sign-in is %v, %v, want pending", got.At(time.Now()), err)
	}
}
