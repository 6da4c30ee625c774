package boltstore

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/countersignd/countersign/server/approval"
)

func goexit() { runtime.Goexit() }

// wait waits for something that is about to happen.
func wait(t testing.TB, happened func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !happened(); time.Sleep(100 * time.Microsecond) {
		if time.Now().After(deadline) {
			t.Fatal("waited for too long")
		}
	}
}

// hold keeps the committer busy with an update that changes nothing, while
// queueing runs: what it queues becomes one group.
func hold(t testing.TB, s *Store, queueing func()) {
	t.Helper()
	running, release := make(chan struct{}), make(chan struct{})
	go s.Update(context.Background(), func(approval.Tx) error {
		close(running)
		<-release
		return nil
	})
	defer close(release)
	wait(t, func() bool {
		select {
		case <-running:
			return true
		default:
			return s.failed() // and will not run it
		}
	})
	queueing()
}

func (s *Store) failed() bool {
	s.visible.RLock()
	defer s.visible.RUnlock()
	return s.refuse != nil
}

// enqueue runs update, which calls Update once, on a goroutine, and returns when
// it is in the queue of a held store.
func enqueue(t testing.TB, s *Store, update func()) {
	t.Helper()
	n := len(s.queue)
	go update()
	wait(t, func() bool { return len(s.queue) > n || s.failed() })
}

// countCommits counts the commits of s from now on.
func countCommits(s *Store) *atomic.Int64 {
	n := new(atomic.Int64)
	s.commit = func(b *bolt.Tx) error { n.Add(1); return b.Commit() }
	return n
}

func TestGroupSharesCommit(t *testing.T) {
	s := open(t, newPath(t), Options{})
	commits := countCommits(s)
	const n = 500
	errs := make(chan error, n)
	hold(t, s, func() {
		for range n {
			enqueue(t, s, func() { _, err := countUp(s, writerName(0)); errs <- err })
		}
	})
	for range n {
		if err := <-errs; err != nil {
			t.Errorf("Update = %v, want nil", err)
		}
	}
	if got := commits.Load(); got != 1 {
		t.Errorf("%d queued updates made %d commits, want 1", n, got)
	}
	wantCounted(t, s, map[string]int{writerName(0): n})
}

// Each commit is told of once, after it was answered for, with how many updates it
// carried; what is not committed is not told of.
func TestCommitted(t *testing.T) {
	type commit struct {
		updates int
		failed  bool
	}
	told := make(chan commit, 10)
	s := open(t, newPath(t), Options{Committed: func(took time.Duration, updates int, err error) {
		if took <= 0 {
			t.Errorf("a commit took %v", took)
		}
		told <- commit{updates, err != nil}
	}})
	want := func(what string, want commit) {
		t.Helper()
		select {
		case got := <-told:
			if got != want {
				t.Errorf("%s: told of %+v, want %+v", what, got, want)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: told of no commit", what)
		}
	}
	before, err := s.Size()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Update(t.Context(), func(tx approval.Tx) error { _, err := tx.Get("b", "k"); return err }); err != nil {
		t.Fatal(err)
	}
	if err := s.Update(t.Context(), func(tx approval.Tx) error { return tx.Put("b", "k", make([]byte, MaxValue)) }); err != nil {
		t.Fatal(err)
	}
	want("one that reads, and one that writes", commit{updates: 1})
	if after, err := s.Size(); err != nil || after < before+MaxValue {
		t.Errorf("Size = %d, %v, want at least %d more than %d", after, err, MaxValue, before)
	}
	var wg sync.WaitGroup
	hold(t, s, func() {
		for range 7 {
			wg.Add(1)
			enqueue(t, s, func() { defer wg.Done(); countUp(s, writerName(0)) })
		}
	})
	wg.Wait()
	want("seven, and the one that held them", commit{updates: 8})
	s.commit = func(*bolt.Tx) error { return errors.New("no") }
	if _, err := countUp(s, writerName(0)); !errors.Is(err, approval.ErrStoreFailed) {
		t.Fatalf("Update = %v, want that the store failed", err)
	}
	want("one that fails", commit{updates: 1, failed: true})
	if _, err := s.Size(); !errors.Is(err, approval.ErrStoreFailed) {
		t.Errorf("Size of a failed store = %v, want ErrStoreFailed", err)
	}
	select {
	case got := <-told:
		t.Errorf("told of %+v, of which there was no commit", got)
	default:
	}
}

func TestGroupIsBounded(t *testing.T) {
	for name, test := range map[string]struct {
		updates, size int
		commits       int64
	}{
		"by its number": {queueLen, 1, 2}, // with the update that held the committer, one too many
		"by its bytes":  {40, MaxValue, 3},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, newPath(t), Options{})
			commits := countCommits(s)
			var wg sync.WaitGroup
			hold(t, s, func() {
				for i := range test.updates {
					wg.Add(1)
					enqueue(t, s, func() {
						defer wg.Done()
						err := s.Update(context.Background(), func(tx approval.Tx) error {
							return tx.Put("b", fmt.Sprint(i), make([]byte, test.size))
						})
						if err != nil {
							t.Errorf("Update = %v, want nil", err)
						}
					})
				}
			})
			wg.Wait()
			if got := commits.Load(); got != test.commits {
				t.Errorf("%d queued updates of %d bytes made %d commits, want %d", test.updates, test.size, got, test.commits)
			}
		})
	}
}

