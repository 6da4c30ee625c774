package boltstore

import (
	"fmt"
	"os"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/countersignd/countersign/server/approval"
)

// What says what is there already costs no commit, and neither does deleting
// what is not there.
func TestNothingNewIsNotCommitted(t *testing.T) {
	s := open(t, newPath(t), Options{})
	put := func(value string) {
		t.Helper()
		err := s.Update(t.Context(), func(tx approval.Tx) error { return tx.Put("b", "k", []byte(value)) })
		if err != nil {
			t.Fatal(err)
		}
	}
	commits := countCommits(s)
	put("one")
	put("one")
	if err := s.Update(t.Context(), func(tx approval.Tx) error { return tx.Delete("b", "l") }); err != nil {
		t.Fatal(err)
	}
	if n := commits.Load(); n != 1 {
		t.Errorf("%d commits, want 1 for three updates of which one changed something", n)
	}
	put("two")
	err := s.View(t.Context(), func(tx approval.Tx) error {
		got, err := tx.Get("b", "k")
		if string(got) != "two" {
			t.Errorf("Get = %q, want what was put last", got)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Rows that come in the order of their keys, as records do, fill their pages.
func TestRowsInOrderFillTheirPages(t *testing.T) {
	s := open(t, newPath(t), Options{})
	const rows, group, value = 2000, 50, 300
	for first := 0; first < rows; first += group {
		err := s.Update(t.Context(), func(tx approval.Tx) error {
			for i := first; i < first+group; i++ {
				if err := tx.Put("b", fmt.Sprintf("%08d", i), make([]byte, value)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	var pages int
	err := s.db.View(func(b *bolt.Tx) error {
		pages = b.Bucket([]byte("b")).Stats().LeafPageN
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if full := rows * value / os.Getpagesize(); pages > full*4/3 {
		t.Errorf("%d rows in order take %d pages, want little more than the %d that they would fill", rows, pages, full)
	}
}
