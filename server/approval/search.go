package approval

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/countersignd/countersign/internal/pin"
	"github.com/countersignd/countersign/internal/statement"
)

// An Entry is a record with its exact bytes.
type Entry struct {
	Record
	Document []byte
}

// entry returns the record under a key, or nil. It reads leniently: what was
// tampered with must still be listed.
func entry(tx Tx, key string) (*Entry, error) {
	b, err := tx.Get(bucketRecords, key)
	if err != nil || b == nil {
		return nil, err
	}
	e := &Entry{Document: slices.Clone(b)}
	if err := json.Unmarshal(b, &e.Record); err != nil {
		e.Record = Record{Event: "(damaged)"}
		fmt.Sscanf(key, "%x", &e.Sequence)
	}
	return e, nil
}

// A RecordFilter says which records are wanted: those for which all of it holds.
// The zero value wants all.
type RecordFilter struct {
	Account     string    // it happened to
	Device      string    // it is about, or that did it: an id, or an unambiguous beginning of one
	Application string    // it is about
	Event       Event     // that happened
	Since       time.Time // it was not earlier; zero if that is not asked
	Until       time.Time // it was earlier; zero if that is not asked
	OldestFirst bool
}

const (
	// maxSearched is how many records one call looks at, and maxPageBytes about
	// how many bytes of documents it returns. Then the caller goes on with the token.
	maxSearched  = 5000
	maxPageBytes = 512 << 10

	// disorder is how much earlier than the one before it a record may be: its
	// time is read before its transaction, and transactions overtake each other.
	disorder = time.Minute
)

// recordBlock is how many records of an account become one row of the index.
const recordBlock = 32

// index adds a record to what it can be found by: its account, its application,
// and the device that asks to be trusted in the sign-in that it is about, if it is
// about one. Of all others the records are among those of their account.
func index(tx *transaction, r *Record, s *SignIn) error {
	key := recordKey(r.Sequence)
	if r.Application != "" {
		if err := tx.Put(bucketRecordsOf, "application/"+r.Application+"/"+key, present); err != nil {
			return err
		}
	}
	if s != nil && s.Candidate != nil {
		if err := tx.Put(bucketRecordsOf, "candidate/"+s.Candidate.Device+"/"+key, present); err != nil {
			return err
		}
	}
	if r.Account == "" {
		return nil
	}
	a, err := tx.activity(r.Account)
	if damaged(err) {
		return tx.Put(bucketRecordsOf, "account/"+r.Account+"/"+key, strconv.AppendUint(nil, r.Sequence, 10))
	}
	if err != nil {
		return err
	}
	a.Records, a.changed = append(a.Records, r.Sequence), true
	if len(a.Records) < recordBlock {
		return nil
	}
	var block []byte
	for _, n := range a.Records {
		block = append(strconv.AppendUint(block, n, 10), ' ')
	}
	a.Records = nil
	return tx.Put(bucketRecordsOf, "account/"+r.Account+"/"+key, block[:len(block)-1])
}

// ListRecords returns a page of the record, newest first unless the filter says
// otherwise. A page may hold fewer records than were asked for, and even none,
// though there are more: the token tells.
func (a Administrator) ListRecords(ctx context.Context, f RecordFilter, p Page) (page []Entry, next string, err error) {
	if err := p.check(); err != nil {
		return nil, "", err
	}
	err = a.broker.view(ctx, func(tx *transaction) error {
		page, next = nil, ""
		s, err := f.search(tx)
		if err != nil {
			return err
		}
		page, next, err = s.run(tx, p)
		return err
	})
	return page, next, err
}

// A search walks one index, the narrowest, from one number to another.
type search struct {
	filter      RecordFilter // its device is a whole id
	account     string       // whose records are walked; empty if it is not those of one
	prefix      string       // of bucketRecordsOf, whose records are walked; empty if it is not those
	first, last uint64       // number of the first record, and of the one after the last; 0 means no bound
}

