package desk

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/countersignd/countersign/device-agent/agent"
	"github.com/countersignd/countersign/internal/statement"
)

// start is when every test begins.
var start = time.Unix(1_800_000_000, 0)

// prompt is prompt number n, of start.
func prompt(n int) agent.Prompt {
	return agent.Prompt{Prompt: statement.Prompt{
		Account: "ada", Action: statement.ActionSignIn,
		Application: statement.Application{ID: "files", Name: "Files"},
		Created:     start.Unix(), Expires: start.Unix() + 300,
		SignIn: id(n), V: 1,
	}}
}

func id(n int) string { return fmt.Sprintf("%026d", n) }

func codeOf(n int) agent.Code {
	return agent.Code{Prompt: prompt(n), Digits: fmt.Sprintf("%06d", 482912+n), ExpireTime: start.Add(2 * time.Minute)}
}

// screen holds the prompts with these numbers.
func screen(numbers ...int) agent.Screen {
	s := agent.Screen{Connected: true}
	for _, n := range numbers {
		s.Prompts = append(s.Prompts, prompt(n))
	}
	return s
}

func withCode(s agent.Screen, n int) agent.Screen {
	s.Codes = append(s.Codes, codeOf(n))
	return s
}

// A sitting is a desk with a clock.
type sitting struct {
	*Desk
	t   *testing.T
	now time.Time
}

func sit(t *testing.T) *sitting { return &sitting{New(), t, start} }

func (s *sitting) show(screen agent.Screen) { s.Show(screen, s.now) }
func (s *sitting) answered(err error)       { s.Answered(err, s.now) }

// wait lets time pass. At its end everything that was pressed has been told.
func (s *sitting) wait(d time.Duration) {
	s.now = s.now.Add(d)
	s.Tick(s.now)
	s.Beat(s.now)
	s.Beat(s.now)
}

func (s *sitting) click(p Press)                 { s.wait(time.Second); s.Click(p, s.now) }
func (s *sitting) key(p Press)                   { s.wait(time.Second); s.Key(p, s.now) }
func (s *sitting) view() View                    { return s.View(s.now) }
func (s *sitting) about() string                 { return s.view().Prompt.SignIn }
func order(n int, decision, reason string) Order { return Order{prompt(n), decision, reason} }

var equal = cmp.Comparer(func(a, b agent.Prompt) bool { return a.Same(b) })

// want checks what is in front of the person, and what was ordered since the last want.
func (s *sitting) want(kind Kind, orders ...Order) {
	s.t.Helper()
	if got := s.view().Kind; got != kind {
		s.t.Errorf("View().Kind = %d, want %d", got, kind)
	}
	got, _ := s.TakeOrders()
	if diff := cmp.Diff(orders, got, equal); diff != "" {
		s.t.Errorf("orders: -want +got:\n%s", diff)
	}
}

func TestPressesInTheFirstMomentDecideNothing(t *testing.T) {
	for _, p := range []Press{Allow, Deny, PutAway} {
		s := sit(t)
		s.wait(time.Hour)
		s.Click(p, s.now) // before there is anything
		s.now = start
		s.show(screen(1))
		for _, early := range []time.Duration{0, 300, 299} {
			s.wait(early * time.Millisecond)
			s.Click(p, s.now)
			s.Key(p, s.now)
			s.want(Ask)
			if s.view().Live {
				t.Errorf("%v after it came up, View().Live = true, want false", s.now.Sub(start))
			}
		}
		s.wait(time.Millisecond)
		if !s.view().Live {
			t.Error("View().Live = false after MinLook, want true")
		}
		s.Click(p, s.now)
		if got := s.view().Kind; got == Ask {
			t.Errorf("press %d after MinLook did nothing", p)
		}
	}
}

