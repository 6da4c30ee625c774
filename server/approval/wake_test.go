package approval_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/countersignd/countersign/server/approval"
	"github.com/countersignd/countersign/server/approval/storetest"
)

// A store in another layout is refused with what to do, and stays as it is.
func TestOpenRefusesAnotherLayout(t *testing.T) {
	for _, test := range []struct {
		name   string
		layout string // none, if empty
		want   string
	}{
		{"none, as before the tree", "", "enrol the devices again"},
		{"an older one", "2", "enrol the devices again"},
		{"a newer one", "4", "install the newer program again"},
		{"no number", "two", "damaged"},
	} {
		t.Run(test.name, func(t *testing.T) {
			store := storetest.NewMemory()
			w := newWorld(t, store)
			w.account("ada")
			err := store.Update(t.Context(), func(tx approval.Tx) error {
				if test.layout == "" {
					return tx.Delete("meta", "layout")
				}
				return tx.Put("meta", "layout", []byte(test.layout))
			})
			if err != nil {
				t.Fatal(err)
			}
			before := dump(t, store)
			if _, err := approval.Open(t.Context(), w.config); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Open = %v, want an error that says %q", err, test.want)
			}
			if diff := cmp.Diff(before, dump(t, store)); diff != "" {
				t.Error("Open changed a store that it refused")
			}
			// For the check of the record at the end of the test.
			if err := store.Update(t.Context(), func(tx approval.Tx) error { return tx.Put("meta", "layout", []byte("3")) }); err != nil {
				t.Fatal(err)
			}
		})
	}
}
