package approval

import (
	"time"

	"github.com/countersignd/countersign/internal/statement"
)

// A step is something that happens to a sign-in. The zero step does nothing.
type step struct {
	kind stepKind

	device string      // stepAllow, stepDeny: the device that decided
	reason string      // stepDeny: statement.Mistake, statement.NotMe or empty
	signed string      // stepAllow, stepDeny: what the device signed, by its SHA-256
	cause  CancelCause // stepCancel

	// stepTry: what of the codes that were typed there is to compare with. The
	// comparison is made only once the machine has counted the try.
	unprompted  bool  // a code that needs no Allow: one that was asked for, or an offline one
	refused     error // why the application's policy takes no such code
	denialFinal bool  // by the application's policy
	barred      error // why no such code may be compared for the account now
	offline     bool  // eight digits were typed, and nothing else
	matches     func() bool
}

type stepKind int

const (
	stepAllow stepKind = iota + 1
	stepDeny
	stepTry
	stepCancel
)

// next is the state machine of a sign-in:
//
//	PENDING ──allow──► APPROVED ──try, right──► VERIFIED
//	   │  │               │ │ └─try, wrong ×5─► CANCELLED
//	   │  └──deny──► DENIED ◄─deny─┘
//	   │                │
//	   └─try, right, by a code that needs no Allow──► VERIFIED
//
// PENDING and APPROVED expire by the clock ([SignIn.At]); all but VERIFIED and
// EXPIRED can be cancelled, DENIED for half an hour.
//
// It returns the sign-in as it is after the step. With an error the sign-in
// comes back unchanged, except that a wrong code has been counted; the caller
// stores what it gets if it differs. The first decision wins; a deny beats an
// allow until the code was used.
func (s SignIn) next(st step, now time.Time) (SignIn, error) {
	switch st.kind {
	case stepAllow:
		return s.allow(st, now)
	case stepDeny:
		return s.deny(st, now)
	case stepTry:
		return s.try(st, now)
	case stepCancel:
		return s.cancel(st, now)
	}
	return s, refuse(ReasonInvalidField, "There is nothing to do.")
}

func (s SignIn) allow(st step, now time.Time) (SignIn, error) {
	switch state := s.At(now); state {
	case Pending:
		s.Recorded = Approved
		s.DecidedBy = st.device
		s.Signed = st.signed
		s.CodeExpires = now.Add(s.CodeLifetime)
		return s, nil
	case Approved:
		if s.DecidedBy == st.device {
			return s, nil // a retry; the code is the same
		}
		return s, refuse(ReasonAllowedElsewhere, "Another device allowed this sign-in first; the code is on that device.")
	default:
		return s, s.closed(state)
	}
}

func (s SignIn) deny(st step, now time.Time) (SignIn, error) {
	switch state := s.At(now); state {
	case Pending, Approved:
		s.Recorded = Denied
		s.DecidedBy = st.device
		s.Signed = st.signed
		s.DenyReason = st.reason
		s.CodeExpires = time.Time{}
		s.Ended = now
		return s, nil
	case Denied:
		if s.settled(now) {
			return s, s.closed(state)
		}
		// The reason is asked for after the denial and comes in a second
		// decision. "This wasn't me" is never taken back by another answer.
		if st.reason != "" && s.DenyReason != statement.NotMe {
			s.DenyReason = st.reason
		}
		return s, nil
	default:
		return s, s.closed(state)
	}
}

func (s SignIn) try(st step, now time.Time) (SignIn, error) {
	state := s.At(now)
	undoable := state == Denied && !st.denialFinal && now.Before(s.Expires)
	switch {
	case st.refused != nil && (state == Approved || state == Pending || undoable):
		return s, st.refused
	case state == Approved:
	case st.unprompted && (state == Pending || undoable):
	case state == Pending:
		return s, refuse(ReasonSignInPending, "Nobody has answered on a trusted device yet, so there is no code. Allow the sign-in there first.")
	default:
		return s, s.closed(state)
	}
	if st.barred != nil {
		return s, st.barred
	}
	s.Tries++
	if st.matches() {
		s.Recorded = Verified
		s.Ended = now
		return s, nil
	}
	if left := s.TriesLeft(); left > 0 {
		e := refuse(ReasonCodeWrong, "That code is wrong. Look at the device that allowed it and type its six digits again.")
		if st.offline {
			e = refuse(ReasonCodeWrong, "That code is wrong, too old, or was used before. Wait until the device makes the next one and type its eight digits.")
		}
		e.TriesLeft = left
		return s, e
	}
	s.Recorded = Cancelled
	s.CancelCause = CancelTooManyTries
	s.Ended = now
	return s, refuse(ReasonCodeWrong, "That code is wrong, as were too many before it; this sign-in has ended. Begin a new one.")
}

func (s SignIn) cancel(st step, now time.Time) (SignIn, error) {
	switch state := s.At(now); state {
	case Pending, Approved, Denied:
		if state == Denied && s.settled(now) {
			return s, s.closed(state)
		}
		s.Recorded = Cancelled
		s.CancelCause = st.cause
		s.Ended = now
		return s, nil
	case Cancelled:
		if s.CancelCause != CancelTooManyTries {
			return s, nil
		}
		return s, s.closed(state)
	default:
		return s, s.closed(state)
	}
}

// afterDenial is how long a denial can get its reason, or be cancelled. Who
// verifies the record remembers a sign-in for an hour from its beginning.
const afterDenial = 30 * time.Minute

// settled reports whether a denied sign-in is over for good.
func (s *SignIn) settled(now time.Time) bool { return !now.Before(s.Ended.Add(afterDenial)) }

// closed says why nothing can be done in a state.
func (s SignIn) closed(state State) error {
	switch state {
	case Verified:
		return refuse(ReasonSignInVerified, "The code was used already; a code works once. Begin a new sign-in.")
	case Denied:
		return refuse(ReasonSignInDenied, "The sign-in was not allowed. If that was a mistake, begin a new one.")
	case Expired:
		return refuse(ReasonSignInExpired, "The sign-in was not answered, or its code not used, in time. Begin a new one.")
	case Cancelled:
		if s.CancelCause == CancelTooManyTries {
			return refuse(ReasonTooManyTries, "Too many wrong codes were typed; this sign-in has ended. Begin a new one.")
		}
		return refuse(ReasonSignInCancelled, "The sign-in was called off. Begin a new one.")
	}
	return refuse(ReasonSignInUnknown, "There is no such sign-in. Begin a new one.")
}
