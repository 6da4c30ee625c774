package approval

import (
	"errors"
	"strings"
	"time"
)

// Observe is who is told what happens, to count it. Its functions may be nil. They
// are called from many goroutines, after the commit of what they are told of and
// with no lock held, and hold up the operation, so they must return at once.
type Observe struct {
	// Recorded is told of each record that was made, also by [Open].
	Recorded func(Observation)

	// Push is told what became of each attempt to push, and of what was never tried.
	Push func(PushService, PushOutcome)

	// Prompt is told of each stage that a prompt has reached on a device, by the
	// device's own words: [DeliveryReceived] or [DeliveryShown]. It is not told of
	// test prompts.
	Prompt func(DeliveryStage)
}

// withDefaults returns what may be called without asking, but for Recorded.
func (o Observe) withDefaults() Observe {
	if o.Push == nil {
		o.Push = func(PushService, PushOutcome) {}
	}
	if o.Prompt == nil {
		o.Prompt = func(DeliveryStage) {}
	}
	return o
}

// An Observation is what may be counted of a [Record]. It has no names: neither
// of an account, a device or an application, nor an address. SignIn is there to
// tell one sign-in from another, and is for no eyes.
type Observation struct {
	Event Event

	// What it has of the sign-in that it is about, if it is about one: as it is
	// afterwards.
	SignIn string // id
	Lane   Lane
	Silent Silence
	Ends   time.Time // when a pending or approved one expires; zero if it is neither

	Cause  CancelCause // with EventSignInCancelled
	Reason string      // with EventSignInDenied and EventDenyReason: statement.Mistake, statement.NotMe or empty
	Code   string      // with EventSignInVerified: which kind of code it was, as the last word of the grant's acr
}

// A PushOutcome is what became of one push.
type PushOutcome string

// The outcomes. All but the first and the last are what follows from a [WakeVerdict].
const (
	PushTaken   PushOutcome = "taken"
	PushRefused PushOutcome = "refused"
	PushLater   PushOutcome = "later"
	PushDead    PushOutcome = "dead"
	PushBroken  PushOutcome = "broken"
	PushDropped PushOutcome = "dropped" // never tried: too many were waiting
)

// PushOutcomes returns every outcome.
func PushOutcomes() []PushOutcome {
	return []PushOutcome{PushTaken, PushRefused, PushLater, PushDead, PushBroken, PushDropped}
}

// outcomeOf returns what became of a push, given what [Waker.Wake] returned.
func outcomeOf(err error) PushOutcome {
	if err == nil {
		return PushTaken
	}
	if refused, ok := errors.AsType[*WakeError](err); ok {
		switch refused.Verdict {
		case WakeRefused:
			return PushRefused
		case WakeDead:
			return PushDead
		case WakeBroken:
			return PushBroken
		}
	}
	return PushLater // also without an answer in time
}

// observed returns the observation of a record, and of the sign-in that it is
// about or nil.
func observed(now time.Time, r *Record, s *SignIn) Observation {
	o := Observation{Event: r.Event}
	if s == nil {
		return o
	}
	o.SignIn, o.Lane, o.Silent = s.ID, s.Lane, s.Silent
	if s.open(now) {
		o.Ends = s.Ends(now)
	}
	switch r.Event {
	case EventSignInCancelled:
		o.Cause = s.CancelCause
	case EventSignInDenied, EventDenyReason:
		o.Reason = s.DenyReason
	case EventSignInVerified:
		o.Code = r.Detail[strings.LastIndexByte(r.Detail, ':')+1:]
	}
	return o
}

// observed notes a record for whoever is told of it.
func (tx *transaction) observed(now time.Time, r *Record, s *SignIn) {
	tx.seen = append(tx.seen, observed(now, r, s))
}
