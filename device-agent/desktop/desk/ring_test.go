package desk

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/countersignd/countersign/device-agent/agent"
	"github.com/countersignd/countersign/internal/statement"
)

// rung has the prompts of a screen have rung so often.
func rung(s agent.Screen, times int) agent.Screen {
	for i := range s.Prompts {
		s.Prompts[i].Rings = times
	}
	return s
}

func tested(s agent.Screen) agent.Screen {
	s.Tests = []agent.TestPrompt{{ID: id(77), ExpireTime: start.Add(time.Minute)}}
	return s
}

func (s *sitting) wantRings(want int) {
	s.t.Helper()
	if got := s.Rings(); got != want {
		s.t.Errorf("Rings = %d, want %d", got, want)
	}
}

func TestWhatRingsAgainComesUpAgain(t *testing.T) {
	s := sit(t)
	s.show(rung(screen(1), 1))
	s.wantRings(1)
	s.wait(time.Second)
	s.show(rung(screen(1), 1)) // repeated by the server
	s.wantRings(1)
	if !s.view().Live {
		t.Error("a screen that brings nothing new made presses not count")
	}
	s.show(rung(screen(1), 2)) // while it is in front
	s.wantRings(2)
	if s.view().Live || s.view().Prompt.Rings != 2 {
		t.Errorf("Live %v, Rings %d, want false, 2", s.view().Live, s.view().Prompt.Rings)
	}
	s.click(PutAway)
	s.want(Nothing)
	s.show(rung(screen(1), 2))
	s.want(Nothing)
	s.show(rung(screen(1), 3)) // after it was put away
	s.want(Ask)
	s.wantRings(3)
	s.show(rung(screen(1, 2), 3)) // beside another one
	s.wantRings(4)
	s.show(silent(rung(screen(1, 2), 4), 1, 2))
	s.wantRings(4)
}

func TestAskingIsWhatRings(t *testing.T) {
	s := sit(t)
	want := func(numbers ...int) {
		t.Helper()
		var got []string
		for _, p := range s.Asking(s.now) {
			got = append(got, p.SignIn)
		}
		var ids []string
		for _, n := range numbers {
			ids = append(ids, id(n))
		}
		if diff := cmp.Diff(ids, got); diff != "" {
			t.Errorf("Asking: -want +got:\n%s", diff)
		}
	}
	want()
	s.show(silent(screen(1, 2, 3), 3))
	want(1, 2)
	s.click(PutAway)
	want(2)
	s.click(Allow)
	want()
	s.show(silent(screen(1, 3), 3))
	s.BringBack(s.now)
	want(1)
	s.wait(5 * time.Minute)
	want()
}

// A test prompt decides nothing, and is in nobody's way.
func TestTestPrompt(t *testing.T) {
	s := sit(t)
	s.show(tested(screen()))
	s.want(Test)
	s.wantRings(0)
	s.Click(PutAway, s.now) // the first moment
	s.want(Test)
	for _, p := range []Press{Allow, Deny, Mistake, NotMe} {
		s.click(p)
		s.want(Test)
	}
	s.show(tested(screen(1)))
	s.want(Ask)
	s.click(Deny)
	s.want(Sending, order(1, statement.Deny, ""))
	s.answered(nil)
	s.show(tested(screen()))
	s.click(PutAway) // the question for a reason
	s.want(Test)
	s.Add(agent.Code{Digits: "111222", ExpireTime: start.Add(time.Hour)}, s.now)
	s.want(Code)
	s.click(PutAway)
	s.want(Test)
	if got := s.TakeSeen(); len(got) != 0 {
		t.Errorf("TakeSeen = %q before it was put away", got)
	}
	s.click(PutAway)
	s.BringBack(s.now)
	s.click(PutAway) // the code
	s.want(Nothing)  // and not the test
	if diff := cmp.Diff([]string{id(77)}, s.TakeSeen()); diff != "" || s.TakeSeen() != nil {
		t.Errorf("TakeSeen: -want +got:\n%s", diff)
	}
	// It ends at its time, and when the server says so.
	for _, end := range []func(*sitting){
		func(s *sitting) { s.wait(time.Minute) },
		func(s *sitting) { s.show(screen()) },
	} {
		s := sit(t)
		s.show(tested(screen()))
		s.want(Test)
		end(s)
		s.want(Nothing)
	}
}
