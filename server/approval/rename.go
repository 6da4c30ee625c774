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
	err := b.store.Update(ctx, func(tx Tx) error {
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
		renamed = *c.device
		if old == name {
			return nil
		}
		if err := c.device.called(now); err != nil {
			return err
		}
		if _, err := record(tx, now, Record{
			Event: EventDeviceRenamed, Actor: Actor{Kind: ActorDevice, ID: device}, Account: c.device.Account,
			Device: device, Address: address, Detail: old + " → " + name,
		}); err != nil {
			return err
		}
		return saveDevice(tx, c.device)
	})
	if err != nil {
		return Device{}, err
	}
	return renamed, nil
}
