package boltstore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/countersignd/countersign/server/approval"
)

// TestGroupIsSerial compares a group of random updates, some of which fail or
// panic, with the same functions on a map, one after the other.
func TestGroupIsSerial(t *testing.T) {
	s := open(t, newPath(t), Options{})
	round := 0
	rapid.Check(t, func(rt *rapid.T) {
		round++
		bucket := fmt.Sprint(round)
		keys := rapid.SampledFrom([]string{"a", "aa", "b", "c"})
		type plan struct {
			Put, Delete string
			Value       string
			End         string
		}
		plans := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) plan {
			return plan{keys.Draw(rt, "put"), keys.Draw(rt, "delete"), rapid.StringN(1, 4, 8).Draw(rt, "value"),
				rapid.SampledFrom([]string{"commit", "fail", "panic"}).Draw(rt, "end")}
		}), 1, 8).Draw(rt, "plans")

		state := make(map[string]string)
		wants := make([]map[string]string, len(plans)) // what each update must see before it writes
		for i, p := range plans {
			wants[i] = maps.Clone(state)
			if p.End == "commit" {
				state[p.Put] = p.Value
				delete(state, p.Delete)
			}
		}

		results := make([]error, len(plans))
		var wg sync.WaitGroup
		own := errors.New("fn's own error")
		hold(t, s, func() {
			for i, p := range plans {
				wg.Add(1)
				enqueue(t, s, func() {
					defer wg.Done()
					defer func() {
						if v := recover(); v != nil {
							results[i] = v.(error)
						}
					}()
					results[i] = s.Update(context.Background(), func(tx approval.Tx) error {
						if got := contents(tx, bucket); !maps.Equal(got, wants[i]) {
							return fmt.Errorf("sees %q, want %q", got, wants[i])
						}
						if err := errors.Join(tx.Put(bucket, p.Put, []byte(p.Value)), tx.Delete(bucket, p.Delete)); err != nil {
							return err
						}
						switch p.End {
						case "fail":
							return own
						case "panic":
							panic(own)
						}
						return nil
					})
				})
			}
		})
		wg.Wait()
		for i, p := range plans {
			if ok := results[i] == nil; ok != (p.End == "commit") || !ok && !errors.Is(results[i], own) {
				rt.Errorf("update %d, which should %s: %v", i, p.End, results[i])
			}
		}
		err := s.View(t.Context(), func(tx approval.Tx) error {
			if got := contents(tx, bucket); !maps.Equal(got, state) {
				return fmt.Errorf("after the group the store holds %q, want %q", got, state)
			}
			return nil
		})
		if err != nil {
			rt.Fatal(err)
		}
	})
}

func contents(tx approval.Tx, bucket string) map[string]string {
	all := make(map[string]string)
	for key, value := range tx.Ascend(bucket, "") {
		all[key] = string(value)
	}
	return all
}
