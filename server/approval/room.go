package approval

import "time"

// How many sign-ins of an account may be open in each lane, pending and
// approved. What strangers have open takes no place from those that are known.
const (
	maxOpenKnown     = 8
	maxOpenUnknown   = 3
	maxOpenEnrolment = 3
)

// enter finds a place for a new sign-in among those that are open, or refuses
// it. A requester has one at a time. Where strangers have taken all places, one
// that crowds out the others gives way, rather than that the owner is shut out:
// it is returned, and the caller cancels it.
func (s *SignIn) enter(open []*SignIn, r *ringing, now time.Time) (leaves *SignIn, err error) {
	of := map[string]int{} // open sign-ins of strangers, by source
	inLane := 0
	for _, o := range open {
		if o.Lane != s.Lane {
			continue
		}
		if o.sameRequester(s) {
			return nil, refuse(ReasonTooManySignIns, "This requester has another sign-in of %s open. Cancel it, or wait until it is answered or has expired.", s.Account)
		}
		inLane++
		of[o.Source]++
	}
	if s.Lane == LaneKnown {
		if inLane >= maxOpenKnown {
			return nil, refuse(ReasonTooManySignIns, "The account %s has %d open sign-ins by known requesters, which is the most. Wait until one is answered or has expired.", s.Account, inLane)
		}
		return nil, nil
	}
	if inLane < maxOpenUnknown {
		return nil, nil
	}
	if of[s.Source] == 0 && !r.silenced(s.Source) {
		leaves = crowding(open, of, r, now)
	}
	if leaves == nil {
		return nil, refuse(ReasonTooManySignIns, "The account %s has %d open sign-ins by requesters that are not known, which is the most. Wait until one is answered or has expired, or let a trusted device deny one.", s.Account, inLane)
	}
	return leaves, nil
}

// crowding returns the oldest pending sign-in of a source that was silenced or
// else, of the source that has the most and more than one; nil if there is none.
func crowding(open []*SignIn, of map[string]int, r *ringing, now time.Time) *SignIn {
	var worst *SignIn
	weight := func(s *SignIn) int {
		if r.silenced(s.Source) {
			return maxOpenUnknown + 1
		}
		return of[s.Source]
	}
	for _, o := range open {
		if o.Lane == LaneUnknown && o.At(now) == Pending && weight(o) > 1 && (worst == nil || weight(o) > weight(worst)) {
			worst = o
		}
	}
	return worst
}

// sameRequester reports whether the same requester asks: in the same session,
// or, where the application names none, with the same words.
func (s *SignIn) sameRequester(o *SignIn) bool {
	if s.Application != o.Application || s.Lane != o.Lane || s.Known != o.Known || s.Requester.Session != o.Requester.Session {
		return false
	}
	return s.Requester.Session != "" || s.Requester == o.Requester
}
