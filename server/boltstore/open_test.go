package boltstore

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
)

func writeFile(t *testing.T, path string, content []byte, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, content, mode); err != nil {
		t.Fatal(err)
	}
	chmod(t, path, mode) // whatever the umask
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// newBolt makes a database of bbolt with one bucket of rows.
func newBolt(t *testing.T, bucket string, rows map[string]string) string {
	t.Helper()
	path := newPath(t)
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(b *bolt.Tx) error {
		bucket, err := b.CreateBucket([]byte(bucket))
		if err != nil {
			return err
		}
		for key, value := range rows {
			if err := bucket.Put([]byte(key), []byte(value)); err != nil {
				return err
			}
		}
		return nil
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestOpenCreates(t *testing.T) {
	path := newPath(t)
	writeFile(t, path+".new", []byte("left by a crash"), 0o644)
	open(t, path, Options{})
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("Stat(created file) = %v, %v, want mode 0600", info.Mode(), err)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("ReadDir = %v, %v, want the store alone", entries, err)
	}
}

// What an attempt to create left behind is removed even if the store is there, and
// the store is not touched.
func TestOpenRemovesLeftover(t *testing.T) {
	path := newPath(t)
	s := open(t, path, Options{})
	if _, err := countUp(s, writerName(0)); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if err := os.Link(path, path+".new"); err != nil {
		t.Fatal(err)
	}
	wantCounted(t, open(t, path, Options{}), map[string]int{writerName(0): 1})
	if _, err := os.Stat(path + ".new"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Stat(leftover) = %v, want %v", err, os.ErrNotExist)
	}
}

// Several processes create the same store at once. flock does not care whether
// they are processes or, as here, descriptors.
func TestOpenTogether(t *testing.T) {
	path := newPath(t)
	var wg sync.WaitGroup
	stores, refusals := make(chan *Store, 4), make(chan error, 4)
	for range 4 {
		wg.Go(func() {
			if s, err := Open(path, Options{}); err != nil {
				refusals <- err
			} else {
				stores <- s
			}
		})
	}
	wg.Wait()
	if len(stores) != 1 || len(refusals) != 3 {
		t.Fatalf("%d of 4 Opens succeeded, want 1", len(stores))
	}
	for range 3 {
		if err := <-refusals; !strings.Contains(err.Error(), "another countersign-server") {
			t.Errorf("Open beside another = %q, want it to say so", err)
		}
	}
	if err := (<-stores).Close(); err != nil {
		t.Error(err)
	}
}

func TestOpenInAnotherProcess(t *testing.T) {
	path := newPath(t)
	s := open(t, path, Options{})
	for _, mode := range []string{"open", "check"} {
		out, err := childCommand(t, mode, path).CombinedOutput()
		want := fmt.Sprintf("another countersign-server is using %s: stop it first, or give this one a data directory of its own\n", path)
		if err == nil || string(out) != want {
			t.Errorf("%s in another process = %v, %q, want %q", mode, err, out, want)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if out, err := childCommand(t, "open", path).CombinedOutput(); err != nil {
		t.Errorf("open in another process after Close = %v, %q, want nil", err, out)
	}
}

func TestOpenRefuses(t *testing.T) {
	ours := map[string]string{formatKey: formatValue, schemaKey: "1"}
	changed := func(key, value string) map[string]string {
		rows := map[string]string{formatKey: ours[formatKey], schemaKey: ours[schemaKey]}
		rows[key] = value
		return rows
	}
	for name, test := range map[string]struct {
		make func(t *testing.T) string
		want []string // what the sentence must say
	}{
		"a file others can read": {func(t *testing.T) string {
			path := newBolt(t, formatBucket, ours)
			chmod(t, path, 0o640)
			return path
		}, []string{"others can use", "0640", "chmod 600"}},
		"a file others can write": {func(t *testing.T) string {
			path := newBolt(t, formatBucket, ours)
			chmod(t, path, 0o602)
			return path
		}, []string{"others can use", "chmod 600"}},
		"a newer schema": {func(t *testing.T) string {
			return newBolt(t, formatBucket, changed(schemaKey, "2"))
		}, []string{"newer countersign-server", "schema 2", "install the newer program again", "restore a backup"}},
		"a schema that is no number": {func(t *testing.T) string {
			return newBolt(t, formatBucket, changed(schemaKey, "+1"))
		}, []string{"damaged", "latest backup"}},
		"a schema of zero": {func(t *testing.T) string {
			return newBolt(t, formatBucket, changed(schemaKey, "0"))
		}, []string{"damaged", "latest backup"}},
		"another format": {func(t *testing.T) string {
			return newBolt(t, formatBucket, changed(formatKey, "something else"))
		}, []string{"not a database of countersign-server", "something else", "restore a backup"}},
		"another program's database": {func(t *testing.T) string {
			return newBolt(t, "theirs", ours)
		}, []string{"not a database of countersign-server", "another program", "restore a backup"}},
		"an empty file": {func(t *testing.T) string {
			path := newPath(t)
			writeFile(t, path, nil, 0o600)
			return path
		}, []string{"damaged", "empty", "latest backup"}},
		"text": {func(t *testing.T) string {
			path := newPath(t)
			writeFile(t, path, []byte(strings.Repeat("Dear diary, ", 1000)), 0o600)
			return path
		}, []string{"not a database of countersign-server", "restore a backup"}},
		"a directory": {func(t *testing.T) string {
			path := newPath(t)
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
			return path
		}, []string{"not a regular file"}},
		"a pipe": {func(t *testing.T) string {
			path := newPath(t)
			if err := syscall.Mkfifo(path, 0o600); err != nil {
				t.Fatal(err)
			}
			return path
		}, []string{"not a regular file"}},
		"a link to nowhere": {func(t *testing.T) string {
			path := newPath(t)
			if err := os.Symlink("nowhere", path); err != nil {
				t.Fatal(err)
			}
			return path
		}, []string{"no such file"}},
	} {
		t.Run(name, func(t *testing.T) {
			path := test.make(t)
			var before []byte
			info, err := os.Stat(path)
			isFile := err == nil && info.Mode().IsRegular()
			if isFile {
				before = readFile(t, path)
			}
			_, openErr := Open(path, Options{})
			errs := map[string]error{"Open": openErr, "Check": Check(t.Context(), path)}
			if info != nil { // CheckInChild says of a missing file only that
				errs["CheckInChild"] = CheckInChild(t.Context(), path, time.Minute, inChild(t, "check")...)
			}
			for call, err := range errs {
				if err == nil {
					t.Errorf("%s = nil, want an error", call)
					continue
				}
				for _, want := range append(test.want, path) {
					if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
						t.Errorf("%s = %q, want one line that says %q", call, err, want)
					}
				}
			}
			if isFile && !bytes.Equal(readFile(t, path), before) {
				t.Error("the file was changed by looking at it")
			}
		})
	}
}

func chmod(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func TestOpenWithoutDirectory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "nowhere", "store.db")
	if _, err := Open(path, Options{}); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), path) {
		t.Errorf("Open in a directory that does not exist = %v, want %v with the path", err, os.ErrNotExist)
	}
}
