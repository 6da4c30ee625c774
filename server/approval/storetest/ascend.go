package storetest

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/countersignd/countersign/server/approval"
)

func testAscend(t *testing.T, s approval.Store) {
	put(t, s, "b", row{"b/2", "4"}, row{"a", "1"}, row{"b", "2"}, row{"b/10", "3"}, row{"c", "6"}, row{"b\xff", "5"})
	put(t, s, "a", row{"z", "0"})
	put(t, s, "c", row{"a", "9"})
	for _, test := range []struct {
		bucket, prefix string
		want           []row
	}{
		{"b", "", []row{{"a", "1"}, {"b", "2"}, {"b/10", "3"}, {"b/2", "4"}, {"b\xff", "5"}, {"c", "6"}}},
		{"b", "b", []row{{"b", "2"}, {"b/10", "3"}, {"b/2", "4"}, {"b\xff", "5"}}},
		{"b", "b/", []row{{"b/10", "3"}, {"b/2", "4"}}},
		{"b", "b/2", []row{{"b/2", "4"}}},
		{"b", "b/3", nil},
		{"b", "\xff", nil},
		{"b", "\x00", nil},
		{"a", "", []row{{"z", "0"}}},
		{"nowhere", "", nil},
	} {
		var got []row
		err := s.View(t.Context(), func(tx approval.Tx) error {
			got = ascend(tx, test.bucket, test.prefix)
			return nil
		})
		if err != nil || !slices.Equal(got, test.want) {
			t.Errorf("Ascend(%q, %q) = %q, %v, want %q", test.bucket, test.prefix, got, err, test.want)
		}
	}
}

func testAscendOwnWrites(t *testing.T, s approval.Store) {
	put(t, s, "b", row{"b", "1"}, row{"d", "2"}, row{"f", "3"}, row{"h", "4"})
	update(t, s, func(tx approval.Tx) error {
		if err := errors.Join(
			putRows(tx, "b", row{"a", "5"}, row{"d", "6"}, row{"e", "7"}, row{"i", "8"}, row{"x", "9"}),
			putRows(tx, "a", row{"c", "0"}),
			putRows(tx, "c", row{"c", "0"}),
			tx.Delete("b", "b"), tx.Delete("b", "h"), tx.Delete("b", "x"), tx.Delete("b", "never"),
		); err != nil {
			return err
		}
		want := []row{{"a", "5"}, {"d", "6"}, {"e", "7"}, {"f", "3"}, {"i", "8"}}
		if got := ascend(tx, "b", ""); !slices.Equal(got, want) {
			return fmt.Errorf("Ascend(b) = %q, want %q", got, want)
		}
		if got, want := ascend(tx, "b", "e"), want[2:3]; !slices.Equal(got, want) {
			return fmt.Errorf("Ascend(b, e) = %q, want %q", got, want)
		}
		if got, want := ascend(tx, "c", ""), []row{{"c", "0"}}; !slices.Equal(got, want) {
			return fmt.Errorf("Ascend(c) = %q, want %q", got, want)
		}
		return nil
	})
	wantRows(t, s, "b", row{"a", "5"}, row{"d", "6"}, row{"e", "7"}, row{"f", "3"}, row{"i", "8"})
}

func testAscendBreak(t *testing.T, s approval.Store) {
	put(t, s, "b", row{"a", "1"}, row{"b", "2"}, row{"c", "3"})
	update(t, s, func(tx approval.Tx) error {
		if err := tx.Put("b", "aa", []byte("4")); err != nil {
			return err
		}
		for n := range 4 {
			var got []row
			for key, value := range tx.Ascend("b", "") {
				if len(got) == n {
					break
				}
				got = append(got, row{key, string(value)})
			}
			want := []row{{"a", "1"}, {"aa", "4"}, {"b", "2"}, {"c", "3"}}[:n]
			if !slices.Equal(got, want) {
				return fmt.Errorf("the first %d of Ascend(b) = %q, want %q", n, got, want)
			}
		}
		// What was left early does not count as being read.
		seq := tx.Ascend("b", "c")
		if err := tx.Delete("b", "a"); err != nil {
			return err
		}
		for range 2 { // A sequence can be read again.
			for key, value := range seq {
				if key != "c" || string(value) != "3" {
					return fmt.Errorf("Ascend(b, c) yielded %q, %q, want c, 3", key, value)
				}
			}
		}
		return nil
	})
	wantRows(t, s, "b", row{"aa", "4"}, row{"b", "2"}, row{"c", "3"})
}

// testAscendWrite writes while it reads: to the bucket that is read, which is
// refused, and to its neighbours, which is not and must not derail the reading.
func testAscendWrite(t *testing.T, s approval.Store) {
	put(t, s, "b", row{"a", "1"}, row{"c", "2"}, row{"e", "3"})
	update(t, s, func(tx approval.Tx) error {
		if err := putRows(tx, "b", row{"b", "4"}, row{"d", "5"}); err != nil {
			return err
		}
		var got []row
		for key, value := range tx.Ascend("b", "") {
			got = append(got, row{key, string(value)})
			if tx.Put("b", "aa", []byte("6")) == nil || tx.Delete("b", "c") == nil {
				return errors.New("a write to the bucket being read returned nil, want an error")
			}
			if err := errors.Join(
				putRows(tx, "a", row{key, "7"}, row{"z" + key, "8"}),
				putRows(tx, "c", row{key, "9"}),
				tx.Delete("a", "never"+key),
				wantGet(tx, "b", key, string(value)),
			); err != nil {
				return err
			}
			inner := 0
			for range tx.Ascend("b", "") {
				inner++
			}
			if inner != 5 {
				return fmt.Errorf("Ascend within Ascend yielded %d rows, want 5", inner)
			}
		}
		if want := []row{{"a", "1"}, {"b", "4"}, {"c", "2"}, {"d", "5"}, {"e", "3"}}; !slices.Equal(got, want) {
			return fmt.Errorf("Ascend(b) while other buckets were written to = %q, want %q", got, want)
		}
		return tx.Delete("b", "a") // Read to its end, the bucket can be written to again.
	})
	wantRows(t, s, "b", row{"b", "4"}, row{"c", "2"}, row{"d", "5"}, row{"e", "3"})
	wantRows(t, s, "c", row{"a", "9"}, row{"b", "9"}, row{"c", "9"}, row{"d", "9"}, row{"e", "9"})
}
