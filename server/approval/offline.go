package approval

import (
	"time"

	"github.com/countersignd/countersign/internal/code"
)

// A device without a network shows a code of eight digits that it makes by itself
// from a secret of its own and the time (RFC 6238). Nobody has to have asked
// for such a code, so there is one to guess at every moment, and what guesses
// there may be is told in failures.go.
const (
	offlineWindow   = 1 // steps that count before and after the expected one
	maxOfflineDrift = 2 // steps that a device's clock may be known to be wrong by
)

// OfflineSecret returns the 32 bytes from which the device makes its offline
// codes. They are derived and nowhere stored, and they are handed over when the
// device is enrolled, and again if that answer was lost: until the device has
// signed its first statement. Afterwards it returns nil, and only
// [Broker.CreateCode] hands them over, because that takes the approval key. So
// who has stolen the identity key of a device in use cannot get them with it.
func (b *Broker) OfflineSecret(d *Device) []byte {
	if d.State == DeviceRevoked || d.Counter > 0 {
		return nil
	}
	return b.secrets.offlineSecret(b.deployment, d)
}

// offlineCode says whose an offline code is.
type offlineCode struct {
	device *Device
	step   int64
}

// offlineCodes returns the offline codes that count for a sign-in now, three of
// each device that may approve: those of the step that the device should be in
// and its neighbours. None is at or before a step that was used, and for a
// sign-in that was denied, none was shown before the denial, which it must not
// undo.
func (b *Broker) offlineCodes(tx *transaction, a *Account, s *SignIn, now time.Time) (codes []offlineCode, digits []string, err error) {
	for _, id := range b.trustedIDs(tx, a.Name, now) {
		d, err := load[Device](tx, bucketDevices, id)
		if err != nil {
			return nil, nil, err
		}
		if b.mayApprove(a, d, now) != nil {
			continue
		}
		secret := b.secrets.offlineSecret(b.deployment, d)
		expected := code.Step(b.devicesTime(now)) + int64(d.OfflineDrift)
		for step := expected - offlineWindow; step <= expected+offlineWindow; step++ {
			if step <= b.spentOffline(d) || s.At(now) == Denied && !d.stepTime(step).After(s.Ended) {
				continue
			}
			codes = append(codes, offlineCode{d, step})
			digits = append(digits, code.Offline(secret, step))
		}
	}
	return codes, digits, nil
}

// spentOffline returns the newest step of the device whose code may have been
// used. A store that was restored from a backup has forgotten the newest, so
// there it is the last that could be used before.
func (b *Broker) spentOffline(d *Device) int64 {
	if b.restored.IsZero() {
		return d.OfflineStep
	}
	return max(d.OfflineStep, code.Step(b.restored)+maxOfflineDrift+offlineWindow)
}

// stepTime returns when the device began to show the code of a step, as far as
// its clock is known.
func (d *Device) stepTime(step int64) time.Time {
	return code.StepTime(step - int64(d.OfflineDrift))
}

// useOffline uses a step up, and those before it, and notes how far the
// device's clock was ahead.
func (d *Device) useOffline(step int64, now time.Time) {
	d.OfflineStep = step
	d.OfflineDrift = int(min(max(step-code.Step(now), -maxOfflineDrift), maxOfflineDrift))
}