// search checks the filter and chooses the index.
func (f RecordFilter) search(tx *transaction) (*search, error) {
	s := &search{filter: f}
	if f.Application != "" {
		if err := wasApplication(tx, f.Application); err != nil {
			return nil, err
		}
		s.prefix = "application/" + f.Application + "/"
	}
	if f.Account != "" {
		if _, err := existingAccount(tx, f.Account); err != nil {
			return nil, err
		}
		s.account, s.prefix = f.Account, ""
	}
	if f.Device != "" {
		if err := s.ofDevice(tx, f.Device); err != nil {
			return nil, err
		}
	}
	if f.Event != "" && !slices.Contains(Events(), f.Event) {
		return nil, invalidField("event", "there is no such event: want one such as sign_in.verified or device.revoked")
	}
	var err error
	if !f.Since.IsZero() {
		if s.first, err = numberAt(tx, f.Since.Add(-disorder)); err != nil {
			return nil, err
		}
	}
	if !f.Until.IsZero() {
		s.last, err = numberAt(tx, f.Until.Add(disorder))
	}
	return s, err
}

// ofDevice chooses the records of a device's account, since it belongs to one, and
// those of what it asked before. A whole id may be that of a device that only asked.
func (s *search) ofDevice(tx *transaction, id string) error {
	if !pin.ValidKeyID(id) {
		d, err := deviceByPrefix(tx, id)
		if err != nil {
			return err
		}
		id = d.ID
	}
	d, err := load[Device](tx, bucketDevices, id)
	if err != nil {
		return err
	}
	s.filter.Device, s.account, s.prefix = id, "", "candidate/"+id+"/"
	if d != nil {
		s.account = d.Account
	}
	return nil
}

// wasApplication refuses an id that no application has or ever had.
func wasApplication(tx *transaction, id string) error {
	_, err := existingApplication(tx, id)
	if err == nil || !statement.ValidApplication(id) {
		return err
	}
	for range tx.Ascend(bucketRecordsOf, "application/"+id+"/") {
		return nil
	}
	return err
}

// numberAt returns the number of the first record that is not earlier than a
// moment, by bisection, because numbers and times rise together. What is missing
// counts as earlier.
func numberAt(tx Tx, moment time.Time) (uint64, error) {
	count, err := recordCount(tx)
	if err != nil {
		return 0, err
	}
	low, high := uint64(1), count+1
	for low < high {
		middle := low + (high-low)/2
		e, err := entry(tx, recordKey(middle))
		if err != nil {
			return 0, err
		}
		if e == nil || e.Time.Before(moment) {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return low, nil
}

func (s *search) run(tx *transaction, p Page) (page []Entry, next string, err error) {
	// from is where the walk begins: at the record behind it.
	from := s.last
	if s.filter.OldestFirst {
		from = max(s.first, 1) - 1
	}
	if p.Token != "" {
		if from, err = strconv.ParseUint(p.Token, 16, 64); err != nil {
			return nil, "", invalidField("page_token", "want what the page before returned")
		}
	}
	numbers, err := s.numbers(tx, from)
	if err != nil {
		return nil, "", err
	}
	var last uint64
	searched, size := 0, 0
	for number := range numbers {
		if s.filter.OldestFirst && s.last > 0 && number >= s.last || !s.filter.OldestFirst && number < s.first {
			break
		}
		if len(page) == p.Size || searched == maxSearched || size >= maxPageBytes {
			next = recordKey(last)
			break
		}
		searched++
		last = number
		e, err := entry(tx, recordKey(number))
		if err != nil {
			return nil, "", err
		}
		if e != nil && s.matches(e) {
			page = append(page, *e)
			size += len(e.Document)
		}
	}
	return page, next, nil
}

// numbers yields the numbers of the records to look at, in the order of the
// search, from the one behind from.
func (s *search) numbers(tx *transaction, from uint64) (iter.Seq[uint64], error) {
	switch {
	case s.account == "" && s.prefix == "":
		return rowNumbers(tx, bucketRecords, "", from, s.filter.OldestFirst), nil
	case s.account == "":
		return rowNumbers(tx, bucketRecordsOf, s.prefix, from, s.filter.OldestFirst), nil
	}
	a, err := tx.activity(s.account)
	if err != nil {
		return nil, err
	}
	numbers := a.numbers(tx, from, s.filter.OldestFirst)
	if s.prefix == "" {
		return numbers, nil
	}
	asked := slices.Collect(rowNumbers(tx, bucketRecordsOf, s.prefix, from, s.filter.OldestFirst))
	return merged(numbers, asked, s.filter.OldestFirst), nil
}

// rowNumbers yields the numbers that the keys of a bucket end in.
func rowNumbers(tx Tx, bucket, prefix string, from uint64, oldestFirst bool) iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		bound := ""
		if from > 0 {
			bound = prefix + recordKey(from)
		}
		one := func(key string) bool {
			n, err := strconv.ParseUint(key[len(prefix):], 16, 64)
			return err != nil || yield(n)
		}
		if oldestFirst {
			ascend(tx, bucket, prefix, bound, func(key string, _ []byte) bool { return one(key) })
		} else {
			descend(tx, bucket, prefix, bound, one)
		}
	}
}

