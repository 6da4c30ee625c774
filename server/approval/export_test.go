package approval

// Buckets returns the names of all buckets, so that tests can look at all
// that is stored.
func Buckets() []string {
	return []string{
		bucketMeta, bucketAccounts, bucketDevices, bucketDevicesOf, bucketKeys, bucketInvitations, bucketApplications,
		bucketTokens, bucketSignIns, bucketSignInsOf, bucketOpen, bucketAsked, bucketRequestedCodes, bucketRinging, bucketRequesters, bucketCandidates, bucketFailures,
		bucketRecords, bucketRecordsOfAccount,
	}
}
