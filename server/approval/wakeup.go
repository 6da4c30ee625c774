package approval

import (
	"context"
	"errors"
	"time"
)

// lookAt reads a sign-in that has changed and gives each device that must be
// woken for it its place in a queue.
func (b *Broker) lookAt(ctx context.Context, id string) error {
	now := b.now()
	type wake struct {
		service PushService
		task    wakeTask
	}
	var wakes []wake
	var closed bool // it can be answered no more
	err := b.view(ctx, func(tx *transaction) error {
		wakes, closed = nil, false
		s, err := load[SignIn](tx, bucketSignIns, id)
		if err != nil || s == nil {
			return err
		}
		if closed = s.At(now) != Pending; closed && s.At(now) == Expired {
			return nil // what was pushed has expired with it
		}
		if s.Silent != "" && !closed {
			return nil
		}
		devices, err := devicesOf(tx, s.Account)
		if err != nil {
			return err
		}
		for _, d := range devices {
			if d.Push == nil || d.Push.Dead || d.At(now, b.restored) != DeviceTrusted || closed && s.DecidedBy == d.ID {
				continue
			}
			wakes = append(wakes, wake{d.Push.Service, wakeTask{topic: id, device: d.ID, account: d.Account, expires: s.Expires, rung: s.Rung, over: closed}})
		}
		return nil
	})
	if err != nil {
		return err
	}
	if closed {
		for _, q := range b.waking.services {
			q.over(id)
		}
	}
	for _, w := range wakes {
		b.push(w.service, w.task)
	}
	return nil
}

// wakeable reads whether a wake-up is still wanted, and where it goes. If not
// yet, later says when to ask again.
func (b *Broker) wakeable(ctx context.Context, q *wakeQueue, t *wakeTask, now time.Time) (to *Push, over bool, later time.Time, err error) {
	err = b.view(ctx, func(tx *transaction) error {
		to, over, later = nil, false, time.Time{}
		c, err := loadCaller(tx, t.device)
		if err != nil || b.mayApprove(c.account, c.device, now) != nil {
			return err
		}
		p := c.device.Push
		if p == nil || p.Dead || p.Service != q.service {
			return nil
		}
		of, err := b.progressOf(tx, t.topic)
		if err != nil {
			return err
		}
		came := of[t.device]
		connected := b.hub.connected(t.device)
		if t.test {
			test, err := b.pendingTest(tx, c.device.Account, t.device, now)
			if err == nil && test != nil && test.ID == t.topic && came.Received.IsZero() && came.Pushed.IsZero() {
				to = p
			}
			return err
		}
		s, err := load[SignIn](tx, bucketSignIns, t.topic)
		if err != nil || s == nil {
			return err
		}
		switch state := s.At(now); {
		case state != Pending:
			over = true
			if state != Expired && now.Before(s.Expires) && !came.Pushed.IsZero() && !came.Cleared && !connected {
				to = p
			}
		case s.Silent != "" || !came.Pushed.IsZero() && !came.Pushed.Before(s.Rung): // not to be woken, or woken already
		case connected && !came.Received.IsZero() || came.Received.After(s.Rung):
		case connected && now.Before(s.Rung.Add(deafAfter)):
			later = s.Rung.Add(deafAfter)
		default:
			to = p
		}
		return nil
	})
	return to, over, later, err
}

// attempt tries one wake-up, notes what became of it, and returns when to try
// again; zero means never.
func (b *Broker) attempt(ctx context.Context, q *wakeQueue, t *wakeTask) (again time.Time) {
	now := b.now()
	to, over, later, err := b.wakeable(ctx, q, t, now)
	if err != nil {
		if ctx.Err() == nil {
			b.tell(err, "reading whom to wake")
		}
		return time.Time{}
	}
	if to == nil {
		return later
	}
	if until, why := q.paused(now); !until.IsZero() {
		b.noteWake(t, over, to, why)
		return until.Add(pauseBefore(0, 0))
	}
	limited, cancel := context.WithTimeout(ctx, wakeTimeout)
	defer cancel()
	// The service has a clock of its own.
	err = q.waker.Wake(limited, to.Address, Wakeup{Topic: t.topic, Expires: b.civil(t.expires), Over: over})
	if ctx.Err() != nil {
		return time.Time{}
	}
	b.observe.Push(q.service, outcomeOf(err))
	if err == nil {
		b.serviceWorks(q)
		b.noteWake(t, over, to, "")
		return time.Time{}
	}
	return b.notTaken(ctx, q, t, over, to, err)
}

// notTaken does what follows when a push was not taken.
func (b *Broker) notTaken(ctx context.Context, q *wakeQueue, t *wakeTask, over bool, to *Push, err error) (again time.Time) {
	now := b.now()
	refused, ok := errors.AsType[*WakeError](err)
	if !ok {
		refused = &WakeError{Verdict: WakeLater, Why: q.service.words() + ": no answer in time"}
	}
	why := failureWords(refused.Why)
	b.noteWake(t, over, to, why)
	if refused.Verdict == WakeBroken {
		if q.broke(why, now) {
			b.log.Error("a push service refuses this server: no device is woken through it before this is mended", "service", q.service, "why", why, "advice", refused.Advice)
		}
		return now.Add(brokenPause + pauseBefore(0, 0))
	}
	switch refused.Verdict {
	case WakeLater:
		// Whether the service takes anything is not known by this.
		return now.Add(pauseBefore(t.tries, refused.After))
	case WakeDead:
		if refused.Since.IsZero() || !refused.Since.Before(b.civil(to.Registered)) {
			b.log.Info("a push registration is dead", "service", q.service, "device", t.device, "why", why)
			b.tell(b.buryPush(ctx, t.device, to.Registered, why), "noting that a push registration is dead")
		}
	}
	b.serviceWorks(q)
	return time.Time{}
}

func (b *Broker) serviceWorks(q *wakeQueue) {
	if q.works() {
		b.log.Info("a push service takes pushes again", "service", q.service)
	}
}

// noteWake notes what became of a wake-up: why it was not taken, or nothing if
// it was.
func (b *Broker) noteWake(t *wakeTask, over bool, to *Push, why string) {
	now := b.now()
	b.deliveries.notePush(t.device, pushNews{registered: to.Registered, accepted: why == "", at: now, failure: why})
	switch {
	case over && why != "":
	case over:
		b.deliveries.note(t.topic, t.device, progress{Cleared: true})
	case why == "":
		b.deliveries.note(t.topic, t.device, progress{Pushed: now})
	default:
		b.deliveries.note(t.topic, t.device, progress{PushFailed: now, PushFailure: why})
	}
	b.hub.ring(nil, t.topic)
}

// noteGivenUp notes that a wake-up was not even tried.
func (b *Broker) noteGivenUp(t *wakeTask, why string) {
	b.deliveries.note(t.topic, t.device, progress{PushFailed: b.now(), PushFailure: why})
	b.hub.ring(nil, t.topic)
}
