package approval

import (
	"context"
	"slices"
	"time"
)

// A TestPrompt is shown by a device to see whether prompts arrive. It is no
// sign-in: it has no state and no prompt to sign, and nothing that is done with
// it leads to an approval. A device has one at most.
type TestPrompt struct {
	ID      string // as that of a sign-in, and unlike any
	By      Actor
	Created time.Time
	Expires time.Time

	Connected bool // whether the device had an open stream then

	// Sent are the times, in the last hour, at which devices have sent one to this
	// device. Administrators' are not counted.
	Sent []time.Time `json:",omitempty"`
}

// A DeviceTest is what became of a test prompt until now.
type DeviceTest struct {
	TestPrompt
	Device   string // id
	Delivery Delivery
	Over     bool // answered, expired, or replaced by a newer one
}

// testLifetime is how long a test prompt is shown. A push that takes longer came
// too late for a sign-in, too.
const testLifetime = 2 * time.Minute

// maxTestsPerHour is how often the devices of an account may send a test prompt to
// one of them: it rings, and a push for it is no other than that of a sign-in, so
// who has a device's key could bomb with it. A known requester may ring as often.
const maxTestsPerHour = 10

// loadTest returns the newest test prompt of a device, which may be over, or nil.
func loadTest(tx Tx, account, device string) (*TestPrompt, error) {
	return load[TestPrompt](tx, bucketTests, account+"/"+device)
}

// pendingTest returns the test prompt that a device must show now, or nil.
func (b *Broker) pendingTest(tx *transaction, account, device string, now time.Time) (*TestPrompt, error) {
	t, err := loadTest(tx, account, device)
	if err != nil || t == nil || !now.Before(t.Expires) {
		return nil, err
	}
	of, err := b.progressOf(tx, t.ID)
	if err != nil || !of[device].Answered.IsZero() {
		return nil, err
	}
	return t, nil
}

// TestDevice sends a test prompt to a device of the caller's account, to the
// caller itself if target is empty, and returns its id for [Broker.Test].
func (b *Broker) TestDevice(ctx context.Context, device, target, address string) (id string, err error) {
	now := b.now()
	id = newSignInID(now)
	var to *Device
	err = b.update(ctx, func(tx *transaction) error {
		to = nil
		c, err := b.trusted(tx, device, now)
		if err != nil {
			return err
		}
		t := c.device
		if target != "" && target != device {
			if t, err = load[Device](tx, bucketDevices, target); err != nil {
				return err
			}
		}
		if t == nil || t.Account != c.device.Account {
			return refuse(ReasonNoSuchDevice, "There is no such device in this account.")
		}
		if err := b.testable(t, now); err != nil {
			return refuse(ReasonNoSuchDevice, "%s", err.Message)
		}
		if err := b.room(); err != nil {
			return err
		}
		if err := c.device.updated(now); err != nil {
			return err
		}
		c.device.seen(now)
		if err := saveDevice(tx, c.device); err != nil {
			return err
		}
		to = t
		return b.sendTest(tx, now, t, id, Record{Actor: Actor{Kind: ActorDevice, ID: device}, Address: address})
	})
	if err != nil {
		return "", err
	}
	b.testSent(to, id, now)
	return id, nil
}

// TestDevice sends a test prompt to a device, named as for
// [Administrator.RevokeDevice], and returns its id for [Administrator.Test],
// and the device's.
func (a Administrator) TestDevice(ctx context.Context, named string) (id, device string, err error) {
	b := a.broker
	now := b.now()
	id = newSignInID(now)
	var to *Device
	err = b.update(ctx, func(tx *transaction) error {
		to = nil
		t, err := deviceByPrefix(tx, named)
		if err != nil {
			return err
		}
		account, err := load[Account](tx, bucketAccounts, t.Account)
		if err != nil {
			return err
		}
		if err := active(account); err != nil {
			return err
		}
		if err := b.testable(t, now); err != nil {
			return err
		}
		if err := b.room(); err != nil {
			return err
		}
		to = t
		return b.sendTest(tx, now, t, id, Record{Actor: a.actor})
	})
	if err != nil {
		return "", "", err
	}
	b.testSent(to, id, now)
	return id, to.ID, nil
}

