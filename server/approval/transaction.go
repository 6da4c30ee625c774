package approval

import (
	"context"
	"maps"
	"slices"
)

// A transaction is a [Tx] with what an operation carries from one end of it to
// the other: the activities that it has read or changed, and what there is to
// observe. Every operation runs in one, see [Broker.view] and [Broker.update].
type transaction struct {
	Tx
	activities []*activity // those of the accounts it is about, mostly one
	seen       []Observation
}

// view is [Store.View] with a transaction of this package. What fn changes in an
// activity is forgotten.
func (b *Broker) view(ctx context.Context, fn func(tx *transaction) error) error {
	return b.store.View(ctx, func(tx Tx) error { return fn(&transaction{Tx: tx}) })
}

// update is [Store.Update] with a transaction of this package. It stores the
// activities that fn has changed and, once all is durable, tells of what was put
// on record.
func (b *Broker) update(ctx context.Context, fn func(tx *transaction) error) error {
	var seen []Observation
	err := b.store.Update(ctx, func(inner Tx) error {
		tx := &transaction{Tx: inner}
		if err := fn(tx); err != nil {
			return err
		}
		seen = tx.seen
		return tx.saveActivities()
	})
	if err != nil || b.observe.Recorded == nil {
		return err
	}
	for _, o := range seen {
		b.observe.Recorded(o)
	}
	return nil
}

// An activity is all that changes of an account with nearly every sign-in. It is
// one row, because each row that lies elsewhere in the database costs a commit a
// page: docs/decisions/0025-an-account-is-one-row.md.
type activity struct {
	account string
	changed bool // and so to be stored at the end of the transaction

	Ringing  ringing
	Failures map[Lane]*failures `json:",omitempty"`

	// Open are the sign-ins that a device may still have to show, in order of
	// time. Some may have expired; none is missing.
	Open []string `json:",omitempty"`

	Newest string `json:",omitempty"` // the newest sign-in; each names the one before it

	// Records are the numbers of its newest records: those that are not in
	// bucketRecordsOf yet, see [index].
	Records []uint64 `json:",omitempty"`
}

func (a *activity) clone() *activity {
	c := *a
	c.account, c.changed = "", false // not stored
	c.Ringing = *a.Ringing.clone()
	c.Failures = maps.Clone(a.Failures)
	for lane, f := range c.Failures {
		c.Failures[lane] = f.clone()
	}
	c.Open, c.Records = slices.Clone(a.Open), slices.Clone(a.Records)
	return &c
}

// activity returns what there is of an account, never nil without an error. All
// who ask in one transaction get the same; who changes it says so by changed.
func (tx *transaction) activity(account string) (*activity, error) {
	for _, a := range tx.activities {
		if a.account == account {
			return a, nil
		}
	}
	a, err := load[activity](tx, bucketActivity, account)
	if err != nil {
		return nil, err
	}
	if a == nil {
		a = &activity{}
	}
	a.account = account
	tx.activities = append(tx.activities, a)
	return a, nil
}

// saveActivities stores those that were changed. Nobody may change them afterwards.
func (tx *transaction) saveActivities() error {
	for _, a := range tx.activities {
		if !a.changed {
			continue
		}
		account := a.account
		a.account, a.changed = "", false // not stored
		if err := saveLast(tx, bucketActivity, account, a); err != nil {
			return err
		}
	}
	tx.activities = nil
	return nil
}

// setOpen notes whether a sign-in is one that a device may still have to show,
// also in the index of all accounts.
func (tx *transaction) setOpen(account, signIn string, open bool) error {
	a, err := tx.activity(account)
	if damaged(err) && !open {
		return tx.Delete(bucketOpen, signIn)
	}
	if err != nil {
		return err
	}
	i, found := slices.BinarySearch(a.Open, signIn)
	switch {
	case open == found:
		return nil
	case open:
		a.Open, a.changed = slices.Insert(a.Open, i, signIn), true
		return tx.Put(bucketOpen, signIn, []byte(account))
	default:
		a.Open, a.changed = slices.Delete(a.Open, i, i+1), true
		return tx.Delete(bucketOpen, signIn)
	}
}
