package main

import (
	"os"
	"sync"

	bolt "go.etcd.io/bbolt"
)

// bareStore is the limit of a store: bbolt with one writer, which takes all that
// is queued, writes rows that it is given, and commits. It runs no function, has
// no overlay, and checks nothing.
type bareStore struct {
	db    *bolt.DB
	queue chan *bareWrite
	ended sync.WaitGroup
}

type bareWrite struct {
	rows    []Row
	n       uint64
	account string
	signIn  string
	inOrder bool // keys only rise
	done    chan error
}

func openBareStore(path string) (*bareStore, error) {
	db, err := bolt.Open(path, 0o600, &bolt.Options{FreelistType: bolt.FreelistMapType, InitialMmapSize: 1 << 30, NoStatistics: true})
	if err != nil {
		return nil, err
	}
	b := &bareStore{db: db, queue: make(chan *bareWrite, 1024)}
	b.ended.Go(b.run)
	return b, nil
}

// commit writes the rows of one operation, with keys that only rise, and returns
// when they are durable.
func (b *bareStore) commit(rows []Row, n uint64, account, signIn string) error {
	return b.write(&bareWrite{rows: rows, n: n, account: account, signIn: signIn, inOrder: true})
}

func (b *bareStore) write(w *bareWrite) error {
	w.done = make(chan error, 1)
	b.queue <- w
	return <-w.done
}

func (b *bareStore) run() {
	var group []*bareWrite
	for w := range b.queue {
		group = append(group[:0], w)
		for more := true; more; {
			select {
			case w, ok := <-b.queue:
				if more = ok; ok {
					group = append(group, w)
				}
			default:
				more = false
			}
		}
		err := b.db.Update(func(tx *bolt.Tx) error {
			for _, w := range group {
				if err := w.apply(tx); err != nil {
					return err
				}
			}
			return nil
		})
		for _, w := range group {
			w.done <- err
		}
	}
}

func (w *bareWrite) apply(tx *bolt.Tx) error {
	for i := range w.rows {
		row := &w.rows[i]
		bucket, err := tx.CreateBucketIfNotExists([]byte(row.Bucket))
		if err != nil {
			return err
		}
		key := []byte(row.key(w.n, w.account, w.signIn, w.inOrder && row.Bucket != "meta"))
		if row.Value == nil {
			err = bucket.Delete(key)
		} else {
			err = bucket.Put(key, row.Value)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// close closes the file and removes it.
func (b *bareStore) close() error {
	close(b.queue)
	b.ended.Wait()
	path := b.db.Path()
	if err := b.db.Close(); err != nil {
		return err
	}
	return os.Remove(path)
}
