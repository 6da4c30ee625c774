package boltstore

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync/atomic"

	bolt "go.etcd.io/bbolt"
)

// formatBucket is not for transactions.
const formatBucket = "boltstore"

var errEnded = errors.New("boltstore: the transaction has ended")

// A tx is a transaction of a view, or of one update in a group. An update does
// not write to bbolt: its writes are kept here, as an overlay over the group's
// transaction, until its function has succeeded.
//
// There is a new one for each transaction, though its memory is used again, so
// that one that was kept after its end cannot write into another.
type tx struct {
	bolt     *bolt.Tx
	buckets  buckets
	writable bool
	ended    atomic.Bool
	writes   []write  // sorted by bucket and key
	inserted int      // how often writes was inserted to, which moves the others
	reading  []string // the buckets Ascend is reading
	scratch  []byte   // memory for a key
	err      error    // what Ascend could not return
}

// A write is what was put under a key, or nil if the key was deleted.
type write struct {
	bucket, key string
	value       []byte
}

// Get implements [approval.Tx].
func (t *tx) Get(bucket, key string) ([]byte, error) {
	if err := t.check(bucket, key); err != nil {
		return nil, err
	}
	if i, ok := t.find(bucket, key); ok {
		return t.writes[i].value, nil
	}
	if b := t.buckets.get(t.bolt, bucket); b != nil {
		t.scratch = append(t.scratch[:0], key...)
		return b.value(t.scratch), nil
	}
	return nil, nil
}

// Put implements [approval.Tx].
func (t *tx) Put(bucket, key string, value []byte) error {
	if len(value) == 0 || len(value) > MaxValue {
		return fmt.Errorf("boltstore: a value of %d bytes, want 1 to %d", len(value), MaxValue)
	}
	return t.set(bucket, key, value)
}

// Delete implements [approval.Tx].
func (t *tx) Delete(bucket, key string) error {
	return t.set(bucket, key, nil)
}

func (t *tx) set(bucket, key string, value []byte) error {
	if err := t.check(bucket, key); err != nil {
		return err
	}
	if !t.writable {
		return errors.New("boltstore: a View cannot write")
	}
	if slices.Contains(t.reading, bucket) {
		return fmt.Errorf("boltstore: bucket %q is being read", bucket)
	}
	value = bytes.Clone(value) // nil stays nil
	i, ok := t.find(bucket, key)
	if ok {
		t.writes[i].value = value
		return nil
	}
	t.writes = slices.Insert(t.writes, i, write{bucket, key, value})
	t.inserted++
	return nil
}

func (t *tx) check(bucket, key string) error {
	if err := t.checkBucket(bucket); err != nil {
		return err
	}
	if key == "" || len(key) > MaxKey {
		return fmt.Errorf("boltstore: a key of %d bytes, want 1 to %d", len(key), MaxKey)
	}
	return nil
}

func (t *tx) checkBucket(bucket string) error {
	switch {
	case t.ended.Load():
		return errEnded
	case bucket == "" || len(bucket) > MaxKey:
		return fmt.Errorf("boltstore: a bucket name of %d bytes, want 1 to %d", len(bucket), MaxKey)
	case bucket == formatBucket:
		return fmt.Errorf("boltstore: bucket %q is not for transactions", bucket)
	}
	return nil
}

// find returns where the write to key is, or where it would be.
func (t *tx) find(bucket, key string) (int, bool) {
	if len(t.writes) == 0 {
		return 0, false // a View, or an update that begins by reading
	}
	return slices.BinarySearchFunc(t.writes, write{bucket: bucket, key: key}, func(a, b write) int {
		if c := cmp.Compare(a.bucket, b.bucket); c != 0 {
			return c
		}
		return cmp.Compare(a.key, b.key)
	})
}

// Ascend implements [approval.Tx]. If it cannot read bucket, it yields nothing
// and the transaction fails; it panics if the transaction has ended, because
// there is nobody left to tell, and nothing found must not be taken for nothing
// there.
func (t *tx) Ascend(bucket, prefix string) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		if err := t.checkBucket(bucket); err == errEnded {
			panic(err)
		} else if err != nil {
			t.err = err
			return
		}
		t.reading = append(t.reading, bucket)
		defer func() {
			i := slices.Index(t.reading, bucket)
			t.reading = slices.Delete(t.reading, i, i+1)
		}()
		t.merge(bucket, prefix, yield)
	}
}

