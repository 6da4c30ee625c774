package boltstore

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/countersignd/countersign/server/approval"
)

// wantFiles checks what is in a directory.
func wantFiles(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("files = %q, want %q", got, want)
	}
}

// Writers go on while backups are made. Each backup holds what was acknowledged
// before it was begun, and one state: the numbers of a writer have no gap, and
// the two buckets written in one update agree.
func TestBackup(t *testing.T) {
	s := open(t, newPath(t), Options{})
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var mu sync.Mutex
	last := make(map[string]int)
	for w := range writers {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				n, err := countUp(s, writerName(w))
				if err != nil {
					t.Errorf("Update beside a backup = %v, want nil", err)
					return
				}
				mu.Lock()
				last[writerName(w)] = n
				mu.Unlock()
			}
		})
	}
	dir := t.TempDir()
	for _, name := range []string{"a", "b", "c", "d"} {
		wait(t, func() bool { mu.Lock(); defer mu.Unlock(); return len(last) == writers })
		mu.Lock()
		before := make(map[string]int)
		for name, n := range last {
			before[name] = n
		}
		mu.Unlock()
		dst := filepath.Join(dir, name)
		got, err := s.Backup(t.Context(), dst, nil)
		if err != nil {
			t.Fatalf("Backup = %v, want nil", err)
		}
		info, err := os.Stat(dst)
		if err != nil || info.Mode() != 0o600 {
			t.Errorf("Stat(backup) = %v, %v, want mode 0600", info.Mode(), err)
		}
		if want := (BackupInfo{Path: dst, Size: info.Size()}); got != want {
			t.Errorf("Backup = %+v, want %+v", got, want)
		}
		if err := Check(t.Context(), dst); err != nil {
			t.Errorf("Check(backup) = %v, want nil", err)
		}
		wantCounted(t, open(t, dst, Options{}), before)
	}
	close(stop)
	wg.Wait()
	wantFiles(t, dir, "a", "b", "c", "d")
}

func TestBackupRefusesExisting(t *testing.T) {
	s := open(t, newPath(t), Options{})
	dst := newPath(t)
	writeFile(t, dst, []byte("something dear"), 0o600)
	if _, err := s.Backup(t.Context(), dst, nil); !errors.Is(err, fs.ErrExist) {
		t.Errorf("Backup to an existing file = %v, want %v", err, fs.ErrExist)
	}
	if got := string(readFile(t, dst)); got != "something dear" {
		t.Errorf("the existing file holds %q, want it untouched", got)
	}
	if _, err := s.Backup(t.Context(), s.path, nil); !errors.Is(err, fs.ErrExist) {
		t.Errorf("Backup to the store itself = %v, want %v", err, fs.ErrExist)
	}
}

func TestBackupFails(t *testing.T) {
	bad := errors.New("the copy is bad")
	path := newPath(t)
	s := open(t, path, Options{Verify: func(context.Context, string) error { return bad }})
	if _, err := countUp(s, writerName(0)); err != nil {
		t.Fatal(err)
	}
	dst := newPath(t)
	if _, err := s.Backup(t.Context(), dst, nil); !errors.Is(err, bad) {
		t.Errorf("Backup that is not sound = %v, want %v", err, bad)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Backup(ctx, dst, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("Backup(cancelled context) = %v, want %v", err, context.Canceled)
	}
	wantFiles(t, filepath.Dir(dst))
	if _, err := s.Backup(t.Context(), filepath.Join(dst, "nowhere"), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Backup to a directory that does not exist = %v, want %v", err, fs.ErrNotExist)
	}
}

// The name appears last: before, the copy is complete and was found sound.
func TestBackupIsNamedLast(t *testing.T) {
	dst := newPath(t)
	var verified string
	s := open(t, newPath(t), Options{Verify: func(ctx context.Context, path string) error {
		verified = path
		if _, err := os.Lstat(dst); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Lstat(dst) while the copy is checked = %v, want %v", err, fs.ErrNotExist)
		}
		return Check(ctx, path)
	}})
	writeFile(t, dst+".partial", []byte("somebody's own file"), 0o644)
	if _, err := s.Backup(t.Context(), dst, nil); err != nil {
		t.Fatalf("Backup = %v, want nil", err)
	}
	if want := filepath.Join(filepath.Dir(dst), ".countersign-backup-"); !strings.HasPrefix(verified, want) {
		t.Errorf("Backup had %q checked, want %q", verified, want)
	}
	wantFiles(t, filepath.Dir(dst), filepath.Base(dst), filepath.Base(dst)+".partial")
}

// A backup is copied without a transaction that would outlive the copy: the pages
// it read can be used again as soon as it is checked.
func TestBackupReadsNoLongerThanItCopies(t *testing.T) {
	var s *Store
	s = open(t, newPath(t), Options{Verify: func(ctx context.Context, path string) error {
		// Close waits for every read transaction: for one held here, for ever.
		return errors.Join(s.Close(), Check(ctx, path))
	}})
	if err := s.Update(t.Context(), func(tx approval.Tx) error { return tx.Put("b", "k", []byte("v")) }); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Backup(t.Context(), newPath(t), nil); err != nil {
		t.Errorf("Backup = %v, want nil", err)
	}
}

// A backup that the rest of the server does not know of is none.
func TestBackupIsSoundBeforeItIsNamed(t *testing.T) {
	s := open(t, newPath(t), Options{})
	dst := newPath(t)
	refused := errors.New("not now")
	_, err := s.Backup(t.Context(), dst, func() error {
		if _, err := os.Lstat(dst); err == nil {
			t.Error("the backup has its name already")
		}
		return refused
	})
	if !errors.Is(err, refused) {
		t.Errorf("Backup = %v, want the error of sound", err)
	}
	if _, err := os.Lstat(dst); err == nil {
		t.Error("the backup was given its name all the same")
	}
}
