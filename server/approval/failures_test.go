package approval

import (
	"testing"
	"time"
)

func TestFailureBudgets(t *testing.T) {
	for kind, want := range map[codeKind]struct{ day, month int }{codesShown: {10, 30}, codesOffline: {5, 20}} {
		now := begun
		var f failures
		for i := range want.day {
			if err := f.barred(kind, now); err != nil {
				t.Fatalf("%s: barred after %d failures: %v", kind, i, err)
			}
			f.wrong(LaneUnknown, now, kind)
		}
		if got := reasonOf(f.barred(kind, now.Add(24*time.Hour-1))); got != ReasonTooManyFailures {
			t.Errorf("%s: %d failures in 24 hours = %v, want TooManyFailures", kind, want.day, got)
		}
		f.right()
		if got := reasonOf(f.barred(kind, now)); got != ReasonTooManyFailures {
			t.Errorf("%s: after a right code = %v, want TooManyFailures still", kind, got)
		}
		if err := f.barred(kind, now.Add(24*time.Hour)); err != nil {
			t.Errorf("%s: the window did not move on: %v", kind, err)
		}
		for day := 1; day*want.day < want.month; day++ {
			for range want.day {
				f.wrong(LaneUnknown, now.Add(time.Duration(day)*24*time.Hour), kind)
			}
		}
		if got := reasonOf(f.barred(kind, now.Add(29*24*time.Hour))); got != ReasonTooManyFailures {
			t.Errorf("%s: %d failures in 30 days = %v, want TooManyFailures", kind, want.month, got)
		}
		for other := range failureBudgets {
			if err := f.barred(other, now.Add(29*24*time.Hour)); other != kind && err != nil {
				t.Errorf("failures of %s bar %s: %v", kind, other, err)
			}
		}
		f.wrong(LaneUnknown, now.Add(30*24*time.Hour), kind)
		if got := len(f.Times[kind]); got != want.month-want.day+1 {
			t.Errorf("%s: %d times are kept, want those of 30 days", kind, got)
		}
	}
}

// TestAHundredWrongCodesInARowCloseAllLanes counts how many are compared, at
// most, if no window ever stood in the way.
func TestAHundredWrongCodesInARowCloseAllLanes(t *testing.T) {
	compared := 0
	for _, lane := range Lanes() {
		var f failures
		now := begun
		for f.barred(codesShown, now) == nil {
			f.wrong(lane, now, codesShown)
			compared++
			now = now.Add(31 * 24 * time.Hour)
		}
		if got := reasonOf(f.barred(codesOffline, now)); got != ReasonCodesClosed {
			t.Errorf("%s: another kind of code = %v, want CodesClosed", lane, got)
		}
		f.right()
		if got := reasonOf(f.barred(codesShown, now.AddDate(100, 0, 0))); got != ReasonCodesClosed {
			t.Errorf("%s: after a century = %v, want CodesClosed", lane, got)
		}
	}
	if compared != 100 {
		t.Errorf("%d wrong codes in a row were compared, want 100", compared)
	}
	var f failures
	for range 50 {
		f.wrong(LaneKnown, begun, codesShown)
		f.right()
	}
	if !f.Closed.IsZero() {
		t.Error("wrong codes that were not in a row closed the lane")
	}
}
