package approval

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/binary"
	"time"

	"github.com/countersignd/countersign/internal/statement"
)

// A SignIn is one request to be let in. It is a value: what happens to it is
// decided by the pure function [SignIn.next], and what it is at a moment by
// [SignIn.At].
type SignIn struct {
	ID              string
	Account         string
	Application     string     `json:",omitzero"` // id
	ApplicationName string     `json:",omitzero"` // as the registry had it when the sign-in began
	Candidate       *Candidate `json:",omitzero"` // set when a device asks to be trusted; there is no application then
	Lane            Lane       // who asks; decided when the sign-in began
	Known           string     `json:",omitzero"` // hash of the token that the requester is known by
	Source          string     // whom it is charged to
	Silent          Silence    `json:",omitzero"` // why it rang nobody; empty if it rang
	Rings           int        `json:",omitzero"` // how often it rang
	Rung            time.Time  `json:",omitzero"` // when it last rang
	Requester       Requester
	Message         string `json:",omitzero"`
	Asked           string `json:",omitzero"` // hash of what the application has asked for; empty if it was none
	Before          string `json:",omitzero"` // the account's sign-in before this one
	Begun           time.Time
	Expires         time.Time // when the prompt ends, answered or not

	CodeLifetime time.Duration // of the code after Allow
	MaxTries     int           // codes that may be compared

	Recorded State // the state last written; what it is now is At's to say
	Tries    int   `json:",omitzero"` // codes compared so far

	DecidedBy   string      `json:",omitzero"` // id of the device that allowed or denied it
	CodeExpires time.Time   `json:",omitzero"` // end of the code after Allow
	Signed      string      `json:",omitzero"` // SHA-256 of what the statement signed that allowed or denied it, in base64
	Decision    uint64      `json:",omitzero"` // number of the record with that statement
	DenyReason  string      `json:",omitzero"` // statement.Mistake, statement.NotMe or empty
	CancelCause CancelCause `json:",omitzero"`
	Ended       time.Time   `json:",omitzero"` // when it was verified, denied or cancelled

	// Records are the sequence numbers of the audit records about it.
	Records []uint64

	// Trusted and Connected say how many trusted devices the account had, and
	// how many of them had an open stream, when this was read. Not stored.
	Trusted   int `json:"-"`
	Connected int `json:"-"`

	// Delivery says on how many of these it had come how far, and Deliveries,
	// where it is asked for, on which. Not stored here.
	Delivery   DeliveryCounts `json:"-"`
	Deliveries []Delivery     `json:"-"`
}

// A Requester is the device somebody signs in on, as the application describes
// it. Nothing in it is verified.
type Requester struct {
	Address string `json:",omitzero"` // an IP address in its canonical form, or empty: unknown
	Place   string `json:",omitzero"`
	Device  string `json:",omitzero"`
	Program string `json:",omitzero"`
	Session string `json:",omitzero"` // the application's own name for it; not shown
}

// A Candidate is a device that asks to be trusted.
type Candidate struct {
	Device      string // key id of its identity key, which its connection proves
	Name        string
	Kind        string
	KeyStorage  string
	ApprovalKey statement.JWK
	ApprovalID  string
	Statement   string // countersign-enrollment+jws
}

// A State is what became of a sign-in. In the zero state nothing is possible.
type State int

// The states of a sign-in.
const (
	Pending   State = iota + 1 // nobody has answered
	Approved                   // a device allowed it and a code exists
	Verified                   // the code was used
	Denied                     // a device denied it
	Expired                    // not answered, or the code not used, in time
	Cancelled                  // called off, see CancelCause
)

// A CancelCause says what called a sign-in off.
type CancelCause string

// The causes.
const (
	CancelApplication        CancelCause = "application"
	CancelTooManyTries       CancelCause = "too_many_tries"
	CancelDeviceRevoked      CancelCause = "device_revoked"
	CancelAccountSuspended   CancelCause = "account_suspended"
	CancelApplicationRemoved CancelCause = "application_removed"
	CancelClockChanged       CancelCause = "clock_changed"
	CancelRestored           CancelCause = "restored"
	CancelMadeRoom           CancelCause = "made_room" // for another stranger; its source had more open than others
)

// Final reports whether nothing can change a sign-in in this state. A denied
// one is not final: a code that is asked for afterwards can still verify it.
func (s State) Final() bool {
	return s == Verified || s == Expired || s == Cancelled
}

// At returns the state of the sign-in at a moment. Expiry is a function of the
// clock; nothing has to run for it to happen.
func (s *SignIn) At(now time.Time) State {
	switch {
	case s.Recorded == Pending && !now.Before(s.Expires):
		return Expired
	case s.Recorded == Approved && !now.Before(s.CodeExpires):
		return Expired
	}
	return s.Recorded
}

// open reports whether a device may still have to show the sign-in.
func (s *SignIn) open(now time.Time) bool {
	state := s.At(now)
	return state == Pending || state == Approved
}

// TriesLeft returns how many more codes may be compared.
func (s *SignIn) TriesLeft() int { return max(0, s.MaxTries-s.Tries) }

// Ends returns when the state the sign-in has at now ends by itself or, if it
// is final, when it ended.
func (s *SignIn) Ends(now time.Time) time.Time {
	switch s.At(now) {
	case Pending, Denied:
		return s.Expires
	case Approved:
		return s.CodeExpires
	case Expired:
		if s.Recorded == Approved {
			return s.CodeExpires
		}
		return s.Expires
	}
	return s.Ended
}

// Over returns when the sign-in was verified, denied or cancelled, or has
// expired; zero while it is open.
func (s *SignIn) Over(now time.Time) time.Time {
	switch s.At(now) {
	case Pending, Approved:
		return time.Time{}
	case Denied:
		return s.Ended
	}
	return s.Ends(now)
}

// idAlphabet is base32hex in lower case, which keeps the order of the bytes.
var idAlphabet = base32.NewEncoding("0123456789abcdefghijklmnopqrstuv").WithPadding(base32.NoPadding)

// signInIDTime returns the beginning of all ids that were made at a moment.
func signInIDTime(t time.Time) string {
	var id [16]byte
	binary.BigEndian.PutUint64(id[:8], uint64(t.UnixMilli())<<16)
	return idAlphabet.EncodeToString(id[:])
}

// newSignInID returns 48 bits of Unix milliseconds and 80 random bits. Ids
// sort by time, so that new records go to the end of a B+tree.
func newSignInID(now time.Time) string {
	var id [16]byte
	binary.BigEndian.PutUint64(id[:8], uint64(now.UnixMilli())<<16)
	rand.Read(id[6:])
	return idAlphabet.EncodeToString(id[:])
}
