package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/countersignd/countersign/device-agent/agent"
	"github.com/countersignd/countersign/internal/statement"
	"github.com/countersignd/countersign/internal/text"
	countersignv1 "github.com/countersignd/countersign/proto/countersign/v1"
)

// A view is what the person has in front of her. There is one at a time.
type view int

const (
	viewIdle    view = iota // nothing to do
	viewAsk                 // a prompt
	viewSending             // the answer is on its way
	viewReason              // why was it denied?
	viewCode                // the code to type
	viewTest                // a test prompt
)

const (
	// minLook is how long something must have been on the screen before a
	// key counts: what is typed earlier was meant for something else.
	minLook = 600 * time.Millisecond

	// minQuiet is how long the keyboard must have been quiet before that. A
	// key that is held down repeats faster, and so never counts.
	minQuiet = 300 * time.Millisecond

	// reasonTime is how long the question for a reason stands. The denial
	// itself has been taken before.
	reasonTime = 30 * time.Second
)

// An order is an answer that is to be sent.
type order struct {
	prompt           agent.Prompt // as it was shown
	decision, reason string
}

// A desk is what the person deals with, without the terminal: it takes what
// happens, one thing after another, and keeps what is to be shown, said and
// sent. It decides nothing without a key.
type desk struct {
	// codesWait is whether a code keeps its place in front of the next prompt
	// until Enter is pressed.
	codesWait bool
	// self is the id of this device.
	self string
	// newsWait is whether notices stay on the idle screen until Enter is
	// pressed, and are not just said.
	newsWait bool
	// mute is whether no more answers can come.
	mute bool
	// calm is whether silent prompts wait until the person wants to see them.
	calm bool

	screen agent.Screen
	view   view
	prompt agent.Prompt     // that viewAsk, viewSending and viewReason are about
	code   agent.Code       // of viewCode
	test   agent.TestPrompt // of viewTest

	since    time.Time // when the view was put up
	lastKey  time.Time // when a key was last pressed, whether it counted or not
	until    time.Time // when viewReason ends
	sent     order     // of viewSending
	accepted bool      // the server took what was sent; the next screen will show it
	denyNext bool      // deny when what was sent is over
	codes    []agent.Code
	seen     map[string]bool // codes that Enter was pressed at
	finished int             // how many prompts this person has answered to their end
	news     []*countersignv1.Notice
	told     map[noticeID]bool // notices that were said, or that Enter was pressed at
	again    time.Time         // when the prompt rang again while it was shown
	away     string            // the test prompt that was put away last

	// What came out of it, for the caller to take.
	orders []order
	cancel bool // call off what is being sent
	events []string
	shown  []*countersignv1.Notice // that are not to be shown again
	tests  []string                // test prompts that were put away
}

func newDesk() *desk { return &desk{seen: make(map[string]bool), told: make(map[noticeID]bool)} }

// show takes what the agent says there is.
func (d *desk) show(s agent.Screen, now time.Time) {
	if s.Status != d.screen.Status && s.Status != "" {
		d.say("%s", s.Status)
	}
	if s.Suspended != d.screen.Suspended {
		if s.Suspended {
			d.say("the account is suspended: nothing can be approved until an administrator resumes it")
		} else {
			d.say("the account is no longer suspended")
		}
	}
	if s.Record != d.screen.Record {
		if s.Record != "" {
			d.say("%s", s.Record)
		} else {
			d.say("the server's record is in order")
		}
	}
	d.screen = s
	for _, p := range s.Prompts {
		if p.Same(d.prompt) {
			if p.Rings > d.prompt.Rings && d.view == viewAsk {
				d.again = now
				d.say("asked again: %s", about(p))
			}
			// It may have been silenced since.
			d.prompt.Silent, d.prompt.Rings = p.Silent, p.Rings
		}
	}
	d.takeNews(now)
	d.tick(now)
}

// takeNews looks for notices that were not shown yet.
func (d *desk) takeNews(now time.Time) {
	before := len(d.news)
	d.news = nil
	for _, n := range d.screen.Notices {
		if !d.told[idOf(n)] {
			d.news = append(d.news, n)
		}
	}
	switch {
	case !d.newsWait:
		for _, n := range d.news {
			d.say("notice: %s %s", local(n.GetTime()), sentence(n, d.self))
		}
		d.readNews()
	case d.view == viewIdle && len(d.news) > before:
		d.turn(viewIdle, now) // a key that was pressed before is not for these
	}
}