func TestNothingWrittenNothingCommitted(t *testing.T) {
	s := open(t, newPath(t), Options{})
	if _, err := countUp(s, "b"); err != nil {
		t.Fatal(err)
	}
	commits := countCommits(s)
	own := errors.New("fn's own error")
	for name, fn := range map[string]func(approval.Tx) error{
		"reads":                     func(tx approval.Tx) error { _, err := tx.Get("b", "last"); return err },
		"fails":                     func(tx approval.Tx) error { return errors.Join(tx.Put("b", "k", []byte("v")), own) },
		"deletes what is not there": func(tx approval.Tx) error { return errors.Join(tx.Delete("b", "k"), tx.Delete("c", "k")) },
	} {
		if err := s.Update(t.Context(), fn); err != nil && !errors.Is(err, own) {
			t.Errorf("Update that %s = %v, want its own result", name, err)
		}
		if got := commits.Load(); got != 0 {
			t.Errorf("an update that %s made %d commits, want 0", name, got)
		}
	}
}

func TestGivenUpWhileQueued(t *testing.T) {
	s := open(t, newPath(t), Options{})
	ctx, cancel := context.WithCancel(t.Context())
	ran := false
	done := make(chan error, 1)
	hold(t, s, func() {
		enqueue(t, s, func() {
			done <- s.Update(ctx, func(approval.Tx) error { ran = true; return nil })
		})
		cancel()
		// The committer is still held: the answer does not wait for it.
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Update with a context cancelled in the queue = %v, want %v", err, context.Canceled)
		}
	})
	if _, err := countUp(s, "b"); err != nil { // comes after it in the queue
		t.Fatal(err)
	}
	if ran {
		t.Error("the function ran although its caller had given it up")
	}
}

func TestCancelledWhileCommitting(t *testing.T) {
	s := open(t, newPath(t), Options{})
	ctx, cancel := context.WithCancel(t.Context())
	s.commit = func(b *bolt.Tx) error { cancel(); return b.Commit() }
	err := s.Update(ctx, func(tx approval.Tx) error { return tx.Put("b", "k", []byte("v")) })
	if err != nil {
		t.Errorf("Update with a context cancelled in the commit = %v, want nil", err)
	}
	if err := s.View(t.Context(), func(tx approval.Tx) error { _, err := tx.Get("b", "k"); return err }); err != nil {
		t.Error(err)
	}
}

func TestFullQueue(t *testing.T) {
	s := open(t, newPath(t), Options{})
	var wg sync.WaitGroup
	hold(t, s, func() {
		for range queueLen {
			wg.Go(func() {
				if _, err := countUp(s, writerName(0)); err != nil {
					t.Errorf("Update in a full queue = %v, want nil", err)
				}
			})
		}
		wait(t, func() bool { return len(s.queue) == queueLen })
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		err := s.Update(ctx, func(approval.Tx) error { t.Error("the function ran"); return nil })
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Update beyond a full queue = %v, want %v", err, context.DeadlineExceeded)
		}
	})
	wg.Wait()
	wantCounted(t, s, map[string]int{writerName(0): queueLen})
}

