// Package boltstore keeps what the server must remember in one file: it is an
// [approval.Store] on bbolt.
//
// # Layout
//
// A bucket of the store is a top-level bucket of bbolt, under the same name, and
// holds keys and values as they were put. One more bucket says what the file is.
// Package approval decides what the buckets and values mean.
//
//	boltstore                   this package's own; refused to transactions
//	├── format                  "countersign-server database"
//	└── schema                  decimal number of this layout: "1"
//	<bucket of a transaction>
//	└── <key>                   value; never empty
//
// # Durability
//
// One goroutine commits. It takes the updates that are queued, runs them one
// after the other in one bbolt transaction, and commits once for all of them, so
// that a thousand callers share two fsyncs. Each update runs on an overlay of its
// own: one that fails is dropped and leaves its neighbours alone. Nobody is
// answered before the commit, not even those that failed or only read, because
// what they read was written by a neighbour. A view begins on a committed state
// that is on the disk, never on one that is on its way there.
//
// Any failed commit is final: bbolt may show afterwards what the disk does not
// hold. The store then refuses all work, with errors that wrap
// [approval.ErrStoreFailed], and calls [Options.Fatal] once, so that the process
// ends and reads the file anew when it starts again.
//
// # What is checked
//
// [Open] and [Check] refuse a file that others may read, that another process
// uses, that is cut short, damaged or not this program's, and one of a newer
// layout, each with a sentence that says what to do. [Check] reads every page. As
// bbolt opens the file for it, a file that is damaged badly enough can bring it
// down, so a server has it done by a child process before it opens the file,
// [CheckInChild], unless the file is as it was when it was closed well,
// [Undisturbed].
//
// What is not checked: bbolt has checksums on its two meta pages only, so a bit
// that flips inside a value is for the reader of the value to notice.
package boltstore

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/countersignd/countersign/server/approval"
)

// The sizes in bytes that a store takes; more is refused with an error. They keep
// a page of bbolt useful and a group of updates in memory.
const (
	MaxKey   = 1 << 10 // of a key, and of the name of a bucket
	MaxValue = 1 << 20
)

// viewBuckets is for how many buckets a view has memory from the beginning.
const viewBuckets = 8

// queueLen is how many updates can wait for the committer. Those beyond it wait
// in Update, where their context can call them back.
const queueLen = 1024

var errClosed = fmt.Errorf("%w: it is closed", approval.ErrStoreFailed)

// Options are what [Open] can be told. The zero value is valid.
type Options struct {
	// Fatal is called once, with the reason, when the store has failed for good:
	// the process should end. It is called after the updates that were under way
	// have been answered, on the store's own goroutine, so it must return, and
	// must not call Close. Nil means nobody is told.
	Fatal func(error)

	// Committed is told of each commit, after those whose updates it carried have
	// been answered: how long it took, how many updates shared it (also those that
	// failed by themselves, or only read), and why it failed, if it did. It is
	// called on the store's own goroutine, so it must return at once. Nil means
	// nobody is told.
	Committed func(took time.Duration, updates int, err error)

	// Verify checks the file of a finished backup before it is given its name. It
	// should be [CheckInChild], so that a damaged file can do no harm. Nil means
	// [Check], in this process.
	Verify func(ctx context.Context, path string) error

	// Checked is when all of the file was last found to be sound, by [Check] or
	// [CheckInChild]; for a new file it is now. With it, Close leaves a note by
	// which [Undisturbed] knows the file. Zero means that nobody knows.
	Checked time.Time
}

// Store is an [approval.Store] kept in one file. Its methods may be called from
// any number of goroutines, but not from a function that was given to View or
// Update: that would wait for itself.
type Store struct {
	db     *bolt.DB
	path   string
	opts   Options
	commit func(*bolt.Tx) error // (*bolt.Tx).Commit; tests make it fail

	queue chan *update
	ended chan struct{} // closed when the committer has answered everybody

	// sending is held for reading while an update is put into the queue, and
	// locked by Close to close the queue once nobody is about to send to it.
	sending sync.RWMutex
	closed  bool // guarded by sending

	// visible is locked while a commit is under way, and held for reading while
	// a view begins (not while it runs). bbolt writes its meta page, which makes
	// a commit visible to those who begin now, before it has fsynced that page.
	// A view that began in between could tell somebody what a power cut undoes.
	visible sync.RWMutex
	refuse  error // why the store does no more work, or nil; guarded by visible

	closing  sync.Once
	closeErr error // owned by closing

	group    group // owned by the committer
	reserved int64 // owned by Reserve: how far the file is set aside
}

