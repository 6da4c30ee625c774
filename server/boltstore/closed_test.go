package boltstore

import (
	"errors"
	"os"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
)

func TestUndisturbed(t *testing.T) {
	path := newPath(t)
	when := time.Unix(1_750_000_000, 0)
	use := func(checked time.Time) {
		t.Helper()
		s, err := Open(path, Options{Checked: checked})
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := Undisturbed(path); ok {
			t.Error("an open store is said to be undisturbed")
		}
		if _, err := countUp(s, "b"); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	want := func(what string, want bool) {
		t.Helper()
		checked, ok := Undisturbed(path)
		if ok != want || ok && !checked.Equal(when) {
			t.Errorf("Undisturbed of %s = %v, %v, want %v", what, checked, ok, want)
		}
	}
	want("no file", false)
	use(time.Time{})
	want("a store that was never checked", false)
	use(when)
	want("a store that was closed", true)
	use(when)
	want("one that was used again", true)

	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	change := func(data []byte, modified time.Time) {
		t.Helper()
		if err := errors.Join(os.WriteFile(path, data, 0o600), os.Chtimes(path, modified, modified)); err != nil {
			t.Fatal(err)
		}
	}
	change(whole, info.ModTime().Add(time.Second))
	want("one that was written later", false)
	change(append(whole[:len(whole):len(whole)], 0), info.ModTime())
	want("one that is longer", false)
	other := append([]byte{}, whole...)
	other[100] ^= 1
	change(other, info.ModTime())
	want("another one of the same time", false)
	change(whole, info.ModTime())
	want("what was put back", true)

	if err := os.WriteFile(path+closedSuffix, []byte("countersign store closed\nsize 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	want("one with a torn note", false)
}

// A store that failed is read as a whole at the next start, and so is one whose
// process was killed.
func TestFailedStoreIsNotUndisturbed(t *testing.T) {
	path := newPath(t)
	s, err := Open(path, Options{Checked: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := Undisturbed(path); ok {
		t.Error("an open store is undisturbed: so would be one that is killed now")
	}
	s.commit = func(*bolt.Tx) error { return errors.New("the disk is gone") }
	if _, err := countUp(s, "b"); err == nil {
		t.Fatal("a failing commit succeeded")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, ok := Undisturbed(path); ok {
		t.Error("a store that failed is undisturbed, want that it is checked")
	}
}
