package approval_test

import (
	"crypto/rand"
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
	return 1000
}

// TestA7NothingOfARevokedDeviceCounts lets an answer race with the revocation
// of the device that gives it. Whoever wins, the code lets nobody in after the
// revocation was confirmed, unless it was used before.
func TestA7NothingOfARevokedDeviceCounts(t *testing.T) {
	w := newWorld(t, storetest.NewMemory())
	files := w.application("files")
	answered := 0
	for i := range pairs(t) {
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
			time.Sleep(time.Duration(i%50) * 10 * time.Microsecond) // either may win
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

func TestA12ACopiedKeyIsNoticed(t *testing.T) {
	w := newWorld(t, nil)
	w.account("ada")
	files := w.application("files")
	mac := w.enroll("ada")
	copied := *mac
	first, second := w.begin(files, "ada"), w.begin(files, "ada")
	mac.allow(first.ID)
	_, err := copied.decide(second.ID, statement.Allow, "")
	wantReason(t, "the copy's first statement", err, approval.ReasonCounterReused)
	records, _, err := w.admin.ListRecords(t.Context(), "ada", approval.Page{})
	if err != nil || records[0].Event != approval.EventCounterReused || records[0].Statement == "" {
		t.Errorf("newest record = %+v, %v, want device.counter_reused with the statement", records[0], err)
	}
	if got, err := w.broker.SignIn(t.Context(), files, second.ID); err != nil || got.At(time.Now()) != approval.Pending {
		t.Errorf("the sign-in is %v, %v, want pending", got.At(time.Now()), err)
	}
}

// TestA15TheStoreHoldsNoSecret plays every kind of operation and searches all
// that was stored.
func TestA15TheStoreHoldsNoSecret(t *testing.T) {
	memory := storetest.NewMemory()
	w := newWorld(t, memory)
	w.account("ada")
	files := w.application("files")
	_, rotated, err := w.admin.RotateApplicationToken(t.Context(), "files")
	if err != nil {
		t.Fatal(err)
	}
	token := w.invite("ada")
	mac := w.newDevice()
	if _, err := w.broker.EnrollDevice(t.Context(), mac.enrolling(token)); err != nil {
		t.Fatal(err)
	}
	mac.account = "ada"
	pending := w.invite("ada")
	s := w.begin(rotated, "ada")
	code := mac.allow(s.ID)
	requested, err := mac.requestCode()
	if err != nil {
		t.Fatal(err)
	}
	admission, err := w.broker.VerifySignIn(t.Context(), rotated, s.ID, code)
	if err != nil {
		t.Fatal(err)
	}
	secrets := map[string]string{
		"old token": files, "token": rotated, "used invitation": token, "invitation": pending,
		"code": code, "requested code": requested.Digits, "grant": admission.Grant,
	}
	for bucket, entries := range dump(t, memory) {
		for key, value := range entries {
			for name, secret := range secrets {
				if len(secret) > 6 && (strings.Contains(key, secret) || strings.Contains(value, secret)) {
					t.Errorf("%s/%s holds the %s", bucket, key, name)
				}
				if len(secret) == 6 && strings.Contains(value, `"`+secret+`"`) {
					t.Errorf("%s/%s holds the %s", bucket, key, name)
				}
			}
		}
	}
	if got := fmt.Sprintf("%v %+v %#v", w.secrets, w.secrets, w.secrets); strings.Contains(strings.ReplaceAll(got, "Secrets(redacted)", ""), "[") {
		t.Errorf("printed secrets = %s", got)
	}
}

// dump returns all that a store holds in the buckets that records.go draws.
func dump(t *testing.T, store approval.Store) map[string]map[string]string {
	t.Helper()
	all := map[string]map[string]string{}
	err := store.View(t.Context(), func(tx approval.Tx) error {
		for _, bucket := range approval.Buckets() {
			all[bucket] = map[string]string{}
			for key, value := range tx.Ascend(bucket, "") {
				all[bucket][key] = string(value)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestBadInputIsRefusedAndChangesNothing tries every field at its limit and
// beyond.
func TestBadInputIsRefusedAndChangesNothing(t *testing.T) {
	memory := storetest.NewMemory()
	w := newWorld(t, memory)
	w.account("ada")
	files := w.application("files")
	w.enroll("ada")
	before := dump(t, memory)
	text := map[string]string{
		"65 runes":         strings.Repeat("x", 65),
		"over 256 bytes":   strings.Repeat("𝒳", 65),
		"control":          "a\x00b",
		"line break":       "a\nb",
		"escape":           "a\x1b[2Jb",
		"bidirectional":    "a\u202eb",
		"isolate":          "a\u2066b",
		"zero width":       "a\u200bb",
		"private use":      "a\ue000b",
		"unassigned":       "a\U000e0fffb",
		"not NFC":          "e\u0301",
		"three marks":      "x\u0301\u0302\u0303",
		"line separator":   "a\u2028b",
		"invalid UTF-8":    "a\xffb",
		"leading space":    " a",
		"only white space": " ",
	}
	for name, s := range text {
		for field, r := range map[string]approval.Request{
			"requester.device":  {Account: "ada", Requester: approval.Requester{Device: s}},
			"requester.program": {Account: "ada", Requester: approval.Requester{Program: s}},
			"requester.place":   {Account: "ada", Requester: approval.Requester{Place: s}},
			"message":           {Account: "ada", Message: s},
		} {
			_, err := w.broker.BeginSignIn(t.Context(), files, r)
			var e *approval.Error
			if !errors.As(err, &e) || e.Reason != approval.ReasonInvalidField || e.Field != field {
				t.Errorf("BeginSignIn with %s in %s = %v, want a refusal of %s", name, field, err, field)
			}
		}
		if _, _, err := w.admin.AddApplication(t.Context(), "mail", s); !errors.Is(err, &approval.Error{Reason: approval.ReasonInvalidField}) {
			t.Errorf("AddApplication with %s = %v", name, err)
		}
	}
	for _, name := range []string{"", "Ada", "a b", "-ada", "ada/bob", strings.Repeat("a", 65), "ада", "a\x00"} {
		_, err := w.admin.AddAccount(t.Context(), name)
		wantReason(t, fmt.Sprintf("AddAccount(%q)", name), err, approval.ReasonInvalidField)
	}
	for _, id := range []string{"", "Files", "1files", "a_b", strings.Repeat("a", 33), "a/b"} {
		_, _, err := w.admin.AddApplication(t.Context(), id, "Files")
		wantReason(t, fmt.Sprintf("AddApplication(%q)", id), err, approval.ReasonInvalidField)
	}
	for _, session := range []string{strings.Repeat("s", 129), "a b", "ä", "\n"} {
		_, err := w.broker.BeginSignIn(t.Context(), files, approval.Request{Account: "ada", Requester: approval.Requester{Session: session}})
		wantReason(t, fmt.Sprintf("session %q", session), err, approval.ReasonInvalidField)
	}
	for _, token := range []string{"", "x", strings.Repeat("x", 1<<16), files + " "} {
		_, err := w.broker.BeginSignIn(t.Context(), token, approval.Request{Account: "ada"})
		wantReason(t, "a wrong token", err, approval.ReasonUnauthenticated)
	}
	for _, code := range []string{"", "12345", "1234567", "abcdef", "12345６", strings.Repeat("1", 1<<16)} {
		_, err := w.broker.VerifySignIn(t.Context(), files, strings.Repeat("0", 26), code)
		wantReason(t, "a malformed code", err, approval.ReasonInvalidField)
	}
	if after := dump(t, memory); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Error("refused input changed the store")
	}
	longest := strings.Repeat("x", 64)
	s, err := w.broker.BeginSignIn(t.Context(), files, approval.Request{Account: "ada", Message: longest, Requester: approval.Requester{
		Address: "::ffff:203.0.113.7", Place: longest, Device: strings.Repeat("𝒳", 64), Program: strings.Repeat(`"`, 64), Session: strings.Repeat("s", 128),
	}})
	if err != nil || s.Requester.Address != "203.0.113.7" {
		t.Errorf("everything at its limit = %+v, %v", s.Requester, err)
	}
}

func TestA22AnUnparsableAddressIsUnknown(t *testing.T) {
	w := newWorld(t, nil)
	w.account("ada")
	files := w.application("files")
	mac := w.enroll("ada")
	for given, want := range map[string]string{
		"203.0.113.7": "203.0.113.7", "2001:DB8::1": "2001:db8::1", "fe80::1%eth0": "fe80::1", "": "",
		"203.0.113.7, 10.0.0.1": "", "localhost": "", "203.0.113.256": "", "\u202e7": "",
	} {
		s, err := w.broker.BeginSignIn(t.Context(), files, approval.Request{Account: "ada", Requester: approval.Requester{Address: given, Session: rand.Text()}})
		if err != nil {
			t.Fatal(err)
		}
		p, err := statement.ParsePrompt(mac.shown(s.ID))
		if err != nil || p.Requester.Address != want {
			t.Errorf("address %q is shown as %q, %v, want %q", given, p.Requester.Address, err, want)
		}
		if _, err := w.broker.CancelSignIn(t.Context(), files, s.ID); err != nil {
			t.Fatal(err)
		}
	}
}

// TestAStoreThatFailsLosesNothingThatWasShown runs S1 with a fault at each of
// its updates, before or after it was persisted, and does what a person's
// programs do: ask again.
func TestAStoreThatFailsLosesNothingThatWasShown(t *testing.T) {
	for _, fault := range []storetest.Fault{storetest.Before, storetest.After} {
		for at := 1; at <= 3; at++ {
			faulty := &storetest.Faulty{Store: storetest.NewMemory()}
			w := newWorld(t, faulty)
			w.account("ada")
			files := w.application("files")
			mac := w.enroll("ada")
			start := faulty.Updates()
			faulty.Fault = func(n int) storetest.Fault {
				if n == start+at {
					return fault
				}
				return storetest.None
			}
			retried := 0
			again := func(f func() error) error {
				err := f()
				if errors.Is(err, approval.ErrStoreFailed) {
					retried++
					w.restart()
					err = f()
				}
				return err
			}
			var s approval.SignIn
			if err := again(func() (err error) {
				s, err = w.broker.BeginSignIn(t.Context(), files, approval.Request{Account: "ada"})
				return err
			}); err != nil {
				t.Fatalf("fault %v at %d: BeginSignIn = %v", fault, at, err)
			}
			jws := mac.decision(mac.shown(s.ID), statement.Allow, "")
			var code approval.Code
			if err := again(func() (err error) {
				code, err = w.broker.Decide(t.Context(), mac.id, jws, "")
				return err
			}); err != nil || len(code.Digits) != 6 {
				t.Fatalf("fault %v at %d: Decide = %v, %v", fault, at, code, err)
			}
			err := again(func() error {
				_, err := w.broker.VerifySignIn(t.Context(), files, s.ID, code.Digits)
				return err
			})
			if at == 3 && fault == storetest.After {
				// Used up, and nobody was told: the person begins again.
				wantReason(t, "VerifySignIn after its answer was lost", err, approval.ReasonSignInVerified)
			} else if err != nil {
				t.Errorf("fault %v at %d: VerifySignIn = %v", fault, at, err)
			}
			if retried != 1 {
				t.Errorf("fault %v at %d: %d retries, want 1", fault, at, retried)
			}
		}
	}
}

func TestTheBellIsNeverMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, storetest.NewMemory())
		w.account("ada")
		files := w.application("files")
		mac := w.enroll("ada")
		watch := w.broker.WatchDevice(mac.id)
		if !w.broker.Connected(mac.id) || w.broker.ConnectedDevices() != 1 {
			t.Error("the device is not connected")
		}
		seen := make(chan int)
		go func() {
			defer close(seen)
			for watch.Wait(t.Context()) == nil {
				screen, err := mac.screen()
				if err != nil {
					return
				}
				seen <- len(screen.Prompts)
			}
		}()
		for i := range 5 {
			w.begin(files, "ada")
			if n := <-seen; n != i+1 {
				t.Errorf("after sign-in %d the device shows %d prompts", i+1, n)
			}
		}
		newer := w.broker.WatchDevice(mac.id)
		if _, open := <-seen; open {
			t.Error("the replaced watch went on")
		}
		wantReason(t, "the older watch", watch.Wait(t.Context()), approval.ReasonStreamReplaced)
		watch.Close()
		if !w.broker.Connected(mac.id) {
			t.Error("closing the older watch ended the newer")
		}
		newer.Close()
		if w.broker.Connected(mac.id) || w.broker.ConnectedDevices() != 0 {
			t.Error("the device is still connected")
		}
	})
}

func TestAnApplicationCanBeRemovedAndItsTokenReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.account("ada")
		old := w.application("files")
		mac := w.enroll("ada")
		s := w.begin(old, "ada")
		_, token, err := w.admin.RotateApplicationToken(t.Context(), "files")
		if err != nil {
			t.Fatal(err)
		}
		_, err = w.broker.SignIn(t.Context(), old, s.ID)
		wantReason(t, "the old token", err, approval.ReasonUnauthenticated)
		if _, err = w.broker.SignIn(t.Context(), token, s.ID); err != nil {
			t.Errorf("the new token = %v", err)
		}
		if err := w.admin.RemoveApplication(t.Context(), "files"); err != nil {
			t.Fatal(err)
		}
		if screen, err := mac.screen(); err != nil || len(screen.Prompts) != 0 {
			t.Errorf("the removed application's prompt is still shown: %+v, %v", screen, err)
		}
		_, err = w.broker.SignIn(t.Context(), token, s.ID)
		wantReason(t, "the removed application's token", err, approval.ReasonUnauthenticated)
		time.Sleep(time.Second)
		reborn := w.application("files")
		_, err = w.broker.SignIn(t.Context(), reborn, s.ID)
		wantReason(t, "a sign-in of the application's former life", err, approval.ReasonSignInUnknown)
		_, err = w.broker.SignIn(t.Context(), old, s.ID)
		wantReason(t, "its former token", err, approval.ReasonUnauthenticated)
	})
}

func TestListsComeInPagesNewestFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, storetest.NewMemory())
		files := w.application("files")
		var names, begun []string
		for i := range 150 {
			name := fmt.Sprintf("a%03d", i)
			w.account(name)
			names = append(names, name)
		}
		w.enroll("a000")
		for range 150 {
			s := w.begin(files, "a000")
			begun = append([]string{s.ID}, begun...)
			if _, err := w.broker.CancelSignIn(t.Context(), files, s.ID); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		for _, size := range []int{0, 1, 7, 75, 150, 1000} {
			var accounts, all, own []string
			var records int
			pages(t, size, func(p approval.Page) (n int, next string, err error) {
				page, next, err := w.admin.ListAccounts(t.Context(), p)
				for _, a := range page {
					accounts = append(accounts, a.Name)
				}
				return len(page), next, err
			})
			pages(t, size, func(p approval.Page) (n int, next string, err error) {
				page, next, err := w.admin.ListSignIns(t.Context(), "", p)
				for _, s := range page {
					all = append(all, s.ID)
				}
				return len(page), next, err
			})
			pages(t, size, func(p approval.Page) (n int, next string, err error) {
				page, next, err := w.admin.ListSignIns(t.Context(), "a000", p)
				for _, s := range page {
					own = append(own, s.ID)
				}
				return len(page), next, err
			})
			last := uint64(1 << 62)
			pages(t, size, func(p approval.Page) (n int, next string, err error) {
				page, next, err := w.admin.ListRecords(t.Context(), "a000", p)
				for _, r := range page {
					if r.Sequence >= last {
						t.Errorf("record %d after %d", r.Sequence, last)
					}
					last = r.Sequence
					records++
				}
				return len(page), next, err
			})
			for what, got := range map[string][2][]string{"accounts": {accounts, names}, "sign-ins": {all, begun}, "sign-ins of an account": {own, begun}} {
				if fmt.Sprint(got[0]) != fmt.Sprint(got[1]) {
					t.Errorf("%s in pages of %d = %d, want %d in order", what, size, len(got[0]), len(got[1]))
				}
			}
			if records != 303 { // added, invited, enrolled, and two for each sign-in
				t.Errorf("%d records about the account, want 303", records)
			}
		}
		for _, p := range []approval.Page{{Size: -1}, {Size: 1001}, {Token: strings.Repeat("x", 257)}} {
			_, _, err := w.admin.ListSignIns(t.Context(), "", p)
			wantReason(t, fmt.Sprint(p), err, approval.ReasonInvalidField)
		}
	})
}

func pages(t *testing.T, size int, page func(approval.Page) (int, string, error)) {
	t.Helper()
	for token := ""; ; {
		n, next, err := page(approval.Page{Size: size, Token: token})
		if err != nil {
			t.Fatal(err)
		}
		if size > 0 && n > size {
			t.Fatalf("a page of %d, want at most %d", n, size)
		}
		if next == "" {
			return
		}
		token = next
	}
}