// An update is one call of Update on its way through the committer.
type update struct {
	ctx   context.Context
	fn    func(approval.Tx) error
	state atomic.Int32  // one of the constants below
	done  chan struct{} // closed when err and panic are set
	err   error
	panic *fnPanic
	tx    tx
}

// Either the committer takes a waiting update or its caller gives it up.
const (
	waiting int32 = iota
	taken
	givenUp
)

// View implements [approval.Store].
func (s *Store) View(ctx context.Context, fn func(approval.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	b, err := s.begin()
	if err != nil {
		return err
	}
	t := &tx{bolt: b, buckets: make(buckets, 0, viewBuckets)}
	defer func() {
		t.ended.Store(true)
		b.Rollback() // It only ends the reading: no error to lose.
	}()
	if err := fn(t); err != nil {
		return err
	}
	return t.err
}

// begin begins a read transaction on a state that is on the disk.
func (s *Store) begin() (*bolt.Tx, error) {
	s.visible.RLock()
	defer s.visible.RUnlock()
	if s.refuse != nil {
		return nil, s.refuse
	}
	b, err := s.db.Begin(false)
	if err != nil {
		return nil, fmt.Errorf("%w: reading %s: %w", approval.ErrStoreFailed, s.path, err)
	}
	return b, nil
}

// Size returns how many bytes of the file are in use, free pages among them. The
// file may be longer, see [Store.Reserve].
func (s *Store) Size() (int64, error) {
	b, err := s.begin()
	if err != nil {
		return 0, err
	}
	defer b.Rollback() // It only ends the reading: no error to lose.
	return b.Size(), nil
}

// Update implements [approval.Store]. If ctx is done before fn ran, it returns
// the context's error, and fn will not run. Once fn ran, Update waits for the
// commit whatever the context says, since the change is under way.
func (s *Store) Update(ctx context.Context, fn func(approval.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	u := &update{ctx: ctx, fn: fn, done: make(chan struct{})}
	if err := s.send(u); err != nil {
		return err
	}
	select {
	case <-u.done:
	case <-ctx.Done():
		if u.state.CompareAndSwap(waiting, givenUp) {
			return ctx.Err()
		}
		<-u.done
	}
	if u.panic != nil {
		panic(u.panic)
	}
	return u.err
}

func (s *Store) send(u *update) error {
	s.sending.RLock()
	defer s.sending.RUnlock()
	if s.closed {
		return errClosed
	}
	select {
	case s.queue <- u:
		return nil
	case <-u.ctx.Done():
		return u.ctx.Err()
	}
}

// Close lets the updates that are queued finish, waits for open views and for a
// backup that is being copied, and closes the file. Closing again returns the
// same error.
func (s *Store) Close() error {
	s.closing.Do(func() {
		s.sending.Lock()
		s.closed = true
		close(s.queue)
		s.sending.Unlock()
		<-s.ended

		s.visible.Lock()
		failed := s.refuse != nil
		if !failed {
			s.refuse = errClosed
		}
		s.visible.Unlock()
		if s.group.stuck {
			return // bbolt would wait for its own lock; the process is ending anyway.
		}
		err := s.db.Close()
		if err == nil && !failed {
			err = noteClosed(s.path, s.opts.Checked)
		}
		if err != nil {
			s.closeErr = fmt.Errorf("closing %s: %w", s.path, err)
		}
	})
	return s.closeErr
}

// An fnPanic carries a panic of an update's function from the committer to the
// caller of Update, where it goes on.
type fnPanic struct {
	value any
	stack []byte // of the function that panicked
}

// Error returns the panic's value as text, with the stack of the function.
func (p *fnPanic) Error() string {
	return fmt.Sprintf("%v\n\n%s", p.value, p.stack)
}

// Unwrap returns the value that fn panicked with, if it was an error.
func (p *fnPanic) Unwrap() error {
	err, _ := p.value.(error)
	return err
}
