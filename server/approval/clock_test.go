package approval

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestA19TheClockNeverGoesBack is the clock as a table: readings of the
// machine's two clocks in a row, as they are when nothing happens, when the
// wall clock is set, and when the machine sleeps, which stops the monotonic one.
func TestA19TheClockNeverGoesBack(t *testing.T) {
	type reading struct{ wall, passed, want, step time.Duration } // since the clock was started
	const h, m, s = time.Hour, time.Minute, time.Second
	for _, test := range []struct {
		name     string
		mark     time.Duration // how far what the store knows of is ahead of the machine's clock
		readings []reading
	}{
		{"nothing happens", -h, []reading{{0, 0, 0, 0}, {s, s, s, 0}, {h, h, h, 0}}},
		{"set back by little", 0, []reading{{s, s, s, 0}, {-m, 2 * s, 2 * s, 0}, {0, m + 2*s, m + 2*s, 0}}},
		{"set back by much", 0, []reading{{s, s, s, 0}, {-h, 2 * s, 2 * s, -h - 2*s}, {-h + m, m + 2*s, m + 2*s, -h - 2*s}}},
		{"set back and right again", 0, []reading{{-h, s, s, -h - s}, {2 * s, 2 * s, 2 * s, h + s}, {3 * s, 3 * s, 3 * s, h + s}}},
		{"set forward by little", 0, []reading{{m, s, m, 0}, {m + s, 2 * s, m + s, 0}}},
		{"set forward by much", 0, []reading{{h, s, h, h - s}, {h + s, 2 * s, h + s, h - s}}},
		{"set forward and right again", 0, []reading{{h, s, h, h - s}, {2 * s, 2 * s, h + s, s - h}, {h, h, 2*h - s, s - h}}},
		{"set back minute by minute", 0, []reading{{-m, 0, 0, 0}, {-2 * m, 0, 0, 0}, {-3 * m, 0, 0, -3 * m}}},
		{"asleep for an hour", 0, []reading{{s, s, s, 0}, {h + s, 2 * s, h + s, h - s}}},
		{"started behind the mark", h, []reading{{0, 0, h, 0}, {s, s, h + s, 0}, {2 * h, 2 * s, 2 * h, 2*h - 2*s}}},
	} {
		c := newClock(begun.Add(test.mark), func() time.Time { return begun })
		for i, r := range test.readings {
			if got, want := c.at(begun.Add(r.wall), r.passed), begun.Add(r.want); !got.Equal(want) || c.step != r.step {
				t.Errorf("%s: reading %d = %v after the start and a step of %v, want %v and %v", test.name, i, got.Sub(begun), c.step, r.want, r.step)
			}
		}
	}
}

// Whatever is done to the wall clock: the time goes on at least as fast as the
// monotonic clock, and is never behind the wall clock.
func TestA19NothingLivesLonger(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		seconds := rapid.Custom(func(t *rapid.T) time.Duration {
			return time.Duration(rapid.Int64Range(-1<<28, 1<<28).Draw(t, "seconds")) * time.Second
		})
		c := newClock(begun.Add(seconds.Draw(t, "mark")), func() time.Time { return begun })
		last, passed := c.at(begun, 0), time.Duration(0)
		for range 20 {
			pause := seconds.Draw(t, "pause").Abs()
			passed += pause
			wall := begun.Add(seconds.Draw(t, "wall"))
			now := c.at(wall, passed)
			if now.Sub(last) < pause || now.Before(wall) {
				t.Fatalf("after %v of the monotonic clock %v have passed; the wall clock is %v ahead", pause, now.Sub(last), wall.Sub(now))
			}
			if ahead := c.ahead(); !now.Add(-ahead).Equal(wall) {
				t.Fatalf("the clock says that it is %v ahead, want %v", ahead, now.Sub(wall))
			}
			last = now
		}
	})
}

func TestA13JudgeGeneration(t *testing.T) {
	for _, test := range []struct {
		name           string
		store, outside uint64
		next           uint64
		restored       bool
	}{
		{"as it was left", 7, 7, 7, false},
		{"a crash between", 8, 7, 8, false},
		{"an old copy", 6, 7, 8, true},
		{"a very old copy", 1, 7, 8, true},
		{"a copy from before there were generations", 0, 7, 8, true},
		{"a foreign one", 9, 7, 10, true},
		{"old secrets", 50, 1, 51, true},
		{"no number outside", 7, 0, 8, true},
		{"no number outside, at the first start", 1, 0, 2, true},
		{"from before there were generations", 0, 0, 0, false},
	} {
		next, restored := judgeGeneration(test.store, test.outside)
		if next != test.next || restored != test.restored {
			t.Errorf("%s: judgeGeneration(%d, %d) = %d, %v, want %d, %v", test.name, test.store, test.outside, next, restored, test.next, test.restored)
		}
	}
}