// bbolt shows a commit to those who begin to read before its last fsync has
// returned. Here that moment lasts as long as the test wants.
func TestViewWaitsForDurability(t *testing.T) {
	s := open(t, newPath(t), Options{})
	if _, err := countUp(s, "b"); err != nil {
		t.Fatal(err)
	}
	visible, release := make(chan struct{}), make(chan struct{})
	s.commit = func(b *bolt.Tx) error {
		err := b.Commit()
		close(visible)
		<-release
		return err
	}
	last := func(tx approval.Tx) string {
		value, err := tx.Get("b", "last")
		return fmt.Sprint(string(value), err)
	}
	updated := make(chan error, 1)
	var before []string
	err := s.View(t.Context(), func(tx approval.Tx) error { // begun before the commit: it goes on, and sees the old state
		before = append(before, last(tx))
		go func() { _, err := countUp(s, "b"); updated <- err }()
		<-visible
		before = append(before, last(tx))
		return nil
	})
	if want := []string{"1<nil>", "1<nil>"}; err != nil || !slices.Equal(before, want) {
		t.Errorf("View begun before the commit saw %q, %v, want %q", before, err, want)
	}

	saw := make(chan string, 1)
	go s.View(context.Background(), func(tx approval.Tx) error { saw <- last(tx); return nil })
	select {
	case got := <-saw:
		t.Errorf("View begun within the commit saw %q before it was durable, want it to wait", got)
	case <-updated:
		t.Error("Update returned before its commit")
	case <-time.After(50 * time.Millisecond):
	}
	close(release)
	if got, want := <-saw, "2<nil>"; got != want {
		t.Errorf("View after the commit saw %q, want %q", got, want)
	}
	if err := <-updated; err != nil {
		t.Errorf("Update = %v, want nil", err)
	}
}

// Those who failed, or only read, may have read what a neighbour wrote: they must
// not hear of it before it is durable either.
func TestAnswersWaitForCommit(t *testing.T) {
	s := open(t, newPath(t), Options{})
	committing, release := make(chan struct{}), make(chan struct{})
	s.commit = func(b *bolt.Tx) error {
		close(committing)
		<-release
		return b.Commit()
	}
	answers := make(chan error, 3)
	seen := errors.New("seen")
	hold(t, s, func() {
		enqueue(t, s, func() {
			answers <- s.Update(context.Background(), func(tx approval.Tx) error { return tx.Put("b", "k", []byte("v")) })
		})
		for range 2 {
			enqueue(t, s, func() {
				answers <- s.Update(context.Background(), func(tx approval.Tx) error {
					if value, err := tx.Get("b", "k"); err != nil || value != nil {
						return errors.Join(err, seen)
					}
					return nil
				})
			})
		}
	})
	<-committing
	select {
	case err := <-answers:
		t.Errorf("an answer before the commit: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	close(release)
	got := 0
	for range 3 {
		if err := <-answers; errors.Is(err, seen) {
			got++
		} else if err != nil {
			t.Errorf("Update = %v, want nil", err)
		}
	}
	if got != 2 {
		t.Errorf("%d updates saw what their neighbour wrote, want 2", got)
	}
}

func TestPanicTellsWhere(t *testing.T) {
	s := open(t, newPath(t), Options{})
	own := errors.New("fn's own error")
	defer func() {
		err, ok := recover().(error)
		if !ok || !errors.Is(err, own) {
			t.Fatalf("Update panicked with %v, want an error that wraps %v", err, own)
		}
		if want := "TestPanicTellsWhere.func"; !strings.Contains(err.Error(), want) {
			t.Errorf("the panic reads %q, want the stack of %s", err, want)
		}
	}()
	s.Update(t.Context(), func(approval.Tx) error { panic(own) })
	t.Error("Update returned, want a panic")
}
