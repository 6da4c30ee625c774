package approval

import (
	"maps"
	"slices"
	"time"
)

// A codeKind is a kind of code that can be guessed at.
type codeKind string

// The kinds.
const (
	codesShown   codeKind = "shown"   // six digits: after Allow, or asked for without a prompt
	codesOffline codeKind = "offline" // eight digits, made without the network
)

// failureBudgets are how many wrong codes an account bears in each lane before
// no code of the kind is compared until the window has moved on. Neither a new
// sign-in nor a right code clears them (NIST SP 800-63B-4, 3.1.3.2).
var failureBudgets = map[codeKind][]struct {
	window time.Duration
	most   int
}{
	codesShown:   {{24 * time.Hour, 10}, {longestWindow, 30}},
	codesOffline: {{24 * time.Hour, 5}, {longestWindow, 20}},
}

const longestWindow = 30 * 24 * time.Hour

// longestRun is after how many wrong codes in a row a lane is closed until a
// trusted device or an administrator opens it again. All lanes of an account
// together bear 100 (NIST SP 800-63B-4, 3.2.2).
var longestRun = map[Lane]int{LaneUnknown: 60, LaneKnown: 20, LaneEnrolment: 20}

// failures are the wrong codes of an account in one lane.
type failures struct {
	Times  map[codeKind][]time.Time `json:",omitempty"` // in the longest window, oldest first
	Run    int                      `json:",omitzero"`  // of whatever kind, since the last right one
	Closed time.Time                `json:",omitzero"`  // when the run was too long; zero while the lane is open
}

// loadFailures returns the failures of an account in a lane, never nil without
// an error.
func loadFailures(tx *transaction, account string, lane Lane) (*failures, error) {
	a, err := tx.activity(account)
	if err != nil {
		return nil, err
	}
	if f := a.Failures[lane]; f != nil {
		return f.clone(), nil
	}
	return &failures{}, nil
}

func (f *failures) clone() *failures {
	c := *f
	c.Times = maps.Clone(f.Times)
	for kind, times := range c.Times {
		c.Times[kind] = slices.Clone(times)
	}
	return &c
}

// save stores f, which must not be changed afterwards.
func (f *failures) save(tx *transaction, account string, lane Lane) error {
	a, err := tx.activity(account)
	if err == nil {
		if a.Failures == nil {
			a.Failures = map[Lane]*failures{}
		}
		a.Failures[lane], a.changed = f, true
	}
	return err
}

// barred says why no code of the kind may be compared now, or returns nil.
func (f *failures) barred(kind codeKind, now time.Time) error {
	if !f.Closed.IsZero() {
		return refuse(ReasonCodesClosed, "So many wrong codes were typed in a row that none is compared any more. Run countersign-agent unlock on a trusted device, or ask an administrator to unlock the account.")
	}
	for _, b := range failureBudgets[kind] {
		if f.within(kind, b.window, now) >= b.most && kind == codesOffline {
			return refuse(ReasonTooManyFailures, "Too many wrong offline codes were typed lately; none is compared until later. Allow the sign-in on a trusted device and type the six digits that it shows. If the codes were not typed by you, tell an administrator.")
		}
		if f.within(kind, b.window, now) >= b.most {
			return refuse(ReasonTooManyFailures, "Too many wrong codes were typed lately; no code is compared until later. Run countersign-agent unlock on a trusted device, or ask an administrator to unlock the account. If the codes were not typed by you, tell an administrator.")
		}
	}
	return nil
}

// within returns how many wrong codes of the kind the window holds.
func (f *failures) within(kind codeKind, window time.Duration, now time.Time) int {
	n := 0
	for _, t := range f.Times[kind] {
		if now.Sub(t) < window {
			n++
		}
	}
	return n
}

// wrong counts a wrong code, which is one however many kinds it was compared
// with.
func (f *failures) wrong(lane Lane, now time.Time, kinds ...codeKind) {
	if f.Times == nil {
		f.Times = map[codeKind][]time.Time{}
	}
	for _, kind := range kinds {
		f.Times[kind] = append(slices.DeleteFunc(f.Times[kind], func(t time.Time) bool { return now.Sub(t) >= longestWindow }), now)
	}
	if f.Run++; f.Run >= longestRun[lane] && f.Closed.IsZero() {
		f.Closed = now
	}
}

// right ends the run of wrong codes, and clears nothing else.
func (f *failures) right() { f.Run = 0 }

// barredUntil returns when codes of the kind are compared again after too many
// wrong ones; zero if they are now.
func (f *failures) barredUntil(kind codeKind, now time.Time) time.Time {
	var until time.Time
	for _, b := range failureBudgets[kind] {
		if f.within(kind, b.window, now) < b.most {
			continue
		}
		times := f.Times[kind]
		if ends := times[len(times)-b.most].Add(b.window); ends.After(until) {
			until = ends
		}
	}
	return until
}

// closed says until when no code of one of the kinds is compared, "" if all are.
func (f *failures) closed(now time.Time, kinds ...codeKind) string {
	if !f.Closed.IsZero() {
		return "until it is unlocked"
	}
	var until time.Time
	for _, kind := range kinds {
		if t := f.barredUntil(kind, now); t.After(until) {
			until = t
		}
	}
	if until.IsZero() {
		return ""
	}
	return "until " + until.UTC().Format(time.RFC3339)
}
