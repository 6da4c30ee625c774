package boltstore

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/countersignd/countersign/server/approval"
	"github.com/countersignd/countersign/server/approval/storetest"
)

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) approval.Store { return open(t, newPath(t), Options{}) })
}

func TestSizesAreThoseOfTheContract(t *testing.T) {
	if MaxKey != storetest.MaxKey || MaxValue != storetest.MaxValue {
		t.Errorf("MaxKey, MaxValue = %d, %d, want %d, %d", MaxKey, MaxValue, storetest.MaxKey, storetest.MaxValue)
	}
}

func TestFormatBucketIsRefused(t *testing.T) {
	s := open(t, newPath(t), Options{})
	err := s.Update(t.Context(), func(tx approval.Tx) error {
		if _, err := tx.Get(formatBucket, schemaKey); err == nil {
			return errors.New("Get of the format bucket returned nil, want an error")
		}
		if tx.Put(formatBucket, schemaKey, []byte("9")) == nil || tx.Delete(formatBucket, schemaKey) == nil {
			return errors.New("a write to the format bucket returned nil, want an error")
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	err = s.View(t.Context(), func(tx approval.Tx) error {
		for key := range tx.Ascend(formatBucket, "") {
			t.Errorf("Ascend of the format bucket yielded %q, want nothing", key)
		}
		return nil
	})
	if err == nil {
		t.Error("View with Ascend of the format bucket = nil, want an error")
	}
}

func TestReopened(t *testing.T) {
	path := newPath(t)
	for want := 1; want <= 3; want++ {
		s, err := Open(path, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := countUp(s, "b"); got != want || err != nil {
			t.Errorf("after opening again countUp() = %d, %v, want %d", got, err, want)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if err := Check(t.Context(), path); err != nil {
			t.Errorf("Check() = %v, want nil", err)
		}
	}
}

// A kill is not a power cut: what was written but not fsynced survives it. What
// it shows is that an answer never comes before its commit, and that a commit is
// whole or not there.
func TestKilled(t *testing.T) {
	path := newPath(t)
	for kill := range 12 {
		cmd := childCommand(t, "write", path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		last := acknowledged(t, lines, func(total int) bool { return total >= 20+7*kill })
		if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		for name, n := range acknowledged(t, lines, func(int) bool { return false }) {
			last[name] = max(last[name], n)
		}
		var exit *exec.ExitError
		if err := cmd.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Fatalf("the child ended with %v, want a kill; it said: %s", err, stderr.String())
		}
		if len(last) == 0 {
			t.Fatal("the child was killed before it acknowledged anything")
		}
		if err := Check(t.Context(), path); err != nil {
			t.Fatalf("Check after kill %d = %v, want nil", kill, err)
		}
		s, err := Open(path, Options{})
		if err != nil {
			t.Fatalf("Open after kill %d = %v, want nil", kill, err)
		}
		wantCounted(t, s, last)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// failed opens a store, makes it fail by fail while some updates are in one
// group, and checks all that must hold afterwards.
func failed(t *testing.T, fail func(*Store)) {
	t.Helper()
	path := newPath(t)
	fatal := make(chan error, 10)
	s := open(t, path, Options{Fatal: func(err error) { fatal <- err }})
	if _, err := countUp(s, writerName(0)); err != nil {
		t.Fatal(err)
	}
	fail(s)

	errs := make(chan error)
	own := errors.New("fn's own error")
	hold(t, s, func() {
		for i := range 10 {
			enqueue(t, s, func() {
				errs <- s.Update(context.Background(), func(tx approval.Tx) error {
					if err := tx.Put("b", "k", []byte("v")); err != nil || i%3 > 0 {
						return err
					}
					return own
				})
			})
		}
	})
	for range 10 {
		if err := <-errs; !errors.Is(err, approval.ErrStoreFailed) {
			t.Errorf("Update in the group that failed = %v, want %v", err, approval.ErrStoreFailed)
		}
	}
	if err := <-fatal; !errors.Is(err, approval.ErrStoreFailed) {
		t.Errorf("Fatal was told %v, want %v", err, approval.ErrStoreFailed)
	}
	ran := false
	fn := func(approval.Tx) error { ran = true; return nil }
	for range 3 {
		if err := s.Update(t.Context(), fn); !errors.Is(err, approval.ErrStoreFailed) {
			t.Errorf("Update after the failure = %v, want %v", err, approval.ErrStoreFailed)
		}
		if err := s.View(t.Context(), fn); !errors.Is(err, approval.ErrStoreFailed) {
			t.Errorf("View after the failure = %v, want %v", err, approval.ErrStoreFailed)
		}
		if _, err := s.Backup(t.Context(), path+".backup", nil); !errors.Is(err, approval.ErrStoreFailed) {
			t.Errorf("Backup after the failure = %v, want %v", err, approval.ErrStoreFailed)
		}
	}
	if ran {
		t.Error("a function ran after the failure")
	}
	s.Close()
	if len(fatal) > 0 {
		t.Errorf("Fatal was called again, with %v", <-fatal)
	}

	// The next process finds the store as it was, or with the group: never half.
	again := open(t, path, Options{})
	wantCounted(t, again, map[string]int{writerName(0): 1})
}

func TestFailedCommit(t *testing.T) {
	t.Run("before anything was written", func(t *testing.T) {
		failed(t, func(s *Store) {
			s.commit = func(b *bolt.Tx) error { return errors.Join(syscall.ENOSPC, b.Rollback()) }
		})
	})
	t.Run("of the last fsync", func(t *testing.T) {
		failed(t, func(s *Store) {
			s.commit = func(b *bolt.Tx) error { return errors.Join(b.Commit(), syscall.EIO) }
		})
	})
	t.Run("by a panic", func(t *testing.T) {
		failed(t, func(s *Store) {
			s.commit = func(*bolt.Tx) error { panic("page 7 already freed") }
		})
	})
	t.Run("of a file that cannot be written", func(t *testing.T) {
		failed(t, func(s *Store) {
			if err := readOnlyDescriptor(s.path); err != nil {
				t.Fatal(err)
			}
		})
	})
	t.Run("because the overlay does not fit the file", func(t *testing.T) {
		failed(t, func(s *Store) {
			// A bucket where a key should be: no update can make one.
			err := s.db.Update(func(b *bolt.Tx) error {
				bucket, err := b.CreateBucket([]byte("b"))
				if err == nil {
					_, err = bucket.CreateBucket([]byte("k"))
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		})
	})
}

// A page that was damaged since the file was checked makes bbolt panic when the
// overlay is written to it.
func TestDamagedWhileOpen(t *testing.T) {
	fatal := make(chan error, 10)
	s, err := Open(newPath(t), Options{Fatal: func(err error) { fatal <- err }})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close() // bbolt cannot be asked for more than not to hang
	put := func(key string) error {
		return s.Update(t.Context(), func(tx approval.Tx) error {
			return tx.Put("b", key, bytes.Repeat([]byte("v"), 3000)) // a page of its own
		})
	}
	for _, key := range []string{"a", "b", "c"} {
		if err := put(key); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.OpenFile(s.path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	err = s.db.View(func(b *bolt.Tx) error {
		root := int64(b.Bucket([]byte("b")).Root())
		_, err := f.WriteAt([]byte{0xff}, root*int64(os.Getpagesize())) // its own number
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := put("d"); !errors.Is(err, approval.ErrStoreFailed) {
		t.Errorf("Update on a damaged page = %v, want %v", err, approval.ErrStoreFailed)
	}
	if err := <-fatal; !errors.Is(err, approval.ErrStoreFailed) {
		t.Errorf("Fatal was told %v, want %v", err, approval.ErrStoreFailed)
	}
}

// readOnlyDescriptor makes this process's descriptor of the file one that cannot
// be written to: the writes of a commit really fail.
func readOnlyDescriptor(path string) error {
	var want, got syscall.Stat_t
	if err := syscall.Stat(path, &want); err != nil {
		return err
	}
	readOnly, err := os.Open(path)
	if err != nil {
		return err
	}
	defer readOnly.Close()
	for fd := range 1024 {
		if fd == int(readOnly.Fd()) || syscall.Fstat(fd, &got) != nil || got.Dev != want.Dev || got.Ino != want.Ino {
			continue
		}
		return syscall.Dup3(int(readOnly.Fd()), fd, syscall.O_CLOEXEC)
	}
	return errors.New("no descriptor of the file was found")
}

// The disk that is full is a limit on the size of the file.
func TestFullDisk(t *testing.T) {
	path := newPath(t)
	s := open(t, path, Options{})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	cmd := childCommand(t, "limit", path)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("the child ended with %v: %s", err, stderr.String())
	}
	last := acknowledged(t, bufio.NewScanner(bytes.NewReader(out)), func(int) bool { return false })
	if last[writerName(0)] == 0 {
		t.Fatal("the disk was full before anything was acknowledged")
	}
	if err := Check(t.Context(), path); err != nil {
		t.Errorf("Check after a full disk = %v, want nil", err)
	}
	wantCounted(t, open(t, path, Options{}), last)
}

// A function that calls runtime.Goexit ends the committer. Whoever waits must not
// wait for ever.
func TestFunctionEndsGoroutine(t *testing.T) {
	failed(t, func(s *Store) {
		s.commit = func(*bolt.Tx) error { t.Error("a commit after Goexit"); return nil }
		go s.Update(context.Background(), func(approval.Tx) error { goexit(); return nil })
	})
}

func TestClose(t *testing.T) {
	path := newPath(t)
	s := open(t, path, Options{})
	const n = 50
	errs, closed := make(chan error, n), make(chan error, 2)
	hold(t, s, func() {
		for range n {
			enqueue(t, s, func() { _, err := countUp(s, writerName(0)); errs <- err })
		}
		for range 2 {
			go func() { closed <- s.Close() }()
		}
		wait(t, func() bool { s.sending.RLock(); defer s.sending.RUnlock(); return s.closed })
	})
	for range 2 {
		if err := <-closed; err != nil {
			t.Errorf("Close() = %v, want nil", err)
		}
	}
	for range n {
		if err := <-errs; err != nil {
			t.Errorf("Update queued before Close = %v, want nil", err)
		}
	}
	if _, err := countUp(s, writerName(0)); !errors.Is(err, approval.ErrStoreFailed) {
		t.Errorf("Update after Close = %v, want %v", err, approval.ErrStoreFailed)
	}
	if err := s.View(t.Context(), func(approval.Tx) error { return nil }); !errors.Is(err, approval.ErrStoreFailed) {
		t.Errorf("View after Close = %v, want %v", err, approval.ErrStoreFailed)
	}
	wantCounted(t, open(t, path, Options{}), map[string]int{writerName(0): n})
}

// Close waits for views, whose bytes are those of the file.
func TestCloseWaitsForViews(t *testing.T) {
	s := open(t, newPath(t), Options{})
	if _, err := countUp(s, "b"); err != nil {
		t.Fatal(err)
	}
	closed := make(chan struct{})
	err := s.View(t.Context(), func(tx approval.Tx) error {
		value, err := tx.Get("b", "last")
		if err != nil {
			return err
		}
		go func() { s.Close(); close(closed) }()
		select {
		case <-closed:
			return errors.New("Close returned while a View ran")
		case <-time.After(50 * time.Millisecond):
		}
		if !slices.Equal(value, []byte("1")) {
			return errors.New("the value changed")
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	<-closed
}
