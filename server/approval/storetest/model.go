package storetest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/countersignd/countersign/server/approval"
)

// A model is what a store should hold: bucket, key, value.
type model map[string]map[string]string

func (m model) clone() model {
	c := make(model)
	for bucket, keys := range m {
		c[bucket] = maps.Clone(keys)
	}
	return c
}

func (m model) ascend(bucket, prefix string) (all []row) {
	for _, key := range slices.Sorted(maps.Keys(m[bucket])) {
		if strings.HasPrefix(key, prefix) {
			all = append(all, row{key, m[bucket][key]})
		}
	}
	return all
}

// A step is one call on a transaction.
type step struct {
	Call               string // put, delete, get or ascend
	Bucket, Key, Value string
}

// do makes the step on both, and returns how they differ.
func (st step) do(tx approval.Tx, m model) error {
	switch st.Call {
	case "put":
		if m[st.Bucket] == nil {
			m[st.Bucket] = make(map[string]string)
		}
		m[st.Bucket][st.Key] = st.Value
		return tx.Put(st.Bucket, st.Key, []byte(st.Value))
	case "delete":
		delete(m[st.Bucket], st.Key)
		return tx.Delete(st.Bucket, st.Key)
	case "get":
		return wantGet(tx, st.Bucket, st.Key, m[st.Bucket][st.Key])
	default:
		prefix := st.Key[:len(st.Key)/2]
		if got, want := ascend(tx, st.Bucket, prefix), m.ascend(st.Bucket, prefix); !slices.Equal(got, want) {
			return fmt.Errorf("Ascend(%q, %q) = %q, want %q", st.Bucket, prefix, got, want)
		}
		return nil
	}
}

// testModel runs transactions of random steps, of which some fail or panic, and
// compares each result with that of a map.
func testModel(t *testing.T, s approval.Store) {
	round := 0
	rapid.Check(t, func(rt *rapid.T) {
		round++ // Buckets of its own keep a round apart from those before.
		buckets := []string{fmt.Sprint(round), fmt.Sprint(round, "/"), fmt.Sprint(round, "\xff")}
		steps := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) step {
			return step{
				Call:   rapid.SampledFrom([]string{"put", "put", "put", "delete", "get", "ascend"}).Draw(rt, "call"),
				Bucket: rapid.SampledFrom(buckets).Draw(rt, "bucket"),
				Key:    rapid.SampledFrom([]string{"a", "aa", "ab", "b", "b\x00", "ba", "\x00", "\xff", "\xff\xff"}).Draw(rt, "key"),
				Value:  rapid.StringN(1, 8, 16).Draw(rt, "value"),
			}
		}), 0, 12)

		state := make(model)
		for range rapid.IntRange(1, 6).Draw(rt, "transactions") {
			list := steps.Draw(rt, "steps")
			end := rapid.SampledFrom([]string{"commit", "commit", "fail", "panic"}).Draw(rt, "end")

			var after model
			var err error
			text := recovered(func() {
				err = s.Update(t.Context(), func(tx approval.Tx) error {
					after = state.clone()
					for _, st := range list {
						if err := st.do(tx, after); err != nil {
							return err
						}
					}
					switch end {
					case "fail":
						return errAbandoned
					case "panic":
						panic("a mistake")
					}
					return nil
				})
			})
			switch {
			case end == "panic" && strings.Contains(text, "a mistake"):
			case end == "fail" && errors.Is(err, errAbandoned):
			case end == "commit" && err == nil && text == "":
				state = after
			default:
				rt.Fatalf("Update(%v, then %s) = %v %s", list, end, err, text)
			}

			for _, bucket := range buckets {
				if got, want := rows(t, s, bucket), state.ascend(bucket, ""); !slices.Equal(got, want) {
					rt.Fatalf("after Update(%v, then %s): bucket %q = %q, want %q", list, end, bucket, got, want)
				}
			}
		}
	})
}
