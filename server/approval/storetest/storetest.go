// Package storetest holds what a test needs of an [approval.Store]: a store in
// memory, a store that fails on demand, and the tests every store must pass.
//
//   - [Memory] is the reference: small enough to be seen to be right, and hard
//     on callers who break the contract of [approval.Tx].
//   - [Faulty] fails chosen updates before or after they were made durable, and
//     runs functions twice.
//   - [Run] is the contract of [approval.Store] as tests. What it asks beyond the
//     words of the contract is the constants and the points below.
//
// A Store takes names of buckets and keys of up to [MaxKey] bytes and values of
// up to [MaxValue], whatever the bytes are, and refuses longer or empty ones with
// an error. A Tx refuses to write to a bucket that is being read by Ascend,
// refuses to write in a View, and refuses everything after its end. Ascend cannot
// return an error, and must not look like an empty bucket instead: of an empty
// bucket name it yields nothing and the transaction fails; after the end of the
// transaction it panics.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/countersignd/countersign/server/approval"
)

// The sizes in bytes that a Store must take and must not exceed.
const (
	MaxKey   = 1 << 10 // of a key, and of the name of a bucket
	MaxValue = 1 << 20
)

// Run tests the stores that open returns, one for each test. Open registers the
// clean-up of its store with t. A test that fails because the store is wrong
// names the rule that was broken.
func Run(t *testing.T, open func(t *testing.T) approval.Store) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, approval.Store)
	}{
		{"an update is seen by those after it", testSeen},
		{"a transaction reads what it wrote", testReadYourWrites},
		{"a failed update leaves no trace", testRollback},
		{"a panic reaches the caller and leaves no trace", testPanic},
		{"a view sees one state", testViewIsolation},
		{"a view cannot write", testViewWrite},
		{"the store copies what it is given", testCopies},
		{"Ascend yields keys in order", testAscend},
		{"Ascend yields what the transaction wrote", testAscendOwnWrites},
		{"Ascend can be left early", testAscendBreak},
		{"a bucket that is being read is not written to", testAscendWrite},
		{"any bytes are a key", testHostileKeys},
		{"sizes are bounded", testSizes},
		{"nothing may be empty", testEmpty},
		{"a cancelled context runs nothing", testCancelled},
		{"a transaction ends", testEnded},
		{"parallel updates are serialisable", testCounter},
		{"a failed update does not disturb its neighbours", testNeighbours},
		{"parallel updates and views are linearizable", testLinearizable},
		{"a store behaves like a map", testModel},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t)) })
	}
}

// A row is a key with its value.
type row struct{ Key, Value string }

var errAbandoned = errors.New("abandoned by the test")

// update runs fn in s, and ends the test if s fails. Like every function given
// to a Store, fn may run on another goroutine: it returns errors and never calls
// t.Fatal, which would end that goroutine instead of the test's.
func update(t *testing.T, s approval.Store, fn func(approval.Tx) error) {
	t.Helper()
	if err := s.Update(t.Context(), fn); err != nil {
		t.Fatalf("Update() = %v, want nil", err)
	}
}

func put(t *testing.T, s approval.Store, bucket string, rows ...row) {
	t.Helper()
	update(t, s, func(tx approval.Tx) error { return putRows(tx, bucket, rows...) })
}

func putRows(tx approval.Tx, bucket string, rows ...row) error {
	for _, r := range rows {
		if err := tx.Put(bucket, r.Key, []byte(r.Value)); err != nil {
			return fmt.Errorf("Put(%q, %.40q): %w", bucket, r.Key, err)
		}
	}
	return nil
}

// rows returns all of bucket in s, as a view sees it.
func rows(t *testing.T, s approval.Store, bucket string) (all []row) {
	t.Helper()
	err := s.View(t.Context(), func(tx approval.Tx) error {
		all = ascend(tx, bucket, "")
		return nil
	})
	if err != nil {
		t.Fatalf("View() = %v, want nil", err)
	}
	return all
}

func ascend(tx approval.Tx, bucket, prefix string) (all []row) {
	for key, value := range tx.Ascend(bucket, prefix) {
		all = append(all, row{key, string(value)})
	}
	return all
}

// wantGet is an error unless tx has want under key; "" means nothing.
func wantGet(tx approval.Tx, bucket, key, want string) error {
	got, err := tx.Get(bucket, key)
	if err != nil {
		return fmt.Errorf("Get(%q, %.40q): %w", bucket, key, err)
	}
	if want == "" && got != nil || string(got) != want {
		return fmt.Errorf("Get(%q, %.40q) = %.40q, want %.40q", bucket, key, got, want)
	}
	return nil
}

func wantRows(t *testing.T, s approval.Store, bucket string, want ...row) {
	t.Helper()
	if got := rows(t, s, bucket); !slices.Equal(got, want) {
		t.Errorf("bucket %q = %.200q, want %.200q", bucket, got, want)
	}
}

func testSeen(t *testing.T, s approval.Store) {
	wantRows(t, s, "b")
	put(t, s, "b", row{"k", "1"}, row{"l", "2"})
	put(t, s, "c", row{"k", "3"})
	wantRows(t, s, "b", row{"k", "1"}, row{"l", "2"})
	put(t, s, "b", row{"k", "4"})
	update(t, s, func(tx approval.Tx) error {
		if err := wantGet(tx, "b", "k", "4"); err != nil {
			return err
		}
		return tx.Delete("b", "l")
	})
	wantRows(t, s, "b", row{"k", "4"})
	wantRows(t, s, "c", row{"k", "3"})
}

