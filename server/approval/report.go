package approval

import (
	"context"
	"time"

	"github.com/countersignd/countersign/internal/statement"
)

// A Report is what a device says of one prompt: that it has it, shows it, or,
// of a test prompt, that the person put it away.
type Report struct {
	ID    string
	Stage DeliveryStage
}

const (
	maxReports       = 32  // in one call
	reportsPerMinute = 120 // calls of one device
	maxReporters     = 65536
)

// reportLimit counts the calls of each device in the current minute.
type reportLimit struct {
	minute time.Time
	calls  map[string]int
}

// mayReport counts a call of a device, or refuses it.
func (d *deliveries) mayReport(device string, now time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if minute := now.Truncate(time.Minute); !minute.Equal(d.heard.minute) || d.heard.calls == nil {
		d.heard = reportLimit{minute, map[string]int{}}
	}
	calls, there := d.heard.calls[device]
	if calls >= reportsPerMinute || !there && len(d.heard.calls) >= maxReporters {
		return refuse(ReasonRateLimited, "This device has reported %d times in the last minute, which is the most. Report again later.", reportsPerMinute)
	}
	d.heard.calls[device] = calls + 1
	return nil
}

// ReportPrompts takes what a device says of how far prompts have come on it.
// What is not pending for it is taken and says nothing, whatever the reason is:
// nobody finds out by it whether a sign-in exists.
func (b *Broker) ReportPrompts(ctx context.Context, device string, reports []Report) error {
	now := b.now()
	type news struct {
		prompt string
		progress
		from, to DeliveryStage
		test     bool
	}
	var told []news
	err := b.view(ctx, func(tx *transaction) error {
		told = nil
		c, suspended, err := b.readable(tx, device, now)
		if err != nil {
			return err
		}
		if err := checkReports(reports); err != nil {
			return err
		}
		if suspended {
			return nil
		}
		for _, r := range reports {
			test, pending, err := b.awaits(tx, c.device, r.ID, now)
			if err != nil {
				return err
			}
			if !pending || r.Stage == DeliveryAnswered && !test {
				continue
			}
			of, err := b.progressOf(tx, r.ID)
			if err != nil {
				return err
			}
			p := of[device]
			if from := p.stage(true, true); from < r.Stage {
				told = append(told, news{r.ID, r.progress(now), from, r.Stage, test})
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := b.deliveries.mayReport(device, now); err != nil {
		return err
	}
	for _, n := range told {
		b.deliveries.note(n.prompt, device, n.progress)
		b.deliveries.noteReached(device, now)
		b.hub.ring(nil, n.prompt)
		for _, stage := range []DeliveryStage{DeliveryReceived, DeliveryShown} {
			if n.from < stage && stage <= n.to && !n.test {
				b.observe.Prompt(stage)
			}
		}
		if !n.Answered.IsZero() {
			b.hub.ring([]string{device})
		}
	}
	return nil
}

func checkReports(reports []Report) error {
	if len(reports) < 1 || len(reports) > maxReports {
		return invalidField("reports", "want 1 to %d", maxReports)
	}
	for _, r := range reports {
		if !statement.ValidSignIn(r.ID) {
			return invalidField("reports.id", "want the id of a prompt or a test prompt")
		}
		if r.Stage < DeliveryReceived || r.Stage > DeliveryAnswered {
			return invalidField("reports.stage", "want received or shown, or answered for a test prompt")
		}
	}
	return nil
}

// progress is what a report tells. Who shows a prompt has it.
func (r Report) progress(now time.Time) progress {
	p := progress{Received: now}
	if r.Stage >= DeliveryShown {
		p.Shown = now
	}
	if r.Stage == DeliveryAnswered {
		p.Answered = now
	}
	return p
}

// awaits reports whether an id names what the device must show now, and whether
// that is a test prompt.
func (b *Broker) awaits(tx *transaction, d *Device, id string, now time.Time) (test, pending bool, err error) {
	t, err := loadTest(tx, d.Account, d.ID)
	if err != nil {
		return false, false, err
	}
	if t != nil && t.ID == id {
		return true, now.Before(t.Expires), nil
	}
	s, err := load[SignIn](tx, bucketSignIns, id)
	if err != nil || s == nil || s.Account != d.Account {
		return false, false, err
	}
	return false, s.At(now) == Pending, nil
}

// IDs returns the ids of the prompts and the test prompt on the screen.
func (s *Screen) IDs() []string {
	var ids []string
	for _, p := range s.Prompts {
		ids = append(ids, p.SignIn)
	}
	if s.Test != nil {
		ids = append(ids, s.Test.ID)
	}
	return ids
}

// Sent notes that prompts were put on the stream of a device.
func (b *Broker) Sent(device string, prompts ...string) {
	now := b.now()
	for _, id := range prompts {
		b.deliveries.note(id, device, progress{Sent: now})
	}
	b.hub.ring(nil, prompts...)
}
