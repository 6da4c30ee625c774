package audit

import (
	"crypto/ecdsa"
	"fmt"
	"time"

	"github.com/countersignd/countersign/internal/statement"
)

// signInMemory is how long after its beginning a sign-in is remembered. None lives
// longer than ten minutes, and a denial gets its reason, or is cancelled, within
// half an hour; then nothing can happen to it any more.
const signInMemory = time.Hour

// trust is what the documents so far have said of who may sign, and of what is
// being decided.
type trust struct {
	statements uint64 // that were checked and are right
	deployment string // that they were all signed for; empty before the first
	accounts   map[string]*account
	devices    map[string]*device
	keys       map[string]string // key id → device, of all keys ever used
	signIns    map[string]*signIn
	begun      []*signIn // those, oldest first
}

type account struct {
	suspended bool
	asked     string // device that asked for a code without a prompt, if that was not used yet
}

type device struct {
	account      string
	key          *ecdsa.PublicKey
	waiting      bool   // enrolled by a recovery code, and not trusted yet
	announcement string // with which it handed in a recovery code
	revoked      uint64 // the record that says so; 0 while trusted
	counter      uint64 // highest that was seen
}

type signIn struct {
	id, account, application string
	address                  string // of the requester
	candidate                string // device that asks to be trusted
	begun                    time.Time
	allowed                  string // device that allowed it, and whose code may be used
	over                     string // what ended it
}

func newTrust() trust {
	return trust{accounts: map[string]*account{}, devices: map[string]*device{}, keys: map[string]string{}, signIns: map[string]*signIn{}}
}

// rules say what is checked for an event, in words of what is wrong or "". An
// event that is not here must have no statement.
var rules = map[Event]func(*trust, Record) string{
	EventAccountAdded:     (*trust).accountAdded,
	EventAccountSuspended: func(t *trust, r Record) string { return t.suspend(r, true) },
	EventAccountResumed:   func(t *trust, r Record) string { return t.suspend(r, false) },
	EventDeviceEnrolled:   (*trust).deviceEnrolled,
	EventDeviceRevoked:    (*trust).deviceRevoked,
	EventDeviceReadmitted: (*trust).deviceReadmitted,
	EventCounterReused:    (*trust).counterReused,
	EventRecoveryUsed:     (*trust).recoveryUsed,
	EventRecoveryRenewed:  (*trust).recoveryRenewed,
	EventUnlocked:         (*trust).unlocked,
	EventTrustRequested:   (*trust).trustRequested,
	EventSignInBegun:      (*trust).signInBegun,
	EventSignInRungAgain:  (*trust).signInRungAgain,
	EventSignInAllowed:    (*trust).decided,
	EventSignInDenied:     (*trust).decided,
	EventDenyReason:       (*trust).decided,
	EventSignInVerified:   (*trust).signInVerified,
	EventSignInCancelled:  (*trust).signInCancelled,
	EventCodeRequested:    (*trust).codeRequested,
}

// judge returns what is wrong with a record, or "".
func (t *trust) judge(r Record) string {
	t.forget(r.Time)
	if rule := rules[r.Event]; rule != nil {
		return rule(t, r)
	}
	if r.Statement != "" {
		return fmt.Sprintf("it has a statement, which this program cannot check for the event %.40q", r.Event)
	}
	return ""
}

// forget frees what was begun long ago.
func (t *trust) forget(now time.Time) {
	for len(t.begun) > 0 && now.Sub(t.begun[0].begun) > signInMemory {
		delete(t.signIns, t.begun[0].id)
		t.begun = t.begun[1:]
	}
}

func (t *trust) accountAdded(r Record) string {
	if t.accounts[r.Account] != nil {
		return "the account was there before"
	}
	t.accounts[r.Account] = &account{}
	return ""
}

func (t *trust) suspend(r Record, suspended bool) string {
	a := t.accounts[r.Account]
	if a == nil {
		return "no record says that its account was added"
	}
	if a.suspended == suspended {
		return "the account was in that state already"
	}
	a.suspended = suspended
	return ""
}

// active returns the account of a record in which devices may act.
func (t *trust) active(r Record) (*account, string) {
	a := t.accounts[r.Account]
	switch {
	case a == nil:
		return nil, "no record says that its account was added"
	case a.suspended:
		return nil, "its account was suspended then"
	}
	return a, ""
}

