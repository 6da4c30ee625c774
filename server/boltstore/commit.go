package boltstore

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/countersignd/countersign/server/approval"
)

// What one commit may carry, and how often it may wait for more: beyond it the
// group is committed and the next one begins, so that nobody waits for long, on a
// busy machine either, and memory stays bounded.
const (
	maxGroup      = 1024
	maxGroupBytes = 16 << 20
	maxYields     = 4
)

// A group is the updates that share one commit. The committer has one, and uses
// its memory again and again.
type group struct {
	updates []*update // taken, not yet answered
	tx      *bolt.Tx  // nil before the first update ran
	buckets buckets   // of tx
	bytes   int       // put since the group began
	dirty   bool      // something was written to tx
	yields  int       // how often others were given the processor, to join the group
	stuck   bool      // tx could not be ended and holds bbolt's locks
	writes  []write   // memory for the overlay of the update that runs
	scratch []byte    // memory for a key
}

// run is the committer. It ends when the queue is closed and empty.
func (s *Store) run() {
	ended := false
	defer func() {
		if ended {
			close(s.ended)
			return
		}
		// A function called runtime.Goexit (in a test: t.Fatal) and took this
		// goroutine with it. Nobody knows what it left undone: the store has
		// failed, but those who wait must hear it.
		s.finish(errors.New("the function of an update ended its goroutine"))
		go s.run()
	}()
	for u := range s.queue {
		err := s.refused()
		for ; u != nil; u = s.next() {
			if !u.state.CompareAndSwap(waiting, taken) {
				continue // Its caller has gone.
			}
			s.group.updates = append(s.group.updates, u)
			if err == nil {
				err = s.apply(u)
			}
		}
		s.finish(err)
	}
	ended = true
}

// refused returns why the store has failed, or nil. Only the committer makes it
// fail, so the committer can rely on the answer.
func (s *Store) refused() error {
	s.visible.RLock()
	defer s.visible.RUnlock()
	return s.refuse
}

// next returns an update that can join the group, or nil.
func (s *Store) next() *update {
	g := &s.group
	if len(g.updates) >= maxGroup || g.bytes >= maxGroupBytes {
		return nil
	}
	for yielded := false; ; yielded = true {
		select {
		case u := <-s.queue:
			return u // nil if the queue is closed and empty
		default:
		}
		if yielded || g.yields == maxYields {
			return nil
		}
		// Callers who were answered a moment ago may be on their way back, but
		// not have had the processor yet. Letting them go first costs no time
		// when there are none; without it they would miss every other group.
		g.yields++
		runtime.Gosched()
	}
}

// apply runs one update and, if it succeeds, adds what it wrote to the group. An
// error is not that of the update, but means that the store has failed.
func (s *Store) apply(u *update) error {
	g := &s.group
	if u.err = u.ctx.Err(); u.err != nil {
		return nil
	}
	if g.tx == nil {
		var err error
		if g.tx, err = s.db.Begin(true); err != nil {
			return fmt.Errorf("beginning to write: %w", err)
		}
	}
	u.tx = tx{bolt: g.tx, buckets: g.buckets, writable: true, writes: g.writes, scratch: g.scratch}
	u.call()
	t := &u.tx
	g.buckets, g.writes, g.scratch = t.buckets, t.writes[:0], t.scratch

	var err error
	if u.err == nil && u.panic == nil {
		err = g.flush(t.writes)
	}
	clear(t.writes)
	t.writes, t.buckets, t.scratch = nil, nil, nil
	return err
}

// call runs the function and sets err or panic.
func (u *update) call() {
	defer u.tx.ended.Store(true)
	defer func() {
		if p := recover(); p != nil {
			u.panic = &fnPanic{p, debug.Stack()}
		}
	}()
	if u.err = u.fn(&u.tx); u.err == nil {
		u.err = u.tx.err
	}
}

// flush writes an overlay to the group's transaction. All that a caller could do
// wrong was refused when it was put, so any error means that the file, or this
// package, is not as it should be; and an update is never applied by half.
func (g *group) flush(writes []write) (err error) {
	defer recovered(&err)
	for i := range writes {
		w := &writes[i]
		b := g.buckets.get(g.tx, w.bucket)
		g.scratch = append(g.scratch[:0], w.key...) // bbolt copies keys, but not values.
		var stored []byte
		if b != nil {
			stored = b.value(g.scratch)
		}
		if bytes.Equal(stored, w.value) {
			continue // What is there already, or gone already, is nothing to commit.
		}
		switch {
		case w.value == nil:
			err = b.Delete(g.scratch)
		case b == nil:
			if b, err = g.buckets.create(g.tx, w.bucket); err != nil {
				return fmt.Errorf("creating bucket %q: %w", w.bucket, err)
			}
			fallthrough
		default:
			b.note(w.key)
			err = b.Put(g.scratch, w.value)
		}
		if err != nil {
			return fmt.Errorf("writing to bucket %q: %w", w.bucket, err)
		}
		g.bytes += len(w.key) + len(w.value)
		g.dirty = true
	}
	return nil
}

// finish commits the group, unless err says that the store has failed, and
// answers those who wait for it.
func (s *Store) finish(err error) {
	g := &s.group
	s.visible.Lock()
	failed := s.refuse != nil
	committed := 0 // updates
	var took time.Duration
	if err == nil && g.dirty {
		began := time.Now()
		err = g.commit(s.commit)
		committed, took = len(g.updates), time.Since(began)
	}
	g.rollback()
	if err != nil && !failed {
		s.refuse = fmt.Errorf("%w: %s: %w", approval.ErrStoreFailed, s.path, err)
	}
	err = s.refuse
	s.visible.Unlock()

	for _, u := range g.updates {
		if err != nil {
			u.err = err // Also of those that failed by themselves: what they read may be undone.
		}
		close(u.done)
	}
	clear(g.updates)
	*g = group{updates: g.updates[:0], buckets: g.buckets.reset(), writes: g.writes[:0], scratch: g.scratch, stuck: g.stuck}
	if committed > 0 && s.opts.Committed != nil {
		s.opts.Committed(took, committed, err)
	}
	if err != nil && !failed && s.opts.Fatal != nil {
		s.opts.Fatal(err)
	}
}

// commit makes the group durable and ends its transaction. If it fails, the
// transaction may be left for rollback to end.
func (g *group) commit(commit func(*bolt.Tx) error) (err error) {
	defer recovered(&err)
	if err := commit(g.tx); err != nil {
		return fmt.Errorf("committing: %w", err)
	}
	g.tx = nil
	return nil
}

// rollback ends the group's transaction, if it has not ended, and changes nothing.
func (g *group) rollback() {
	if g.tx == nil {
		return
	}
	var err error
	func() {
		defer recovered(&err)
		g.tx.Rollback() // Its error says only that bbolt has ended it already.
	}()
	g.stuck = err != nil
	g.tx = nil
}

// recovered makes a panic of bbolt, which is how it reports a damaged page, into
// an error. It must be deferred.
func recovered(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("bbolt: %v", p)
	}
}