// readNews takes the notices for read.
func (d *desk) readNews() {
	for _, n := range d.news {
		d.told[idOf(n)] = true
	}
	d.shown = append(d.shown, d.news...)
	d.news = nil
}

// tick looks at the clock.
func (d *desk) tick(now time.Time) {
	d.trackCodes(now)
	for d.step(now) {
	}
}

// step makes one change of view that is due, and reports whether there was one.
func (d *desk) step(now time.Time) bool {
	switch d.view {
	case viewAsk:
		if d.open(now) {
			// A silent one that lies open must not hide one that rings.
			return d.prompt.Silent && d.rings(now) && d.turn(viewIdle, now)
		}
		d.say("withdrawn: %s: %s", about(d.prompt), d.whyGone(d.prompt, now))
		return d.turn(viewIdle, now)
	case viewSending:
		if !d.accepted || d.open(now) {
			return false
		}
		return d.taken(now)
	case viewReason:
		if now.Before(d.until) && !d.mute {
			return false
		}
		d.finished++
		return d.turn(viewIdle, now)
	case viewCode:
		c, good := d.goodCode(d.code.Prompt.SignIn)
		if good {
			d.code = c
		}
		blocked := d.codesWait && !d.seen[c.Prompt.SignIn]
		if _, due := d.due(now); good && (blocked || !due) {
			return false
		}
		return d.turn(viewIdle, now)
	case viewTest:
		return d.stepTest(now)
	}
	if p, due := d.due(now); due {
		d.prompt = p
		return d.turn(viewAsk, now)
	}
	if len(d.codes) > 0 {
		d.code = d.codes[len(d.codes)-1]
		return d.turn(viewCode, now)
	}
	if t, stands := d.nextTest(now); stands {
		d.test = t
		return d.turn(viewTest, now)
	}
	return false
}

// taken goes on after the server took an answer.
func (d *desk) taken(now time.Time) bool {
	d.accepted = false
	switch {
	case d.denyNext:
		d.send(order{d.prompt, statement.Deny, ""}, now)
	case d.sent.decision == statement.Allow:
		if c, good := d.goodCode(d.prompt.SignIn); good {
			d.code = c
			d.turn(viewCode, now)
		} else {
			d.finished++
			d.turn(viewIdle, now)
		}
	case d.sent.reason != "":
		d.finished++
		d.turn(viewIdle, now)
	default:
		d.until = now.Add(reasonTime)
		d.turn(viewReason, now)
	}
	return true
}

// answered takes how the sending of an answer ended.
func (d *desk) answered(err error, now time.Time) {
	if d.view != viewSending {
		return
	}
	switch {
	case err != nil && d.denyNext: // it was called off, and may have counted
		d.send(order{d.prompt, statement.Deny, ""}, now)
	case err != nil:
		d.say("not %s: %v", pastOf(d.sent), err)
		if d.sent.reason != "" {
			d.finished++ // the denial itself was taken
		}
		d.turn(viewIdle, now)
	default:
		d.say("%s: %s", pastOf(d.sent), about(d.prompt))
		if d.sent.reason == statement.NotMe && d.prompt.Action == statement.ActionSignIn {
			d.say("Somebody may know the password of %s: change it where it is used, and tell your administrator.", d.prompt.Account)
		}
		d.accepted = true
	}
	d.tick(now)
}

// press takes a key. Keys that are none of those that the view offers decide
// nothing, whatever they are.
func (d *desk) press(key rune, now time.Time) {
	quiet := now.Sub(d.lastKey) >= minQuiet
	d.lastKey = now
	if now.Sub(d.since) < minLook || !quiet {
		return
	}
	d.choose(key, now)
}

// choose takes a key that counts.
func (d *desk) choose(key rune, now time.Time) {
	switch {
	case d.view == viewIdle && key == 's' && len(d.waiting(now)) > 0:
		d.prompt = d.waiting(now)[0]
		d.turn(viewAsk, now)
	case d.view == viewAsk && key == 'a' && d.open(now):
		d.send(order{d.prompt, statement.Allow, ""}, now)
	case d.view == viewAsk && key == 'd':
		d.send(order{d.prompt, statement.Deny, ""}, now)
	case d.view == viewSending && key == 'd' && d.sent.decision == statement.Allow:
		d.denyNext, d.cancel = true, true
	case d.view == viewReason && key == 'm':
		d.send(order{d.prompt, statement.Deny, statement.Mistake}, now)
	case d.view == viewReason && key == 'n':
		d.send(order{d.prompt, statement.Deny, statement.NotMe}, now)
	case d.view == viewReason && key == '\r':
		d.until = now
	case d.view == viewCode && key == 'd':
		d.prompt = d.code.Prompt
		d.send(order{d.prompt, statement.Deny, ""}, now)
	case d.view == viewIdle && key == '\r':
		d.readNews()
	case d.view == viewTest && key == '\r':
		d.putAway(now)
	case d.view == viewCode && key == '\r':
		d.seen[d.code.Prompt.SignIn] = true
	}
	d.tick(now)
}

