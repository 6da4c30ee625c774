package countersigntest

import (
	"context"
	"fmt"
	"strconv"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/countersignd/countersign/internal/audit"
	"github.com/countersignd/countersign/server/approval"
)

// Forge makes the record in a store anew, as whoever has the database can, and
// knows how: it has the records that change returns, with numbers, links and a
// tree that fit. No server may use the store meanwhile. The indexes stay as they
// are.
func Forge(ctx context.Context, store approval.Store, change func([]audit.Record) []audit.Record) error {
	return store.Update(ctx, func(tx approval.Tx) error {
		var records []audit.Record
		var old []string
		for key, document := range tx.Ascend("records", "") {
			r, err := audit.Parse(document)
			if err != nil {
				return fmt.Errorf("record %s: %w", key, err)
			}
			records, old = append(records, r), append(old, key)
		}
		for _, key := range old {
			if err := tx.Delete("records", key); err != nil {
				return err
			}
		}
		var hashes []tlog.Hash
		reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
			var all []tlog.Hash
			for _, i := range indexes {
				all = append(all, hashes[i])
			}
			return all, nil
		})
		previous := ""
		records = change(records)
		for i, r := range records {
			r.Sequence, r.Previous = uint64(i+1), previous
			document := r.Document()
			previous = audit.HashString(audit.Hash(document))
			if err := tx.Put("records", fmt.Sprintf("%016x", i+1), document); err != nil {
				return err
			}
			more, err := tlog.StoredHashes(int64(i), document, reader)
			if err != nil {
				return err
			}
			hashes = append(hashes, more...)
		}
		for i, h := range hashes {
			if err := tx.Put("record_hashes", fmt.Sprintf("%016x", i), h[:]); err != nil {
				return err
			}
		}
		return tx.Put("meta", "records", []byte(strconv.Itoa(len(records))))
	})
}