// trusted returns a device that may act for the account of a record.
func (t *trust) trusted(r Record, id string) (*device, string) {
	d := t.devices[id]
	switch {
	case d == nil:
		return nil, fmt.Sprintf("the device %.12s was not enrolled then", id)
	case d.account != r.Account:
		return nil, fmt.Sprintf("the device %.12s is another account's", id)
	case d.revoked > 0:
		return nil, fmt.Sprintf("the device %.12s was not trusted then: record %d revoked it", id, d.revoked)
	case d.waiting:
		return nil, fmt.Sprintf("the device %.12s was not trusted yet: it was waiting", id)
	}
	return d, ""
}

// addressed checks for whom a statement was signed. All are for one deployment,
// and the checkpoint tells for which.
func (t *trust) addressed(aud string) string {
	if t.deployment == "" {
		t.deployment = aud
	}
	if aud != t.deployment {
		return "its statement was signed for another deployment"
	}
	t.statements++
	return ""
}

// claims are what the statements of a trusted device have in common.
type claims struct {
	aud, account string
	counter      uint64
}

// signed checks the statement of a record: its signature, by the key that the device was
// enrolled with; that it was trusted then; and that it signed for this account.
func signed[P statement.Payload](t *trust, r Record, id string, read func(P) claims) (P, claims, string) {
	var none P
	d, problem := t.trusted(r, id)
	if problem != "" {
		return none, claims{}, problem
	}
	if r.Statement == "" {
		return none, claims{}, "its statement is missing"
	}
	p, err := statement.Verify[P](d.key, id, r.Statement)
	if err != nil {
		return none, claims{}, fmt.Sprintf("its statement was not signed so by the device %.12s: %v", id, err)
	}
	c := read(p)
	if c.account != r.Account {
		return none, claims{}, "its statement is about another account"
	}
	return p, c, t.addressed(c.aud)
}

func isSigned[P statement.Payload](read func(P) claims) func(*trust, Record) bool {
	return func(t *trust, r Record) bool {
		_, _, problem := signed(t, r, r.Device, read)
		return problem == ""
	}
}

// rise notes the counter of a statement and returns whether it rose.
func (d *device) rise(counter uint64) bool {
	if counter <= d.counter {
		return false
	}
	d.counter = counter
	return true
}

func ofDecision(d statement.Decision) claims       { return claims{d.Aud, d.Account, d.Counter} }
func ofCodeRequest(c statement.CodeRequest) claims { return claims{c.Aud, c.Account, c.Counter} }
func ofRenewal(n statement.RecoveryRenewal) claims { return claims{n.Aud, n.Account, n.Counter} }
func ofReadmission(m statement.Readmission) claims { return claims{m.Aud, m.Account, m.Counter} }
func ofUnlock(u statement.Unlock) claims           { return claims{u.Aud, u.Account, u.Counter} }
func ofRevocation(v statement.Revocation) claims   { return claims{v.Aud, v.Account, v.Counter} }

// own checks what a device does, once, with a statement of its own.
func own[P statement.Payload](t *trust, r Record, read func(P) claims) (P, string) {
	var none P
	if _, problem := t.active(r); problem != "" {
		return none, problem
	}
	p, c, problem := signed(t, r, r.Actor.ID, read)
	switch {
	case problem != "":
		return none, problem
	case r.Actor.Kind != ActorDevice:
		return none, "it names another actor than the device that signed"
	case !t.devices[r.Actor.ID].rise(c.counter):
		return none, "the counter in its statement had been used before, so it is a replay"
	}
	return p, ""
}

func (t *trust) recoveryRenewed(r Record) string {
	_, problem := own(t, r, ofRenewal)
	return problem
}

func (t *trust) unlocked(r Record) string {
	if r.Actor.Kind == ActorAdministrator && r.Statement == "" {
		return ""
	}
	_, problem := own(t, r, ofUnlock)
	return problem
}

// counterReused takes a statement of any type that the server refused: it shows
// that the key was used twice if, and only if, it was signed with it.
func (t *trust) counterReused(r Record) string {
	if _, problem := t.trusted(r, r.Device); problem != "" {
		return problem
	}
	for _, fits := range []func(*trust, Record) bool{
		isSigned(ofDecision), isSigned(ofCodeRequest), isSigned(ofRevocation), isSigned(ofRenewal), isSigned(ofReadmission), isSigned(ofUnlock),
	} {
		if fits(t, r) {
			return ""
		}
	}
	return fmt.Sprintf("its statement was not signed by the device %.12s for this account", r.Device)
}
