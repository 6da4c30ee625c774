package approval

import (
	"bytes"
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/countersignd/countersign/internal/text"
)

// A Push is how a device is woken when it has no open stream, and whether that
// works. The address never leaves the store but to the service.
type Push struct {
	Service    PushService
	Address    PushAddress
	Registered time.Time

	Accepted time.Time `json:",omitzero"` // when the service last took a wake-up
	Failed   time.Time `json:",omitzero"` // when it last took none; zero if it took one since
	Failure  string    `json:",omitzero"` // why
	Dead     bool      `json:",omitzero"` // the service said that the registration is no more
}

// Host returns the host of a Web Push endpoint, which may be shown; empty for
// other services.
func (p *Push) Host() string {
	u, err := url.Parse(p.Address.Endpoint)
	if err != nil {
		return ""
	}
	return u.Host
}

func (p *Push) at(service PushService, a PushAddress) bool {
	return p != nil && p.Service == service && p.Address.Token == a.Token && p.Address.Endpoint == a.Endpoint &&
		bytes.Equal(p.Address.P256DH, a.P256DH) && bytes.Equal(p.Address.Auth, a.Auth)
}

// A PushChange is what a device registers. Without a service, what it had
// registered is forgotten.
type PushChange struct {
	Service PushService
	Address PushAddress
}

// check refuses what this server could not push to.
func (b *Broker) checkPush(c *PushChange) error {
	if c == nil || c.Service == "" {
		return nil
	}
	q := b.waking.services[c.Service]
	if q == nil {
		return refuse(ReasonPushNotConfigured, "This server does not push through %s. Ask an administrator to configure it, or register another service.", c.Service.words())
	}
	if err := q.waker.Check(c.Address); err != nil {
		return invalidField("push."+string(c.Service), "%v", err)
	}
	return nil
}

// words is the service's name for people.
func (s PushService) words() string {
	switch s {
	case PushAPNs:
		return "APNs"
	case PushWebPush:
		return "Web Push"
	}
	return "that service"
}

// register changes how a device is woken and returns what goes on record, if
// anything does. The same address once more is a newer registration, which
// nothing that the service said of the older one can end.
func (d *Device) register(c *PushChange, now time.Time) (Event, string) {
	switch {
	case c.Service == "" && d.Push == nil:
		return "", ""
	case c.Service == "":
		was := d.Push.Service
		d.Push = nil
		return EventPushRemoved, was.words()
	}
	known := d.Push.at(c.Service, c.Address) && !d.Push.Dead
	if known {
		d.Push.Registered = now
		return "", ""
	}
	d.Push = &Push{Service: c.Service, Address: c.Address, Registered: now}
	return EventPushRegistered, c.Service.words()
}

// buryPush notes that a push service said that a device's registration is no
// more, and tells the owner: that which was made then. If the device has
// registered again meanwhile, nothing was said of what it has now.
func (b *Broker) buryPush(ctx context.Context, device string, registered time.Time, why string) error {
	if b.full() {
		return nil // the next push says so again
	}
	now := b.now()
	var ring []string
	err := b.update(ctx, func(tx *transaction) error {
		ring = nil
		d, err := load[Device](tx, bucketDevices, device)
		if err != nil || d == nil || d.Push == nil || d.Push.Dead || !d.Push.Registered.Equal(registered) {
			return err
		}
		d.Push.Dead, d.Push.Failed, d.Push.Failure = true, now, why
		if err := saveDevice(tx, d); err != nil {
			return err
		}
		ring = b.trustedIDs(tx, d.Account, now)
		_, err = record(tx, now, Record{Event: EventPushDied, Actor: Actor{Kind: ActorServer}, Account: d.Account, Device: device, Detail: why})
		return err
	})
	if err != nil {
		return err
	}
	b.hub.ring(ring)
	return nil
}

// maxFailure is how much of what a push service says is kept.
const maxFailure = 160

// failureWords makes what a push service said fit to be shown: some of it may
// come from a host that a device has named.
func failureWords(why string) string {
	why = strings.TrimSpace(strings.ToValidUTF8(why, "?"))
	if why == "" {
		return "no reason was given"
	}
	if text.Check(why) != nil {
		why = text.Escape(why)
	}
	if len(why) > maxFailure {
		why = strings.ToValidUTF8(why[:maxFailure], "")
	}
	return why
}

// A PushServiceStatus is whether the server can push through a service.
type PushServiceStatus struct {
	Service PushService
	Trouble string    // why nothing gets through; empty if nothing is known to be wrong
	Since   time.Time // zero without trouble
	Waiting int       // pushes that wait or are under way
}

// PushServices returns how the configured push services are, in the order of
// their names.
func (b *Broker) PushServices() []PushServiceStatus {
	var all []PushServiceStatus
	for _, q := range b.waking.services {
		all = append(all, q.state())
	}
	slices.SortFunc(all, func(x, y PushServiceStatus) int { return strings.Compare(string(x.Service), string(y.Service)) })
	return all
}

func newWaking(wakers map[PushService]Waker) (*waking, error) {
	w := &waking{services: map[PushService]*wakeQueue{}, bell: make(chan struct{}, 1)}
	for service, waker := range wakers {
		if waker == nil || service != PushAPNs && service != PushWebPush {
			return nil, fmt.Errorf("there is no push service %q", service)
		}
		w.services[service] = &wakeQueue{service: service, waker: waker, bell: make(chan struct{}, 1), running: map[string]int{}}
	}
	return w, nil
}
