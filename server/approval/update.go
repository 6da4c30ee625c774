package approval

import (
	"context"

	"github.com/countersignd/countersign/internal/text"
)

// An Update is what a device changes of its own record. What is empty stays as
// it is.
type Update struct {
	Name string
	Push *PushChange
}

func (b *Broker) checkUpdate(u *Update) error {
	if u.Name == "" && u.Push == nil {
		return invalidField("name", "want a name of 1 to 64 characters, or how the device is woken, or both")
	}
	if err := text.Check(u.Name); err != nil {
		return invalidField("name", "%v", err)
	}
	return b.checkPush(u.Push)
}

// UpdateDevice gives the calling device another name, registers how it is
// woken, or both. An old name stays on record; an address is never there.
func (b *Broker) UpdateDevice(ctx context.Context, device string, u Update, address string) (Device, error) {
	now := b.now()
	var updated Device
	var ring []string
	err := b.update(ctx, func(tx *transaction) error {
		ring = nil
		c, _, err := b.readable(tx, device, now)
		if err != nil {
			return err
		}
		if err := b.checkUpdate(&u); err != nil {
			return err
		}
		d := c.device
		d.seen(now)
		by := Record{Actor: Actor{Kind: ActorDevice, ID: device}, Account: d.Account, Device: device, Address: address}
		var records []Record
		if u.Name != "" && u.Name != d.Name {
			r := by
			r.Event, r.Detail = EventDeviceRenamed, d.Name+renamedTo(u.Name)
			records = append(records, r)
			d.Name = u.Name
		}
		if u.Push != nil {
			r := by
			if r.Event, r.Detail = d.register(u.Push, now); r.Event != "" {
				records = append(records, r)
			}
		}
		for range records {
			if err := b.room(); err != nil {
				return err
			}
			if err := d.updated(now); err != nil {
				return err
			}
		}
		updated = *d
		if err := saveDevice(tx, d); err != nil || len(records) == 0 {
			return err
		}
		ring = b.trustedIDs(tx, d.Account, now)
		for _, r := range records {
			if _, err := record(tx, now, r); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return Device{}, err
	}
	b.hub.ring(ring)
	return updated, nil
}

// renamedTo is what the record says behind the old name.
func renamedTo(name string) string { return " -> " + name }
