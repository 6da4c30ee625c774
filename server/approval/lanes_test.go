package approval_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/countersignd/countersign/internal/statement"
	"github.com/countersignd/countersign/server/approval"
	"github.com/countersignd/countersign/server/approval/storetest"
)

// ask begins a sign-in and wants it to be as loud as silent says.
func (w *world) ask(token, what string, r approval.Request, silent approval.Silence) approval.SignIn {
	w.t.Helper()
	s, err := w.broker.BeginSignIn(w.t.Context(), token, r)
	if err != nil {
		w.t.Fatalf("%s: %v", what, err)
	}
	if s.Silent != silent {
		w.t.Errorf("%s: silent because of %q, want %q", what, s.Silent, silent)
	}
	return s
}

func TestAStrangersRingsComeInGrowingGaps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.account("ada")
		files := w.application("files")
		mac := w.enroll("ada")
		n := 0
		ask := func(what string, silent approval.Silence) {
			t.Helper()
			n++
			s := w.ask(files, what, w.asking("ada", "", fmt.Sprintf("198.18.0.%d", n)), silent)
			if _, err := mac.decide(s.ID, statement.Deny, statement.Mistake); err != nil {
				t.Fatal(err)
			}
		}
		ask("the first", "")
		for _, gap := range []time.Duration{30 * time.Second, time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute} {
			time.Sleep(gap - time.Nanosecond)
			ask(fmt.Sprint("just before ", gap), approval.SilentGap)
			time.Sleep(time.Nanosecond)
			ask(fmt.Sprint("after ", gap), "")
		}
		time.Sleep(15 * time.Minute)
		ask("the seventh in an hour", approval.SilentBudget)
		time.Sleep(45 * time.Minute)
		ask("after an hour", "")
		ask("at once", approval.SilentGap)

		// One that is verified ends the row.
		s := w.ask(files, "a silent one", w.asking("ada", "", "198.18.1.1"), approval.SilentGap)
		if _, err := w.broker.VerifySignIn(t.Context(), files, s.ID, mac.allow(s.ID)); err != nil {
			t.Errorf("a silent sign-in cannot be verified: %v", err)
		}
		ask("after one was verified", "")
	})
}

// TestA3OneSourceRingsThreeTimesAnHour: an address, a /64, or all of unknown
// address that one application asks for.
func TestA3OneSourceRingsThreeTimesAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.account("ada")
		files, mail := w.application("files"), w.application("mail")
		w.enroll("ada")
		for _, same := range [][2]string{{"2001:db8::1", "2001:db8::2:1"}, {"203.0.113.7", "::ffff:203.0.113.7"}, {"", "not an address"}} {
			for i := range 3 {
				w.ask(files, fmt.Sprint(same, i), w.asking("ada", "", same[i%2]), "")
				time.Sleep(15 * time.Minute)
			}
			w.ask(files, fmt.Sprint(same, " once more"), w.asking("ada", "", same[1]), approval.SilentSource)
			// Another application's strangers without an address are others.
			w.ask(mail, "another source", w.asking("ada", "", map[bool]string{true: "", false: "192.0.2.1"}[same[0] == ""]), "")
			time.Sleep(2 * time.Hour)
		}
	})
}

