package approval

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/countersignd/countersign/internal/audit"
)

// record appends to the audit record and to the tree over it, and returns the
// sequence number. It reads about one hash and writes about two, whatever the
// size: those of the subtrees that the new leaf completes.
func record(tx *transaction, now time.Time, r Record) (uint64, error) {
	return recordOf(tx, now, r, nil)
}

// recordOf is record for what is about a sign-in, which may be nil.
func recordOf(tx *transaction, now time.Time, r Record, s *SignIn) (uint64, error) {
	size, err := recordCount(tx)
	if err != nil {
		return 0, err
	}
	if r.Previous, err = leafOf(tx, size); err != nil {
		return 0, err
	}
	r.Sequence, r.Time, r.Salt = size+1, now.UTC(), audit.NewSalt()
	document, key := r.Document(), recordKey(r.Sequence)
	if err := tx.Put(bucketRecords, key, document); err != nil {
		return 0, err
	}
	if err := index(tx, &r, s); err != nil {
		return 0, err
	}
	hashes, err := tlog.StoredHashesForRecordHash(int64(size), audit.Hash(document), hashReader{tx})
	if err != nil {
		return 0, err
	}
	first := tlog.StoredHashIndex(0, int64(size))
	for i, h := range hashes {
		if err := tx.Put(bucketRecordHashes, recordKey(uint64(first)+uint64(i)), h[:]); err != nil {
			return 0, err
		}
	}
	if err := note(tx, &r); err != nil {
		return 0, err
	}
	tx.observed(now, &r, s)
	return r.Sequence, tx.Put(bucketMeta, keyRecords, strconv.AppendUint(nil, r.Sequence, 10))
}

// recordKey spells numbers so that keys sort as they do.
func recordKey(n uint64) string { return fmt.Sprintf("%016x", n) }

// recordCount returns the number of records, which is that of the newest one.
func recordCount(tx Tx) (uint64, error) {
	b, err := tx.Get(bucketMeta, keyRecords)
	if err != nil || b == nil {
		return 0, err
	}
	n, err := strconv.ParseUint(string(b), 10, 64)
	if err != nil || n == 0 || n >= 1<<53 {
		return 0, fmt.Errorf("%w: the number of the newest record is damaged", ErrStoreFailed)
	}
	return n, nil
}

// leafOf returns the leaf hash of a record as the next one names it.
func leafOf(tx Tx, sequence uint64) (string, error) {
	if sequence == 0 {
		return "", nil
	}
	leaf, err := hashReader{tx}.ReadHashes([]int64{tlog.StoredHashIndex(0, int64(sequence-1))})
	if err != nil {
		return "", err
	}
	return audit.HashString(leaf[0]), nil
}

// A hashReader reads the tree of a transaction.
type hashReader struct{ tx Tx }

// ReadHashes implements [tlog.HashReader].
func (r hashReader) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		b, err := r.tx.Get(bucketRecordHashes, recordKey(uint64(index)))
		if err != nil {
			return nil, err
		}
		if len(b) != tlog.HashSize {
			return nil, fmt.Errorf("%w: the hashes of the record are damaged (number %d): restore the latest backup", ErrStoreFailed, index)
		}
		copy(hashes[i][:], b)
	}
	return hashes, nil
}

// checkpoints holds the newest one, so that a thousand streams that begin do
// not sign a thousand times.
type checkpoints struct {
	mu     sync.Mutex // held while one is made, so that it is made once
	newest audit.Checkpoint
	size   uint64
	made   time.Time
}

// checkpointAge is how old a checkpoint of an unchanged record may be. Its time
// says until when nothing was added.
const checkpointAge = time.Minute

// CheckpointOf returns a signed checkpoint that covers at least so many records,
// which there were a moment ago: the one at hand, or the newest.
func (b *Broker) CheckpointOf(ctx context.Context, records uint64) (audit.Checkpoint, uint64, error) {
	c := &b.checkpoints
	c.mu.Lock()
	newest, size, age := c.newest, c.size, b.now().Sub(c.made)
	c.mu.Unlock()
	if size >= records && age < checkpointAge {
		return newest, size, nil
	}
	return b.Checkpoint(ctx)
}

// Checkpoint returns a signed checkpoint of the record as it is, or has become
// meanwhile, and the record's size in it. What it covers is durable.
func (b *Broker) Checkpoint(ctx context.Context) (audit.Checkpoint, uint64, error) {
	now := b.now()
	c := &b.checkpoints
	var size uint64
	if err := b.view(ctx, func(tx *transaction) (err error) {
		size, err = recordCount(tx)
		return err
	}); err != nil {
		return audit.Checkpoint{}, 0, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	// A smaller tree is never signed after a larger one: to a device it would
	// look as if the record had been set back. And of the devices that are rung
	// at once only the first computes and signs.
	if size < c.size || size == c.size && now.Sub(c.made) < checkpointAge {
		return c.newest, c.size, nil
	}
	var root tlog.Hash
	if err := b.view(ctx, func(tx *transaction) (err error) {
		if size, err = recordCount(tx); err != nil {
			return err
		}
		root, err = tlog.TreeHash(int64(size), hashReader{tx})
		return err
	}); err != nil {
		return audit.Checkpoint{}, 0, err
	}
	newest, err := audit.NewCheckpoint(b.secrets.signing, b.deployment, size, root, now)
	if err != nil {
		return audit.Checkpoint{}, 0, fmt.Errorf("signing a checkpoint: %w", err)
	}
	c.newest, c.size, c.made = newest, size, now
	return newest, size, nil
}

// ConsistencyProof returns the hashes that show a device that the record of
// old records is the beginning of the one of size records (RFC 6962, 2.1.2).
func (b *Broker) ConsistencyProof(ctx context.Context, device string, old, size uint64) ([][]byte, error) {
	now := b.now()
	var proof [][]byte
	err := b.view(ctx, func(tx *transaction) error {
		proof = nil
		if _, _, err := b.lookAtReadable(tx, device, now); err != nil {
			return err
		}
		newest, err := recordCount(tx)
		if err != nil {
			return err
		}
		if old < 1 || old > size {
			return invalidField("old_size", "want 1 or more, and no more than new_size")
		}
		if size > newest {
			return invalidField("new_size", "the record has not so many entries")
		}
		hashes, err := tlog.ProveTree(int64(size), int64(old), hashReader{tx})
		for _, h := range hashes {
			proof = append(proof, h[:])
		}
		return err
	})
	return proof, err
}
