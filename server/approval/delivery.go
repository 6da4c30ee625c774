package approval

import (
	"encoding/json"
	"slices"
	"time"
)

// How far prompts have come is noted in memory and written down once a second,
// all in one transaction. Nothing is decided by it, and devices report again
// what they show when they open a stream, so that a crash loses nothing that
// matters: docs/decisions/0018-delivery-is-remembered-late.md.

// A DeliveryStage is how far a prompt has come on a device.
type DeliveryStage int

// The stages, each further than the one before.
const (
	_ DeliveryStage = iota
	DeliveryNotConnected
	DeliveryPushRefused
	DeliveryPushed
	DeliveryConnected // sent on an open stream, of which nothing was heard yet
	DeliveryReceived
	DeliveryShown
	DeliveryAnswered
)

// A Delivery is how far a prompt has come on one device, and when. Times that
// nobody knows are zero.
type Delivery struct {
	Device string // id
	Name   string // as it is now
	Stage  DeliveryStage
	progress
}

// DeliveryCounts say on how many trusted devices a prompt has come how far.
type DeliveryCounts struct {
	Pushed, PushRefused, Received, Shown, Answered int
}

// progress is what is stored of a prompt and a device.
type progress struct {
	Sent        time.Time `json:",omitzero"` // first put on an open stream
	Pushed      time.Time `json:",omitzero"` // newest wake-up that was taken
	PushFailed  time.Time `json:",omitzero"` // newest that was not
	PushFailure string    `json:",omitzero"` // why
	Cleared     bool      `json:",omitzero"` // it was woken to take the prompt away
	Received    time.Time `json:",omitzero"`
	Shown       time.Time `json:",omitzero"`
	Answered    time.Time `json:",omitzero"`
}

// join adds what else is known: first times stay, of pushes the newest counts.
func (p *progress) join(o progress) {
	first := func(t *time.Time, other time.Time) {
		if t.IsZero() || !other.IsZero() && other.Before(*t) {
			*t = other
		}
	}
	first(&p.Sent, o.Sent)
	first(&p.Received, o.Received)
	first(&p.Shown, o.Shown)
	first(&p.Answered, o.Answered)
	if o.PushFailed.After(p.PushFailed) {
		p.PushFailed, p.PushFailure = o.PushFailed, o.PushFailure
	}
	p.Pushed = latest(p.Pushed, o.Pushed)
	p.Cleared = p.Cleared || o.Cleared
}

// failed reports whether the newest push was not taken.
func (p *progress) failed() bool { return p.PushFailed.After(p.Pushed) }

// stage returns how far it has come, given whether it can still be answered and
// whether the device has an open stream. What is over counts as sent if it was.
func (p *progress) stage(open, connected bool) DeliveryStage {
	switch {
	case !p.Answered.IsZero():
		return DeliveryAnswered
	case !p.Shown.IsZero():
		return DeliveryShown
	case !p.Received.IsZero():
		return DeliveryReceived
	case open && connected, !open && !p.Sent.IsZero():
		return DeliveryConnected
	case p.failed():
		return DeliveryPushRefused
	case !p.Pushed.IsZero():
		return DeliveryPushed
	}
	return DeliveryNotConnected
}

// add counts a device.
func (c *DeliveryCounts) add(p *progress) {
	one := func(n *int, yes bool) {
		if yes {
			*n++
		}
	}
	shown := !p.Shown.IsZero() || !p.Answered.IsZero()
	received := shown || !p.Received.IsZero()
	one(&c.Pushed, !p.Pushed.IsZero())
	one(&c.PushRefused, p.failed() && !received)
	one(&c.Received, received)
	one(&c.Shown, shown)
	one(&c.Answered, !p.Answered.IsZero())
}

// progressOf returns how far a prompt has come, by device.
func (b *Broker) progressOf(tx *transaction, prompt string) (map[string]progress, error) {
	stored, err := loadProgress(tx, prompt)
	if err != nil {
		return nil, err
	}
	return b.deliveries.over(prompt, stored), nil
}

// loadProgress returns what is stored, never nil without an error. What is damaged
// counts as not there: nobody is kept from denying by what decides nothing.
func loadProgress(tx *transaction, prompt string) (map[string]progress, error) {
	encoded, err := tx.Get(bucketDeliveries, prompt)
	if err != nil {
		return nil, err
	}
	stored := map[string]progress{}
	if encoded == nil {
		return stored, nil
	}
	if json.Unmarshal(encoded, &stored) != nil || stored == nil {
		stored = map[string]progress{}
	}
	return stored, nil
}

// noteAnswer writes down with a decision on which device it was made.
func noteAnswer(tx *transaction, signIn, device string, now time.Time) error {
	of, err := loadProgress(tx, signIn)
	if err != nil {
		return err
	}
	p := of[device]
	p.join(progress{Answered: now})
	of[device] = p
	return save(tx, bucketDeliveries, signIn, &of)
}

// refresh brings what a device's record says of pushes and of when it was
// reached up to date with what is only in memory.
func (b *Broker) refresh(d *Device) {
	d.Reached = latest(d.Reached, b.deliveries.reached(d.ID))
	if news, there := b.deliveries.push(d.ID); there && d.Push != nil {
		push := *d.Push
		push.tell(news)
		d.Push = &push
	}
}

// tell notes what became of a push, if it was one to this registration.
func (p *Push) tell(news pushNews) {
	switch {
	case !p.Registered.Equal(news.registered) || p.Dead:
	case news.accepted:
		p.Accepted, p.Failed, p.Failure = latest(p.Accepted, news.at), time.Time{}, ""
	default:
		p.Failed, p.Failure = news.at, news.failure
	}
}

// deliveriesOf returns how far a sign-in has come on each device it was for, of the
// devices of its account, in their order: those that are trusted and were when it
// began, and those of which something is known.
func (b *Broker) deliveriesOf(tx *transaction, s *SignIn, devices []Device, now time.Time) ([]Delivery, error) {
	of, err := b.progressOf(tx, s.ID)
	if err != nil {
		return nil, err
	}
	open := s.At(now) == Pending
	var all []Delivery
	for _, d := range devices {
		p, known := of[d.ID]
		if !known && (d.At(now, b.restored) != DeviceTrusted || latest(d.Enrolled, d.TrustFrom).After(s.Begun)) {
			continue
		}
		all = append(all, Delivery{Device: d.ID, Name: d.Name, Stage: p.stage(open, b.hub.connected(d.ID)), progress: p})
	}
	return slices.Clip(all), nil
}

// count fills in how many trusted devices there are, and how far the sign-in has
// come on them.
func (b *Broker) count(tx *transaction, s *SignIn, devices []string) error {
	of, err := b.progressOf(tx, s.ID)
	if err != nil {
		return err
	}
	s.Trusted, s.Connected, s.Delivery = len(devices), 0, DeliveryCounts{}
	for _, d := range devices {
		if b.hub.connected(d) {
			s.Connected++
		}
		if p, known := of[d]; known {
			s.Delivery.add(&p)
		}
	}
	return nil
}