// The prompt under the pointer is answered, and another one comes up there: the
// second half of a double click must not answer that, too.
func TestEachChangeStartsTheFirstMomentAgain(t *testing.T) {
	s := sit(t)
	s.show(screen(1, 2))
	s.click(Deny)
	s.want(Sending, order(1, statement.Deny, ""))
	s.answered(nil)
	s.show(screen(2))
	s.want(Reason)
	s.wait(MinLook - 1)
	s.Click(NotMe, s.now)
	s.want(Reason)
	s.click(PutAway)
	s.want(Ask)
	if s.about() != id(2) {
		t.Fatalf("asked about %s, want the second", s.about())
	}
	s.wait(MinLook - 1)
	for _, p := range []Press{Allow, Deny} {
		s.Click(p, s.now)
	}
	s.want(Ask)
	// The window was covered, moved or resized: what is under the pointer is new.
	s.wait(time.Minute)
	s.Moved(s.now)
	s.wait(MinLook - 1)
	s.Click(Allow, s.now)
	s.want(Ask)
	s.wait(1)
	s.Click(Allow, s.now)
	s.want(Sending, order(2, statement.Allow, ""))
}

func TestPromptReplacedUnderThePointer(t *testing.T) {
	s := sit(t)
	s.show(screen(1))
	s.wait(time.Minute)
	s.show(screen(2)) // the first was cancelled
	s.Click(Allow, s.now)
	s.want(Gone)
	s.wait(goneTime)
	s.want(Ask)
	s.Click(Allow, s.now)
	s.want(Ask)
}

// The machine stands still, and a click that was made in the first moment is told when
// it goes on.
func TestPressesThatAreToldLateDecideNothing(t *testing.T) {
	for name, goesOn := range map[string]func(*sitting){
		"the click comes first":            func(*sitting) {},
		"a beat that was on its way first": func(s *sitting) { s.Beat(s.now) },
	} {
		s := sit(t)
		s.show(screen(1))
		s.wait(100 * time.Millisecond)
		s.now = s.now.Add(10 * time.Second)
		goesOn(s)
		s.Click(Allow, s.now)
		if got := s.view(); got.Kind != Ask || got.Live {
			t.Errorf("%s: view %d, live %v, want %d, false", name, got.Kind, got.Live, Ask)
		}
		// It goes on slowly, and the person can answer all the same.
		for range 2 {
			s.now = s.now.Add(10 * time.Second)
			s.Beat(s.now)
		}
		s.Click(Allow, s.now)
		s.want(Sending, order(1, statement.Allow, ""))
	}
}

func TestKeysThatAreHeldOrTypedElsewhereDecideNothing(t *testing.T) {
	s := sit(t)
	s.show(screen(1))
	// Somebody was typing into another window when this one came up.
	for range 100 {
		s.wait(MinQuiet - 1)
		s.Key(Allow, s.now)
	}
	s.want(Ask)
	s.wait(MinQuiet - 1)
	s.Key(None, s.now) // any key breaks the quiet
	s.wait(MinQuiet - 1)
	s.Key(Allow, s.now)
	s.want(Ask)
	s.wait(MinQuiet)
	s.Key(Allow, s.now)
	s.want(Sending, order(1, statement.Allow, ""))
}

func TestPressesThatTheViewDoesNotOfferDecideNothing(t *testing.T) {
	reach := map[Kind]func(*sitting){
		Nothing: func(*sitting) {},
		Ask:     func(s *sitting) { s.show(screen(1)) },
		Sending: func(s *sitting) { s.show(screen(1)); s.click(Deny); s.TakeOrders() },
		Reason: func(s *sitting) {
			s.show(screen(1))
			s.click(Deny)
			s.TakeOrders()
			s.answered(nil)
			s.show(screen())
		},
		Gone: func(s *sitting) { s.show(screen(1)); s.show(screen()) },
		Code: func(s *sitting) { s.show(withCode(screen(), 1)) },
	}
	offered := map[Kind][]Press{Ask: {Allow, Deny}, Reason: {Mistake, NotMe}, Code: {Deny}}
	for kind, bring := range reach {
		for p := None; p < PutAway; p++ {
			s := sit(t)
			bring(s)
			s.want(kind)
			s.click(p)
			orders, _ := s.TakeOrders()
			want := 0
			for _, o := range offered[kind] {
				if o == p {
					want = 1
				}
			}
			if len(orders) != want {
				t.Errorf("in view %d, press %d ordered %d, want %d", kind, p, len(orders), want)
			}
		}
	}
}

