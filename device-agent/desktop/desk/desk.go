// Package desk holds what the person has in front of her, without a window: it
// takes what happens, one thing after another, and says what is to be shown and
// sent. Windows draw what [Desk.View] says and hand in what is pressed.
//
// # What it sees to
//
//   - It decides nothing without a press, and signs nothing: an [Order] is sent
//     by the caller, with the very prompt that was shown.
//   - A press counts only if what is in front of the person has been there for
//     [MinLook]: what comes earlier was meant for something else. A key counts
//     only if the keyboard has been quiet for [MinQuiet] besides, so one that is held
//     down never counts.
//   - Toolkits do not say when something was pressed, and tell it late if the machine is
//     slow. What was pressed before a beat ([Desk.Beat]) has been told when the next one
//     comes. So a press is taken to be as old as the beat before the last.
//   - There is one thing to deal with at a time: a prompt, or the code of one that
//     was allowed. The others wait, and it says how many.
//   - To put something away decides nothing. It comes back when it is asked for.
//   - A silent prompt does not come up by itself, and makes room for one that rings.
//   - A prompt that rings again comes up again, also if it was put away.
//   - A test prompt is no prompt: it comes behind all else, makes room for all else, and
//     offers nothing but to put it away.
//   - Prompts and codes end at their time, whether or not anybody says so.
//
// It has no goroutine and no clock: every method is told the time.
package desk

import (
	"maps"
	"slices"
	"time"

	"github.com/countersignd/countersign/device-agent/agent"
	"github.com/countersignd/countersign/internal/statement"
)

const (
	// MinLook is how long something must have been in front of the person
	// before a press counts.
	MinLook = 600 * time.Millisecond

	// MinQuiet is how long the keyboard must have been quiet before a key counts.
	MinQuiet = 300 * time.Millisecond

	// BeatTime is how often [Desk.Beat] is to be called.
	BeatTime = 50 * time.Millisecond

	// reasonTime is how long the question for a reason stands. The denial
	// itself has been taken before.
	reasonTime = 30 * time.Second

	// goneTime is how long it says why a prompt is gone.
	goneTime = 8 * time.Second
)

// A Kind is what sort of thing is in front of the person.
type Kind int

// The kinds. The zero Kind shows nothing.
const (
	Nothing Kind = iota // nothing to do, or all of it was put away
	Ask                 // a prompt
	Sending             // the answer is on its way
	Reason              // why was it denied?
	Gone                // the prompt that was shown is gone
	Code                // the code to type
	Test                // a test prompt
)

// A Press is what the person may press.
type Press int

// The presses. What a view does not offer decides nothing in it.
const (
	None    Press = iota
	Allow         // in Ask
	Deny          // in Ask; in Sending and Code it takes an Allow back
	Mistake       // in Reason: it was me
	NotMe         // in Reason: it was not
	PutAway       // anywhere, as Escape and the window's own button do; decides nothing
)

// A Cause is why something is gone or could not be sent.
type Cause int

// The causes.
const (
	Unknown   Cause = iota
	Elsewhere       // answered on another device, or cancelled
	Expired         // its time is over
	Suspended       // the account was suspended
	Failed          // the answer could not be handed in: see View.Err
)

// An Order is an answer that is to be handed in.
type Order struct {
	Prompt           agent.Prompt // as it was shown
	Decision, Reason string
}

// A View is what is in front of the person at one moment.
type View struct {
	Kind   Kind
	Prompt agent.Prompt     // that it is about; in Code that which was allowed, if any
	Code   agent.Code       // of Code
	Test   agent.TestPrompt // of Test
	Left   time.Duration    // until it is over
	More   int              // how many other prompts wait
	Live   bool             // it has been there long enough: presses count
	Order  Order            // of Sending: what is on its way
	Back   bool             // of Sending: an Allow is being taken back
	Cause  Cause            // of Gone, and of Ask if the answer before could not be handed in
	Err    error            // with Failed
}

// A Desk is what one person deals with. Its methods must be called one at a time.
type Desk struct {
	screen agent.Screen
	kind   Kind
	prompt agent.Prompt     // of Ask, Sending, Reason and Gone
	code   agent.Code       // of Code
	test   agent.TestPrompt // of Test

	since    time.Time    // when it was put up, or may have moved under the pointer
	beats    [2]time.Time // when the last two beats were, the older one first
	lastKey  time.Time    // when a key was last pressed, whether it counted or not
	until    time.Time    // when Reason and Gone end
	cause    Cause
	err      error
	sent     Order // of Sending
	accepted bool  // the server took what was sent; the next screen will show it
	denyNext bool  // deny when what was sent is over

	codes []agent.Code    // that are good, those that were asked for last
	asked []agent.Code    // that were asked for without a prompt
	away  map[string]bool // sign-ins and codes that were put away
	calm  map[string]bool // silent sign-ins that were asked for

	rung map[string]int // how often each prompt has rung; 0 if it is silent
	rang int            // how often anything has

	orders []Order
	cancel bool
	notMe  []string
	seen   []string
}