// numbers yields the numbers of an account's records: those in blocks, of which
// the key is the last one, and those that are in none yet.
func (a *activity) numbers(tx Tx, from uint64, oldestFirst bool) iter.Seq[uint64] {
	prefix := "account/" + a.account + "/"
	if oldestFirst {
		return func(yield func(uint64) bool) {
			each := func(numbers []uint64) bool {
				return !slices.ContainsFunc(numbers, func(n uint64) bool { return n > from && !yield(n) })
			}
			for last := range rowNumbers(tx, bucketRecordsOf, prefix, from, true) {
				if !each(block(tx, prefix+recordKey(last))) {
					return
				}
			}
			each(a.Records)
		}
	}
	return func(yield func(uint64) bool) {
		each := func(numbers []uint64) bool {
			numbers = slices.Clone(numbers)
			slices.Reverse(numbers)
			return !slices.ContainsFunc(numbers, func(n uint64) bool { return (from == 0 || n < from) && !yield(n) })
		}
		if !each(a.Records) {
			return
		}
		if from > 0 { // it may be in the middle of a block
			for last := range rowNumbers(tx, bucketRecordsOf, prefix, from-1, true) {
				if !each(block(tx, prefix+recordKey(last))) {
					return
				}
				break
			}
		}
		for last := range rowNumbers(tx, bucketRecordsOf, prefix, from, false) {
			if !each(block(tx, prefix+recordKey(last))) {
				return
			}
		}
	}
}

// block returns the numbers in a row of the index. What is no number is left out.
func block(tx Tx, key string) []uint64 {
	value, err := tx.Get(bucketRecordsOf, key)
	if err != nil {
		return nil // the key was found a moment ago in the same transaction
	}
	var numbers []uint64
	for _, word := range strings.Fields(string(value)) {
		if n, err := strconv.ParseUint(word, 10, 64); err == nil {
			numbers = append(numbers, n)
		}
	}
	return numbers
}

// merged yields what is in one of two sequences of the same order, or in both.
func merged(numbers iter.Seq[uint64], others []uint64, oldestFirst bool) iter.Seq[uint64] {
	before := func(x, y uint64) bool { return x < y == oldestFirst && x != y }
	return func(yield func(uint64) bool) {
		left := others
		for n := range numbers {
			for ; len(left) > 0 && before(left[0], n); left = left[1:] {
				if !yield(left[0]) {
					return
				}
			}
			if len(left) > 0 && left[0] == n {
				left = left[1:]
			}
			if !yield(n) {
				return
			}
		}
		for _, n := range left {
			if !yield(n) {
				return
			}
		}
	}
}

func (s *search) matches(e *Entry) bool {
	f := s.filter
	return (f.Account == "" || e.Account == f.Account) &&
		(f.Application == "" || e.Application == f.Application) &&
		(f.Device == "" || e.Device == f.Device || e.Actor == Actor{Kind: ActorDevice, ID: f.Device}) &&
		(f.Event == "" || e.Event == f.Event) &&
		(f.Since.IsZero() || !e.Time.Before(f.Since)) &&
		(f.Until.IsZero() || e.Time.Before(f.Until))
}
