package approval

import (
	"bytes"
	"crypto/sha256"
	"slices"
	"sync"
	"time"
)

// A memo remembers what values of the store mean, so that what was stored a moment
// ago, or read by another device, need not be decoded. It knows nothing of the
// store: it is asked with the bytes that a transaction has read, and answers only
// if they are the same as those that it saw encoded or decoded before, which it
// knows by their SHA-256. So it is right whatever the store does, and there is
// nothing to invalidate.
type memo struct {
	mu    sync.Mutex
	of    map[memoKey]memory
	bytes int // of the values, at most memoBytes
}

type memoKey struct{ bucket, key string }

type memory struct {
	hash  [sha256.Size]byte // of the value as it is stored
	size  int               // of that
	value any               // *T; nobody changes it
}

// memoBytes bounds a memo. What is decoded takes about as much.
const memoBytes = 8 << 20

var memories = memo{of: map[memoKey]memory{}}

// A cloner is a type that is remembered: one that is read at nearly every step.
// clone returns a copy of what is stored of it, which has no memory in common with
// it that a caller could change. It must be just what decoding would give.
type cloner[T any] interface{ clone() *T }

func (d *Device) clone() *Device {
	c := *d
	c.Stale.Noted, c.Calls, c.Renames = slices.Clone(d.Stale.Noted), slices.Clone(d.Calls), slices.Clone(d.Renames)
	if d.Push != nil {
		push := *d.Push
		push.Address.P256DH, push.Address.Auth = bytes.Clone(push.Address.P256DH), bytes.Clone(push.Address.Auth)
		c.Push = &push
	}
	return &c
}

func (s *SignIn) clone() *SignIn {
	c := *s
	c.Trusted, c.Connected, c.Delivery, c.Deliveries = 0, 0, DeliveryCounts{}, nil // not stored
	c.Records = slices.Clone(s.Records)
	if s.Candidate != nil {
		candidate := *s.Candidate
		c.Candidate = &candidate
	}
	return &c
}

func (a *Account) clone() *Account {
	c := *a
	c.RecoveryCodes, c.RecoveryMade = 0, time.Time{} // not stored
	return &c
}

func (a *Application) clone() *Application {
	c := *a
	return &c
}

func (n *notices) clone() *notices { return &notices{slices.Clone(n.List)} }

// recall returns what was remembered of the bytes, or nil. Nobody may change it.
func recall[T any](m *memo, bucket, key string, encoded []byte) *T {
	if _, ok := any((*T)(nil)).(cloner[T]); !ok {
		return nil
	}
	m.mu.Lock()
	found := m.of[memoKey{bucket, key}]
	m.mu.Unlock()
	v, ok := found.value.(*T)
	if !ok || found.size != len(encoded) || found.hash != sha256.Sum256(encoded) {
		return nil
	}
	return v
}

// remember remembers what the bytes mean, of which it keeps a copy.
func remember[T any](m *memo, bucket, key string, encoded []byte, v *T) {
	if c, ok := any(v).(cloner[T]); ok {
		keep(m, bucket, key, encoded, c.clone())
	}
}

// keep is remember for a value that nobody changes any more. One that is never
// remembered it leaves alone.
func keep[T any](m *memo, bucket, key string, encoded []byte, v *T) {
	if _, ok := any(v).(cloner[T]); !ok {
		return
	}
	made := memory{sha256.Sum256(encoded), len(encoded), v}
	m.mu.Lock()
	defer m.mu.Unlock()
	at := memoKey{bucket, key}
	m.bytes += made.size - m.of[at].size
	m.of[at] = made
	for other, old := range m.of { // in no order, so what is read often is soon there again
		if m.bytes <= memoBytes {
			break
		}
		m.bytes -= old.size
		delete(m.of, other)
	}
}

// forget makes room: nobody is going to ask for the value soon.
func (m *memo) forget(bucket, key string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	at := memoKey{bucket, key}
	m.bytes -= m.of[at].size
	delete(m.of, at)
}
