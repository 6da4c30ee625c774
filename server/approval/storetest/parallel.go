package storetest

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/countersignd/countersign/server/approval"
)

// inParallel runs fn(0) … fn(n-1), each on a goroutine, and reports their errors.
func inParallel(t *testing.T, n int, fn func(i int) error) {
	t.Helper()
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-start
			if err := fn(i); err != nil {
				t.Errorf("goroutine %d: %v", i, err)
			}
		})
	}
	close(start)
	wg.Wait()
}

// increment adds 1 to the number under key, and returns what it became.
func increment(tx approval.Tx, bucket, key string) (int, error) {
	value, err := tx.Get(bucket, key)
	if err != nil {
		return 0, err
	}
	n := 0
	if value != nil {
		if n, err = strconv.Atoi(string(value)); err != nil {
			return 0, err
		}
	}
	return n + 1, tx.Put(bucket, key, []byte(strconv.Itoa(n+1)))
}

// testCounter loses an increment, or hands out a number twice, if two updates
// ever read the same state.
func testCounter(t *testing.T, s approval.Store) {
	const goroutines, each = 64, 8
	var mu sync.Mutex
	seen := make(map[int]bool)
	inParallel(t, goroutines, func(i int) error {
		for range each {
			var n int
			err := s.Update(t.Context(), func(tx approval.Tx) (err error) {
				n, err = increment(tx, "b", "counter")
				return err
			})
			if err != nil {
				return err
			}
			mu.Lock()
			again := seen[n]
			seen[n] = true
			mu.Unlock()
			if again {
				return fmt.Errorf("two updates counted to %d", n)
			}
		}
		return nil
	})
	wantRows(t, s, "b", row{"counter", strconv.Itoa(goroutines * each)})
}

// testNeighbours runs updates that succeed, fail and panic at the same time.
func testNeighbours(t *testing.T, s approval.Store) {
	const n = 64
	inParallel(t, n, func(i int) error {
		var err error
		text := recovered(func() {
			err = s.Update(t.Context(), func(tx approval.Tx) error {
				if _, err := increment(tx, "b", "counter"); err != nil {
					return err
				}
				key := fmt.Sprintf("%02d", i)
				if err := tx.Put("each", key, []byte("1")); err != nil {
					return err
				}
				switch i % 4 {
				case 1:
					return errAbandoned
				case 2:
					panic("a mistake in " + key)
				}
				return wantGet(tx, "each", key, "1")
			})
		})
		switch {
		case i%4 == 1 && err != errAbandoned:
			return fmt.Errorf("failing Update() = %v, want %v", err, errAbandoned)
		case i%4 == 2 && !strings.Contains(text, fmt.Sprintf("a mistake in %02d", i)):
			return fmt.Errorf("panicking Update() panicked with %.80q, want its own panic", text)
		case i%4 != 1 && i%4 != 2 && (err != nil || text != ""):
			return fmt.Errorf("Update() beside failing ones = %v %.80q, want nil", err, text)
		}
		return nil
	})
	var want []row
	for i := range n {
		if i%4 != 1 && i%4 != 2 {
			want = append(want, row{fmt.Sprintf("%02d", i), "1"})
		}
	}
	wantRows(t, s, "each", want...)
	wantRows(t, s, "b", row{"counter", strconv.Itoa(len(want))})
}

// A request is one step of a client: a Put of value, or a Get if that is "".
type request struct {
	key, value string
}

// register is the sequential behaviour of one key.
var register = porcupine.Model{
	Partition: func(history []porcupine.Operation) (parts [][]porcupine.Operation) {
		byKey := make(map[string][]porcupine.Operation)
		for _, op := range history {
			key := op.Input.(request).key
			byKey[key] = append(byKey[key], op)
		}
		for _, part := range byKey {
			parts = append(parts, part)
		}
		return parts
	},
	Init: func() any { return "" },
	Step: func(state, input, output any) (bool, any) {
		if r := input.(request); r.value != "" {
			return true, r.value
		}
		return output == state, state
	},
}

// testLinearizable checks a recorded history: what a view or an update reads is
// what was written last, in some order that fits the clock.
func testLinearizable(t *testing.T, s approval.Store) {
	const clients, steps = 6, 30
	start := time.Now()
	histories := make([][]porcupine.Operation, clients)
	inParallel(t, clients, func(client int) error {
		for step := range steps {
			r := request{key: string(rune('a' + (client+step)%3))}
			if (client+step/3)%2 == 0 {
				r.value = fmt.Sprintf("%d.%d", client, step)
			}
			read := ""
			get := func(tx approval.Tx) error {
				value, err := tx.Get("b", r.key)
				read = string(value)
				return err
			}
			run, fn := s.View, get
			if r.value != "" {
				run, fn = s.Update, func(tx approval.Tx) error { return tx.Put("b", r.key, []byte(r.value)) }
			} else if step%5 == 0 {
				run = s.Update
			}
			call := time.Since(start)
			if err := run(t.Context(), fn); err != nil {
				return err
			}
			histories[client] = append(histories[client], porcupine.Operation{
				ClientId: client, Input: r, Output: read, Call: int64(call), Return: int64(time.Since(start)),
			})
		}
		return nil
	})
	var history []porcupine.Operation
	for _, h := range histories {
		history = append(history, h...)
	}
	if len(history) != clients*steps {
		t.Fatalf("%d of %d steps were recorded", len(history), clients*steps)
	}
	if got := porcupine.CheckOperationsTimeout(register, history, 30*time.Second); got != porcupine.Ok {
		t.Errorf("CheckOperations(history) = %v, want %v", got, porcupine.Ok)
	}
}