func (d *desk) send(o order, now time.Time) {
	d.sent, d.accepted, d.denyNext, d.cancel = o, false, false, false
	d.orders = append(d.orders, o)
	d.turn(viewSending, now)
}

// turn puts up another view.
func (d *desk) turn(v view, now time.Time) bool {
	d.view, d.since, d.again = v, now, time.Time{}
	return true
}

func (d *desk) say(format string, args ...any) {
	d.events = append(d.events, fmt.Sprintf(format, args...))
}

// due returns the prompt that takes the screen next, if there is one.
func (d *desk) due(now time.Time) (agent.Prompt, bool) {
	waiting := d.waiting(now)
	if len(waiting) == 0 || d.calm && waiting[0].Silent {
		return agent.Prompt{}, false
	}
	return waiting[0], true
}

// rings reports whether a prompt waits that is not silent.
func (d *desk) rings(now time.Time) bool {
	waiting := d.waiting(now)
	return len(waiting) > 0 && !waiting[0].Silent
}

// waiting returns the prompts that can be answered now, the silent ones last.
func (d *desk) waiting(now time.Time) []agent.Prompt {
	var waiting []agent.Prompt
	for _, p := range d.screen.Prompts {
		if now.Before(p.ExpireTime()) {
			waiting = append(waiting, p)
		}
	}
	return waiting
}

func (d *desk) open(now time.Time) bool {
	return slices.ContainsFunc(d.waiting(now), d.prompt.Same)
}

// more returns how many prompts wait behind the one that is shown.
func (d *desk) more(now time.Time) int {
	n := len(d.waiting(now))
	if d.view == viewAsk || d.view == viewSending && d.open(now) {
		n--
	}
	return n
}

func (d *desk) goodCode(signIn string) (agent.Code, bool) {
	i := slices.IndexFunc(d.codes, func(c agent.Code) bool { return c.Prompt.SignIn == signIn })
	if i < 0 {
		return agent.Code{}, false
	}
	return d.codes[i], true
}

// trackCodes notices the codes that have come and gone.
func (d *desk) trackCodes(now time.Time) {
	before := d.codes
	d.codes = nil
	for _, c := range d.screen.Codes {
		if now.Before(c.ExpireTime) {
			d.codes = append(d.codes, c)
		}
	}
	for _, c := range before {
		if _, good := d.goodCode(c.Prompt.SignIn); good {
			continue
		}
		delete(d.seen, c.Prompt.SignIn)
		if d.view == viewSending && d.prompt.SignIn == c.Prompt.SignIn || d.view == viewReason && d.prompt.SignIn == c.Prompt.SignIn {
			continue // it was taken back
		}
		d.finished++
		if now.Before(c.ExpireTime) {
			d.say("code over: %s: it was used or cancelled", about(c.Prompt))
		} else {
			d.say("code over: %s: it was not used in time", about(c.Prompt))
		}
	}
}

// whyGone says why a prompt that was not answered here is gone, as far as it is known.
func (d *desk) whyGone(p agent.Prompt, now time.Time) string {
	switch {
	case !now.Before(p.ExpireTime()):
		return "its time is over"
	case d.screen.Suspended:
		return "the account was suspended"
	}
	return "it was answered on another device or cancelled"
}

// about names a prompt in one line.
func about(p agent.Prompt) string {
	if p.Action == statement.ActionTrustDevice {
		return fmt.Sprintf("trust for the device %s of %s", text.Isolate(p.Candidate.Name), p.Account)
	}
	where := ""
	if p.Requester.Device != "" {
		where = " on " + text.Isolate(p.Requester.Device)
	}
	return fmt.Sprintf("sign-in of %s to %s%s", p.Account, text.Isolate(p.Application.Name), where)
}

// pastOf says what was answered.
func pastOf(o order) string {
	switch {
	case o.decision == statement.Allow:
		return "allowed"
	case o.reason == statement.Mistake:
		return "noted as a mistake"
	case o.reason == statement.NotMe:
		return "noted as not by you"
	}
	return "denied"
}