func TestKnownRequesters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.account("ada")
		w.account("bob")
		files, mail := w.application("files"), w.application("mail")
		mac, bobs := w.enroll("ada"), w.enroll("bob")
		token := w.known(files, mac)
		if len(token) != 26 {
			t.Fatalf("the token is %q, want 26 characters", token)
		}
		lane := func(what, application string, owner *device, token string, want approval.Lane) approval.SignIn {
			t.Helper()
			s, err := w.broker.BeginSignIn(t.Context(), application, w.asking(owner.account, token, "203.0.113.7"))
			if err != nil || s.Lane != want {
				t.Errorf("%s: lane %q, %v, want %q", what, s.Lane, err, want)
			}
			time.Sleep(10 * time.Minute)
			return s
		}
		lane("a token of another account", files, bobs, token, approval.LaneUnknown)
		lane("a token of another application", mail, mac, token, approval.LaneUnknown)
		lane("a token that never was", files, mac, strings.Repeat("a", 26), approval.LaneUnknown)
		lane("a short one", files, mac, "x", approval.LaneUnknown)
		w.restart()
		lane("the token", files, mac, token, approval.LaneKnown)
		for _, malformed := range []string{strings.Repeat("a", 129), "a b", "ä"} {
			_, err := w.broker.BeginSignIn(t.Context(), files, w.asking("ada", malformed, ""))
			wantReason(t, fmt.Sprintf("token %q", malformed), err, approval.ReasonInvalidField)
		}

		// 90 days from the last finished sign-in, and a finished one extends it.
		finish := func() string {
			t.Helper()
			s, err := w.broker.BeginSignIn(t.Context(), files, w.asking("ada", token, "203.0.113.7"))
			if err != nil {
				t.Fatal(err)
			}
			a, err := w.broker.VerifySignIn(t.Context(), files, s.ID, mac.allow(s.ID))
			if err != nil || !a.RequesterExpires.Equal(time.Now().Add(90*24*time.Hour)) {
				t.Fatalf("VerifySignIn: known until %v, %v", a.RequesterExpires, err)
			}
			return a.RequesterToken
		}
		sleep := func(days int) {
			for range days {
				time.Sleep(24 * time.Hour)
				if err := w.broker.Seen(t.Context(), mac.id); err != nil {
					t.Fatal(err)
				}
			}
		}
		if again := finish(); again != token {
			t.Errorf("the token became %q, want %q again", again, token)
		}
		sleep(89)
		if again := finish(); again != token {
			t.Errorf("the token became %q, want %q again", again, token)
		}
		sleep(90)
		lane("the token after 90 days", files, mac, token, approval.LaneUnknown)
		if another := finish(); another == token {
			t.Error("a token that was over is good again")
		}
	})
}

func TestAnAccountKnows64Requesters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := storetest.NewMemory()
		w := newWorld(t, memory)
		w.account("ada")
		files := w.application("files")
		mac := w.enroll("ada")
		var tokens []string
		for range 70 {
			time.Sleep(20 * time.Minute)
			tokens = append(tokens, w.known(files, mac))
		}
		time.Sleep(time.Hour)
		if n := len(dump(t, memory)["requesters"]); n != 64 {
			t.Errorf("%d requesters are known, want 64", n)
		}
		for i, want := range map[int]approval.Lane{5: approval.LaneUnknown, 6: approval.LaneKnown, 69: approval.LaneKnown} {
			if s := w.ask(files, fmt.Sprint("requester ", i), w.asking("ada", tokens[i], "203.0.113.7"), ""); s.Lane != want {
				t.Errorf("requester %d is %s, want %s", i, s.Lane, want)
			}
		}
		for bucket, entries := range dump(t, memory) {
			for key, value := range entries {
				if strings.Contains(key+value, tokens[69]) {
					t.Errorf("A15: %s/%s holds a requester's token", bucket, key)
				}
			}
		}
	})
}

func TestThisWasntMeSilencesTheSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.account("ada")
		files := w.application("files")
		mac := w.enroll("ada")
		known := w.known(files, mac)
		time.Sleep(time.Hour)
		const thief, cafe = "198.18.0.1", "203.0.113.99"

		s := w.ask(files, "a mistake", w.asking("ada", "", cafe), "")
		if _, err := mac.decide(s.ID, statement.Deny, statement.Mistake); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		s = w.ask(files, "after a mistake", w.asking("ada", "", cafe), "")
		if _, err := w.broker.VerifySignIn(t.Context(), files, s.ID, mac.allow(s.ID)); err != nil {
			t.Fatal(err)
		}

		s = w.ask(files, "the thief", w.asking("ada", "", thief), "")
		time.Sleep(30 * time.Second)
		pending := w.ask(files, "the thief again", w.asking("ada", "", thief), "")
		document := mac.shown(s.ID)
		for _, reason := range []string{"", statement.NotMe} { // the reason comes afterwards
			if _, err := w.broker.Decide(t.Context(), mac.id, mac.decision(document, statement.Deny, reason), ""); err != nil {
				t.Fatal(err)
			}
		}
		screen, err := mac.screen()
		if err != nil || len(screen.Prompts) != 1 || screen.Prompts[0].SignIn != pending.ID || !screen.Prompts[0].Silent {
			t.Errorf("after this-wasn't-me the screen is %+v, %v, want the thief's other prompt, silent", screen.Prompts, err)
		}
		time.Sleep(20*time.Minute - time.Nanosecond)
		w.ask(files, "the thief within 20 minutes", w.asking("ada", "", thief), approval.SilentSource)
		w.ask(files, "another stranger", w.asking("ada", "", cafe), "")
		w.ask(files, "the owner at the thief's address", w.asking("ada", known, thief), "")
		time.Sleep(time.Nanosecond)
		s = w.ask(files, "the thief after 20 minutes", w.asking("ada", "", thief), approval.SilentGap)
		time.Sleep(time.Hour)

		// A second one within the time silences all strangers, also devices that
		// ask to be trusted, and nobody who is known.
		for i := range 2 {
			s = w.ask(files, fmt.Sprint("thief ", i), w.asking("ada", "", fmt.Sprint("198.18.1.", i)), "")
			if _, err := mac.decide(s.ID, statement.Deny, statement.NotMe); err != nil {
				t.Fatal(err)
			}
			time.Sleep(5 * time.Minute)
		}
		w.ask(files, "another stranger after two", w.asking("ada", "", cafe), approval.SilentLane)
		w.ask(files, "the owner after two", w.asking("ada", known, cafe), "")
		if w.rings(mac, func() { w.newDevice().requestTrust("ada") }) {
			t.Error("a device that asks to be trusted rings while strangers are silent")
		}
		lanes, sources, err := w.admin.Lanes(t.Context(), "ada")
		if err != nil || len(sources) != 2 || !lanes[1].SilentUntil.Equal(time.Now().Add(55*time.Minute)) || !lanes[0].SilentUntil.IsZero() {
			t.Errorf("Lanes = %+v, %+v, %v, want two sources and strangers silent for 55 minutes", lanes, sources, err)
		}
		for event, want := range map[approval.Event]int{approval.EventSourceSilenced: 3, approval.EventLaneSilenced: 1} {
			if got := w.recorded(event); got != want {
				t.Errorf("%s is on record %d times, want %d", event, got, want)
			}
		}
		time.Sleep(55 * time.Minute)
		w.ask(files, "a stranger after the hour", w.asking("ada", "", cafe), "")
	})
}

// recorded returns how often an event is on record.
func (w *world) recorded(event approval.Event) int {
	w.t.Helper()
	records, _, err := w.admin.ListRecords(w.t.Context(), approval.RecordFilter{}, approval.Page{Size: 1000})
	if err != nil {
		w.t.Fatal(err)
	}
	n := 0
	for _, r := range records {
		if r.Event == event {
			n++
		}
	}
	return n
}

func TestThisWasntMeForgetsAKnownRequester(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.account("ada")
		files := w.application("files")
		mac := w.enroll("ada")
		stolen, own := w.known(files, mac), w.known(files, mac)
		s := w.ask(files, "the thief", w.asking("ada", stolen, "198.18.0.1"), "")
		if _, err := mac.decide(s.ID, statement.Deny, statement.NotMe); err != nil {
			t.Fatal(err)
		}
		if s := w.ask(files, "the thief again", w.asking("ada", stolen, "198.18.0.1"), approval.SilentSource); s.Lane != approval.LaneUnknown {
			t.Errorf("the thief is %s, want unknown", s.Lane)
		}
		if s := w.ask(files, "the owner", w.asking("ada", own, "198.18.0.1"), ""); s.Lane != approval.LaneKnown {
			t.Errorf("the owner is %s, want known", s.Lane)
		}
	})
}

func TestTheSourceIsThrottledBeforeTheOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.account("ada")
		files := w.application("files")
		mac := w.enroll("ada")
		begin := func(address string) (approval.SignIn, error) {
			return w.broker.BeginSignIn(t.Context(), files, w.asking("ada", "", address))
		}
		state := func(s approval.SignIn) (approval.State, approval.CancelCause) {
			t.Helper()
			got, err := w.broker.SignIn(t.Context(), files, s.ID)
			if err != nil {
				t.Fatal(err)
			}
			return got.At(time.Now()), got.CancelCause
		}
		var thiefs []approval.SignIn
		for range 3 {
			s, err := begin("198.18.0.1")
			if err != nil {
				t.Fatal(err)
			}
			thiefs = append(thiefs, s)
			time.Sleep(time.Second)
		}
		mac.allow(thiefs[0].ID) // what was allowed gives no place up
		watch := w.broker.WatchSignIn(thiefs[1].ID)
		defer watch.Close()
		owner, err := begin("203.0.113.7")
		if err != nil {
			t.Fatalf("the owner finds no place: %v", err)
		}
		if err := watch.Wait(t.Context()); err != nil {
			t.Error(err)
		}
		for i, want := range []approval.State{approval.Approved, approval.Cancelled, approval.Pending} {
			if got, cause := state(thiefs[i]); got != want || want == approval.Cancelled && cause != approval.CancelMadeRoom {
				t.Errorf("the thief's sign-in %d is %v because of %q, want %v", i, got, cause, want)
			}
		}
		_, err = begin("198.18.0.1")
		wantReason(t, "the thief again", err, approval.ReasonTooManySignIns)
		_, err = begin("203.0.113.7")
		wantReason(t, "the owner again, who has a place", err, approval.ReasonTooManySignIns)
		if _, err := begin("198.18.0.2"); err != nil {
			t.Errorf("a third source while the thief has two = %v", err)
		}
		_, err = begin("198.18.0.3")
		wantReason(t, "a fourth source", err, approval.ReasonTooManySignIns)

		// A silenced source gives way also if it has one only, and takes none.
		if _, err := mac.decide(owner.ID, statement.Deny, statement.NotMe); err != nil {
			t.Fatal(err)
		}
		silenced, err := begin("203.0.113.7")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := begin("198.18.0.3"); err != nil {
			t.Errorf("a source while a silenced one has a place = %v", err)
		}
		if got, _ := state(silenced); got != approval.Cancelled {
			t.Errorf("the silenced source's sign-in is %v, want cancelled", got)
		}
	})
}

func TestADeviceFillsNoRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.account("ada")
		files := w.application("files")
		mac, phone := w.enroll("ada"), w.enroll("ada")
		rename := func(i int) error {
			_, err := w.broker.UpdateDevice(t.Context(), mac.id, approval.Update{Name: fmt.Sprint("Mac ", i)}, "")
			return err
		}
		calls := []func(i int) error{
			func(int) error { _, err := mac.requestCode(); return err },
			func(int) error { return mac.unlock() },
			func(int) error {
				_, err := w.broker.CreateRecoveryCodes(t.Context(), mac.id, mac.renewal(), "")
				return err
			},
			rename,
		}
		for i := range 30 {
			// Who has the identity key alone can rename, and uses nothing else up.
			if err := rename(i); err != nil {
				t.Fatalf("name %d: %v", i, err)
			}
		}
		wantReason(t, "a name after 30", rename(100), approval.ReasonRateLimited)
		for i := range 30 {
			if err := calls[i%3](i); err != nil {
				t.Fatalf("call %d: %v", i, err)
			}
		}
		for i, call := range calls {
			wantReason(t, fmt.Sprint("call of kind ", i, " after 30"), call(100), approval.ReasonRateLimited)
		}
		s := w.begin(files, "ada")
		if _, err := mac.decide(s.ID, statement.Deny, statement.NotMe); err != nil {
			t.Errorf("denying = %v", err)
		}
		if err := mac.revoke(phone.id); err != nil {
			t.Errorf("revoking = %v", err)
		}
		time.Sleep(time.Hour)
		if _, err := mac.requestCode(); err != nil {
			t.Errorf("a code after an hour = %v", err)
		}
	})
}
