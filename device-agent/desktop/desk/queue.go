package desk

import (
	"maps"
	"slices"
	"time"

	"github.com/countersignd/countersign/device-agent/agent"
)

// waiting returns the prompts that can be answered now.
func (d *Desk) waiting(now time.Time) []agent.Prompt {
	return slices.DeleteFunc(slices.Clone(d.screen.Prompts), func(p agent.Prompt) bool {
		return !now.Before(p.ExpireTime())
	})
}

// hidden reports whether a prompt waits until it is asked for.
func (d *Desk) hidden(p agent.Prompt) bool {
	return d.away[p.SignIn] || p.Silent && !d.calm[p.SignIn]
}

// rings reports whether a prompt wants to come up that is not silent.
func (d *Desk) rings(now time.Time) bool {
	return slices.ContainsFunc(d.waiting(now), func(p agent.Prompt) bool { return !p.Silent && !d.hidden(p) })
}

func (d *Desk) open(p agent.Prompt, now time.Time) bool {
	return slices.ContainsFunc(d.waiting(now), p.Same)
}

// more returns how many prompts wait besides the one that is shown. Silent ones that
// nobody asked for are not told.
func (d *Desk) more(now time.Time) int {
	n := 0
	for _, p := range d.waiting(now) {
		shown := (d.kind == Ask || d.kind == Sending) && p.Same(d.prompt)
		if !shown && (!p.Silent || d.calm[p.SignIn]) {
			n++
		}
	}
	return n
}

// codeKey names a code by what it is for. One that was asked for is for nothing
// in particular.
func codeKey(c agent.Code) string {
	if c.Prompt.SignIn == "" {
		return "asked for"
	}
	return "code " + c.Prompt.SignIn
}

func (d *Desk) goodCode(key string) (agent.Code, bool) {
	i := slices.IndexFunc(d.codes, func(c agent.Code) bool { return codeKey(c) == key })
	if i < 0 {
		return agent.Code{}, false
	}
	return d.codes[i], true
}

// trackCodes notices the codes and prompts that have come and gone.
func (d *Desk) trackCodes(now time.Time) {
	d.codes = nil
	stands := make(map[string]bool)
	for _, c := range slices.Concat(d.screen.Codes, d.asked) {
		if now.Before(c.ExpireTime) {
			d.codes = append(d.codes, c)
			stands[codeKey(c)] = true
		}
	}
	for _, p := range d.screen.Prompts {
		stands[p.SignIn] = true
	}
	for _, t := range d.screen.Tests {
		stands[t.ID] = true
	}
	gone := func(key string, _ bool) bool { return !stands[key] }
	maps.DeleteFunc(d.away, gone)
	maps.DeleteFunc(d.calm, gone)
}

// whyGone says why a prompt that was not answered here is gone, as far as it is known.
func (d *Desk) whyGone(now time.Time) Cause {
	switch {
	case !now.Before(d.prompt.ExpireTime()):
		return Expired
	case d.screen.Suspended:
		return Suspended
	}
	return Elsewhere
}
