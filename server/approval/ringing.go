package approval

import (
	"maps"
	"slices"
	"strings"
	"time"
)

// A Silence says why a sign-in was opened without ringing anybody. It is there
// to be answered all the same; the devices show it after those that rang. An
// empty Silence rang.
type Silence string

// The silences.
const (
	SilentBudget Silence = "budget" // the account was rung as often as it bears in an hour
	SilentGap    Silence = "gap"    // too soon after others that nobody verified
	SilentSource Silence = "source" // its source was said not to be the owner, or has rung its share
	SilentLane   Silence = "lane"   // two such sources in a short time: no stranger rings for a while
)

// How often an account is rung in an hour. Strangers are those of the unknown
// lane and those that ask to be trusted, together; the latter need no password,
// so they have at most half.
const (
	maxKnownPerHour     = 10
	maxStrangersPerHour = 6
	maxEnrolmentPerHour = 3
	maxPerSource        = 3 // of the strangers' six

	sourceSilence = 20 * time.Minute // after "this wasn't me"
	laneSilence   = time.Hour        // after a second within that time
	maxSilenced   = 16               // sources that are remembered
)

// ringGaps are the times that must pass in a lane of strangers after so many
// rings in a row of which none was verified.
var ringGaps = []time.Duration{0, 30 * time.Second, time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute, 15 * time.Minute}

// ringing is what an account was rung for lately, and by whom it is not rung.
type ringing struct {
	Rung        []ring           `json:",omitempty"` // in the last hour, oldest first
	InVain      map[Lane]int     `json:",omitempty"` // rings in a row of which none was verified
	Silenced    []SilencedSource `json:",omitempty"` // sources that were said not to be the owner
	SilentUntil time.Time        `json:",omitzero"`  // no stranger rings before
}

type ring struct {
	At     time.Time
	Lane   Lane
	Source string
}

// A SilencedSource does not ring an account, because its owner said that it
// was not her.
type SilencedSource struct {
	Source string // an IP address, an IPv6 /64, or "application " and an id
	Until  time.Time
}

// loadRinging returns what there is of an account, never nil without an error,
// without what is over.
func loadRinging(tx *transaction, account string, now time.Time) (*ringing, error) {
	a, err := tx.activity(account)
	if err != nil {
		return nil, err
	}
	r := a.Ringing.clone()
	r.Rung = slices.DeleteFunc(r.Rung, func(x ring) bool { return now.Sub(x.At) >= time.Hour })
	r.Silenced = slices.DeleteFunc(r.Silenced, func(x SilencedSource) bool { return !now.Before(x.Until) })
	return r, nil
}

// save stores r, which must not be changed afterwards.
func (r *ringing) save(tx *transaction, account string) error {
	a, err := tx.activity(account)
	if err == nil {
		a.Ringing, a.changed = *r, true
	}
	return err
}

func (r *ringing) clone() *ringing {
	return &ringing{slices.Clone(r.Rung), maps.Clone(r.InVain), slices.Clone(r.Silenced), r.SilentUntil}
}

// silence says why a request must not ring now, or nothing if it may. The lane
// of known requesters has a budget and nothing else: no stranger can use it up,
// and nothing that is said of a stranger silences it.
func (r *ringing) silence(lane Lane, source string, now time.Time) Silence {
	if lane == LaneKnown {
		if r.count(func(x ring) bool { return x.Lane == LaneKnown }) >= maxKnownPerHour {
			return SilentBudget
		}
		return ""
	}
	switch {
	case now.Before(r.SilentUntil):
		return SilentLane
	case r.silenced(source):
		return SilentSource
	case r.count(stranger) >= maxStrangersPerHour:
		return SilentBudget
	case lane == LaneEnrolment && r.count(func(x ring) bool { return x.Lane == lane }) >= maxEnrolmentPerHour:
		return SilentBudget
	case r.count(func(x ring) bool { return stranger(x) && x.Source == source }) >= maxPerSource:
		return SilentSource
	}
	for _, x := range slices.Backward(r.Rung) {
		if x.Lane != lane {
			continue
		}
		if now.Sub(x.At) < ringGaps[min(r.InVain[lane], len(ringGaps)-1)] {
			return SilentGap
		}
		break
	}
	return ""
}

