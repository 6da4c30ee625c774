package approval

import (
	"context"
	"errors"
	"iter"
)

// A Store keeps what must outlive the process: buckets of byte strings under
// string keys. It knows nothing of accounts or sign-ins; every rule and every
// index is written once, in this package, on top of it.
//
// A Store must pass the tests of package storetest.
type Store interface {
	// View runs fn on one consistent state that is durable already: what a
	// View has seen cannot be undone by a crash. fn must not write and must
	// not wait for anything outside the store, because an open View can hold
	// up writers.
	View(ctx context.Context, fn func(Tx) error) error

	// Update runs fn and makes all of what it wrote durable, or nothing.
	// Updates are serialisable. When Update returns nil, the change survives
	// a power cut; when fn returns an error, that error is returned as it is
	// and nothing was changed; when the store failed, the error wraps
	// [ErrStoreFailed] and the change may or may not have happened.
	//
	// fn may be run more than once, and on another goroutine, so it must set
	// the variables it captures anew on each run and have no other effect.
	Update(ctx context.Context, fn func(Tx) error) error
}

// A Tx is one transaction of a [Store]. It is valid only until the function
// it was given to returns, and only on the goroutine that runs this function.
//
// Names of buckets and keys have 1 to 1,024 bytes, values 1 byte to 1 MiB; more
// or less is refused. Buckets need not be created.
type Tx interface {
	// Get returns the value under key, or nil if there is none. The caller
	// must not change it and must not keep it after the transaction.
	Get(bucket, key string) ([]byte, error)

	// Put stores value, which must not be empty, under key. The store copies it.
	Put(bucket, key string, value []byte) error

	// Delete removes key. It is no error if there is none.
	Delete(bucket, key string) error

	// Ascend yields the keys of bucket that begin with prefix, in ascending
	// byte order, with their values, including what this transaction wrote.
	// The bucket must not be written to while the sequence is being read. A
	// bucket that cannot be read yields nothing and makes the transaction fail.
	Ascend(bucket, prefix string) iter.Seq2[string, []byte]
}

// ErrStoreFailed is wrapped by the errors of a [Store] that could not do its
// work: a full disk, a failed write, a closed file. After it a change that was
// under way may or may not have happened.
var ErrStoreFailed = errors.New("the store failed")
