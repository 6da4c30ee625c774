package approval

import (
	"context"
	"fmt"
	"strconv"
	"time"
)

// Outside is a number that is kept outside the store, where no backup of the
// store brings an old one back. It is what an old backup is known by.
//
// The store holds the number too. Each start, each backup and each hour move
// both on, the store first. So the two are the same, or the store is one ahead
// after a crash between; a copy of the store that was made before falls behind.
type Outside struct {
	// Load returns the number, or 0 if there is none, or none that can be read.
	Load func() (uint64, error)

	// Save keeps a number. It is durable when Save returns.
	Save func(n uint64) error
}

// NextGeneration moves the number on that the store and what is outside of it
// have in common, so that every copy of the store that was made until now is
// known as an old one.
func (b *Broker) NextGeneration(ctx context.Context) error {
	if b.outside == nil {
		return nil
	}
	// The lock is held over both writes, since their order is the point. Nobody
	// waits for it but another backup.
	b.generationMu.Lock()
	defer b.generationMu.Unlock()
	// What a crash or a failure left undone first, or the two would be two apart.
	if err := b.saveGeneration(); err != nil {
		return err
	}
	next := b.generation + 1
	err := b.update(ctx, func(tx *transaction) error { return putNumber(tx, keyGeneration, next) })
	if err != nil {
		return err
	}
	b.generation = next
	return b.saveGeneration()
}

// saveGeneration makes the number outside the same as the store's.
func (b *Broker) saveGeneration() error {
	if b.outside == nil || b.outsideGeneration == b.generation {
		return nil
	}
	if err := b.outside.Save(b.generation); err != nil {
		return fmt.Errorf("writing the generation number: %w", err)
	}
	b.outsideGeneration = b.generation
	return nil
}

// judgeGeneration tells an old or foreign store by its number and that outside,
// and returns the number that the store has from then on. A store from before
// there were generations is none, unless there is a number outside. If the
// store is one ahead, the last start or backup did not come to its end.
func judgeGeneration(store, outside uint64) (generation uint64, restored bool) {
	if store == outside || outside != 0 && store == outside+1 {
		return store, false
	}
	return max(store, outside) + 1, true
}

// restoredFrom is what is done in a store that was restored from a backup.
// What was revoked or used up since the backup was made is not known, so
// nothing of what it holds counts before a person has said so: see
// [Device.At] for the devices.
func (b *Broker) restoredFrom(tx *transaction, now time.Time, store, outside uint64) error {
	detail := fmt.Sprintf("generation %d, but %d outside", store, outside)
	if outside == 0 {
		detail = fmt.Sprintf("generation %d, but none outside", store)
	}
	if _, err := record(tx, now, Record{Event: EventServerRestored, Actor: Actor{Kind: ActorServer}, Detail: detail}); err != nil {
		return err
	}
	// A moment later than all that the store holds.
	if err := putTime(tx, keyRestored, now.Add(1)); err != nil {
		return err
	}
	if err := b.voidOpen(tx, now, CancelRestored, &rings{}); err != nil {
		return err
	}
	return deleteAll(tx, bucketInvitations)
}

// Restored returns when the store was last restored from a backup; zero if it
// never was.
func (b *Broker) Restored() time.Time { return b.restored }

// ConfirmDevices says that devices from a restored backup belong here: those
// that are named by their ids or unambiguous beginnings, or all of an account.
// It returns those that were unconfirmed before.
func (a Administrator) ConfirmDevices(ctx context.Context, account string, ids []string) ([]Device, error) {
	if (account == "") == (len(ids) == 0) {
		return nil, invalidField("devices", "want an account or devices, not both")
	}
	if len(ids) > maxDevices {
		return nil, invalidField("devices", "want at most %d at once", maxDevices)
	}
	now := a.broker.now()
	var confirmed []Device
	var ring []string
	err := a.broker.update(ctx, func(tx *transaction) error {
		confirmed, ring = nil, nil
		devices, err := a.toConfirm(tx, account, ids)
		if err != nil {
			return err
		}
		for _, d := range devices {
			switch d.At(now, a.broker.restored) {
			case DeviceUnconfirmed:
			case DeviceRevoked:
				if account != "" {
					continue
				}
				return refuse(ReasonDeviceRevoked, "The device %s was revoked, and stays so. It can be enrolled again only with new keys.", d.ID[:12])
			default:
				continue
			}
			d.Confirmed = latest(now, a.broker.restored)
			if err := saveDevice(tx, &d); err != nil {
				return err
			}
			if err := a.record(tx, now, Record{Event: EventDeviceConfirmed, Account: d.Account, Device: d.ID, Detail: d.Name}); err != nil {
				return err
			}
			confirmed = append(confirmed, d)
			ring = append(ring, a.broker.trustedIDs(tx, d.Account, now)...)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	a.broker.hub.ring(ring)
	return confirmed, nil
}

func (a Administrator) toConfirm(tx *transaction, account string, ids []string) ([]Device, error) {
	if account != "" {
		if _, err := existingAccount(tx, account); err != nil {
			return nil, err
		}
		return devicesOf(tx, account)
	}
	var devices []Device
	for _, id := range ids {
		d, err := deviceByPrefix(tx, id)
		if err != nil {
			return nil, err
		}
		devices = append(devices, *d)
	}
	return devices, nil
}

// metaNumber returns a number of the bucket meta, 0 if there is none.
func metaNumber(tx Tx, key string) (uint64, error) {
	b, err := tx.Get(bucketMeta, key)
	if err != nil || b == nil {
		return 0, err
	}
	n, err := strconv.ParseUint(string(b), 10, 64)
	if err != nil {
		return 0, &damagedError{bucketMeta, key, err}
	}
	return n, nil
}

func putNumber(tx Tx, key string, n uint64) error {
	return tx.Put(bucketMeta, key, strconv.AppendUint(nil, n, 10))
}

// metaTime returns a time of the bucket meta, zero if there is none.
func metaTime(tx Tx, key string) (time.Time, error) {
	b, err := tx.Get(bucketMeta, key)
	if err != nil || b == nil {
		return time.Time{}, err
	}
	t, err := time.Parse(time.RFC3339Nano, string(b))
	if err != nil {
		return t, &damagedError{bucketMeta, key, err}
	}
	return t, nil
}

func putTime(tx Tx, key string, t time.Time) error {
	return tx.Put(bucketMeta, key, t.AppendFormat(nil, time.RFC3339Nano))
}

// deleteAll empties a bucket.
func deleteAll(tx Tx, bucket string) error {
	for _, key := range keys(tx, bucket, "") {
		if err := tx.Delete(bucket, key); err != nil {
			return err
		}
	}
	return nil
}
