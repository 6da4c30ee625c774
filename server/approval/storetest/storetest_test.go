package storetest

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/countersignd/countersign/server/approval"
)

func TestMemory(t *testing.T) {
	Run(t, func(*testing.T) approval.Store { return NewMemory() })
}

func TestFaultyWithoutFaults(t *testing.T) {
	Run(t, func(*testing.T) approval.Store { return &Faulty{Store: NewMemory(), Twice: true} })
}

func TestMemoryPanicsOnChangedBytes(t *testing.T) {
	s := NewMemory()
	put(t, s, "b", row{"k", "kept"})
	for name, change := range map[string]func(approval.Tx) error{
		"Get": func(tx approval.Tx) error {
			value, err := tx.Get("b", "k")
			copy(value, "lost")
			return err
		},
		"Ascend": func(tx approval.Tx) error {
			for _, value := range tx.Ascend("b", "") {
				copy(value, "lost")
			}
			return tx.Put("b", "l", []byte("x"))
		},
	} {
		if got := recovered(func() { s.Update(t.Context(), change) }); !strings.Contains(got, "changed bytes") {
			t.Errorf("Update that changes what %s returned panicked with %q, want a panic that says so", name, got)
		}
		wantRows(t, s, "b", row{"k", "kept"})
	}
}

func TestMemoryOverwritesKeptBytes(t *testing.T) {
	s := NewMemory()
	put(t, s, "b", row{"k", "kept"})
	var kept []byte
	update(t, s, func(tx approval.Tx) (err error) {
		kept, err = tx.Get("b", "k")
		return err
	})
	if string(kept) == "kept" {
		t.Errorf("bytes kept after the transaction = %q, want them overwritten", kept)
	}
	wantRows(t, s, "b", row{"k", "kept"})
}

func TestFaulty(t *testing.T) {
	faults := map[int]Fault{2: Before, 4: After}
	s := &Faulty{Store: NewMemory(), Fault: func(n int) Fault { return faults[n] }}
	for n := 1; n <= 5; n++ {
		ran := false
		err := s.Update(t.Context(), func(tx approval.Tx) error {
			ran = true
			return tx.Put("b", fmt.Sprint(n), []byte("v"))
		})
		if got, want := errors.Is(err, approval.ErrStoreFailed), faults[n] != None; got != want || !ran {
			t.Errorf("Update %d = %v and ran fn: %v, want a store failure: %v and true", n, err, ran, want)
		}
	}
	wantRows(t, s, "b", row{"1", "v"}, row{"3", "v"}, row{"4", "v"}, row{"5", "v"})
	if got := s.Updates(); got != 5 {
		t.Errorf("Updates() = %d, want 5", got)
	}
}

// A function that fails by itself reports its own error, fault or not: nothing
// would have been committed.
func TestFaultyPassesErrors(t *testing.T) {
	for _, fault := range []Fault{None, Before, After} {
		s := &Faulty{Store: NewMemory(), Fault: func(int) Fault { return fault }}
		if err := s.Update(t.Context(), func(approval.Tx) error { return errAbandoned }); err != errAbandoned {
			t.Errorf("Update with fault %v = %v, want %v", fault, err, errAbandoned)
		}
	}
}

func TestFaultyTwice(t *testing.T) {
	s := &Faulty{Store: NewMemory(), Twice: true}
	runs := 0
	update(t, s, func(tx approval.Tx) error {
		runs++
		if err := wantGet(tx, "b", "k", ""); err != nil {
			return fmt.Errorf("run %d: %w", runs, err)
		}
		return tx.Put("b", "k", []byte(fmt.Sprint(runs)))
	})
	if runs != 2 {
		t.Errorf("Update ran fn %d times, want 2", runs)
	}
	wantRows(t, s, "b", row{"k", "2"})
}