// New returns an empty desk.
func New() *Desk {
	return &Desk{away: make(map[string]bool), calm: make(map[string]bool), rung: make(map[string]int)}
}

// Show takes what the agent says there is.
func (d *Desk) Show(s agent.Screen, now time.Time) {
	d.screen = s
	for _, p := range s.Prompts {
		if p.Same(d.prompt) {
			d.prompt.Silent, d.prompt.Rings = p.Silent, p.Rings // neither is in the bytes
		}
	}
	d.ring(now)
	d.Tick(now)
}

// Add takes a code that was asked for. The account has one such code at a time.
func (d *Desk) Add(c agent.Code, now time.Time) {
	d.asked = []agent.Code{c}
	delete(d.away, codeKey(c))
	d.trackCodes(now)
	if d.kind == Nothing || d.kind == Code || d.kind == Gone {
		d.putUp(c, now)
	}
	d.Tick(now)
}

// Tick looks at the clock.
func (d *Desk) Tick(now time.Time) {
	d.trackCodes(now)
	for d.step(now) {
	}
}

// step makes one change that is due, and reports whether there was one.
func (d *Desk) step(now time.Time) bool {
	switch d.kind {
	case Ask:
		if d.open(d.prompt, now) {
			// A silent one that lies open must not hide one that rings.
			return d.prompt.Silent && d.rings(now) && d.turn(Nothing, now)
		}
		return d.gone(d.whyGone(now), nil, now)
	case Sending:
		if !d.accepted || d.open(d.prompt, now) {
			return false
		}
		return d.taken(now)
	case Reason, Gone:
		if now.Before(d.until) {
			return false
		}
		return d.turn(Nothing, now)
	case Code:
		c, good := d.goodCode(codeKey(d.code))
		if !good {
			return d.turn(Nothing, now)
		}
		d.code = c
		return false
	case Test:
		if !d.testStands(now) || d.wanted(now) {
			return d.turn(Nothing, now)
		}
		return false
	}
	for _, c := range slices.Backward(d.codes) {
		if !d.away[codeKey(c)] {
			return d.putUp(c, now)
		}
	}
	for _, p := range d.waiting(now) {
		if !d.hidden(p) {
			d.prompt, d.cause, d.err = p, Unknown, nil
			return d.turn(Ask, now)
		}
	}
	return d.putUpTest(now)
}

// taken goes on after the server took an answer.
func (d *Desk) taken(now time.Time) bool {
	d.accepted = false
	switch {
	case d.denyNext:
		return d.send(Order{d.prompt, statement.Deny, ""}, now)
	case d.sent.Decision == statement.Allow, d.sent.Reason != "":
		return d.turn(Nothing, now) // the code, if there is one, comes next
	}
	d.until = now.Add(reasonTime)
	return d.turn(Reason, now)
}

// Answered takes how the handing in of an order ended.
func (d *Desk) Answered(err error, now time.Time) {
	if d.kind != Sending {
		return
	}
	switch {
	case err == nil:
		d.accepted = true
		if d.sent.Reason == statement.NotMe && d.prompt.Action == statement.ActionSignIn {
			d.notMe = append(d.notMe, d.prompt.Account)
		}
	case d.denyNext: // it was called off, and may have counted
		d.send(Order{d.prompt, statement.Deny, ""}, now)
	case d.sent.Reason == "" && d.open(d.prompt, now):
		d.cause, d.err = Failed, err
		d.turn(Ask, now)
	default:
		d.gone(Failed, err, now)
	}
	d.Tick(now)
}

// Beat is to be called about every [BeatTime] while there is something that can be
// pressed, on the goroutine that presses are told on, and never twice before it has
// looked for presses again. If it is called less often, presses count later.
func (d *Desk) Beat(now time.Time) { d.beats = [2]time.Time{d.beats[1], now} }

// Click takes a press of the pointer.
func (d *Desk) Click(p Press, now time.Time) {
	if d.live() {
		d.choose(p, now)
	}
}

// live reports whether a press counts that is told now.
func (d *Desk) live() bool { return d.beats[0].Sub(d.since) >= MinLook }

// Key takes a key. Every key is told, also one that presses nothing ([None]).
func (d *Desk) Key(p Press, now time.Time) {
	quiet := now.Sub(d.lastKey) >= MinQuiet
	d.lastKey = now
	if quiet {
		d.Click(p, now)
	}
}

// Moved says that the window has come up, or that what is in it may have moved
// under the pointer.
func (d *Desk) Moved(now time.Time) { d.since = now }

