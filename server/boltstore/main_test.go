package boltstore

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/countersignd/countersign/server/approval"
)

// childEnv makes the test binary do one thing and exit, in a process that can be
// killed, crash, or live under limits of its own. The path of the store is its
// last argument.
const childEnv = "BOLTSTORE_TEST_CHILD"

// quickExit keeps a child that was built with the race detector from sleeping for
// a second before it exits, as it does by default.
const quickExit = "GORACE=atexit_sleep_ms=0"

func TestMain(m *testing.M) {
	if mode := os.Getenv(childEnv); mode != "" {
		if err := child(mode, os.Args[len(os.Args)-1]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func child(mode, path string) error {
	switch mode {
	case "check":
		return Check(context.Background(), path)
	case "check-by-bbolt":
		return checkByBbolt(path)
	case "hang":
		time.Sleep(time.Hour)
	case "crash":
		panic("the check crashed")
	case "silent":
		os.Exit(1)
	case "open":
		s, err := Open(path, Options{})
		if err != nil {
			return err
		}
		return s.Close()
	case "write":
		return childWrite(path)
	case "limit":
		return childLimit(path)
	}
	return fmt.Errorf("no such mode: %q", mode)
}

// childWrite counts upwards on some goroutines and prints each number that was
// acknowledged, until it is killed.
func childWrite(path string) error {
	s, err := Open(path, Options{})
	if err != nil {
		return err
	}
	errs := make(chan error)
	for w := range writers {
		go func() {
			for {
				n, err := countUp(s, writerName(w))
				if err == nil {
					_, err = fmt.Printf("%s %d\n", writerName(w), n) // one write(2)
				}
				if err != nil {
					errs <- err
					return
				}
			}
		}()
	}
	return <-errs
}

const writers = 4

func writerName(w int) string { return fmt.Sprintf("writer%d", w) }

// countUp puts the next number in bucket, under its name and as the last one.
func countUp(s approval.Store, bucket string) (n int, err error) {
	err = s.Update(context.Background(), func(tx approval.Tx) error {
		last, err := tx.Get(bucket, "last")
		if err != nil {
			return err
		}
		n = 0
		fmt.Sscan(string(last), &n) // nothing is 0
		n++
		return errors.Join(
			tx.Put(bucket, "last", fmt.Append(nil, n)),
			tx.Put(bucket, fmt.Sprintf("n%08d", n), fmt.Append(nil, n, strings.Repeat(".", 200))),
		)
	})
	return n, err
}

// childLimit writes until the file may not grow any more, as on a full disk, and
// prints what was acknowledged and what it was told.
func childLimit(path string) error {
	signal.Ignore(syscall.SIGXFSZ)
	var fatal atomic.Int32
	told := make(chan error, 1)
	s, err := Open(path, Options{Fatal: func(err error) { fatal.Add(1); told <- err }})
	if err != nil {
		return err
	}
	const limit = 200 << 10
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: limit, Max: limit}); err != nil {
		return err
	}
	for {
		n, err := countUp(s, writerName(0))
		if err != nil {
			if !errors.Is(err, approval.ErrStoreFailed) {
				return fmt.Errorf("Update on a full disk = %w, want %w", err, approval.ErrStoreFailed)
			}
			break
		}
		fmt.Printf("%s %d\n", writerName(0), n)
		if n > 100_000 {
			return errors.New("the limit was never reached")
		}
	}
	<-told
	for range 3 {
		if _, err := countUp(s, writerName(0)); !errors.Is(err, approval.ErrStoreFailed) {
			return fmt.Errorf("Update after the failure = %w, want %w", err, approval.ErrStoreFailed)
		}
		if err := s.View(context.Background(), func(approval.Tx) error { return nil }); !errors.Is(err, approval.ErrStoreFailed) {
			return fmt.Errorf("View after the failure = %w, want %w", err, approval.ErrStoreFailed)
		}
	}
	if got := fatal.Load(); got != 1 {
		return fmt.Errorf("Fatal was called %d times, want 1", got)
	}
	return s.Close()
}

// childCommand returns the command of a child process.
func childCommand(t *testing.T, mode, path string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], path)
	cmd.Env = append(os.Environ(), childEnv+"="+mode, quickExit)
	return cmd
}

// inChild is childCommand for CheckInChild, which takes no environment.
func inChild(t *testing.T, mode string) []string {
	t.Helper()
	t.Setenv(childEnv, mode)
	name, value, _ := strings.Cut(quickExit, "=")
	t.Setenv(name, value)
	return []string{os.Args[0]}
}

func newPath(t testing.TB) string { return filepath.Join(t.TempDir(), "store.db") }

func open(t testing.TB, path string, opts Options) *Store {
	t.Helper()
	s, err := Open(path, opts)
	if err != nil {
		t.Fatalf("Open(%s) = %v, want nil", path, err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close() = %v, want nil", err)
		}
	})
	return s
}

// acknowledged reads what a child printed: the last number of each writer.
func acknowledged(t *testing.T, lines *bufio.Scanner, enough func(total int) bool) map[string]int {
	t.Helper()
	last, total := make(map[string]int), 0
	for lines.Scan() {
		var name string
		var n int
		if _, err := fmt.Sscan(lines.Text(), &name, &n); err != nil {
			t.Fatalf("the child printed %q: %v", lines.Text(), err)
		}
		last[name] = max(last[name], n)
		if total++; enough(total) {
			break
		}
	}
	return last
}

// wantCounted checks that all acknowledged numbers are there, and that what else
// is there is whole: numbers without a gap, up to the last one.
func wantCounted(t *testing.T, s *Store, acknowledged map[string]int) {
	t.Helper()
	err := s.View(t.Context(), func(tx approval.Tx) error {
		for w := range writers {
			name := writerName(w)
			value, err := tx.Get(name, "last")
			if err != nil {
				return err
			}
			last := 0
			fmt.Sscan(string(value), &last)
			if last < acknowledged[name] {
				return fmt.Errorf("%s is at %d, want at least the acknowledged %d", name, last, acknowledged[name])
			}
			n := 0
			for key, value := range tx.Ascend(name, "n") {
				n++
				if key != fmt.Sprintf("n%08d", n) || string(value) != fmt.Sprint(n, strings.Repeat(".", 200)) {
					return fmt.Errorf("row %d of %s is %q", n, name, key)
				}
			}
			if n != last {
				return fmt.Errorf("%s has %d rows, want %d", name, n, last)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
