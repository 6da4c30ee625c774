package audit

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/countersignd/countersign/internal/pin"
	"github.com/countersignd/countersign/internal/statement"
)

const deployment = "mzxw6ytboi2dmnrxgq3tmobzga"

var start = time.Date(2026, 11, 22, 18, 0, 0, 123456789, time.UTC)

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
	id, err := pin.KeyID(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// A book is a record that a server writes, honest or not: the records before
// they are numbered and linked.
type book struct {
	t       testing.TB
	signing *ecdsa.PrivateKey
	tlsKey  string
	records []Record
	now     time.Time
}

func newBook(t testing.TB) *book {
	b := &book{t: t, signing: newKey(t), tlsKey: keyID(t, newKey(t)), now: start}
	b.add(Record{Event: "server.initialised", Actor: Actor{Kind: ActorServer}})
	return b
}

// add appends a record, a second after the one before.
func (b *book) add(r Record) {
	b.now = b.now.Add(time.Second)
	r.Time, r.Salt = b.now, NewSalt()
	b.records = append(b.records, r)
}

// documents numbers and links the records.
func (b *book) documents() [][]byte {
	var all [][]byte
	for i, r := range b.records {
		if r.Sequence = uint64(i + 1); i > 0 {
			r.Previous = HashString(Hash(all[i-1]))
		}
		all = append(all, r.Document())
	}
	return all
}

// checkpoint signs what the documents are.
func (b *book) checkpoint(documents [][]byte) Checkpoint {
	b.t.Helper()
	var tree Tree
	for _, d := range documents {
		tree.Add(Hash(d))
	}
	c, err := NewCheckpoint(b.signing, deployment, tree.Size(), tree.Root(), b.now)
	if err != nil {
		b.t.Fatal(err)
	}
	return c
}

// export returns the lines of an export.
func (b *book) export() []string {
	b.t.Helper()
	documents := b.documents()
	return append(lines(documents), string(b.checkpoint(documents).Line()))
}

func lines(documents [][]byte) []string {
	var all []string
	for _, d := range documents {
		all = append(all, string(d))
	}
	return all
}

// verify verifies an export of these lines.
func verify(t testing.TB, lines []string, remembered ...Checkpoint) Result {
	t.Helper()
	text := strings.Join(lines, "\n") + "\n"
	result, err := VerifyExport(bytes.NewBufferString(text), remembered...)
	if err != nil && err != ErrPart {
		t.Fatal(err)
	}
	return result
}

// A holder is a device that signs.
type holder struct {
	b        *book
	id       string
	account  string
	approval *ecdsa.PrivateKey
	counter  uint64
}

func (b *book) newHolder(account string) *holder {
	return &holder{b: b, id: keyID(b.t, newKey(b.t)), account: account, approval: newKey(b.t)}
}

func sign[P statement.Payload](h *holder, p P) string {
	h.b.t.Helper()
	jws, err := statement.Sign(h.approval, p)
	if err != nil {
		h.b.t.Fatal(err)
	}
	return jws
}

func (h *holder) enrollment() statement.Enrollment {
	jwk, err := statement.NewJWK(&h.approval.PublicKey)
	if err != nil {
		h.b.t.Fatal(err)
	}
	return statement.Enrollment{
		Account: h.account, ApprovalKey: jwk, Aud: deployment, Device: h.id, Iat: h.b.now.Unix(),
		KeyStorage: "file", Kind: "terminal", Name: "Mac mini", ServerKey: h.b.tlsKey,
	}
}

func (h *holder) enrolled(by Actor) Record {
	return Record{Event: EventDeviceEnrolled, Actor: by, Account: h.account, Device: h.id, Detail: "Mac mini", Statement: sign(h, h.enrollment())}
}

var root = Actor{ID: "uid 0 (root)", Kind: ActorAdministrator}

// enroll adds an account's device that an administrator invited.
func (b *book) enroll(account string) *holder {
	h := b.newHolder(account)
	b.add(h.enrolled(root))
	return h
}

// A request is a sign-in.
type request struct {
	begun Record
	at    time.Time
	new   *holder // that asks to be trusted
}

// begin adds the beginning of a sign-in.
func (b *book) begin(account, id string) request {
	b.add(Record{
		Event: EventSignInBegun, Actor: Actor{ID: "files", Kind: ActorApplication}, Account: account, Application: "files",
		SignIn: strings.Repeat("0", 26-len(id)) + id, Address: "203.0.113.7",
	})
	return request{begun: b.records[len(b.records)-1], at: b.now}
}

// ask adds a device's request to be trusted.
func (b *book) ask(account, id string) request {
	h := b.newHolder(account)
	b.add(Record{
		Event: EventTrustRequested, Actor: Actor{ID: h.id, Kind: ActorDevice}, Account: account, Device: h.id,
		SignIn: strings.Repeat("0", 26-len(id)) + id, Address: "203.0.113.8", Detail: "Mac mini", Statement: sign(h, h.enrollment()),
	})
	return request{begun: b.records[len(b.records)-1], at: b.now, new: h}
}

func (h *holder) decision(q request, answer, reason string) statement.Decision {
	p := statement.Prompt{
		Account: q.begun.Account, Action: statement.ActionSignIn, Application: statement.Application{ID: "files", Name: "Files"},
		Created: q.at.Unix(), Expires: q.at.Unix() + 300, Nonce: strings.Repeat("A", 43),
		Requester: statement.Requester{Address: q.begun.Address, Device: "MacBook Air"}, SignIn: q.begun.SignIn, V: 1,
	}
	if q.new != nil {
		p.Action, p.Application = statement.ActionTrustDevice, statement.Application{}
		p.Candidate = &statement.Candidate{Fingerprint: q.new.id, Kind: "terminal", Name: "Mac mini"}
	}
	h.counter++
	return statement.Decision{
		Account: p.Account, Application: p.Application.ID, ApprovalKey: keyID(h.b.t, h.approval), Aud: deployment, Counter: h.counter,
		Decision: answer, Device: h.id, Iat: h.b.now.Unix(), Nonce: p.Nonce, Prompt: base64.RawURLEncoding.EncodeToString(p.Encode()),
		Reason: reason, ServerKey: h.b.tlsKey, SignIn: p.SignIn,
	}
}

// about returns a record about a sign-in.
func (q request) about(event Event, by Actor, device string) Record {
	return Record{Event: event, Actor: by, Account: q.begun.Account, Application: q.begun.Application, Device: device, SignIn: q.begun.SignIn}
}

func (h *holder) allowed(q request) Record {
	r := q.about(EventSignInAllowed, Actor{ID: h.id, Kind: ActorDevice}, h.id)
	r.Statement = sign(h, h.decision(q, statement.Allow, ""))
	return r
}

func (h *holder) denied(q request, reason string) Record {
	r := q.about(EventSignInDenied, Actor{ID: h.id, Kind: ActorDevice}, h.id)
	r.Detail, r.Statement = reason, sign(h, h.decision(q, statement.Deny, reason))
	return r
}

func (h *holder) verified(q request, acr string) Record {
	r := q.about(EventSignInVerified, Actor{ID: "files", Kind: ActorApplication}, h.id)
	r.Detail = acr
	return r
}

func (h *holder) codeRequested() Record {
	h.counter++
	return Record{Event: EventCodeRequested, Actor: Actor{ID: h.id, Kind: ActorDevice}, Account: h.account, Device: h.id, Statement: sign(h, statement.CodeRequest{
		Account: h.account, ApprovalKey: keyID(h.b.t, h.approval), Aud: deployment, Counter: h.counter, Device: h.id, Iat: h.b.now.Unix(), ServerKey: h.b.tlsKey,
	})}
}

func (h *holder) revoked(other *holder) Record {
	h.counter++
	return Record{Event: EventDeviceRevoked, Actor: Actor{ID: h.id, Kind: ActorDevice}, Account: h.account, Device: other.id, Detail: "lost", Statement: sign(h, statement.Revocation{
		Account: h.account, ApprovalKey: keyID(h.b.t, h.approval), Aud: deployment, Counter: h.counter, Device: h.id, Iat: h.b.now.Unix(),
		Reason: "lost", Revoked: other.id, ServerKey: h.b.tlsKey,
	})}
}

func ofAccount(event Event, name string) Record {
	return Record{Event: event, Actor: root, Account: name}
}

// story returns a book in which everything happens that can be signed.
func story(t testing.TB) *book {
	b := newBook(t)
	b.add(ofAccount(EventAccountAdded, "ada"))                  // 2
	b.add(ofAccount(EventAccountAdded, "bob"))                  // 3
	mac := b.enroll("ada")                                      // 4
	b.enroll("bob")                                             // 5
	first := b.begin("ada", "1")                                // 6
	b.add(mac.allowed(first))                                   // 7
	b.add(mac.verified(first, afterAllow))                      // 8
	asks := b.ask("ada", "2")                                   // 9
	b.add(mac.allowed(asks))                                    // 10
	phone := asks.new                                           //
	b.add(phone.enrolled(Actor{ID: mac.id, Kind: ActorDevice})) // 11
	b.add(mac.verified(asks, afterAllow))                       // 12
	second := b.begin("ada", "3")                               // 13
	b.add(phone.denied(second, ""))                             // 14
	why := phone.denied(second, statement.NotMe)
	why.Event = EventDenyReason
	b.add(why)                              // 15
	b.add(phone.codeRequested())            // 16
	b.add(phone.verified(second, askedFor)) // 17
	b.add(mac.revoked(phone))               // 18
	stale := phone.codeRequested()
	stale.Event, stale.Device, stale.Statement = EventCounterReused, mac.id, b.records[6].Statement
	stale.Actor.ID = mac.id
	b.add(stale)                                   // 19
	b.add(ofAccount(EventAccountSuspended, "bob")) // 20
	b.add(ofAccount(EventAccountResumed, "bob"))   // 21
	tablet := b.newHolder("ada")
	used := tablet.recovering()
	b.add(used)                                                            // 22
	b.add(tablet.recovered(used))                                          // 23
	b.add(tablet.renewed())                                                // 24
	b.add(tablet.unlocked())                                               // 25
	b.add(tablet.readmitted(mac))                                          // 26
	third := b.begin("ada", "4")                                           // 27
	b.add(third.rungAgain())                                               // 28
	b.add(third.about(EventSignInCancelled, Actor{Kind: ActorServer}, "")) // 29
	return b
}

// rungAgain returns what is recorded when its requester asks again.
func (q request) rungAgain() Record {
	return q.about(EventSignInRungAgain, Actor{ID: "files", Kind: ActorApplication}, "")
}

// recovering returns what is recorded when a device has handed in a recovery code.
func (h *holder) recovering() Record {
	e := h.enrollment()
	e.Recovery = keyID(h.b.t, newKey(h.b.t)) // a hash is spelled like a key id
	return Record{Event: EventRecoveryUsed, Actor: Actor{Kind: ActorRecovery}, Account: h.account, Device: h.id, Detail: "9 left", Statement: sign(h, e)}
}

// recovered returns what is recorded when that device has waited long enough.
func (h *holder) recovered(used Record) Record {
	used.Event, used.Detail = EventDeviceEnrolled, "Mac mini"
	return used
}

func (h *holder) unlocked() Record {
	h.counter++
	return Record{Event: EventUnlocked, Actor: Actor{ID: h.id, Kind: ActorDevice}, Account: h.account, Device: h.id, Statement: sign(h, statement.Unlock{
		Account: h.account, ApprovalKey: keyID(h.b.t, h.approval), Aud: deployment, Counter: h.counter, Device: h.id, Iat: h.b.now.Unix(), ServerKey: h.b.tlsKey,
	})}
}

func (h *holder) readmitted(other *holder) Record {
	h.counter++
	return Record{Event: EventDeviceReadmitted, Actor: Actor{ID: h.id, Kind: ActorDevice}, Account: h.account, Device: other.id, Statement: sign(h, statement.Readmission{
		Account: h.account, ApprovalKey: keyID(h.b.t, h.approval), Aud: deployment, Counter: h.counter, Device: h.id, Iat: h.b.now.Unix(),
		Readmitted: other.id, ServerKey: h.b.tlsKey,
	})}
}

func (h *holder) renewed() Record {
	h.counter++
	return Record{Event: EventRecoveryRenewed, Actor: Actor{ID: h.id, Kind: ActorDevice}, Account: h.account, Device: h.id, Statement: sign(h, statement.RecoveryRenewal{
		Account: h.account, ApprovalKey: keyID(h.b.t, h.approval), Aud: deployment, Counter: h.counter, Device: h.id, Iat: h.b.now.Unix(), ServerKey: h.b.tlsKey,
	})}
}
