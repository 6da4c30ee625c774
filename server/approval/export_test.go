package approval

import (
	"maps"
	"slices"
	"time"
)

// Notable returns the events that become notices.
func Notable() []Event { return slices.Sorted(maps.Keys(notable)) }

// SetWall gives a Broker that is to be opened another machine's clock.
func (c *Config) SetWall(wall func() time.Time) { c.wall = wall }

// Restore makes the Broker believe that its store came from a backup at t.
func (b *Broker) Restore(t time.Time) { b.restored = t }

// Buckets returns the names of all buckets, so that tests can look at all
// that is stored.
func Buckets() []string {
	return []string{
		bucketMeta, bucketAccounts, bucketDevices, bucketDevicesOf, bucketKeys, bucketInvitations, bucketApplications,
		bucketTokens, bucketSignIns, bucketSignInsOf, bucketOpen, bucketAsked, bucketRequestedCodes, bucketRinging, bucketRequesters, bucketCandidates, bucketFailures,
		bucketRecovery, bucketRecoveryTries,
		bucketDeliveries, bucketTests,
		bucketRecords, bucketRecordsOf, bucketRecordHashes, bucketNotices,
	}
}

// SetRestored makes the Broker believe that its store was restored from a
// backup at a moment.
func (b *Broker) SetRestored(t time.Time) { b.restored = t }

// SaveDevice stores a device with its index.
var SaveDevice = saveDevice
