package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sort"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/countersignd/countersign/server/approval"
)

// Memory is an [approval.Store] that forgets everything when it goes. Updates
// run one at a time and wait for the views before them.
//
// It is hard on broken promises: it hands out copies, panics at the end of a
// transaction whose function changed one, and overwrites them all after the
// transaction, so that bytes kept too long are seen to be wrong.
type Memory struct {
	mu      sync.RWMutex
	buckets map[string][]entry // each sorted by key; no bucket is empty
}

// An entry's value is replaced, never changed.
type entry struct {
	key   string
	value []byte
}

// NewMemory returns an empty store.
func NewMemory() *Memory {
	return &Memory{buckets: make(map[string][]entry)}
}

// View implements [approval.Store].
func (m *Memory) View(ctx context.Context, fn func(approval.Tx) error) error {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.run(ctx, fn, &memoryTx{m: m})
}

// Update implements [approval.Store].
func (m *Memory) Update(ctx context.Context, fn func(approval.Tx) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.run(ctx, fn, &memoryTx{m: m, writable: true})
}

func (m *Memory) run(ctx context.Context, fn func(approval.Tx) error, tx *memoryTx) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	keep := false
	defer func() {
		tx.ended.Store(true)
		if !keep {
			tx.rollback()
		}
		for _, h := range tx.handed {
			for i := range h.copy {
				h.copy[i] = 0xdb
			}
		}
	}()
	if err := fn(tx); err != nil {
		return err
	}
	for _, h := range tx.handed {
		if !bytes.Equal(h.copy, h.value) {
			panic(fmt.Sprintf("storetest: a transaction changed bytes it was handed: %.40q became %.40q", h.value, h.copy))
		}
	}
	keep = tx.err == nil
	return tx.err
}

// A memoryTx writes to the store at once and remembers how to undo it.
type memoryTx struct {
	m        *Memory
	writable bool
	ended    atomic.Bool
	undo     []undo
	handed   []handed
	reading  []string // the buckets that Ascend is reading
	err      error    // what Ascend could not return
}

// An undo is what was under a key before a write; a nil value is nothing.
type undo struct {
	bucket string
	entry
}

// A handed is a copy that was given to fn, and what it was made of.
type handed struct{ copy, value []byte }

// Get implements [approval.Tx].
func (tx *memoryTx) Get(bucket, key string) ([]byte, error) {
	if err := tx.check(bucket, key); err != nil {
		return nil, err
	}
	if i, ok := tx.m.find(bucket, key); ok {
		return tx.hand(tx.m.buckets[bucket][i].value), nil
	}
	return nil, nil
}

// Put implements [approval.Tx].
func (tx *memoryTx) Put(bucket, key string, value []byte) error {
	if len(value) == 0 || len(value) > MaxValue {
		return fmt.Errorf("storetest: a value of %d bytes, want 1 to %d", len(value), MaxValue)
	}
	return tx.set(bucket, key, bytes.Clone(value))
}

// Delete implements [approval.Tx].
func (tx *memoryTx) Delete(bucket, key string) error {
	return tx.set(bucket, key, nil)
}

// Ascend implements [approval.Tx].
func (tx *memoryTx) Ascend(bucket, prefix string) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		if tx.ended.Load() {
			panic(errEnded)
		}
		if bucket == "" {
			tx.err = errors.New("storetest: Ascend of an empty bucket name")
			return
		}
		tx.reading = append(tx.reading, bucket)
		defer func() {
			i := slices.Index(tx.reading, bucket)
			tx.reading = slices.Delete(tx.reading, i, i+1)
		}()
		i, _ := tx.m.find(bucket, prefix)
		for _, e := range tx.m.buckets[bucket][i:] {
			if !strings.HasPrefix(e.key, prefix) || !yield(e.key, tx.hand(e.value)) {
				return
			}
		}
	}
}

var errEnded = errors.New("storetest: the transaction has ended")

func (tx *memoryTx) check(bucket, key string) error {
	switch {
	case tx.ended.Load():
		return errEnded
	case bucket == "" || len(bucket) > MaxKey:
		return fmt.Errorf("storetest: a bucket name of %d bytes, want 1 to %d", len(bucket), MaxKey)
	case key == "" || len(key) > MaxKey:
		return fmt.Errorf("storetest: a key of %d bytes, want 1 to %d", len(key), MaxKey)
	}
	return nil
}

func (tx *memoryTx) hand(value []byte) []byte {
	h := handed{bytes.Clone(value), value}
	tx.handed = append(tx.handed, h)
	return h.copy
}

// set puts value under key, or removes key if value is nil.
func (tx *memoryTx) set(bucket, key string, value []byte) error {
	if err := tx.check(bucket, key); err != nil {
		return err
	}
	if !tx.writable {
		return errors.New("storetest: a View cannot write")
	}
	if slices.Contains(tx.reading, bucket) {
		return fmt.Errorf("storetest: bucket %q is being read", bucket)
	}
	var old []byte
	if i, ok := tx.m.find(bucket, key); ok {
		old = tx.m.buckets[bucket][i].value
	}
	tx.undo = append(tx.undo, undo{bucket, entry{key, old}})
	tx.m.set(bucket, key, value)
	return nil
}

func (tx *memoryTx) rollback() {
	for _, u := range slices.Backward(tx.undo) {
		tx.m.set(u.bucket, u.key, u.value)
	}
}

// find returns where key is in bucket, or where it would be.
func (m *Memory) find(bucket, key string) (i int, found bool) {
	entries := m.buckets[bucket]
	i = sort.Search(len(entries), func(i int) bool { return entries[i].key >= key })
	return i, i < len(entries) && entries[i].key == key
}

func (m *Memory) set(bucket, key string, value []byte) {
	i, found := m.find(bucket, key)
	switch {
	case found && value != nil:
		m.buckets[bucket][i].value = value
	case found:
		m.buckets[bucket] = slices.Delete(m.buckets[bucket], i, i+1)
		if len(m.buckets[bucket]) == 0 {
			delete(m.buckets, bucket)
		}
	case value != nil:
		m.buckets[bucket] = slices.Insert(m.buckets[bucket], i, entry{key, value})
	}
}
