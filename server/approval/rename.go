package approval

import (
	"context"

	"github.com/countersignd/countersign/internal/text"
)

// RenameDevice gives the calling device another name. The old one stays on
// record.
func (b *Broker) RenameDevice(ctx context.Context, device, name, address string) (Device, error) {
	now := b.now()
	var renamed Device
	var ring []string
	err := b.store.Update(ctx, func(tx Tx) error {
		ring = nil
		c, _, err := b.readable(tx, device, now)
		if err != nil {
			return err
		}
		if name == "" {
			return invalidField("name", "want 1 to 64 characters")
		}
		if err := text.Check(name); err != nil {
			return invalidField("name", "%v", err)
		}
		old := c.device.Name
		c.device.Name = name
		c.device.seen(now)
		renamed = *c.device
		if old != name {
			if err := b.room(); err != nil {
				return err
			}
			if err := c.device.renamed(now); err != nil {
				return err
			}
		}
		if err := saveDevice(tx, c.device); err != nil || old == name {
			return err
		}
		ring = b.trustedIDs(tx, c.device.Account, now)
		_, err = record(tx, now, Record{
			Event: EventDeviceRenamed, Actor: Actor{Kind: ActorDevice, ID: device}, Account: c.device.Account,
			Device: device, Address: address, Detail: old + renamedTo(name),
		})
		return err
	})
	if err != nil {
		return Device{}, err
	}
	b.hub.ring(ring)
	return renamed, nil
}

// renamedTo is what the record says behind the old name.
func renamedTo(name string) string { return " → " + name }
