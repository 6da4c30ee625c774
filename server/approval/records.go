package approval

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
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
//	devices
//	  <device>                          Device
//	devices_of_account
//	  <account>/<device>                its state, and when it was last alive and confirmed, as text
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
//	sign_ins_of_account
//	  <account>/<sign-in>               "1"
//	deliveries                          how far prompts have come; for 30 days
//	  <sign-in or test prompt>          progress, by device; in order of time
//	tests
//	  <device>                          TestPrompt, the newest
//	open                                those that a device may still have to show
//	  <account>/<sign-in>               "1"; may have expired, never misses one
//	asked
//	  <application>/<account>/<hash>    newest sign-in of that requester, as text
//	requested_codes
//	  <account>                         requestedCode, at most one
//	ringing
//	  <account>                         ringing
//	requesters                          those that are known
//	  <account>/<application>/<hash of token>  knownRequester
//	candidates
//	  <device>                          newest sign-in in which the device asks to be trusted, as text
//	failures
//	  <account>/<lane>                  failures
//	recovery
//	  <account>                         recoverySet, at most one
//	recovery_tries                      refused recovery codes; bounded
//	  <address block>                   when, in nanoseconds since 1970, as text, oldest first
//	records
//	  <sequence, 16 hex digits>         Record, see package audit for its bytes
//	records_of
//	  account/<account>/<sequence>      "1"
//	  application/<id>/<sequence>       "1"
//	  device/<device>/<sequence>        "1"; that it is about, or that did it
//	record_hashes                       the Merkle tree over the records
//	  <index, 16 hex digits>            hash, 32 bytes; numbered as package tlog does
//	notices
//	  <account>                         notices
const (
	bucketMeta           = "meta"
	bucketAccounts       = "accounts"
	bucketDevices        = "devices"
	bucketDevicesOf      = "devices_of_account"
	bucketKeys           = "keys"
	bucketInvitations    = "invitations"
	bucketApplications   = "applications"
	bucketTokens         = "tokens"
	bucketSignIns        = "sign_ins"
	bucketSignInsOf      = "sign_ins_of_account"
	bucketDeliveries     = "deliveries"
	bucketTests          = "tests"
	bucketOpen           = "open"
	bucketAsked          = "asked"
	bucketRequestedCodes = "requested_codes"
	bucketRinging        = "ringing"
	bucketRequesters     = "requesters"
	bucketCandidates     = "candidates"
	bucketFailures       = "failures"
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
const layout = 2

// present is the value of an index entry.
var present = []byte("1")

// load returns the value under key, or nil if there is none.
func load[T any](tx Tx, bucket, key string) (*T, error) {
	b, err := tx.Get(bucket, key)
	if err != nil || b == nil {
		return nil, err
	}
	if v := recall[T](&memories, bucket, key, b); v != nil {
		return v, nil
	}
	v := new(T)
	if err := json.Unmarshal(b, v); err != nil {
		return nil, fmt.Errorf("%w: %s/%s is damaged: %w", ErrStoreFailed, bucket, key, err)
	}
	remember(&memories, bucket, key, b, v)
	return v, nil
}

func save[T any](tx Tx, bucket, key string, v *T) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encoding %s: %w", bucket, err)
	}
	return tx.Put(bucket, key, b)
}

// recordSignIn appends a record about a sign-in and notes it there.
func recordSignIn(tx Tx, now time.Time, s *SignIn, r Record) error {
	r.Account, r.Application, r.SignIn = s.Account, s.Application, s.ID
	sequence, err := recordOf(tx, now, r, s)
	s.Records = append(s.Records[:len(s.Records):len(s.Records)], sequence)
	return err
}

// saveSignIn stores a sign-in with its indexes.
func saveSignIn(tx Tx, now time.Time, s *SignIn) error {
	if err := save(tx, bucketSignIns, s.ID, s); err != nil {
		return err
	}
	open := s.Account + "/" + s.ID
	if s.At(now) == Pending || s.At(now) == Approved {
		return tx.Put(bucketOpen, open, present)
	}
	return tx.Delete(bucketOpen, open)
}

// saveDevice stores a device with its index.
func saveDevice(tx Tx, d *Device) error {
	if err := tx.Put(bucketDevicesOf, d.Account+"/"+d.ID, d.standing()); err != nil {
		return err
	}
	return save(tx, bucketDevices, d.ID, d)
}

// standing is what the index of an account's devices says of each: all that
// [Device.At] asks for.
func (d *Device) standing() []byte {
	return fmt.Appendf(nil, "%s %d %d", d.State, d.alive().UnixNano(), d.confirmed().UnixNano())
}

// parseStanding returns a device that At takes for the one whose standing it
// is. What cannot be read is trusted by nobody.
func parseStanding(b []byte) Device {
	words := strings.Fields(string(b))
	if len(words) != 3 {
		return Device{}
	}
	alive, err := strconv.ParseInt(words[1], 10, 64)
	if err != nil {
		return Device{}
	}
	confirmed, err := strconv.ParseInt(words[2], 10, 64)
	if err != nil {
		return Device{}
	}
	return Device{State: DeviceState(words[0]), LastSeen: time.Unix(0, alive), Confirmed: time.Unix(0, confirmed)}
}

// openSignIns returns the pending and the approved sign-ins of an account,
// oldest first.
func openSignIns(tx Tx, account string, now time.Time) ([]*SignIn, error) {
	open, _, err := walkOpen(tx, account, now)
	return open, err
}

// collect is openSignIns for a transaction that writes: it also takes those
// that are over out of the index, which frees space and changes nothing else.
func collect(tx Tx, account string, now time.Time) ([]*SignIn, error) {
	open, over, err := walkOpen(tx, account, now)
	if err != nil {
		return nil, err
	}
	for _, key := range over {
		if err := tx.Delete(bucketOpen, key); err != nil {
			return nil, err
		}
	}
	return open, nil
}

// walkOpen reads what the index of open sign-ins names for an account: those
// that are open, and the keys of those that are not.
func walkOpen(tx Tx, account string, now time.Time) (open []*SignIn, over []string, err error) {
	for key := range tx.Ascend(bucketOpen, account+"/") {
		s, err := load[SignIn](tx, bucketSignIns, key[len(account)+1:])
		if err != nil {
			return nil, nil, err
		}
		if s != nil && (s.At(now) == Pending || s.At(now) == Approved) {
			open = append(open, s)
		} else {
			over = append(over, key)
		}
	}
	return open, over, nil
}
