package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/countersignd/countersign/server/approval"
)

// Fault says how an update of a [Faulty] store fails.
type Fault int

const (
	None   Fault = iota // it does not
	Before              // fn ran, but nothing was persisted, and the caller is told that the store failed
	After               // all was persisted, and the caller is told that the store failed
)

// Faulty is an [approval.Store] that fails where it is told to. A caller cannot
// tell [Before] from [After], as it could not when a disk fails: whatever it does
// next must be right in both cases.
//
// It goes on working after a fault, like a server that was started again.
type Faulty struct {
	Store approval.Store // does the work

	// Fault decides about the nth update, counted from 1. Nil means None for all.
	// Updates that run at the same time call it at the same time.
	Fault func(n int) Fault

	// Twice runs the function of every update two times, and keeps the second
	// run only. It shows that functions can be run again, as the contract of
	// [approval.Store] asks. A view's function runs two times as well.
	Twice bool

	updates atomic.Int64
}

// Updates returns how many updates were begun.
func (f *Faulty) Updates() int { return int(f.updates.Load()) }

// View implements [approval.Store]. It fails only if the inner store does.
func (f *Faulty) View(ctx context.Context, fn func(approval.Tx) error) error {
	return f.Store.View(ctx, func(tx approval.Tx) error {
		if f.Twice {
			fn(tx) // The second run counts.
		}
		return fn(tx)
	})
}

// Update implements [approval.Store].
func (f *Faulty) Update(ctx context.Context, fn func(approval.Tx) error) error {
	n := int(f.updates.Add(1))
	fault := None
	if f.Fault != nil {
		fault = f.Fault(n)
	}
	if f.Twice {
		// In a transaction of its own, which is rolled back: the second run must
		// not find what the first one wrote. The second run counts.
		f.discard(ctx, fn)
	}
	if fault == Before {
		if err := f.discard(ctx, fn); err != nil {
			return err
		}
		return fmt.Errorf("%w: fault before update %d was persisted", approval.ErrStoreFailed, n)
	}
	if err := f.Store.Update(ctx, fn); err != nil {
		return err
	}
	if fault == After {
		return fmt.Errorf("%w: fault after update %d was persisted", approval.ErrStoreFailed, n)
	}
	return nil
}

var errDiscard = errors.New("storetest: discarded on purpose")

// discard runs fn, keeps nothing of what it wrote, and returns its error.
func (f *Faulty) discard(ctx context.Context, fn func(approval.Tx) error) error {
	err := f.Store.Update(ctx, func(tx approval.Tx) error {
		if err := fn(tx); err != nil {
			return err
		}
		return errDiscard
	})
	if err == errDiscard {
		return nil
	}
	return err
}
