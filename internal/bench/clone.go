package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/countersignd/countersign/internal/audit"
	"github.com/countersignd/countersign/internal/pin"
	"github.com/countersignd/countersign/server/approval"
	"github.com/countersignd/countersign/server/boltstore"
)

// GrowArgs say how many accounts to add to a database that no server uses.
type GrowArgs struct {
	Path            string
	First, Accounts int // numbers of the accounts; those before First are there
}

// cloned are the buckets that an account has rows in that signs in to nothing,
// as server/approval/records.go draws them. The record is grown besides.
var cloned = []string{"accounts", "devices", "devices_of_account", "invitations", "keys", "notices", "recovery"}

// An activity is what else an account has a row of: in it are the numbers of its
// records.
type activity struct {
	Ringing struct{}
	Records []uint64
}

// An original is an account with one device, as its rows, from which others are
// made by other names. What its device has signed is not signed anew, so these
// devices are there to be stored, found and listed; they cannot act.
type original struct {
	account, device, approval, invitation string
	rows                                  []Row
	records                               []audit.Record
}

// cloneBatch is how many accounts are added in one transaction.
const cloneBatch = 2000

// Grow adds accounts with one device each.
func (*Stores) Grow(args GrowArgs, _ *None) (err error) {
	store, err := boltstore.Open(args.Path, boltstore.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	o, err := readOriginal(store, accountName(1))
	if err != nil {
		return fmt.Errorf("reading an account: %w", err)
	}
	for first := args.First; first < args.First+args.Accounts; first += cloneBatch {
		last := min(first+cloneBatch, args.First+args.Accounts)
		err := store.Update(context.Background(), func(tx approval.Tx) error {
			return o.add(tx, first, last, args.First+args.Accounts)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// readOriginal reads the rows of an account and of the first of its devices.
func readOriginal(store *boltstore.Store, account string) (*original, error) {
	o := &original{account: account}
	err := store.View(context.Background(), func(tx approval.Tx) error {
		for key := range tx.Ascend("devices_of_account", account+"/") {
			o.device = key[len(account)+1:]
			break
		}
		for key, id := range tx.Ascend("keys", "") {
			if string(id) == o.device && key != o.device {
				o.approval = key
			}
		}
		for key, value := range tx.Ascend("invitations", "") {
			if bytes.Contains(value, []byte(o.device)) {
				o.invitation = key
			}
		}
		names := []string{account, o.device, o.approval, o.invitation}
		for _, bucket := range cloned {
			for key, value := range tx.Ascend(bucket, "") {
				first, _, _ := strings.Cut(key, "/")
				if slices.Contains(names, first) && (bucket != "devices_of_account" || strings.HasSuffix(key, o.device)) {
					o.rows = append(o.rows, Row{Bucket: bucket, Key: key, Value: bytes.Clone(value)})
				}
			}
		}
		for _, document := range tx.Ascend("records", "") {
			r, err := audit.Parse(document)
			if err != nil {
				return err
			}
			if r.Account == account && (r.Device == o.device || r.Device == "" && len(o.records) < 2) {
				o.records = append(o.records, r)
			}
		}
		return nil
	})
	if err == nil && (o.device == "" || o.approval == "" || o.invitation == "" || len(o.records) < 3) {
		err = errors.New("it has no device that was invited")
	}
	return o, err
}

// add adds the accounts of one transaction, in the order of their keys.
func (o *original) add(tx approval.Tx, first, last, most int) error {
	var rows []Row
	newest, err := tx.Get("meta", "records")
	if err != nil {
		return err
	}
	size, err := strconv.ParseUint(string(newest), 10, 64)
	if err != nil {
		return err
	}
	tree := growing{tx: tx, fresh: map[int64]tlog.Hash{}}
	previous, err := tree.leaf(size)
	if err != nil {
		return err
	}
	for i := first; i < last; i++ {
		names := strings.NewReplacer(
			o.account, fmt.Sprintf("grown%07d", i)[:len(o.account)],
			o.device, evenly(uint64(i)*3, uint64(most)*3),
			o.approval, evenly(uint64(i)*3+1, uint64(most)*3),
			o.invitation, evenly(uint64(i)*3+2, uint64(most)*3),
		)
		for _, row := range o.rows {
			rows = append(rows, Row{Bucket: row.Bucket, Key: names.Replace(row.Key), Value: []byte(names.Replace(string(row.Value)))})
		}
		var records []uint64
		for _, r := range o.records {
			size++
			records = append(records, size)
			r.Account, r.Device, r.Statement = names.Replace(r.Account), names.Replace(r.Device), names.Replace(r.Statement)
			r.Previous, r.Sequence, r.Salt = audit.HashString(previous), size, audit.NewSalt()
			document, key := r.Document(), fmt.Sprintf("%016x", size)
			rows = append(rows, Row{Bucket: "records", Key: key, Value: document})
			previous = audit.Hash(document)
			hashes, err := tree.add(size-1, previous)
			if err != nil {
				return err
			}
			rows = append(rows, hashes...)
		}
		encoded, err := json.Marshal(activity{Records: records})
		if err != nil {
			return err
		}
		rows = append(rows, Row{Bucket: "activity", Key: names.Replace(o.account), Value: encoded})
	}
	slices.SortFunc(rows, func(a, b Row) int {
		if c := strings.Compare(a.Bucket, b.Bucket); c != 0 {
			return c
		}
		return strings.Compare(a.Key, b.Key)
	})
	for _, row := range rows {
		if err := tx.Put(row.Bucket, row.Key, row.Value); err != nil {
			return err
		}
	}
	return tx.Put("meta", "records", strconv.AppendUint(nil, size, 10))
}

// evenly returns a key id that is the i-th of n ids spread over all that there
// could be: in order, so that adding them is fast, and where others will fall
// between them.
func evenly(i, n uint64) string {
	var id [32]byte
	rand.Read(id[8:])
	binary.BigEndian.PutUint64(id[:8], i*(^uint64(0)/n))
	return pin.Base32.EncodeToString(id[:])
}

// growing is the tree over the record while it is added to.
type growing struct {
	tx    approval.Tx
	fresh map[int64]tlog.Hash // that are not in tx yet
}

// ReadHashes implements [tlog.HashReader].
func (g growing) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		if h, ok := g.fresh[index]; ok {
			hashes[i] = h
			continue
		}
		b, err := g.tx.Get("record_hashes", fmt.Sprintf("%016x", index))
		if err != nil {
			return nil, err
		}
		if copy(hashes[i][:], b) != tlog.HashSize {
			return nil, errors.New("a hash of the record is missing")
		}
	}
	return hashes, nil
}

// leaf returns the leaf hash of a record.
func (g growing) leaf(sequence uint64) (tlog.Hash, error) {
	hashes, err := g.ReadHashes([]int64{tlog.StoredHashIndex(0, int64(sequence-1))})
	if err != nil {
		return tlog.Hash{}, err
	}
	return hashes[0], nil
}

// add returns the rows for one more leaf.
func (g growing) add(size uint64, leaf tlog.Hash) ([]Row, error) {
	hashes, err := tlog.StoredHashesForRecordHash(int64(size), leaf, g)
	var rows []Row
	for i, h := range hashes {
		index := tlog.StoredHashIndex(0, int64(size)) + int64(i)
		g.fresh[index] = h
		rows = append(rows, Row{Bucket: "record_hashes", Key: fmt.Sprintf("%016x", index), Value: h[:]})
	}
	return rows, err
}
