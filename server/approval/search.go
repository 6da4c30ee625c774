package approval

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
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

// indexes returns the prefixes under which a record is found in
// [bucketRecordsOf], the narrowest last: a device belongs to one account.
func indexes(r *Record) []string {
	var prefixes []string
	add := func(kind, id string) {
		if prefix := kind + "/" + id + "/"; id != "" && !slices.Contains(prefixes, prefix) {
			prefixes = append(prefixes, prefix)
		}
	}
	add("application", r.Application)
	add("account", r.Account)
	add("device", r.Device)
	if r.Actor.Kind == ActorDevice {
		add("device", r.Actor.ID)
	}
	return prefixes
}

// ListRecords returns a page of the record, newest first unless the filter says
// otherwise. A page may hold fewer records than were asked for, and even none,
// though there are more: the token tells.
func (a Administrator) ListRecords(ctx context.Context, f RecordFilter, p Page) (page []Entry, next string, err error) {
	if err := p.check(); err != nil {
		return nil, "", err
	}
	err = a.broker.store.View(ctx, func(tx Tx) error {
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
	filter      RecordFilter
	prefixes    []string // what else of the filter is an index
	bucket      string
	prefix      string
	first, last uint64 // number of the first record, and of the one after the last; 0 means no bound
}

// search checks the filter and chooses the index.
func (f RecordFilter) search(tx Tx) (*search, error) {
	s := &search{filter: f, bucket: bucketRecords}
	wanted := &Record{Account: f.Account, Application: f.Application}
	if f.Account != "" {
		if _, err := existingAccount(tx, f.Account); err != nil {
			return nil, err
		}
	}
	if f.Device != "" {
		wanted.Device = f.Device
		if !pin.ValidKeyID(f.Device) { // a whole id may be that of a device that only asked
			d, err := deviceByPrefix(tx, f.Device)
			if err != nil {
				return nil, err
			}
			wanted.Device = d.ID
		}
	}
	if f.Application != "" {
		if err := wasApplication(tx, f.Application); err != nil {
			return nil, err
		}
	}
	if f.Event != "" && !slices.Contains(Events(), f.Event) {
		return nil, invalidField("event", "there is no such event")
	}
	if s.prefixes = indexes(wanted); len(s.prefixes) > 0 {
		s.bucket, s.prefix = bucketRecordsOf, s.prefixes[len(s.prefixes)-1]
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

// wasApplication refuses an id that no application has or ever had.
func wasApplication(tx Tx, id string) error {
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

func (s *search) run(tx Tx, p Page) (page []Entry, next string, err error) {
	var last string
	var failed error
	searched, size := 0, 0
	take := func(key string) bool {
		number := strings.TrimPrefix(key, s.prefix)
		if s.filter.OldestFirst && s.last > 0 && number >= recordKey(s.last) || !s.filter.OldestFirst && number < recordKey(s.first) {
			return false
		}
		if len(page) == p.Size || searched == maxSearched || size >= maxPageBytes {
			next = last
			return false
		}
		searched++
		last = number
		var e *Entry
		if e, failed = entry(tx, number); failed != nil {
			return false
		}
		if e != nil && s.matches(e) {
			page = append(page, *e)
			size += len(e.Document)
		}
		return true
	}
	if s.filter.OldestFirst {
		after := p.Token
		if after == "" && s.first > 1 {
			after = recordKey(s.first - 1)
		}
		ascend(tx, s.bucket, s.prefix, s.prefix+after, func(key string, _ []byte) bool { return take(key) })
		return page, next, failed
	}
	before := p.Token
	if before == "" && s.last > 0 {
		before = recordKey(s.last)
	}
	if before != "" {
		before = s.prefix + before
	}
	descend(tx, s.bucket, s.prefix, before, take)
	return page, next, failed
}

func (s *search) matches(e *Entry) bool {
	f := s.filter
	if f.Event != "" && e.Event != f.Event ||
		!f.Since.IsZero() && e.Time.Before(f.Since) ||
		!f.Until.IsZero() && !e.Time.Before(f.Until) {
		return false
	}
	under := indexes(&e.Record)
	return !slices.ContainsFunc(s.prefixes, func(prefix string) bool { return !slices.Contains(under, prefix) })
}