func testReadYourWrites(t *testing.T, s approval.Store) {
	put(t, s, "b", row{"old", "1"}, row{"gone", "2"})
	update(t, s, func(tx approval.Tx) error {
		return errors.Join(
			tx.Put("b", "old", []byte("3")),
			tx.Put("b", "new", []byte("4")),
			tx.Put("b", "new", []byte("5")),
			tx.Delete("b", "gone"),
			tx.Delete("b", "never"),
			tx.Put("b", "brief", []byte("6")),
			tx.Delete("b", "brief"),
			wantGet(tx, "b", "old", "3"),
			wantGet(tx, "b", "new", "5"),
			wantGet(tx, "b", "gone", ""),
			wantGet(tx, "b", "never", ""),
			wantGet(tx, "b", "brief", ""),
			wantGet(tx, "other", "new", ""),
			tx.Put("b", "gone", []byte("7")),
			wantGet(tx, "b", "gone", "7"),
		)
	})
	wantRows(t, s, "b", row{"gone", "7"}, row{"new", "5"}, row{"old", "3"})
}

func testRollback(t *testing.T, s approval.Store) {
	put(t, s, "b", row{"k", "1"}, row{"l", "2"})
	err := s.Update(t.Context(), func(tx approval.Tx) error {
		if err := errors.Join(
			tx.Put("b", "k", []byte("3")),
			tx.Put("b", "new", []byte("4")),
			tx.Delete("b", "l"),
			tx.Put("fresh", "k", []byte("5")),
		); err != nil {
			return err
		}
		return errAbandoned
	})
	if err != errAbandoned {
		t.Errorf("Update() = %v, want fn's own error as it is", err)
	}
	wantRows(t, s, "b", row{"k", "1"}, row{"l", "2"})
	wantRows(t, s, "fresh")

	// The error of a View comes back as it is, too.
	if err := s.View(t.Context(), func(approval.Tx) error { return errAbandoned }); err != errAbandoned {
		t.Errorf("View() = %v, want fn's own error as it is", err)
	}
}

// recovered calls fn and returns what it panicked with, as text.
func recovered(fn func()) (text string) {
	defer func() {
		if p := recover(); p != nil {
			text = fmt.Sprint(p)
		}
	}()
	fn()
	return ""
}

func testPanic(t *testing.T, s approval.Store) {
	put(t, s, "b", row{"k", "1"})
	got := recovered(func() {
		s.Update(t.Context(), func(tx approval.Tx) error {
			if err := tx.Put("b", "k", []byte("2")); err != nil {
				return err
			}
			panic("a mistake in the update")
		})
	})
	if !strings.Contains(got, "a mistake in the update") {
		t.Errorf("Update() panicked with %.80q, want fn's panic", got)
	}
	got = recovered(func() {
		s.View(t.Context(), func(approval.Tx) error { panic("a mistake in the view") })
	})
	if !strings.Contains(got, "a mistake in the view") {
		t.Errorf("View() panicked with %.80q, want fn's panic", got)
	}
	wantRows(t, s, "b", row{"k", "1"})
	put(t, s, "b", row{"k", "3"})
	wantRows(t, s, "b", row{"k", "3"})
}

func testViewIsolation(t *testing.T, s approval.Store) {
	put(t, s, "b", row{"x", "0"}, row{"y", "0"})
	started, done := make(chan struct{}), make(chan error, 1)
	go func() {
		<-started
		for i := range 20 {
			err := s.Update(context.Background(), func(tx approval.Tx) error {
				return putRows(tx, "b", row{"x", fmt.Sprint(i)}, row{"y", fmt.Sprint(i)})
			})
			if err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for first := true; ; {
		err := s.View(t.Context(), func(tx approval.Tx) error {
			x, err := tx.Get("b", "x")
			if err != nil {
				return err
			}
			if first {
				first = false
				close(started)
			}
			for range 100 {
				if err := errors.Join(wantGet(tx, "b", "x", string(x)), wantGet(tx, "b", "y", string(x))); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatalf("View() while an Update runs = %v, want one state", err)
		}
		select {
		case err := <-done:
			if err != nil {
				t.Fatalf("Update() while a View runs = %v, want nil", err)
			}
			wantRows(t, s, "b", row{"x", "19"}, row{"y", "19"})
			return
		default:
		}
	}
}

func testViewWrite(t *testing.T, s approval.Store) {
	put(t, s, "b", row{"k", "1"})
	err := s.View(t.Context(), func(tx approval.Tx) error {
		if tx.Put("b", "k", []byte("2")) == nil || tx.Put("b", "l", []byte("2")) == nil {
			return errors.New("Put in a View returned nil, want an error")
		}
		if tx.Delete("b", "k") == nil {
			return errors.New("Delete in a View returned nil, want an error")
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	wantRows(t, s, "b", row{"k", "1"})
}

func testCopies(t *testing.T, s approval.Store) {
	update(t, s, func(tx approval.Tx) error {
		value := []byte("kept")
		if err := tx.Put("b", "k", value); err != nil {
			return err
		}
		copy(value, "lost")
		return wantGet(tx, "b", "k", "kept")
	})
	wantRows(t, s, "b", row{"k", "kept"})
}