// choose takes a press that counts.
func (d *Desk) choose(p Press, now time.Time) {
	switch {
	case d.kind == Ask && p == Allow && d.open(d.prompt, now):
		d.send(Order{d.prompt, statement.Allow, ""}, now)
	case d.kind == Ask && p == Deny:
		d.send(Order{d.prompt, statement.Deny, ""}, now)
	case d.kind == Sending && p == Deny && d.sent.Decision == statement.Allow && !d.denyNext:
		d.denyNext, d.cancel = true, true
	case d.kind == Reason && p == Mistake:
		d.send(Order{d.prompt, statement.Deny, statement.Mistake}, now)
	case d.kind == Reason && p == NotMe:
		d.send(Order{d.prompt, statement.Deny, statement.NotMe}, now)
	case d.kind == Code && p == Deny && d.code.Prompt.SignIn != "":
		d.prompt = d.code.Prompt
		d.send(Order{d.prompt, statement.Deny, ""}, now)
	case p == PutAway:
		d.putAway(now)
	}
	d.Tick(now)
}

// putAway puts away what is in front of the person. What is on its way stays.
func (d *Desk) putAway(now time.Time) {
	switch d.kind {
	case Ask:
		d.away[d.prompt.SignIn] = true
		delete(d.calm, d.prompt.SignIn)
		d.turn(Nothing, now)
	case Code:
		d.away[codeKey(d.code)] = true
		d.turn(Nothing, now)
	case Test:
		d.away[d.test.ID] = true
		d.seen = append(d.seen, d.test.ID)
		d.turn(Nothing, now)
	case Reason, Gone:
		d.until = now
	}
}

// BringBack brings back what was put away, and what is silent.
func (d *Desk) BringBack(now time.Time) {
	maps.DeleteFunc(d.away, func(key string, _ bool) bool { // but tests, which are over then
		return !slices.ContainsFunc(d.screen.Tests, func(t agent.TestPrompt) bool { return t.ID == key })
	})
	for _, p := range d.waiting(now) {
		if p.Silent {
			d.calm[p.SignIn] = true
		}
	}
	d.Moved(now)
	d.Tick(now)
}

// View returns what is in front of the person.
func (d *Desk) View(now time.Time) View {
	v := View{Kind: d.kind, Live: d.live(), More: d.more(now)}
	switch d.kind {
	case Ask:
		v.Prompt, v.Cause, v.Err = d.prompt, d.cause, d.err
		v.Left = d.prompt.ExpireTime().Sub(now)
	case Sending:
		v.Prompt, v.Order, v.Back = d.prompt, d.sent, d.denyNext
	case Reason:
		v.Prompt, v.Left = d.prompt, d.until.Sub(now)
	case Gone:
		v.Prompt, v.Cause, v.Err = d.prompt, d.cause, d.err
		v.Left = d.until.Sub(now)
	case Code:
		v.Code, v.Prompt = d.code, d.code.Prompt
		v.Left = d.code.ExpireTime.Sub(now)
	case Test:
		v.Test, v.Left = d.test, d.test.ExpireTime.Sub(now)
	}
	return v
}

// Away returns how many prompts and codes were put away or are silent, and still
// stand.
func (d *Desk) Away(now time.Time) int {
	n := 0
	for _, p := range d.waiting(now) {
		if d.hidden(p) {
			n++
		}
	}
	for _, c := range d.codes {
		if d.away[codeKey(c)] {
			n++
		}
	}
	return n
}

// Screen returns what the agent said last.
func (d *Desk) Screen() agent.Screen { return d.screen }

// TakeOrders returns the answers to hand in, each once. If cancel, what is being
// handed in is to be called off first.
func (d *Desk) TakeOrders() (orders []Order, cancel bool) {
	orders, cancel = d.orders, d.cancel
	d.orders, d.cancel = nil, false
	return orders, cancel
}

// TakeNotMe returns the accounts for which the server took "this wasn't me" since
// it was last called: their passwords may be known to somebody.
func (d *Desk) TakeNotMe() []string {
	accounts := d.notMe
	d.notMe = nil
	return accounts
}

func (d *Desk) send(o Order, now time.Time) bool {
	d.sent, d.accepted, d.denyNext, d.cancel = o, false, false, false
	d.orders = append(d.orders, o)
	return d.turn(Sending, now)
}

func (d *Desk) putUp(c agent.Code, now time.Time) bool {
	d.code = c
	return d.turn(Code, now)
}

func (d *Desk) gone(why Cause, err error, now time.Time) bool {
	d.cause, d.err, d.until = why, err, now.Add(goneTime)
	return d.turn(Gone, now)
}

func (d *Desk) turn(k Kind, now time.Time) bool {
	d.kind, d.since = k, now
	return true
}
