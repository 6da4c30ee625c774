package approval

import (
	"context"
	"sync"
	"time"
)

// maxNews is how much is kept in memory that is not written down: one for each
// prompt and device. What is beyond it is forgotten.
const maxNews = 16384

// deliveryNews is what was not written down yet.
type deliveryNews struct {
	progress map[string]map[string]progress // by prompt, by device
	size     int                            // of progress
	pushes   map[string]pushNews            // by device
	reached  map[string]time.Time           // by device
}

// pushNews is what became of the newest push to a device.
type pushNews struct {
	registered time.Time // of the registration
	accepted   bool
	at         time.Time
	failure    string
}

func newDeliveryNews() deliveryNews {
	return deliveryNews{progress: map[string]map[string]progress{}, pushes: map[string]pushNews{}, reached: map[string]time.Time{}}
}

// deliveries collects the news of all devices.
type deliveries struct {
	mu      sync.Mutex
	news    deliveryNews
	written deliveryNews // what was written last, which a transaction that reads may not see yet
	lost    bool         // some was forgotten since the last time
	heard   reportLimit
}

// note notes how far a prompt has come on a device.
func (d *deliveries) note(prompt, device string, p progress) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.noteLocked(prompt, device, p)
}

func (d *deliveries) noteLocked(prompt, device string, p progress) {
	of := d.news.progress[prompt]
	old, there := of[device]
	if !there {
		if d.news.size >= maxNews {
			d.lost = true
			return
		}
		d.news.size++
	}
	if of == nil {
		of = map[string]progress{}
		d.news.progress[prompt] = of
	}
	old.join(p)
	of[device] = old
}

// notePush notes what became of a push to a device. There is one entry for each
// device that registered, which is bounded by the store.
func (d *deliveries) notePush(device string, p pushNews) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.news.pushes[device] = p
}

func (d *deliveries) noteReached(device string, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.news.reached[device] = now
}

// take returns the news to be written down.
func (d *deliveries) take() (news deliveryNews, lost bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	news, lost = d.news, d.lost
	d.written, d.news, d.lost = news, newDeliveryNews(), false
	return news, lost
}

// putBack takes news back that could not be written down.
func (d *deliveries) putBack(news deliveryNews) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for prompt, of := range news.progress {
		for device, p := range of {
			d.noteLocked(prompt, device, p)
		}
	}
	for device, p := range news.pushes {
		if newer, there := d.news.pushes[device]; !there || newer.at.Before(p.at) {
			d.news.pushes[device] = p
		}
	}
	for device, at := range news.reached {
		d.news.reached[device] = latest(at, d.news.reached[device])
	}
}

// over joins what is only in memory with what is stored.
func (d *deliveries) over(prompt string, stored map[string]progress) map[string]progress {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, news := range []deliveryNews{d.written, d.news} {
		for device, p := range news.progress[prompt] {
			old := stored[device]
			old.join(p)
			stored[device] = old
		}
	}
	return stored
}

func (d *deliveries) push(device string) (pushNews, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	p, there := d.news.pushes[device]
	if !there {
		p, there = d.written.pushes[device]
	}
	return p, there
}

func (d *deliveries) reached(device string) time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return latest(d.written.reached[device], d.news.reached[device])
}

const (
	// writeEvery is how often news is written down.
	writeEvery = time.Second

	// deliveryKept is how long it is stored how far a prompt has come. In each
	// write, up to maxForgotten older ones go.
	deliveryKept = 30 * 24 * time.Hour
	maxForgotten = 64
)

// writeDeliveries writes down what is new, and nothing when the disk is nearly
// full: the room that is left is for what matters.
func (b *Broker) writeDeliveries(ctx context.Context) error {
	if b.full() {
		return nil
	}
	news, lost := b.deliveries.take()
	if lost {
		b.log.Warn("too many reports of devices at once: how far some prompts have come is not known")
	}
	if len(news.progress)+len(news.pushes)+len(news.reached) == 0 {
		return nil
	}
	now := b.now()
	err := b.update(ctx, func(tx *transaction) error {
		for prompt, of := range news.progress {
			stored, err := loadProgress(tx, prompt)
			if err != nil {
				return err
			}
			for device, p := range of {
				old := stored[device]
				old.join(p)
				stored[device] = old
			}
			if err := save(tx, bucketDeliveries, prompt, &stored); err != nil {
				return err
			}
		}
		for device := range touched(news) {
			if err := writeDeviceNews(tx, device, news); err != nil {
				return err
			}
		}
		return forgetDeliveries(tx, now)
	})
	if err != nil {
		b.deliveries.putBack(news)
	}
	return err
}

// touched returns the devices whose own records have news.
func touched(news deliveryNews) map[string]bool {
	devices := map[string]bool{}
	for device := range news.pushes {
		devices[device] = true
	}
	for device := range news.reached {
		devices[device] = true
	}
	return devices
}

func writeDeviceNews(tx *transaction, device string, news deliveryNews) error {
	d, err := load[Device](tx, bucketDevices, device)
	if err != nil || d == nil {
		return err
	}
	changed := false
	if minute := news.reached[device].Truncate(time.Minute); minute.After(d.Reached) {
		d.Reached, changed = minute, true
	}
	if p, there := news.pushes[device]; there && d.Push != nil {
		d.Push.tell(p)
		changed = true
	}
	if !changed {
		return nil
	}
	return saveDevice(tx, d)
}

// forgetDeliveries deletes the oldest rows that are too old. Ids are in order of
// time.
func forgetDeliveries(tx *transaction, now time.Time) error {
	oldest := signInIDTime(now.Add(-deliveryKept))
	var over []string
	for key := range tx.Ascend(bucketDeliveries, "") {
		if key >= oldest || len(over) == maxForgotten {
			break
		}
		over = append(over, key)
	}
	for _, key := range over {
		if err := tx.Delete(bucketDeliveries, key); err != nil {
			return err
		}
	}
	return nil
}
