package approval_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/countersignd/countersign/server/approval"
	"github.com/countersignd/countersign/server/approval/storetest"
)

// setting returns a number from the environment, or what an ordinary run takes.
func setting(t *testing.T, name string, ordinary int) int {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return ordinary
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		t.Fatalf("%s = %q, want a positive number", name, s)
	}
	return n
}

// known signs the owner in once, and returns what makes her browser a known
// requester.
func (w *world) known(token string, mac *device) string {
	w.t.Helper()
	s := w.begin(token, mac.account)
	a, err := w.broker.VerifySignIn(w.t.Context(), token, s.ID, mac.allow(s.ID))
	if err != nil {
		w.t.Fatal(err)
	}
	return a.RequesterToken
}

// TestA3BombingForADay bombs an account for a simulated day, from one address
// and from ten thousand, and by devices that ask to be trusted besides. Half of
// the bombs are the same requester that asks again, which rings the same sign-in
// once more. The owner signs in on her own browser once an hour.
//
// COUNTERSIGN_BOMBS is how many bombs fall in a minute: 600 in a full run. In an
// ordinary run it is 3, which leaves out what is refused and changes nothing: who
// finds no place gets none by asking more often.
func TestA3BombingForADay(t *testing.T) {
	bombs := setting(t, "COUNTERSIGN_BOMBS", 3)
	for _, sources := range []int{1, 10_000} {
		t.Run(fmt.Sprintf("from %d addresses", sources), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { bomb(t, sources, bombs) })
		})
	}
}

func bomb(t *testing.T, sources, bombs int) {
	w := newWorld(t, storetest.NewMemory())
	w.account("ada")
	files := w.application("files")
	mac := w.enroll("ada")
	known := w.known(files, mac)
	time.Sleep(time.Hour)
	var audible []time.Time // to strangers
	begun, silent, refused, most := 0, 0, 0, 0
	heard := func() {
		now := time.Now()
		audible = append(audible, now)
		last := 0
		for _, at := range audible {
			if now.Sub(at) < time.Hour {
				last++
			}
		}
		most = max(most, last)
	}
	random := rand.New(rand.NewPCG(1, uint64(sources)))
	step := time.Minute / time.Duration(bombs)
	start := time.Now()
	nextSignIn, nextDevice, owned := start.Add(time.Hour), start, 0
	persistent, rings, again := []approval.Request{}, map[string]int{}, 0
	for time.Since(start) < 24*time.Hour {
		address := fmt.Sprintf("198.18.%d.%d", random.IntN(sources)/256, random.IntN(sources)%256)
		request := w.asking("ada", "", address)
		if len(persistent) < 5 {
			persistent = append(persistent, request)
		}
		if random.IntN(2) == 0 {
			request = persistent[random.IntN(len(persistent))]
		}
		s, err := w.broker.BeginSignIn(t.Context(), files, request)
		before, repeated := rings[s.ID]
		rung := err == nil && s.Rings > before
		rings[s.ID] = s.Rings
		switch {
		case errors.Is(err, &approval.Error{Reason: approval.ReasonTooManySignIns}):
			refused++
		case err != nil:
			t.Fatal(err)
		case repeated && rung:
			again++
			heard()
		case repeated: // in vain
		case s.Silent != "":
			begun++
			silent++
		default:
			begun++
			heard()
		}
		if !time.Now().Before(nextDevice) {
			nextDevice = nextDevice.Add(5 * time.Minute)
			if w.rings(mac, func() { w.newDevice().requestTrust("ada") }) {
				heard()
			}
		}
		if !time.Now().Before(nextSignIn) {
			nextSignIn = nextSignIn.Add(time.Hour)
			s, err := w.broker.BeginSignIn(t.Context(), files, w.asking("ada", known, "203.0.113.7"))
			if err != nil || s.Silent != "" || s.Lane != approval.LaneKnown {
				t.Fatalf("the owner's own sign-in %d = %s, silent %q, %v, want it to ring", owned, s.Lane, s.Silent, err)
			}
			if screen, err := mac.screen(); err != nil || screen.Prompts[0].SignIn != s.ID && screen.Prompts[0].Silent {
				t.Fatalf("the owner's own prompt is not before the silent ones: %v", err)
			}
			if _, err := w.broker.VerifySignIn(t.Context(), files, s.ID, mac.allow(s.ID)); err != nil {
				t.Fatalf("the owner's own sign-in %d = %v", owned, err)
			}
			owned++
		}
		time.Sleep(step)
	}
	t.Logf("%d asked, %d refused, %d opened in silence, %d rang, %d of them when asked again; at most %d rang in an hour; the owner signed in %d times of %d",
		begun+refused, refused, silent, len(audible), again, most, owned, 23)
	if most > 6 || len(audible) < 24 || again == 0 || owned != 23 {
		t.Errorf("strangers rang up to %d times in an hour and %d times in all, the owner signed in %d times; want at most 6, and not never, also by asking again, and 23", most, len(audible), owned)
	}
}

// rings reports whether do rings the device.
func (w *world) rings(d *device, do func()) bool {
	w.t.Helper()
	before, err := d.screen()
	if err != nil {
		w.t.Fatal(err)
	}
	do()
	after, err := d.screen()
	if err != nil {
		w.t.Fatal(err)
	}
	n := func(s approval.Screen) (audible int) {
		for _, p := range s.Prompts {
			if !p.Silent {
				audible++
			}
		}
		return audible
	}
	return n(after) > n(before)
}

