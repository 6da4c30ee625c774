package approval_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/countersignd/countersign/internal/audit"
	"github.com/countersignd/countersign/internal/countersigntest"
	"github.com/countersignd/countersign/internal/statement"
	"github.com/countersignd/countersign/server/approval"
	"github.com/countersignd/countersign/server/boltstore"
)

// openFile opens a database for the rest of the test.
func openFile(t *testing.T, path string) *boltstore.Store {
	t.Helper()
	store, err := boltstore.Open(path, boltstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	return store
}

// TestA14TheDatabaseFileIsAltered alters the server's own file, in all ways that
// somebody might who can write it. Whoever verifies is told the place, from the
// record alone where that can be, and else from what a device remembers.
func TestA14TheDatabaseFileIsAltered(t *testing.T) {
	path := filepath.Join(t.TempDir(), "countersign.db")
	store := openFile(t, path)
	w := newWorld(t, store)
	w.account("ada")                                                                     // 2
	files := w.application("files")                                                      // 3
	mac := w.enroll("ada")                                                               // 4 to 6: the invitation, the recovery codes, and the device
	first := w.begin(files, "ada")                                                       // 7
	code := mac.allow(first.ID)                                                          // 8
	if _, err := w.broker.VerifySignIn(t.Context(), files, first.ID, code); err != nil { // 9
		t.Fatal(err)
	}
	second := w.begin(files, "ada")                                      // 10
	if _, err := mac.decide(second.ID, statement.Deny, ""); err != nil { // 11
		t.Fatal(err)
	}
	middle, _, err := w.broker.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	third := w.begin(files, "ada") // 12
	mac.allow(third.ID)            // 13
	whole, size, err := w.broker.Checkpoint(t.Context())
	if err != nil || size != 13 {
		t.Fatalf("Checkpoint = %d records, %v, want 13", size, err)
	}
	if got, err := w.audit(middle, whole); err != nil || len(got.Findings) > 0 || got.Statements != 4 {
		t.Fatalf("before it was altered: %+v, %v", got, err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	w.tampered = true

	key := func(n int) string { return fmt.Sprintf("%016x", n) }
	get := func(tx approval.Tx, n int) []byte {
		b, err := tx.Get("records", key(n))
		if err != nil {
			t.Fatal(err)
		}
		return bytes.Clone(b)
	}
	edit := func(tx approval.Tx, n int, old, new string) error {
		b := get(tx, n)
		if !bytes.Contains(b, []byte(old)) {
			t.Fatalf("record %d has no %q: %s", n, old, b)
		}
		return tx.Put("records", key(n), bytes.Replace(b, []byte(old), []byte(new), 1))
	}
	rehash := func(tx approval.Tx, n int) error {
		h := audit.Hash(get(tx, n))
		return tx.Put("record_hashes", key(int(tlog.StoredHashIndex(0, int64(n-1)))), h[:])
	}
	forge := func(change func([]audit.Record) []audit.Record) func(approval.Store) error {
		return func(s approval.Store) error { return countersigntest.Forge(t.Context(), s, change) }
	}
	tx := func(alter func(tx approval.Tx) error) func(approval.Store) error {
		return func(s approval.Store) error { return s.Update(t.Context(), alter) }
	}
	for _, test := range []struct {
		name       string
		alter      func(approval.Store) error
		remembered []audit.Checkpoint
		record     uint64
		words      string
	}{
		{"an address edited", tx(func(tx approval.Tx) error { return edit(tx, 7, "203.0.113.7", "192.0.2.66") }), nil, 7, "changed or replaced"},
		{"an address edited, with its leaf", tx(func(tx approval.Tx) error {
			return errors.Join(edit(tx, 7, "203.0.113.7", "192.0.2.66"), rehash(tx, 7))
		}), nil, 7, "changed or replaced"},
		{"the newest edited, with its leaf", tx(func(tx approval.Tx) error {
			return errors.Join(edit(tx, 12, "203.0.113.7", "192.0.2.66"), rehash(tx, 12))
		}), nil, 12, "changed or replaced"},
		{"a statement edited", tx(func(tx approval.Tx) error { return edit(tx, 8, `"statement":"eyJ`, `"statement":"eyK`) }), nil, 8, "not signed so"},
		{"a record that is no JSON any more", tx(func(tx approval.Tx) error { return tx.Put("records", key(9), []byte("{")) }), nil, 9, "it was changed"},
		{"one dropped", tx(func(tx approval.Tx) error { return tx.Delete("records", key(9)) }), nil, 9, "it is missing, record 10 follows"},
		{"the newest dropped", tx(func(tx approval.Tx) error { return tx.Delete("records", key(13)) }), nil, 13, "it is missing: the checkpoint"},
		{"two swapped", tx(func(tx approval.Tx) error {
			eight, nine := get(tx, 8), get(tx, 9)
			return errors.Join(tx.Put("records", key(8), nine), tx.Put("records", key(9), eight))
		}), nil, 8, "missing, record 9 follows"},
		{"one copied over another", tx(func(tx approval.Tx) error { return tx.Put("records", key(11), get(tx, 10)) }), nil, 10, "it is there twice"},
		{"one appended beside the tree", tx(func(tx approval.Tx) error {
			r, err := audit.Parse(get(tx, 13))
			if err != nil {
				return err
			}
			r.Sequence, r.Previous, r.Event, r.Statement = 14, audit.HashString(audit.Hash(get(tx, 13))), "code.wrong", ""
			return tx.Put("records", key(14), r.Document())
		}), nil, 14, "not in the tree"},
		{"an approval forged, with the tree", forge(func(all []audit.Record) []audit.Record {
			forged := all[7] // the one approval that there is, told of the sign-in that was denied
			forged.SignIn = second.ID
			return append(all, forged)
		}), nil, 14, "replay"},
		{"a sign-in let in by nobody, with the tree", forge(func(all []audit.Record) []audit.Record {
			forged := all[8]
			forged.SignIn = second.ID
			return append(all, forged)
		}), nil, 14, "had not allowed the sign-in"},
		{"the whole made anew", forge(func(all []audit.Record) []audit.Record {
			all[2].Detail = "Another name"
			return all
		}), []audit.Checkpoint{whole, middle}, 1, "up to record 11"},
		{"the new end made anew", forge(func(all []audit.Record) []audit.Record {
			all[11].Actor.ID = "mail"
			return all
		}), []audit.Checkpoint{middle, whole}, 12, "up to record 13"},
		{"the end cut off, with the tree", forge(func(all []audit.Record) []audit.Record { return all[:10] }), []audit.Checkpoint{whole}, 11, "the end was cut off, or the server set back"},
	} {
		t.Run(test.name, func(t *testing.T) {
			copied := filepath.Join(t.TempDir(), "countersign.db")
			file, err := os.ReadFile(path)
			if err == nil {
				err = os.WriteFile(copied, file, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			config := w.config
			altered := openFile(t, copied)
			if err := test.alter(altered); err != nil {
				t.Fatal(err)
			}
			config.Store = altered
			broker, err := approval.Open(t.Context(), config)
			if err != nil {
				t.Fatal(err)
			}
			theirs := &world{t: t, broker: broker, admin: broker.Administrator(approval.Actor{})}
			if len(test.remembered) > 0 {
				if got, err := theirs.audit(); err != nil || len(got.Findings) > 0 {
					t.Errorf("without what is remembered: %v, %v, want nothing found", got.Findings, err)
				}
			}
			got, err := theirs.audit(test.remembered...)
			if err != nil {
				t.Fatal(err)
			}
			if len(got.Findings) == 0 || got.Findings[0].Record != test.record || !strings.Contains(got.Findings[0].Problem, test.words) {
				t.Errorf("findings = %q, want first that of record %d: … %s", got.Findings, test.record, test.words)
			}
		})
	}

	// A tree with a hole is no tree: the server does not start.
	holed := filepath.Join(t.TempDir(), "countersign.db")
	if file, err := os.ReadFile(path); err != nil || os.WriteFile(holed, file, 0o600) != nil {
		t.Fatal(err)
	}
	config := w.config
	config.Store = openFile(t, holed)
	if err := tx(func(tx approval.Tx) error { return tx.Delete("record_hashes", key(14)) })(config.Store); err != nil {
		t.Fatal(err)
	}
	if _, err := approval.Open(t.Context(), config); !errors.Is(err, approval.ErrStoreFailed) {
		t.Errorf("Open with a hole in the tree = %v, want ErrStoreFailed", err)
	}
}
