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
		same := figure{name: fmt.Sprintf("commit/%d/same-keys", callers), unit: "updates/s"}
		for range s.sizes.rounds + 2 { // turns are short, and a disk has moods
			var rates [len(stores)]float64
			n := 0
			for i, store := range stores {
				done, err := ask[Committed](ctx, p, "Commit", CommitArgs{Store: store, Callers: callers, For: s.sizes.measure / 2})
				if err != nil {
					return err
				}
				if rates[i] = done.rate(); store == storeOurs {
					n = done.Updates
				}
			}
			f.add(rates[0], rates[1], n)
			same.add(rates[0], rates[2], n)
		}
		s.print(&f)
		s.print(&same)
		if err := tell(ctx, p, "Close", None{}); err != nil {
			return err
		}
	}
	return nil
}

// The stores that are compared.
const (
	storeOurs     = "ours"
	storeInOrder  = "bare"           // with keys that only rise
	storeSameKeys = "bare-same-keys" // with the keys of the product
)

var stores = [...]string{storeOurs, storeInOrder, storeSameKeys}

// Stores are the product's store and its two limits, side by side on one disk.
type Stores struct {
	rows           []Row
	bolt           *boltstore.Store
	bare, sameKeys *bareStore
	n              atomic.Uint64 // updates made so far
}

// OpenStoresArgs say where to make new stores, and the rows of an update.
type OpenStoresArgs struct {
	Dir    string
	Number int
	Rows   []Row
}

// Open makes the stores.
func (s *Stores) Open(args OpenStoresArgs, _ *None) (err error) {
	s.rows = args.Rows
	path := filepath.Join(args.Dir, fmt.Sprintf("store%d.db", args.Number))
	if s.bolt, err = boltstore.Open(path, boltstore.Options{}); err != nil {
		return err
	}
	if s.bare, err = openBareStore(filepath.Join(args.Dir, fmt.Sprintf("bare%d.db", args.Number))); err != nil {
		return err
	}
	s.sameKeys, err = openBareStore(filepath.Join(args.Dir, fmt.Sprintf("same%d.db", args.Number)))
	return err
}

// Close closes the stores.
func (s *Stores) Close(None, *None) error {
	return errors.Join(s.bolt.Close(), s.bare.close(), s.sameKeys.close())
}

// CommitArgs say how to use one of the stores.
type CommitArgs struct {
	Store   string // one of stores
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
	update := s.updateOurs
	switch args.Store {
	case storeInOrder:
		update = s.bare.commitBegin(s.rows, true)
	case storeSameKeys:
		update = s.sameKeys.commitBegin(s.rows, false)
	}
	before, began := s.n.Load(), time.Now()
	var all sync.WaitGroup
	errs := make([]error, args.Callers)
	for i := range args.Callers {
		all.Go(func() {
			for time.Since(began) < args.For && errs[i] == nil {
				n := s.n.Add(1)
				errs[i] = update(n, accountName(int(n*7919%accountsInCommit)), signInID())
			}
		})
	}
	all.Wait()
	c.Updates, c.Took = int(s.n.Load()-before), time.Since(began)
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

// commitBegin returns what commits the rows of one update.
func (b *bareStore) commitBegin(rows []Row, inOrder bool) func(n uint64, account, signIn string) error {
	return func(n uint64, account, signIn string) error {
		return b.write(&bareWrite{rows: rows, n: n, account: account, signIn: signIn, inOrder: inOrder})
	}
}