func (r *ringing) silenced(source string) bool {
	return slices.ContainsFunc(r.Silenced, func(x SilencedSource) bool { return x.Source == source })
}

func (r *ringing) count(which func(ring) bool) int {
	n := 0
	for _, x := range r.Rung {
		if which(x) {
			n++
		}
	}
	return n
}

func stranger(x ring) bool { return x.Lane != LaneKnown }

// rang counts a ring. That it is answered in vain is assumed until it is
// verified, since bombs are thrown faster than they are answered.
func (r *ringing) rang(lane Lane, source string, now time.Time) {
	r.Rung = append(r.Rung, ring{now, lane, source})
	if r.InVain == nil {
		r.InVain = map[Lane]int{}
	}
	r.InVain[lane]++
}

// notMe silences a source, and all strangers if it is the second in the time of
// the first. It reports whether it did the latter.
func (r *ringing) notMe(source string, now time.Time) (all bool) {
	all = len(r.Silenced) > 0
	if all {
		r.SilentUntil = now.Add(laneSilence)
	}
	r.Silenced = slices.DeleteFunc(r.Silenced, func(x SilencedSource) bool { return x.Source == source })
	r.Silenced = append(r.Silenced, SilencedSource{source, now.Add(sourceSilence)})
	if n := len(r.Silenced) - maxSilenced; n > 0 {
		r.Silenced = r.Silenced[n:]
	}
	return all
}

// endVain ends a lane's row of rings in vain, because one was verified.
func endVain(tx *transaction, account string, lane Lane, now time.Time) error {
	r, err := loadRinging(tx, account, now)
	if err != nil || r.InVain[lane] == 0 {
		return err
	}
	delete(r.InVain, lane)
	return r.save(tx, account)
}

// requesterSource returns whom a request is charged to: an IPv4 address, or the
// IPv6 /64 that a customer or a host is given. Where the address is unknown, all
// that come from the same application are one source.
func requesterSource(address, application string) string {
	switch source := sourceOf(address); {
	case source == "unknown":
		return "application " + application
	case strings.Contains(source, ":"):
		return source + "/64"
	default:
		return source
	}
}

// wasNotMe does what follows when the owner says of a sign-in that it was not
// her: its source rings no more for a while, what it has open is shown without
// a claim on her attention, and if it was a known requester, it no longer is.
func wasNotMe(tx *transaction, now time.Time, s *SignIn, by Record) (all bool, err error) {
	if s.Known != "" {
		if err := tx.Delete(bucketRequesters, s.Account+"/"+s.Application+"/"+s.Known); err != nil {
			return false, err
		}
	}
	r, err := loadRinging(tx, s.Account, now)
	if damaged(err) {
		return false, nil // nothing rings then, until a backup is restored
	}
	if err != nil {
		return false, err
	}
	all = r.notMe(s.Source, now)
	if err := r.save(tx, s.Account); err != nil {
		return false, err
	}
	by.Event, by.Address, by.Detail = EventSourceSilenced, s.Requester.Address, s.Source+", for 20 minutes"
	if err := recordSignIn(tx, now, s, by); err != nil {
		return false, err
	}
	if all {
		by.Event, by.Address, by.Detail = EventLaneSilenced, "", "for an hour"
		if err := recordSignIn(tx, now, s, by); err != nil {
			return false, err
		}
	}
	open, err := openSignIns(tx, s.Account, now)
	if err != nil {
		return false, err
	}
	for _, o := range open {
		why := r.silence(o.Lane, o.Source, now)
		if o.ID == s.ID || o.Lane == LaneKnown || o.Silent != "" || why != SilentLane && !r.silenced(o.Source) {
			continue
		}
		o.Silent = why
		if err := saveSignIn(tx, now, o); err != nil {
			return false, err
		}
	}
	return all, nil
}
