package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/countersignd/countersign/server/approval"
	"github.com/countersignd/countersign/server/boltstore"
)

// benchCommit measures how many updates a store makes durable in a second, when
// so many callers each wait for theirs. An update is what the beginning of a
// sign-in writes.
func benchCommit(ctx context.Context, s *stage) error {
	p, err := s.role("store")
	if err != nil {
		return err
	}
	for _, callers := range s.sizes.callers {
		s.copies++
		if err := tell(ctx, p, "Open", OpenStoresArgs{Dir: s.dir, Number: s.copies, Rows: s.rows.Begin}); err != nil {
			return err
		}
		f := figure{name: fmt.Sprintf("commit/%d", callers), unit: "updates/s"}
		for range s.sizes.rounds + 2 { // turns are short, and a disk has moods
			ours, err := ask[Committed](ctx, p, "Commit", CommitArgs{Ours: true, Callers: callers, For: s.sizes.measure / 2})
			if err != nil {
				return err
			}
			limit, err := ask[Committed](ctx, p, "Commit", CommitArgs{Callers: callers, For: s.sizes.measure / 2})
			if err != nil {
				return err
			}
			f.add(ours.rate(), limit.rate(), ours.Updates)
		}
		s.print(&f)
		if err := tell(ctx, p, "Close", None{}); err != nil {
			return err
		}
	}
	return nil
}

// Stores are the product's store and its limit, side by side on one disk.
type Stores struct {
	rows []Row
	bolt *boltstore.Store
	bare *bareStore
	n    [2]atomic.Uint64 // updates made by ours and by the limit
}

// OpenStoresArgs say where to make two new stores, and the rows of an update.
type OpenStoresArgs struct {
	Dir    string
	Number int
	Rows   []Row
}

// Open makes the two stores.
func (s *Stores) Open(args OpenStoresArgs, _ *None) (err error) {
	s.rows = args.Rows
	s.n[0].Store(0)
	s.n[1].Store(0)
	path := filepath.Join(args.Dir, fmt.Sprintf("store%d.db", args.Number))
	if s.bolt, err = boltstore.Open(path, boltstore.Options{}); err != nil {
		return err
	}
	s.bare, err = openBareStore(filepath.Join(args.Dir, fmt.Sprintf("bare%d.db", args.Number)))
	return err
}

// Close closes the two stores.
func (s *Stores) Close(None, *None) error { return errors.Join(s.bolt.Close(), s.bare.close()) }

// CommitArgs say how to use one of the stores.
type CommitArgs struct {
	Ours    bool
	Callers int
	For     time.Duration
}

// Committed is how many updates became durable.
type Committed struct {
	Updates int
	Took    time.Duration
}

func (c Committed) rate() float64 { return float64(c.Updates) / c.Took.Seconds() }

// accountsInCommit is how many accounts the updates are of.
const accountsInCommit = 1000

// Commit makes updates.
func (s *Stores) Commit(args CommitArgs, c *Committed) error {
	update, n := s.updateBare, &s.n[1]
	if args.Ours {
		update, n = s.updateOurs, &s.n[0]
	}
	before, began := n.Load(), time.Now()
	var all sync.WaitGroup
	errs := make([]error, args.Callers)
	for i := range args.Callers {
		all.Go(func() {
			for time.Since(began) < args.For && errs[i] == nil {
				i64 := n.Add(1)
				errs[i] = update(i64, accountName(int(i64*7919%accountsInCommit)), signInID())
			}
		})
	}
	all.Wait()
	c.Updates, c.Took = int(n.Load()-before), time.Since(began)
	return errors.Join(errs...)
}

func (s *Stores) updateOurs(n uint64, account, signIn string) error {
	return s.bolt.Update(context.Background(), func(tx approval.Tx) error {
		for i := range s.rows {
			row := &s.rows[i]
			key := row.key(n, account, signIn, false)
			var err error
			if row.Value == nil {
				err = tx.Delete(row.Bucket, key)
			} else {
				err = tx.Put(row.Bucket, key, row.Value)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *Stores) updateBare(n uint64, account, signIn string) error {
	return s.bare.commit(s.rows, n, account, signIn)
}
