package storetest

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/countersignd/countersign/server/approval"
)

// testHostileKeys stores keys that a careless encoding would mix up, cut short or
// put in another order.
func testHostileKeys(t *testing.T, s approval.Store) {
	keys := []string{
		"\x00", "\x00\x00", "\x00\xff", "\x01", "\xff", "\xff\x00", "\xff\xff", "\x7f", "\x80",
		"a", "a\x00", "a\x00b", "a\xff", "a/b", "a/", "/", "//", ".", "..", "../a", "a:b", "a b", " ", "\n",
		"é", "e\u0301", "\u2028", "\u202e", "\xed\xa0\x80", "\xc0\xaf", "%00", "'; DROP TABLE b", "A", "boltstore",
		strings.Repeat("k", MaxKey), strings.Repeat("k", MaxKey-1) + "\xff", strings.Repeat("\x00", MaxKey),
		strings.Repeat("\xff", MaxKey), strings.Repeat("/", MaxKey),
	}
	var want []row
	for i, key := range keys {
		want = append(want, row{key, fmt.Sprint(i)})
	}
	slices.SortFunc(want, func(a, b row) int { return cmp.Compare(a.Key, b.Key) })
	for _, bucket := range []string{"b", "\x00", "\xff", "b/c", "b\x00", "b ", "B", "\n", strings.Repeat("b", MaxKey)} {
		put(t, s, bucket, want...)
		wantRows(t, s, bucket, want...)
		err := s.View(t.Context(), func(tx approval.Tx) error {
			for _, r := range want {
				if err := wantGet(tx, bucket, r.Key, r.Value); err != nil {
					return err
				}
				var under []row
				for _, o := range want {
					if strings.HasPrefix(o.Key, r.Key) {
						under = append(under, o)
					}
				}
				if got := ascend(tx, bucket, r.Key); !slices.Equal(got, under) {
					return fmt.Errorf("Ascend(%.40q, %.40q) = %.200q, want %.200q", bucket, r.Key, got, under)
				}
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	update(t, s, func(tx approval.Tx) error {
		for _, key := range keys {
			if err := tx.Delete("b", key); err != nil {
				return err
			}
		}
		return nil
	})
	wantRows(t, s, "b")
	wantRows(t, s, "B", want...)
}

func testSizes(t *testing.T, s approval.Store) {
	long, tooLong := strings.Repeat("k", MaxKey), strings.Repeat("k", MaxKey+1)
	big := bytes.Repeat([]byte("v"), MaxValue)
	tooBig := append(bytes.Clone(big), 'v')
	update(t, s, func(tx approval.Tx) error {
		if err := errors.Join(tx.Put(long, long, big), tx.Put("b", "one", []byte{0}), wantGet(tx, long, long, string(big))); err != nil {
			return err
		}
		for _, refused := range []struct {
			what string
			err  error
		}{
			{"Put of a long bucket", tx.Put(tooLong, "k", []byte("v"))},
			{"Put of a long key", tx.Put("b", tooLong, []byte("v"))},
			{"Put of a big value", tx.Put("b", "k", tooBig)},
			{"Delete of a long bucket", tx.Delete(tooLong, "k")},
			{"Delete of a long key", tx.Delete("b", tooLong)},
		} {
			if refused.err == nil {
				return fmt.Errorf("%s = nil, want an error", refused.what)
			}
		}
		if _, err := tx.Get("b", tooLong); err == nil {
			return errors.New("Get of a long key = nil, want an error")
		}
		return nil
	})
	wantRows(t, s, long, row{long, string(big)})
	wantRows(t, s, "b", row{"one", "\x00"})
}

func testEmpty(t *testing.T, s approval.Store) {
	put(t, s, "b", row{"k", "1"})
	update(t, s, func(tx approval.Tx) error {
		_, getBucket := tx.Get("", "k")
		_, getKey := tx.Get("b", "")
		for _, refused := range []struct {
			what string
			err  error
		}{
			{`Get("", "k")`, getBucket},
			{`Get("b", "")`, getKey},
			{`Put("", "k", "v")`, tx.Put("", "k", []byte("v"))},
			{`Put("b", "", "v")`, tx.Put("b", "", []byte("v"))},
			{`Put("b", "k", "")`, tx.Put("b", "k", []byte{})},
			{`Put("b", "k", nil)`, tx.Put("b", "k", nil)},
			{`Delete("", "k")`, tx.Delete("", "k")},
			{`Delete("b", "")`, tx.Delete("b", "")},
		} {
			if refused.err == nil {
				return fmt.Errorf("%s = nil, want an error", refused.what)
			}
		}
		return nil
	})
	wantRows(t, s, "b", row{"k", "1"})

	for name, run := range map[string]func(context.Context, func(approval.Tx) error) error{"View": s.View, "Update": s.Update} {
		var got []row
		if err := run(t.Context(), func(tx approval.Tx) error { got = ascend(tx, "", ""); return nil }); err == nil || got != nil {
			t.Errorf(`%s with Ascend("", "") = %q, %v, want nothing and an error`, name, got, err)
		}
	}
}

func testCancelled(t *testing.T, s approval.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, run := range map[string]func(context.Context, func(approval.Tx) error) error{"View": s.View, "Update": s.Update} {
		ran := false
		err := run(ctx, func(approval.Tx) error { ran = true; return nil })
		if !errors.Is(err, context.Canceled) || ran {
			t.Errorf("%s(cancelled context) = %v and ran fn: %v, want %v and false", name, err, ran, context.Canceled)
		}
	}
}

func testEnded(t *testing.T, s approval.Store) {
	put(t, s, "b", row{"k", "1"})
	var kept []approval.Tx
	keep := func(tx approval.Tx) error { kept = append(kept, tx); return nil }
	update(t, s, keep)
	if err := s.View(t.Context(), keep); err != nil {
		t.Fatal(err)
	}
	s.Update(t.Context(), func(tx approval.Tx) error { kept = append(kept, tx); return errAbandoned })

	use := func() error {
		for i, tx := range kept {
			if _, err := tx.Get("b", "k"); err == nil {
				return fmt.Errorf("Get with ended transaction %d = nil, want an error", i)
			}
			if tx.Put("b", "k", []byte("2")) == nil {
				return fmt.Errorf("Put with ended transaction %d = nil, want an error", i)
			}
			if tx.Delete("b", "k") == nil {
				return fmt.Errorf("Delete with ended transaction %d = nil, want an error", i)
			}
			if recovered(func() { ascend(tx, "b", "") }) == "" {
				return fmt.Errorf("Ascend with ended transaction %d did not panic", i)
			}
		}
		return nil
	}
	if err := use(); err != nil {
		t.Error(err)
	}
	// While another transaction runs, the old ones must not write into it.
	update(t, s, func(approval.Tx) error { return use() })
	wantRows(t, s, "b", row{"k", "1"})
}