// merge yields the rows of bbolt and of the overlay in one order. Where both have
// a key, the overlay's counts.
func (t *tx) merge(bucket, prefix string, yield func(string, []byte) bool) {
	var cursor *bolt.Cursor
	var key, value []byte // the next row of bbolt; a nil key is none
	if b := t.buckets.get(t.bolt, bucket); b != nil {
		cursor = b.Cursor()
		key, value = cursor.Seek([]byte(prefix))
	}
	over := t.over(bucket, prefix)
	for {
		w := over.next()
		stored := key != nil && bytes.HasPrefix(key, []byte(prefix))
		if !stored && w == nil {
			return
		}
		if w == nil || stored && string(key) < w.key {
			if !yield(string(key), value) {
				return
			}
			key, value = cursor.Next()
			continue
		}
		if stored && string(key) == w.key {
			key, value = cursor.Next()
		}
		over.done()
		if w.value != nil && !yield(w.key, w.value) {
			return
		}
	}
}

// An overIter walks the overlay's rows of one bucket. That bucket is not written
// to meanwhile, but others may be, which moves its rows in the slice.
type overIter struct {
	t              *tx
	bucket, prefix string
	first          int // of the rows, when inserted was counted
	n              int // rows done
	inserted       int
}

func (t *tx) over(bucket, prefix string) overIter {
	first, _ := t.find(bucket, prefix)
	return overIter{t: t, bucket: bucket, prefix: prefix, first: first, inserted: t.inserted}
}

// next returns the next row, or nil, and stays at it. The row is good until
// something else is written.
func (o *overIter) next() *write {
	if o.inserted != o.t.inserted {
		o.first, _ = o.t.find(o.bucket, o.prefix)
		o.inserted = o.t.inserted
	}
	if i := o.first + o.n; i < len(o.t.writes) {
		if w := &o.t.writes[i]; w.bucket == o.bucket && strings.HasPrefix(w.key, o.prefix) {
			return w
		}
	}
	return nil
}

func (o *overIter) done() { o.n++ }

// buckets remembers the buckets of one bbolt transaction. There are a dozen or
// so: looking through them is faster than a map, and needs no memory in a view.
type buckets []namedBucket

type namedBucket struct {
	*bolt.Bucket
	name   string
	cursor *bolt.Cursor // of value; nil before it was called
	end    string       // the last key, once something was put
}

// value returns the value under key, or nil. It is Get with a cursor that is used
// again and again, as its memory is what most of Get's time goes into.
func (b *namedBucket) value(key []byte) []byte {
	if b.cursor == nil {
		b.cursor = b.Cursor()
	}
	found, value := b.cursor.Seek(key)
	if !bytes.Equal(found, key) {
		return nil
	}
	return value
}

// fullPage is how full bbolt makes the pages of a bucket whose keys come in
// order. Where they come in any order, it leaves half of each page free.
const fullPage = 0.9

// note notes that key is about to be put into the bucket, and sets how full its
// pages get: what all goes behind the last key needs no room between.
func (b *namedBucket) note(key string) {
	if b.end == "" {
		last, _ := b.Cursor().Last()
		b.end, b.FillPercent = string(last), fullPage
	}
	if key <= b.end {
		b.FillPercent = bolt.DefaultFillPercent
		return
	}
	b.end = key
}

// get returns the bucket, or nil if there is none. It is good until the next get.
func (bs *buckets) get(b *bolt.Tx, name string) *namedBucket {
	for i := range *bs {
		if (*bs)[i].name == name {
			return &(*bs)[i]
		}
	}
	if bucket := b.Bucket([]byte(name)); bucket != nil {
		return bs.add(name, bucket)
	}
	return nil
}

// create creates a bucket that get did not find.
func (bs *buckets) create(b *bolt.Tx, name string) (*namedBucket, error) {
	bucket, err := b.CreateBucket([]byte(name))
	if err != nil {
		return nil, err
	}
	return bs.add(name, bucket), nil
}

func (bs *buckets) add(name string, bucket *bolt.Bucket) *namedBucket {
	*bs = append(*bs, namedBucket{Bucket: bucket, name: name})
	return &(*bs)[len(*bs)-1]
}

// reset returns bs without its buckets, for the next transaction.
func (bs buckets) reset() buckets {
	clear(bs)
	return bs[:0]
}
