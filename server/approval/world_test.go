package approval_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/countersignd/countersign/internal/audit"
	"github.com/countersignd/countersign/internal/invitation"
	"github.com/countersignd/countersign/internal/pin"
	"github.com/countersignd/countersign/internal/statement"
	"github.com/countersignd/countersign/server/approval"
	"github.com/countersignd/countersign/server/approval/storetest"
)

// world is a Broker with all that lives around it.
type world struct {
	t       *testing.T
	store   approval.Store
	secrets *approval.Secrets
	config  approval.Config
	broker  *approval.Broker
	admin   approval.Administrator
	codes   []string // of recovery, for a test that keeps them
	begun   []begun  // by begin

	tampered bool // the test breaks the record itself
}

type begun struct{ token, id string }

// newWorld returns a world on the store; nil means one in memory whose
// functions all run twice.
func newWorld(t *testing.T, store approval.Store) *world {
	t.Helper()
	if store == nil {
		store = &storetest.Faulty{Store: storetest.NewMemory(), Twice: true}
	}
	root := make([]byte, 32)
	rand.Read(root)
	secrets, err := approval.NewSecrets(root, newKey(t))
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, store: store, secrets: secrets}
	w.config = approval.Config{Store: memoryChecker{store, t}, Secrets: secrets, ServerKey: keyID(t, newKey(t)), Log: slog.New(slog.DiscardHandler)}
	w.restart()
	t.Cleanup(w.verifyRecord)
	return w
}

// A memoryChecker is a store that looks at each value that is put, whether what is
// remembered of it is what it will be when it is read.
type memoryChecker struct {
	approval.Store
	t *testing.T
}

type memoryCheckingTx struct {
	approval.Tx
	t *testing.T
}

// Update implements [approval.Store].
func (c memoryChecker) Update(ctx context.Context, fn func(approval.Tx) error) error {
	return c.Store.Update(ctx, func(tx approval.Tx) error { return fn(memoryCheckingTx{tx, c.t}) })
}

// Put implements [approval.Tx].
func (c memoryCheckingTx) Put(bucket, key string, value []byte) error {
	if err := approval.CheckMemory(bucket, key, value); err != nil {
		c.t.Error(err)
	}
	return c.Tx.Put(bucket, key, value)
}

// verifyRecord checks the whole record, as an auditor does: whatever a test did, no
// record of it may be wrong.
func (w *world) verifyRecord() {
	w.t.Helper()
	if w.tampered || w.broker == nil {
		return
	}
	result, err := w.audit()
	if errors.Is(err, approval.ErrStoreFailed) {
		return // the test broke it
	}
	if err != nil {
		w.t.Errorf("reading the record: %v", err)
	}
	for _, f := range result.Findings {
		w.t.Errorf("the record does not verify: %v", f)
	}
}

// audit verifies the record, which also must contain what is remembered of it.
func (w *world) audit(remembered ...audit.Checkpoint) (audit.Result, error) {
	ctx := context.Background() // that of the test is over when it cleans up
	v, err := audit.NewVerifier(remembered...)
	if err != nil {
		return audit.Result{}, err
	}
	admin := w.broker.Administrator(approval.Actor{}) // a test may have changed its broker, and not w.admin
	for token := ""; ; {
		page, next, err := admin.ListRecords(ctx, approval.RecordFilter{OldestFirst: true}, approval.Page{Token: token})
		if err != nil {
			return audit.Result{}, err
		}
		for _, e := range page {
			v.Add(e.Document)
		}
		if token = next; token == "" {
			break
		}
	}
	c, _, err := w.broker.Checkpoint(ctx)
	return v.Finish(c), err
}

