package approval

import (
	"context"
	"time"

	"github.com/countersignd/countersign/internal/statement"
)

// ReadmitDevice lets a device of the caller's account count again that was not
// seen for 90 days, by the caller's signed statement.
func (b *Broker) ReadmitDevice(ctx context.Context, device, jws, address string) (Device, error) {
	r, claims, err := verified(ctx, b, device, jws, func(r statement.Readmission) claims {
		return claims{deployment: r.Aud, serverKey: r.ServerKey, account: r.Account, approvalKey: r.ApprovalKey, counter: r.Counter}
	})
	if err != nil {
		return Device{}, err
	}
	now := b.now()
	var target Device
	var refusal error
	var warn, ring []string
	err = b.update(ctx, func(tx *transaction) (err error) {
		target, refusal, warn, ring = Device{}, nil, nil, nil
		c, err := b.trusted(tx, device, now)
		if err != nil {
			return err
		}
		standing, err := claims.accepted(c.device)
		if err != nil {
			return err
		}
		if standing == outdated {
			refusal = errOutdated
			warn, err = b.noteOutdated(tx, now, c.device, claims, address)
			return err
		}
		t, err := load[Device](tx, bucketDevices, r.Readmitted)
		if err != nil {
			return err
		}
		if t == nil || t.Account != c.device.Account {
			return refuse(ReasonNoSuchDevice, "There is no such device in this account.")
		}
		c.device.seen(now)
		if err := saveDevice(tx, c.device); err != nil {
			return err
		}
		if standing == fresh { // once more, it must not end another 90 days than the owner meant
			ring, err = b.readmit(tx, now, t, Record{Actor: Actor{Kind: ActorDevice, ID: device}, Address: address, Statement: jws})
		}
		target = *t
		return err
	})
	if err != nil {
		return Device{}, err
	}
	b.hub.ring(ring)
	b.warnCopied(warn, device)
	return target, refusal
}

// ReadmitDevice lets a device count again that was not seen for 90 days, named
// as for [Administrator.RevokeDevice].
func (a Administrator) ReadmitDevice(ctx context.Context, id string) (Device, error) {
	now := a.broker.now()
	var target Device
	var ring []string
	err := a.broker.update(ctx, func(tx *transaction) error {
		target, ring = Device{}, nil
		d, err := deviceByPrefix(tx, id)
		if err != nil {
			return err
		}
		ring, err = a.broker.readmit(tx, now, d, Record{Actor: a.actor})
		target = *d
		return err
	})
	if err != nil {
		return Device{}, err
	}
	a.broker.hub.ring(ring)
	return target, nil
}

// readmit makes a dormant device a trusted one and returns whom to ring. A
// trusted one stays as it is; any other state is not for this to end.
func (b *Broker) readmit(tx *transaction, now time.Time, d *Device, r Record) (ring []string, err error) {
	switch d.At(now, b.restored) {
	case DeviceTrusted:
		return nil, nil
	case DeviceDormant:
	case DeviceRevoked:
		return nil, refuse(ReasonDeviceNotDormant, "This device was revoked, which cannot be undone. It can be enrolled again only with new keys.")
	case DeviceWaiting:
		return nil, refuse(ReasonDeviceNotDormant, "This device waits for its time after a recovery, which readmitting does not shorten.")
	case DeviceUnconfirmed:
		return nil, refuse(ReasonDeviceNotDormant, "The server was restored from a backup, and an administrator must confirm this device first.")
	default:
		return nil, refuse(ReasonDeviceNotDormant, "This device cannot be readmitted.")
	}
	d.Readmitted, d.ReadmittedBy = now, r.Actor
	if err := saveDevice(tx, d); err != nil {
		return nil, err
	}
	r.Event, r.Account, r.Device = EventDeviceReadmitted, d.Account, d.ID
	if _, err := record(tx, now, r); err != nil {
		return nil, err
	}
	return b.trustedIDs(tx, d.Account, now), nil
}
