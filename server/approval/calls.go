package approval

import (
	"slices"
	"time"
)

// maxCallsPerHour is how many calls of a device that are put on record are
// taken in an hour, so that whoever has its key cannot fill the disk. Denying
// and revoking are never counted.
const maxCallsPerHour = 30

// called counts a call that is put on record, or refuses it. The caller saves
// the device.
func (d *Device) called(now time.Time) error {
	d.Calls = slices.DeleteFunc(d.Calls, func(t time.Time) bool { return now.Sub(t) >= time.Hour })
	if len(d.Calls) >= maxCallsPerHour {
		return refuse(ReasonRateLimited, "This device has asked for %d codes, new names and unlockings in the last hour, which is the most. Try again later. If it was not you, revoke the device.", len(d.Calls))
	}
	d.Calls = append(d.Calls, now)
	return nil
}
