package desk

import (
	"slices"
	"time"

	"github.com/countersignd/countersign/device-agent/agent"
)

// ring notices which prompts have rung since the last screen. What rings again is to
// come up, wherever it was put.
func (d *Desk) ring(now time.Time) {
	rung := make(map[string]int)
	for _, p := range d.screen.Prompts {
		if p.Silent {
			continue
		}
		rung[p.SignIn] = max(p.Rings, 1)
		if rung[p.SignIn] > d.rung[p.SignIn] {
			d.rang++
			delete(d.away, p.SignIn)
			if d.kind == Ask && p.Same(d.prompt) {
				d.Moved(now)
			}
		}
	}
	d.rung = rung
}

// Rings returns how often anything has rung. When it rises, what is shown is to come to
// the front again.
func (d *Desk) Rings() int { return d.rang }

// Asking returns the prompts that ring and wait for an answer: none that is silent, was
// put away, or is being answered.
func (d *Desk) Asking(now time.Time) []agent.Prompt {
	return slices.DeleteFunc(d.waiting(now), func(p agent.Prompt) bool {
		return p.Silent || d.hidden(p) || d.kind == Sending && p.Same(d.prompt)
	})
}

// wanted reports whether there is something else than a test prompt to put up.
func (d *Desk) wanted(now time.Time) bool {
	return slices.ContainsFunc(d.codes, func(c agent.Code) bool { return !d.away[codeKey(c)] }) ||
		slices.ContainsFunc(d.waiting(now), func(p agent.Prompt) bool { return !d.hidden(p) })
}

// putUpTest puts a test prompt up, if there is one.
func (d *Desk) putUpTest(now time.Time) bool {
	for _, t := range d.screen.Tests {
		if now.Before(t.ExpireTime) && !d.away[t.ID] {
			d.test = t
			return d.turn(Test, now)
		}
	}
	return false
}

func (d *Desk) testStands(now time.Time) bool {
	return now.Before(d.test.ExpireTime) &&
		slices.ContainsFunc(d.screen.Tests, func(t agent.TestPrompt) bool { return t.ID == d.test.ID })
}

// TakeSeen returns the test prompts that were put away since it was last called.
func (d *Desk) TakeSeen() []string {
	seen := d.seen
	d.seen = nil
	return seen
}