// testable says why nothing can be sent to a device, or nil.
func (b *Broker) testable(d *Device, now time.Time) *Error {
	switch d.At(now, b.restored) {
	case DeviceTrusted:
		return nil
	case DeviceRevoked:
		return refuse(ReasonDeviceRevoked, "That device was revoked, so it is sent nothing. It can be enrolled again only with new keys.")
	case DeviceWaiting:
		return refuse(ReasonDeviceWaiting, "That device was enrolled with a recovery code and waits for its time, so it is sent nothing yet.")
	case DeviceDormant:
		return refuse(ReasonDeviceDormant, "That device was not seen for 90 days, so it is sent nothing. Readmit it first, if its owner has it.")
	case DeviceUnconfirmed:
		return refuse(ReasonDeviceUnconfirmed, "The server was restored from a backup, and nobody has confirmed that device since, so it is sent nothing. An administrator must confirm it first.")
	}
	return refuse(ReasonNoSuchDevice, "That device is not trusted, so it is sent nothing.")
}

func (b *Broker) sendTest(tx *transaction, now time.Time, d *Device, id string, r Record) error {
	t := TestPrompt{ID: id, By: r.Actor, Created: now, Expires: now.Add(testLifetime), Connected: b.hub.connected(d.ID)}
	old, err := loadTest(tx, d.Account, d.ID)
	if err != nil {
		return err
	}
	if old != nil {
		t.Sent = slices.DeleteFunc(old.Sent, func(at time.Time) bool { return now.Sub(at) >= time.Hour })
	}
	if r.Actor.Kind == ActorDevice {
		if len(t.Sent) >= maxTestsPerHour {
			return refuse(ReasonRateLimited, "That device was sent %d test prompts in the last hour, which is the most. Try again later. If it was not you, revoke the device that sent them.", len(t.Sent))
		}
		t.Sent = append(t.Sent, now)
	}
	if err := save(tx, bucketTests, d.Account+"/"+d.ID, &t); err != nil {
		return err
	}
	r.Event, r.Account, r.Device = EventDeviceTested, d.Account, d.ID
	_, err = record(tx, now, r)
	return err
}

// testSent rings the device, and pushes to it also if it is connected: that is
// what is tested.
func (b *Broker) testSent(d *Device, id string, now time.Time) {
	b.hub.ring([]string{d.ID})
	if d.Push != nil && !d.Push.Dead {
		b.push(d.Push.Service, wakeTask{topic: id, device: d.ID, account: d.Account, expires: now.Add(testLifetime), test: true})
	}
}

// Test returns what became of a test prompt that the caller asked for.
func (b *Broker) Test(ctx context.Context, device, target, id string) (DeviceTest, error) {
	if target == "" {
		target = device
	}
	now := b.now()
	var test DeviceTest
	err := b.view(ctx, func(tx *transaction) error {
		c, err := b.trusted(tx, device, now)
		if err != nil {
			return err
		}
		test, err = b.test(tx, target, c.account.Name, id, now)
		return err
	})
	return test, err
}

// Test returns what became of a test prompt.
func (a Administrator) Test(ctx context.Context, device, id string) (DeviceTest, error) {
	now := a.broker.now()
	var test DeviceTest
	err := a.broker.view(ctx, func(tx *transaction) error {
		d, err := load[Device](tx, bucketDevices, device)
		if err != nil {
			return err
		}
		if d == nil {
			return refuse(ReasonNoSuchDevice, "There is no such device.")
		}
		account, err := load[Account](tx, bucketAccounts, d.Account)
		if err != nil {
			return err
		}
		if err := active(account); err != nil {
			return err
		}
		if err := a.broker.testable(d, now); err != nil {
			return err
		}
		test, err = a.broker.test(tx, device, d.Account, id, now)
		return err
	})
	return test, err
}

func (b *Broker) test(tx *transaction, device, account, id string, now time.Time) (DeviceTest, error) {
	d, err := load[Device](tx, bucketDevices, device)
	if err != nil {
		return DeviceTest{}, err
	}
	if d == nil || d.Account != account {
		return DeviceTest{}, refuse(ReasonNoSuchDevice, "There is no such device in this account.")
	}
	if err := b.testable(d, now); err != nil {
		return DeviceTest{}, refuse(ReasonNoSuchDevice, "%s", err.Message)
	}
	stored, err := loadTest(tx, account, device)
	if err != nil {
		return DeviceTest{}, err
	}
	if stored == nil || stored.ID != id {
		return DeviceTest{TestPrompt: TestPrompt{ID: id}, Device: device, Over: true}, nil
	}
	of, err := b.progressOf(tx, id)
	if err != nil {
		return DeviceTest{}, err
	}
	p := of[device]
	over := !now.Before(stored.Expires) || !p.Answered.IsZero()
	return DeviceTest{
		TestPrompt: *stored, Device: device, Over: over,
		Delivery: Delivery{Device: device, Name: d.Name, Stage: p.stage(!over, b.hub.connected(device)), progress: p},
	}, nil
}

// WatchTest opens a [Watch] for what [Broker.Test] returns.
func (b *Broker) WatchTest(id string) *Watch { return b.hub.watchSignIn(id) }
