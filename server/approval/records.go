package approval

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// What the store holds. Values are JSON unless said otherwise; ids and account
// names hold no slash.
//
//	meta
//	  clock                             the time, written down once a minute, in RFC 3339
//	  deployment                        deployment id, as text
//	  decoy                             id of the newest request to be trusted that came to nothing
//	  generation                        see Outside, in decimal
//	  layout                            number of the layout that is drawn here, in decimal
//	  records                           sequence number of the newest record, in decimal
//	  restored                          when the store was last restored from a backup, in RFC 3339
//	accounts
//	  <account>                         Account
//	activity                            what changes of an account with each sign-in
//	  <account>                         activity
//	devices
//	  <device>                          Device
//	devices_of_account
//	  <account>/<device>                its state, and when it was enrolled, last alive and confirmed, as text
//	keys                                both keys of every device that ever was
//	  <key id>                          device id, as text
//	invitations
//	  <hash of token>                   invitation
//	applications
//	  <application>                     Application
//	tokens
//	  <hash of token>                   application id, as text
//	sign_ins
//	  <sign-in>                         SignIn; in order of time
//	deliveries                          how far prompts have come; for 30 days
//	  <sign-in or test prompt>          progress, by device; in order of time
//	tests
//	  <account>/<device>                TestPrompt, the newest
//	open                                those that a device may still have to show
//	  <sign-in>                         account, as text; may have expired, never misses one
//	requested_codes
//	  <account>                         requestedCode, at most one
//	requesters                          those that are known
//	  <account>/<application>/<hash of token>  knownRequester
//	candidates
//	  <device>                          newest sign-in in which the device asks to be trusted, as text
//	recovery
//	  <account>                         recoverySet, at most one
//	recovery_tries                      refused recovery codes; bounded
//	  <address block>                   when, in nanoseconds since 1970, as text, oldest first
//	records
//	  <sequence, 16 hex digits>         Record, see package audit for its bytes
//	records_of
//	  account/<account>/<sequence>      numbers of records up to this one, in decimal, with spaces; the newest are in activity
//	  application/<id>/<sequence>       "1"
//	  candidate/<device>/<sequence>     "1"; that it was in when it asked to be trusted
//	record_hashes                       the Merkle tree over the records
//	  <index, 16 hex digits>            hash, 32 bytes; numbered as package tlog does
//	notices
//	  <account>                         notices
const (
	bucketMeta           = "meta"
	bucketAccounts       = "accounts"
	bucketActivity       = "activity"
	bucketDevices        = "devices"
	bucketDevicesOf      = "devices_of_account"
	bucketKeys           = "keys"
	bucketInvitations    = "invitations"
	bucketApplications   = "applications"
	bucketTokens         = "tokens"
	bucketSignIns        = "sign_ins"
	bucketDeliveries     = "deliveries"
	bucketTests          = "tests"
	bucketOpen           = "open"
	bucketRequestedCodes = "requested_codes"
	bucketRequesters     = "requesters"
	bucketCandidates     = "candidates"
	bucketRecovery       = "recovery"
	bucketRecoveryTries  = "recovery_tries"
	bucketRecords        = "records"
	bucketRecordsOf      = "records_of"
	bucketRecordHashes   = "record_hashes"
	bucketNotices        = "notices"

	keyDeployment = "deployment"
	keyLayout     = "layout"
	keyRecords    = "records"
	keyDecoy      = "decoy"
	keyClock      = "clock"
	keyGeneration = "generation"
	keyRestored   = "restored"
)

// layout is the number of what is drawn above. It rises when a program that knows
// the old drawing only would misread the store, or this one an old store. It did
// not when deliveries, tests and push registrations came: a program that does not
// know these forgets them at most, and where there are none nothing is known.
const layout = 3

// present is the value of an index entry.
var present = []byte("1")

// A reader is load, or look for what is only looked at.
type reader[T any] func(tx Tx, bucket, key string) (*T, error)

// load returns the value under key, or nil if there is none.
func load[T any](tx Tx, bucket, key string) (*T, error) {
	v, err := look[T](tx, bucket, key)
	if c, ok := any(v).(cloner[T]); ok && v != nil {
		v = c.clone()
	}
	return v, err
}

// look is load for a value that is only looked at: others have the same, so nobody
// may change it.
func look[T any](tx Tx, bucket, key string) (*T, error) {
	b, err := tx.Get(bucket, key)
	if err != nil || b == nil {
		return nil, err
	}
	if v := recall[T](&memories, bucket, key, b); v != nil {
		return v, nil
	}
	v := new(T)
	if err := json.Unmarshal(b, v); err != nil {
		return nil, &damagedError{bucket, key, err}
	}
	keep(&memories, bucket, key, b, v)
	return v, nil
}

func save[T any](tx Tx, bucket, key string, v *T) error {
	return put(tx, bucket, key, v, remember[T])
}

// saveLast is save for a value that nobody changes any more.
func saveLast[T any](tx Tx, bucket, key string, v *T) error {
	return put(tx, bucket, key, v, keep[T])
}

// put stores a value and has it remembered.
func put[T any](tx Tx, bucket, key string, v *T, remember func(m *memo, bucket, key string, encoded []byte, v *T)) error {
	e := encoders.Get().(*encoder)
	defer encoders.Put(e)
	encoded, err := e.encode(v)
	if err != nil {
		return fmt.Errorf("encoding %s: %w", bucket, err)
	}
	if err := tx.Put(bucket, key, encoded); err != nil { // which copies it
		return err
	}
	remember(&memories, bucket, key, encoded, v)
	return nil
}

// An encoder is json.Marshal with memory that is used again.
type encoder struct {
	json *json.Encoder
	buf  bytes.Buffer
}

