package approval

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// Notable returns the events that become notices.
func Notable() []Event { return slices.Sorted(maps.Keys(notable)) }

// SetWall gives a Broker that is to be opened another machine's clock.
func (c *Config) SetWall(wall func() time.Time) { c.wall = wall }

// Restore makes the Broker believe that its store came from a backup at t.
func (b *Broker) Restore(t time.Time) { b.restored = t.UTC() }

// Buckets returns the names of all buckets, so that tests can look at all
// that is stored.
func Buckets() []string {
	return []string{
		bucketMeta, bucketAccounts, bucketDevices, bucketDevicesOf, bucketKeys, bucketInvitations, bucketApplications,
		bucketTokens, bucketActivity, bucketSignIns, bucketOpen, bucketRequestedCodes, bucketRequesters, bucketCandidates,
		bucketRecovery, bucketRecoveryTries,
		bucketDeliveries, bucketTests,
		bucketRecords, bucketRecordsOf, bucketRecordHashes, bucketNotices,
	}
}

// SaveDevice stores a device with its index.
func SaveDevice(tx Tx, d *Device) error { return saveDevice(&transaction{Tx: tx}, d) }

// ChangeMany names more sign-ins, none of which exists, than may wait to be looked
// at for whom to wake.
func (b *Broker) ChangeMany() {
	ids := make([]string, maxLooks+1)
	for i := range ids {
		ids[i] = newSignInID(b.now())
	}
	b.waking.look(ids...)
}

// CheckMemory compares what is remembered of a value, if anything is, with what it
// is when it is decoded.
func CheckMemory(bucket, key string, value []byte) error {
	memories.mu.Lock()
	found := memories.of[memoKey{bucket, key}]
	memories.mu.Unlock()
	if found.value == nil || found.hash != sha256.Sum256(value) {
		return nil
	}
	decoded := reflect.New(reflect.TypeOf(found.value).Elem()).Interface()
	if err := json.Unmarshal(value, decoded); err != nil {
		return fmt.Errorf("%s/%s: %w", bucket, key, err)
	}
	if diff := cmp.Diff(decoded, found.value, cmpopts.EquateEmpty(), cmp.Exporter(func(reflect.Type) bool { return true }),
		cmp.Comparer(func(x, y time.Time) bool { return x == y })); diff != "" {
		return fmt.Errorf("%s/%s is remembered otherwise (+) than it is stored (-):\n%s", bucket, key, diff)
	}
	return nil
}