// restart begins again with nothing but the store and the secrets.
func (w *world) restart() {
	w.t.Helper()
	b, err := approval.Open(w.t.Context(), w.config)
	if err != nil {
		w.t.Fatal(err)
	}
	w.broker = b
	w.admin = b.Administrator(approval.Actor{Kind: approval.ActorAdministrator, ID: "uid 0 (root)"})
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func keyID(t testing.TB, key *ecdsa.PrivateKey) string {
	t.Helper()
	id, err := pin.KeyID(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func (w *world) account(name string) {
	w.t.Helper()
	if _, err := w.admin.AddAccount(w.t.Context(), name); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) application(id string) (token string) {
	w.t.Helper()
	_, token, err := w.admin.AddApplication(w.t.Context(), id, "The "+id)
	if err != nil {
		w.t.Fatal(err)
	}
	return token
}

// device is a device that really signs.
type device struct {
	w        *world
	id       string
	account  string
	approval *ecdsa.PrivateKey
	counter  uint64
	codes    []string // recovery codes that it was shown when it was enrolled
	secret   []byte   // for offline codes
}

func (w *world) newDevice() *device {
	return &device{w: w, id: keyID(w.t, newKey(w.t)), approval: newKey(w.t)}
}

func (d *device) enrolling(token string) approval.Enrolling {
	d.w.t.Helper()
	jwk, err := statement.NewJWK(&d.approval.PublicKey)
	if err != nil {
		d.w.t.Fatal(err)
	}
	jws, err := statement.Sign(d.approval, statement.Enrollment{
		ApprovalKey: jwk, Aud: d.w.broker.Deployment(), Device: d.id, Iat: time.Now().Unix(), Invitation: invitation.Hash(token),
		KeyStorage: "file", Kind: "terminal", Name: "Mac mini", ServerKey: d.w.broker.ServerKey(),
	})
	if err != nil {
		d.w.t.Fatal(err)
	}
	return approval.Enrolling{Device: d.id, Token: token, Statement: jws, Address: "192.0.2.9"}
}

func (w *world) invite(account string) (token string) {
	w.t.Helper()
	token, _, err := w.admin.CreateInvitation(w.t.Context(), account, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	return token
}

func (w *world) enroll(account string) *device {
	w.t.Helper()
	d := w.newDevice()
	got, err := w.broker.EnrollDevice(w.t.Context(), d.enrolling(w.invite(account)))
	if err != nil {
		w.t.Fatal(err)
	}
	d.account, d.codes, d.secret = got.Account, got.RecoveryCodes, w.broker.OfflineSecret(&got.Device)
	return d
}

// begin begins a sign-in of a requester that is not known, in a session of its
// own. If these have all places of the account, the oldest that was begun here is
// called off.
func (w *world) begin(token, account string) approval.SignIn {
	w.t.Helper()
	s, err := w.broker.BeginSignIn(w.t.Context(), token, w.asking(account, "", "203.0.113.7"))
	for errors.Is(err, &approval.Error{Reason: approval.ReasonTooManySignIns}) && len(w.begun) > 0 {
		w.broker.CancelSignIn(w.t.Context(), w.begun[0].token, w.begun[0].id)
		w.begun = w.begun[1:]
		s, err = w.broker.BeginSignIn(w.t.Context(), token, w.asking(account, "", "203.0.113.7"))
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.begun = append(w.begun, begun{token, s.ID})
	return s
}

// asking is what an application asks for in a session of its own; known is the
// token of a known requester.
func (w *world) asking(account, known, address string) approval.Request {
	return approval.Request{Account: account, Token: known, Requester: approval.Requester{
		Address: address, Place: "Berlin, Germany", Device: "MacBook Air", Program: "Firefox 145", Session: rand.Text(),
	}}
}

// shown returns the prompt that the device is shown for the sign-in.
func (d *device) shown(signIn string) []byte {
	d.w.t.Helper()
	screen, err := d.w.broker.Screen(d.w.t.Context(), d.id)
	if err != nil {
		d.w.t.Fatal(err)
	}
	for _, p := range screen.Prompts {
		if p.SignIn == signIn {
			return p.Document
		}
	}
	d.w.t.Fatalf("device %s is not shown sign-in %s", d.id, signIn)
	return nil
}

// decision signs a decision about a prompt, with the next counter.
func (d *device) decision(document []byte, decision, reason string) string {
	d.w.t.Helper()
	d.counter++
	return d.sign(d.claims(document, decision, reason))
}

func (d *device) claims(document []byte, decision, reason string) statement.Decision {
	d.w.t.Helper()
	p, err := statement.ParsePrompt(document)
	if err != nil {
		d.w.t.Fatal(err)
	}
	return statement.Decision{
		Account: p.Account, Application: p.Application.ID, ApprovalKey: keyID(d.w.t, d.approval), Aud: d.w.broker.Deployment(),
		Counter: d.counter, Decision: decision, Device: d.id, Iat: time.Now().Unix(), Nonce: p.Nonce,
		Prompt: encode64(document), Reason: reason, ServerKey: d.w.broker.ServerKey(), SignIn: p.SignIn,
	}
}

func (d *device) sign(c statement.Decision) string {
	d.w.t.Helper()
	jws, err := statement.Sign(d.approval, c)
	if err != nil {
		d.w.t.Fatal(err)
	}
	return jws
}

func (d *device) decide(signIn, decision, reason string) (approval.Code, error) {
	d.w.t.Helper()
	return d.w.broker.Decide(d.w.t.Context(), d.id, d.decision(d.shown(signIn), decision, reason), "192.0.2.9")
}

func (d *device) allow(signIn string) string {
	d.w.t.Helper()
	code, err := d.decide(signIn, statement.Allow, "")
	if err != nil || len(code.Digits) != 6 {
		d.w.t.Fatalf("Decide(allow) = %v, %v, want six digits", code, err)
	}
	return code.Digits
}

func (d *device) requestCode() (approval.Code, error) {
	d.w.t.Helper()
	d.counter++
	jws, err := statement.Sign(d.approval, statement.CodeRequest{
		Account: d.account, ApprovalKey: keyID(d.w.t, d.approval), Aud: d.w.broker.Deployment(), Counter: d.counter,
		Device: d.id, Iat: time.Now().Unix(), ServerKey: d.w.broker.ServerKey(),
	})
	if err != nil {
		d.w.t.Fatal(err)
	}
	return d.w.broker.CreateCode(d.w.t.Context(), d.id, jws, "192.0.2.9")
}

func (d *device) unlock() error {
	d.w.t.Helper()
	d.counter++
	jws, err := statement.Sign(d.approval, statement.Unlock{
		Account: d.account, ApprovalKey: keyID(d.w.t, d.approval), Aud: d.w.broker.Deployment(), Counter: d.counter,
		Device: d.id, Iat: time.Now().Unix(), ServerKey: d.w.broker.ServerKey(),
	})
	if err != nil {
		d.w.t.Fatal(err)
	}
	return d.w.broker.Unlock(d.w.t.Context(), d.id, jws, "192.0.2.9")
}

func (d *device) revoke(target string) error {
	d.w.t.Helper()
	d.counter++
	jws, err := statement.Sign(d.approval, statement.Revocation{
		Account: d.account, ApprovalKey: keyID(d.w.t, d.approval), Aud: d.w.broker.Deployment(), Counter: d.counter,
		Device: d.id, Iat: time.Now().Unix(), Reason: "lost", Revoked: target, ServerKey: d.w.broker.ServerKey(),
	})
	if err != nil {
		d.w.t.Fatal(err)
	}
	_, err = d.w.broker.RevokeDevice(d.w.t.Context(), d.id, jws, "192.0.2.9")
	return err
}

// wantReason fails the test unless err is a refusal with the reason.
func wantReason(t testing.TB, what string, err error, want approval.Reason) {
	t.Helper()
	if !errors.Is(err, &approval.Error{Reason: want}) {
		var e *approval.Error
		errors.As(err, &e)
		t.Errorf("%s = %v (%+v), want reason %d", what, err, e, want)
	}
}

// wrong returns six digits that are not those.
func wrong(code string) string {
	last := (code[5]-'0'+1)%10 + '0'
	return code[:5] + string(last)
}
