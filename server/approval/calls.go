package approval

import (
	"slices"
	"time"
)

// maxCallsPerHour is how many calls of a device that are put on record are
// taken in an hour, so that whoever has its key cannot fill the disk. Denying
// and revoking are never counted. New names, push registrations and test prompts
// have as many of their own: they are not signed, and who has stolen the identity
// key alone must not be able to use up what the owner signs for.
const maxCallsPerHour = 30

// called counts a signed call that is put on record, or refuses it. The caller
// saves the device.
func (d *Device) called(now time.Time) (err error) {
	d.Calls, err = counted(d.Calls, now, "asked for codes and unlockings")
	return err
}

// updated counts a call that is not signed, likewise.
func (d *Device) updated(now time.Time) (err error) {
	d.Renames, err = counted(d.Renames, now, "got another name, registered for pushes or sent a test prompt")
	return err
}

func counted(calls []time.Time, now time.Time, what string) ([]time.Time, error) {
	calls = slices.DeleteFunc(calls, func(t time.Time) bool { return now.Sub(t) >= time.Hour })
	if len(calls) >= maxCallsPerHour {
		return calls, refuse(ReasonRateLimited, "This device has %s %d times in the last hour, which is the most. Try again later. If it was not you, revoke the device.", what, len(calls))
	}
	return append(calls, now), nil
}