var encoders = sync.Pool{New: func() any {
	e := new(encoder)
	e.json = json.NewEncoder(&e.buf)
	return e
}}

// encode returns the encoding of v, which is good until the next call.
func (e *encoder) encode(v any) ([]byte, error) {
	e.buf.Reset()
	if err := e.json.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(e.buf.Bytes(), []byte("\n")), nil // which Marshal leaves out
}

// A damagedError says that what is stored under a key is no value of its kind.
type damagedError struct {
	bucket, key string
	err         error
}

func (e *damagedError) Error() string {
	return fmt.Sprintf("%v: %s/%s is damaged: %v", ErrStoreFailed, e.bucket, e.key, e.err)
}

func (e *damagedError) Unwrap() error { return ErrStoreFailed }

// damaged reports whether err is of what is stored, so that asking again is of no
// use.
func damaged(err error) bool {
	_, ok := errors.AsType[*damagedError](err)
	return ok
}

// recordSignIn appends a record about a sign-in and notes it there.
func recordSignIn(tx *transaction, now time.Time, s *SignIn, r Record) error {
	r.Account, r.Application, r.SignIn = s.Account, s.Application, s.ID
	sequence, err := recordOf(tx, now, r, s)
	s.Records = append(s.Records[:len(s.Records):len(s.Records)], sequence)
	return err
}

// saveSignIn stores a sign-in, and notes whether it is open.
func saveSignIn(tx *transaction, now time.Time, s *SignIn) error {
	if err := save(tx, bucketSignIns, s.ID, s); err != nil {
		return err
	}
	open := s.open(now)
	if !open {
		memories.forget(bucketSignIns, s.ID)
	}
	return tx.setOpen(s.Account, s.ID, open)
}

// saveDevice stores a device with its index.
func saveDevice(tx *transaction, d *Device) error {
	if err := tx.Put(bucketDevicesOf, d.Account+"/"+d.ID, d.standing()); err != nil {
		return err
	}
	return save(tx, bucketDevices, d.ID, d)
}

// standing is what the index of an account's devices says of each: all that
// [Broker.mayApprove] asks for, and what its screen depends on.
func (d *Device) standing() []byte {
	return fmt.Appendf(nil, "%s %d %d %d", d.State, d.Enrolled.UnixNano(), d.alive().UnixNano(), d.confirmed().UnixNano())
}

// standings yields the devices of an account, revoked ones too, as far as the
// index knows them. What cannot be read is trusted by nobody.
func standings(tx Tx, account string) iter.Seq[Device] {
	return func(yield func(Device) bool) {
		for key, standing := range tx.Ascend(bucketDevicesOf, account+"/") {
			if !yield(parseStanding(account, key[len(account)+1:], string(standing))) {
				return
			}
		}
	}
}

func parseStanding(account, id, standing string) Device {
	d := Device{ID: id, Account: account}
	state, rest, more := strings.Cut(standing, " ")
	var times [3]time.Time
	for i := range times {
		if !more {
			return d
		}
		var word string
		word, rest, more = strings.Cut(rest, " ")
		n, err := strconv.ParseInt(word, 10, 64)
		if err != nil {
			return d
		}
		times[i] = time.Unix(0, n)
	}
	if !more {
		d.State, d.Enrolled, d.LastSeen, d.Confirmed = DeviceState(state), times[0], times[1], times[2]
	}
	return d
}

// openSignIns returns the pending and the approved sign-ins of an account,
// oldest first.
func openSignIns(tx *transaction, account string, now time.Time) ([]*SignIn, error) {
	a, err := tx.activity(account)
	return readOpen(tx, account, a, err, load[SignIn], now)
}

// lookAtOpen is openSignIns for those that are only looked at.
func lookAtOpen(tx Tx, account string, now time.Time) ([]*SignIn, error) {
	a, err := look[activity](tx, bucketActivity, account)
	return readOpen(tx, account, a, err, look[SignIn], now)
}

// openOf returns what [activity.Open] of an account should be, from the index of
// all accounts. Nobody begins or verifies a sign-in of an account of which the
// activity is damaged, but its owner can deny one, and revoke.
func openOf(tx Tx, account string) []string {
	var open []string
	for id, of := range tx.Ascend(bucketOpen, "") {
		if string(of) == account {
			open = append(open, id)
		}
	}
	return open
}

// readOpen reads those of an account's sign-ins that are open, when reading its
// activity has returned a and err. A sign-in that is damaged is not open: nobody
// can allow or verify it.
func readOpen(tx Tx, account string, a *activity, err error, read reader[SignIn], now time.Time) ([]*SignIn, error) {
	var ids []string
	switch {
	case damaged(err):
		ids = openOf(tx, account)
	case err != nil:
		return nil, err
	case a != nil:
		ids = a.Open
	}
	var open []*SignIn
	for _, id := range ids {
		s, err := read(tx, bucketSignIns, id)
		if damaged(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if s != nil && s.open(now) {
			open = append(open, s)
		}
	}
	return open, nil
}

// forgetOver takes the sign-ins of an account that are over out of the indexes,
// which frees space and changes nothing else. It is given those that are open.
func forgetOver(tx *transaction, account string, open []*SignIn) error {
	a, err := tx.activity(account)
	if err != nil {
		return err
	}
	for _, id := range slices.Clone(a.Open) {
		if slices.ContainsFunc(open, func(s *SignIn) bool { return s.ID == id }) {
			continue
		}
		if err := tx.setOpen(account, id, false); err != nil {
			return err
		}
	}
	return nil
}

// addToAccount makes a new sign-in the newest one of its account.
func addToAccount(tx *transaction, s *SignIn) error {
	a, err := tx.activity(s.Account)
	if err == nil {
		s.Before, a.Newest, a.changed = a.Newest, s.ID, true
	}
	return err
}
