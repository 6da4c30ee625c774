// Package audit says what the record of a deployment is, byte for byte, and
// checks one. It needs no server: whoever has an export of a record can find
// out with it, and with nothing else, whether the record is whole and whether
// what devices are said to have signed was signed by devices that were trusted.
//
// # The record
//
// A record is a sequence of documents, numbered from 1 without gaps. Each is a
// [Record] in the canonical JSON of package statement. It is written in the
// same transaction as the deed that it tells of.
//
// A document names the hash of the one before it, so that one that was changed,
// dropped, swapped or put in shows where it stands. And the hashes are the
// leaves of a Merkle tree (RFC 6962, 2.1):
//
//	leaf  = SHA-256(0x00 || document)
//	node  = SHA-256(0x01 || left || right)
//
// The server signs the root of the tree and the number of its leaves, a
// checkpoint (statement.Checkpoint). Devices remember the newest one, and have
// it proven that each later tree holds it unchanged ([Head.Continues]). So a
// server that has made the whole record anew, with all hashes and a fresh
// signature, is still caught by every device that was there before.
//
// # The export
//
// An export is a text of lines, each ended by a line feed. Each line is a
// document, oldest first; the last one is a [Checkpoint] of all of them.
//
// # What is checked
//
// [Verifier] reads documents in their order, one at a time, and keeps what it
// needs to judge the next one: the right edge of the tree, the devices, the
// accounts, and the sign-ins of the last hour. It checks numbers and hashes,
// each signature against the key that was trusted at that moment, and that what
// was signed is what the record says.
//
// # What is not
//
// Documents without a statement say what the server did or was told; that they
// were never changed is all that can be shown of them. A server that lies from
// the start writes lies that verify.
package audit

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/countersignd/countersign/internal/statement"
)

// MaxDocument is the largest length of a document in bytes. The longest one has a
// statement and a few short texts.
const MaxDocument = 32 << 10

// A Record is one line of the record: what happened, to whom, by whom and when. What
// it does not have is empty.
type Record struct {
	Account     string    `json:"account,omitempty"`     // that it happened to
	Actor       Actor     `json:"actor"`                 // who did it
	Address     string    `json:"address,omitempty"`     // it came from
	Application string    `json:"application,omitempty"` // that it is about
	Detail      string    `json:"detail,omitempty"`      // more words, for example a reason
	Device      string    `json:"device,omitempty"`      // that it is about
	Event       Event     `json:"event"`
	Previous    string    `json:"previous,omitempty"`  // leaf hash of the document before, in base64url; not in the first
	Salt        string    `json:"salt"`                // 128 random bits in base64url, so that nobody can guess a document from its hash
	Sequence    uint64    `json:"sequence"`            // from 1, without gaps
	SignIn      string    `json:"sign_in,omitempty"`   // that it is about
	Statement   string    `json:"statement,omitempty"` // the signed statement, where there is one
	Time        time.Time `json:"time"`                // RFC 3339, in UTC
}

// An Event is what a [Record] tells of. Package approval has them all; those that
// verification looks into are here.
type Event string

// The events that say who may sign and what was signed.
const (
	EventAccountAdded     Event = "account.added"
	EventAccountSuspended Event = "account.suspended"
	EventAccountResumed   Event = "account.resumed"
	EventDeviceEnrolled   Event = "device.enrolled"
	EventDeviceRevoked    Event = "device.revoked"
	EventDeviceReadmitted Event = "device.readmitted"
	EventCounterReused    Event = "device.counter_reused"
	EventRecoveryUsed     Event = "recovery.code_used"
	EventRecoveryRenewed  Event = "recovery.codes_renewed"
	EventTrustRequested   Event = "trust.requested"
	EventSignInBegun      Event = "sign_in.begun"
	EventSignInRungAgain  Event = "sign_in.rung_again"
	EventSignInAllowed    Event = "sign_in.allowed"
	EventSignInDenied     Event = "sign_in.denied"
	EventDenyReason       Event = "sign_in.deny_reason"
	EventSignInVerified   Event = "sign_in.verified"
	EventSignInCancelled  Event = "sign_in.cancelled"
	EventCodeRequested    Event = "code.requested"
	EventUnlocked         Event = "account.unlocked"
)

// An Actor is who did something.
type Actor struct {
	ID   string    `json:"id,omitempty"` // device id, application id, "uid 0 (root)", or empty
	Kind ActorKind `json:"kind"`
}

// ActorKind is a kind of [Actor].
type ActorKind string

// The kinds of actors.
const (
	ActorDevice        ActorKind = "device"
	ActorApplication   ActorKind = "application"
	ActorAdministrator ActorKind = "administrator"
	ActorServer        ActorKind = "server"
	ActorRecovery      ActorKind = "recovery" // who holds a recovery code
)

// NewSalt returns a fresh [Record.Salt].
func NewSalt() string {
	salt := make([]byte, 16)
	rand.Read(salt)
	return base64.RawURLEncoding.EncodeToString(salt)
}

// Document returns the record's exact bytes, those that are stored, hashed and
// exported. The time must be one of before the year 10000.
func (r Record) Document() []byte { return statement.Encode(r) }

// Parse returns the record that a document spells. It takes no other spelling
// than that of [Record.Document]; the error says why, in words that hold
// nothing of the document.
func Parse(document []byte) (Record, error) {
	if len(document) > MaxDocument {
		return Record{}, errors.New("it is longer than any document")
	}
	r, err := statement.Decode[Record](document)
	switch {
	case errors.Is(err, statement.ErrNotCanonical):
		return Record{}, errors.New("it is not in canonical form")
	case err != nil:
		return Record{}, errors.New("it is not JSON with the members of a record")
	}
	if _, offset := r.Time.Zone(); offset != 0 || r.Time.Year() < 1970 || r.Time.Year() > 9999 {
		return Record{}, errors.New("its time is not in UTC")
	}
	if r.Sequence == 0 || r.Sequence >= 1<<53 || r.Event == "" || r.Actor.Kind == "" || r.Salt == "" {
		return Record{}, errors.New("its number, event, actor or salt is missing")
	}
	return r, nil
}

// Hash returns the leaf hash of a document.
func Hash(document []byte) tlog.Hash { return tlog.RecordHash(document) }

// HashString returns a hash as documents and checkpoints spell it.
func HashString(h tlog.Hash) string { return base64.RawURLEncoding.EncodeToString(h[:]) }