func TestPutAwayDecidesNothing(t *testing.T) {
	s := sit(t)
	s.show(screen(1, 2))
	s.key(PutAway)
	s.want(Ask)
	if s.about() != id(2) || s.view().More != 1 {
		t.Errorf("about %s with %d more, want the second with 1 more", s.about(), s.view().More)
	}
	s.key(PutAway)
	s.want(Nothing)
	if got := s.Away(s.now); got != 2 {
		t.Errorf("Away = %d, want 2", got)
	}
	s.show(screen(1, 2)) // the server repeats itself
	s.want(Nothing)
	s.show(screen(1, 2, 3)) // a new one comes up, the old ones do not
	s.want(Ask)
	if s.about() != id(3) {
		t.Errorf("asked about %s, want the third", s.about())
	}
	s.key(PutAway)
	s.BringBack(s.now)
	s.want(Ask)
	s.Click(Allow, s.now)
	s.want(Ask) // it has just come up
	s.click(Allow)
	s.want(Sending, order(1, statement.Allow, ""))
}

func TestAllowToTheEnd(t *testing.T) {
	s := sit(t)
	s.show(screen(1, 2, 3))
	if got := s.view(); got.More != 2 || got.Left != 5*time.Minute {
		t.Errorf("View() has More %d, Left %v, want 2, 5m0s", got.More, got.Left)
	}
	s.click(Allow)
	s.want(Sending, order(1, statement.Allow, ""))
	s.answered(nil)
	s.show(screen(1, 2, 3)) // sent before the answer came in
	s.want(Sending)
	s.show(withCode(screen(2, 3), 1))
	s.want(Code)
	if got := s.view(); got.Code.Digits != "482913" || got.More != 2 {
		t.Errorf("code %s, %d more, want 482913, 2", got.Code.Digits, got.More)
	}
	s.click(PutAway) // typed: the next one, please
	s.want(Ask)
	s.click(PutAway)
	s.click(PutAway)
	s.want(Nothing)
	s.BringBack(s.now)
	s.want(Code)
	s.show(screen(2, 3)) // it was used
	s.want(Ask)
}

func TestDenyAndReason(t *testing.T) {
	for p, reason := range map[Press]string{Mistake: statement.Mistake, NotMe: statement.NotMe} {
		s := sit(t)
		s.show(screen(1))
		s.click(Deny)
		s.want(Sending, order(1, statement.Deny, ""))
		s.answered(nil)
		s.show(screen())
		s.want(Reason)
		s.click(p)
		s.want(Sending, order(1, statement.Deny, reason))
		s.answered(nil)
		s.want(Nothing)
		if got := s.TakeNotMe(); (len(got) > 0) != (p == NotMe) {
			t.Errorf("after %s, TakeNotMe() = %q", reason, got)
		}
	}
	s := sit(t) // not to say why is an answer, too
	s.show(screen(1))
	s.click(Deny)
	s.answered(nil)
	s.show(screen())
	s.wait(reasonTime)
	s.want(Nothing, order(1, statement.Deny, ""))
}

func TestAnswerThatFails(t *testing.T) {
	broken := errors.New("broken")
	s := sit(t)
	s.show(screen(1))
	s.click(Allow)
	s.answered(broken)
	s.want(Ask, order(1, statement.Allow, ""))
	if got := s.view(); got.Cause != Failed || got.Err != broken || got.Live {
		t.Errorf("View() = cause %d, err %v, live %v, want Failed, broken, false", got.Cause, got.Err, got.Live)
	}
	s.click(Deny)
	s.show(screen())
	s.answered(broken)
	s.want(Gone, order(1, statement.Deny, ""))
	if got := s.view(); got.Cause != Failed || got.Err != broken {
		t.Errorf("View() = cause %d, err %v, want Failed, broken", got.Cause, got.Err)
	}
}

