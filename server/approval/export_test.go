package approval

import (
	"maps"
	"slices"
)

// Notable returns the events that become notices.
func Notable() []Event { return slices.Sorted(maps.Keys(notable)) }

// Buckets returns the names of all buckets, so that tests can look at all
// that is stored.
func Buckets() []string {
	return []string{
		bucketMeta, bucketAccounts, bucketDevices, bucketDevicesOf, bucketKeys, bucketInvitations, bucketApplications,
		bucketTokens, bucketSignIns, bucketSignInsOf, bucketOpen, bucketAsked, bucketRequestedCodes, bucketTrustRequests, bucketCandidates, bucketFailures,
		bucketRecords, bucketRecordsOfAccount, bucketNotices,
	}
}