// TestA2GuessingForAYear lets somebody who has the password begin a sign-in
// whenever one may ring, from as many addresses as he likes, for a year. The owner
// allows one prompt in a hundred by mistake, and each mistake is guessed at five
// times. The others she leaves unanswered, which is the worst that she can do:
// she never says that it was not her.
//
// In an ordinary run the unanswered ones are left out: that they ring is assumed,
// and they change nothing about the codes. With COUNTERSIGN_UNANSWERED=1 they
// are played. COUNTERSIGN_MISTAKES is the share of mistakes in a thousand.
func TestA2GuessingForAYear(t *testing.T) {
	never := func(approval.LaneStatus) bool { return false }
	for _, owner := range []struct {
		name    string
		weekly  bool // she signs in on a browser that is not known once a week
		unlocks func(approval.LaneStatus) bool
		most    int // codes that are compared
	}{
		{"never unlocks", false, never, 60},
		{"never unlocks, and signs in on a new browser every week", true, never, 13 * 30},
		{"unlocks when the lane is closed", false, func(l approval.LaneStatus) bool { return !l.Closed.IsZero() }, 13 * 60},
		{"unlocks whenever it helps", false, func(l approval.LaneStatus) bool { return !l.Closed.IsZero() || !l.BarredUntil.IsZero() }, math.MaxInt},
	} {
		t.Run("an owner who "+owner.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if compared := guess(t, owner.weekly, owner.unlocks); compared > owner.most || compared == 0 {
					t.Errorf("%d codes were compared in a year, want 1 to %d", compared, owner.most)
				}
			})
		})
	}
}

// tryOnNewBrowser is the owner who signs in where she is not known. While wrong codes
// bar the lane it does not work, and she takes a browser that is known.
func (w *world) tryOnNewBrowser(token string, mac *device) {
	w.t.Helper()
	if err := w.broker.Seen(w.t.Context(), mac.id); err != nil {
		w.t.Fatal(err)
	}
	s := w.begin(token, mac.account)
	_, err := w.broker.VerifySignIn(w.t.Context(), token, s.ID, mac.allow(s.ID))
	if err != nil && !errors.Is(err, &approval.Error{Reason: approval.ReasonTooManyFailures}) && !errors.Is(err, &approval.Error{Reason: approval.ReasonCodesClosed}) {
		w.t.Fatal(err)
	}
}

func guess(t *testing.T, weekly bool, unlocks func(approval.LaneStatus) bool) (compared int) {
	w := newWorld(t, storetest.NewMemory())
	w.account("ada")
	files := w.application("files")
	mac := w.enroll("ada")
	mistakes := setting(t, "COUNTERSIGN_MISTAKES", 10)
	unanswered := setting(t, "COUNTERSIGN_UNANSWERED", 2) == 1
	random := rand.New(rand.NewPCG(7, 7))
	begun, rang, allowed, hits, unlocked := 0, 0, 0, 0, 0
	var passed time.Duration      // that was not slept yet
	for i := range 365 * 24 * 6 { // six an hour are the most that ring
		passed += 10 * time.Minute
		if weekly && i%(7*24*6) == 0 {
			time.Sleep(passed)
			passed = 0
			w.tryOnNewBrowser(files, mac)
		}
		mistaken := random.IntN(1000) < mistakes
		if !mistaken && !unanswered {
			continue
		}
		time.Sleep(passed)
		passed = 0
		if err := w.broker.Seen(t.Context(), mac.id); err != nil {
			t.Fatal(err)
		}
		begun++
		address := fmt.Sprintf("198.18.%d.%d", random.IntN(256), random.IntN(256))
		s, err := w.broker.BeginSignIn(t.Context(), files, w.asking("ada", "", address))
		if err != nil {
			t.Fatal(err)
		}
		if s.Silent != "" {
			continue
		}
		if rang++; !mistaken {
			continue
		}
		allowed++
		mac.allow(s.ID)
		for range 5 {
			_, err := w.broker.VerifySignIn(t.Context(), files, s.ID, fmt.Sprintf("%06d", random.IntN(1_000_000)))
			if err == nil {
				hits++
			}
			if err != nil && !errors.Is(err, &approval.Error{Reason: approval.ReasonCodeWrong}) {
				break // not compared; nor is any other
			}
			compared++
		}
		lanes, _, err := w.admin.Lanes(t.Context(), "ada")
		if err != nil {
			t.Fatal(err)
		}
		if unlocks(lanes[1]) {
			unlocked++
			if err := mac.unlock(); err != nil {
				t.Fatal(err)
			}
		}
	}
	chance := -math.Expm1(float64(compared) * math.Log1p(-1e-6))
	t.Logf("a year, unanswered prompts played: %v: %d begun, %d rang, %d mistaken Allows, %d codes compared, %d right, unlocked %d times; the chance to get in is 1-(1-10⁻⁶)^%d = %.1e, one in %.0f",
		unanswered, begun, rang, allowed, compared, hits, unlocked, compared, chance, 1/chance)
	return compared
}
