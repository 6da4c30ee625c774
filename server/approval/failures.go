package approval

import "time"

// An account's wrong codes are counted over all its sign-ins, and neither a
// new sign-in nor a right code clears them (NIST SP 800-63B-4, 3.1.3.2).
var failureBudgets = []struct {
	window time.Duration
	most   int
}{
	{24 * time.Hour, 10},
	{30 * 24 * time.Hour, 30},
}

// failures are the times of an account's wrong codes in the longest window.
type failures struct{ Times []time.Time }

// exhausted reports whether no more code may be compared now.
func (f *failures) exhausted(now time.Time) bool {
	for _, b := range failureBudgets {
		n := 0
		for _, t := range f.Times {
			if now.Sub(t) < b.window {
				n++
			}
		}
		if n >= b.most {
			return true
		}
	}
	return false
}

func (f *failures) add(now time.Time) {
	longest := failureBudgets[len(failureBudgets)-1]
	kept := f.Times[:0]
	for _, t := range f.Times {
		if now.Sub(t) < longest.window {
			kept = append(kept, t)
		}
	}
	f.Times = append(kept, now)
}