func TestAllowTakenBack(t *testing.T) {
	for _, failed := range []error{nil, errors.New("called off")} {
		s := sit(t)
		s.show(screen(1))
		s.click(Allow)
		s.TakeOrders()
		s.click(Deny)
		if _, cancel := s.TakeOrders(); !cancel || !s.view().Back {
			t.Errorf("cancel %v, Back %v after Don't Allow, want true, true", cancel, s.view().Back)
		}
		s.answered(failed)
		if failed == nil {
			s.show(withCode(screen(), 1))
		}
		s.want(Sending, order(1, statement.Deny, ""))
		s.answered(nil)
		s.show(screen())
		s.want(Reason)
	}
	s := sit(t)
	s.show(withCode(screen(), 1))
	s.click(Deny)
	s.want(Sending, order(1, statement.Deny, ""))
}

func TestGone(t *testing.T) {
	suspended := screen()
	suspended.Suspended = true
	for want, end := range map[Cause]func(*sitting){
		Elsewhere: func(s *sitting) { s.show(screen()) },
		Suspended: func(s *sitting) { s.show(suspended) },
		Expired:   func(s *sitting) { s.wait(5 * time.Minute) }, // though the connection is lost
	} {
		s := sit(t)
		s.show(screen(1))
		s.wait(time.Second)
		end(s)
		s.want(Gone)
		if got := s.view().Cause; got != want {
			t.Errorf("View().Cause = %d, want %d", got, want)
		}
		s.click(Allow)
		s.want(Gone)
		s.wait(goneTime)
		s.want(Nothing)
	}
}

// What was put away goes without a word.
func TestPutAwayAndGone(t *testing.T) {
	s := sit(t)
	s.show(screen(1))
	s.key(PutAway)
	s.show(screen())
	s.want(Nothing)
	if got := s.Away(s.now); got != 0 {
		t.Errorf("Away = %d, want 0", got)
	}
}

// silent makes the prompts with these numbers silent. The agent puts them last.
func silent(s agent.Screen, numbers ...int) agent.Screen {
	for i := range s.Prompts {
		for _, n := range numbers {
			if s.Prompts[i].SignIn == id(n) {
				s.Prompts[i].Silent = true
			}
		}
	}
	return s
}

func TestSilentPromptsWaitUntilTheyAreAskedFor(t *testing.T) {
	s := sit(t)
	s.show(silent(screen(1, 2), 1, 2))
	s.want(Nothing)
	if got := s.Away(s.now); got != 2 {
		t.Errorf("Away = %d, want 2", got)
	}
	s.BringBack(s.now)
	s.want(Ask)
	if got := s.view(); !got.Prompt.Silent || got.More != 1 {
		t.Errorf("Silent %v, %d more, want true, 1", got.Prompt.Silent, got.More)
	}
	s.wait(time.Minute)
	s.show(silent(screen(3, 1, 2), 1, 2)) // one rings
	s.want(Ask)
	if s.about() != id(3) || s.view().Live {
		t.Errorf("about %s, live %v, want the third, and not live", s.about(), s.view().Live)
	}
	s.click(Deny)
	s.want(Sending, order(3, statement.Deny, ""))
	s.answered(nil)
	s.show(silent(screen(1, 2), 1, 2))
	s.click(PutAway) // the question for a reason
	s.want(Ask)      // it lay open before
	s.click(PutAway)
	s.click(PutAway)
	s.want(Nothing)
	s.show(silent(screen(1, 2, 4), 1, 2, 4))
	s.want(Nothing)
}

func TestCodeThatWasAskedFor(t *testing.T) {
	s := sit(t)
	asked := agent.Code{Digits: "111222", ExpireTime: start.Add(5 * time.Minute)}
	s.Add(asked, s.now)
	s.want(Code)
	s.click(Deny) // nothing to take back
	s.want(Code)
	newer := agent.Code{Digits: "333444", ExpireTime: start.Add(6 * time.Minute)}
	s.Add(newer, s.now)
	if got := s.view().Code.Digits; got != "333444" {
		t.Errorf("code = %s, want the newer one", got)
	}
	s.wait(6 * time.Minute)
	s.want(Nothing)
	// A prompt keeps its place.
	s = sit(t)
	s.show(screen(1))
	s.Add(asked, s.now)
	s.want(Ask)
	s.click(PutAway)
	s.want(Code)
}
