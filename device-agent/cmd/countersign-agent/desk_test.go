package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/countersignd/countersign/device-agent/agent"
	"github.com/countersignd/countersign/internal/statement"
)

// start is when every test of a desk begins.
var start = time.Unix(1_800_000_000, 0)

// examplePrompt is prompt number n, of start.
func examplePrompt(n int) agent.Prompt {
	return agent.Prompt{Prompt: statement.Prompt{
		Account: "ada", Action: statement.ActionSignIn,
		Application: statement.Application{ID: "files", Name: "Files"},
		Created:     start.Unix(), Expires: start.Unix() + 300,
		Requester: statement.Requester{Address: "192.0.2.7", Device: "MacBook Air", Place: "Berlin, Germany", Program: "Firefox 145"},
		SignIn:    fmt.Sprintf("%026d", n), V: 1,
	}}
}

func exampleCode(n int) agent.Code {
	return agent.Code{Prompt: examplePrompt(n), Digits: fmt.Sprintf("%06d", 482912+n), ExpireTime: start.Add(2 * time.Minute)}
}

// screenOf holds the prompts with these numbers.
func screenOf(numbers ...int) agent.Screen {
	s := agent.Screen{Status: "connected"}
	for _, n := range numbers {
		s.Prompts = append(s.Prompts, examplePrompt(n))
	}
	return s
}

func withCodes(s agent.Screen, numbers ...int) agent.Screen {
	for _, n := range numbers {
		s.Codes = append(s.Codes, exampleCode(n))
	}
	return s
}

// A sitting is a desk with a clock and with what came out of it.
type sitting struct {
	*desk
	t   *testing.T
	now time.Time
}

func sit(t *testing.T) *sitting {
	s := &sitting{newDesk(), t, start}
	s.codesWait = true
	return s
}

func (s *sitting) shown(screen agent.Screen) { s.t.Helper(); s.show(screen, s.now) }

// after lets time pass and presses a key, if it is not 0.
func (s *sitting) after(d time.Duration, key rune) {
	s.now = s.now.Add(d)
	s.tick(s.now)
	if key != 0 {
		s.press(key, s.now)
	}
}

// wanted is an order as tests write it.
type wanted struct{ signIn, decision, reason string }

// want checks the view, and what was ordered and said since the last want.
func (s *sitting) want(v view, orders []wanted, events ...string) {
	s.t.Helper()
	if s.view != v {
		s.t.Errorf("view = %d, want %d", s.view, v)
	}
	var got []wanted
	for _, o := range s.orders {
		got = append(got, wanted{o.prompt.SignIn, o.decision, o.reason})
	}
	if diff := cmp.Diff(orders, got, cmp.AllowUnexported(wanted{})); diff != "" {
		s.t.Errorf("orders: -want +got:\n%s", diff)
	}
	if len(events) != len(s.events) {
		s.t.Errorf("events = %q, want %q", s.events, events)
	} else {
		for i := range events {
			if !strings.Contains(s.events[i], events[i]) {
				s.t.Errorf("events = %q, want %q", s.events, events)
			}
		}
	}
	s.orders, s.events = nil, nil
}

func id(n int) string { return examplePrompt(n).SignIn }

func TestKeysThatDecideNothing(t *testing.T) {
	s := sit(t)
	s.after(time.Second, 'a') // before there is anything
	s.shown(screenOf(1))
	s.want(viewAsk, nil, "connected")
	s.after(0, 'a')
	s.after(599*time.Millisecond, 'a')
	s.want(viewAsk, nil)
	// A key that is held down repeats, and never counts.
	for range 200 {
		s.after(30*time.Millisecond, 'a')
	}
	s.want(viewAsk, nil)
	for _, key := range []rune{'\r', ' ', '\x1b', 'y', 'A', 'm', 'n', 0x7f, 0} {
		s.after(time.Second, key)
		s.want(viewAsk, nil)
	}
	s.after(time.Second, 'a')
	s.want(viewSending, []wanted{{id(1), statement.Allow, ""}})
}

func TestAllowToTheEnd(t *testing.T) {
	s := sit(t)
	s.shown(screenOf(1, 2))
	s.after(time.Second, 'a')
	s.want(viewSending, []wanted{{id(1), statement.Allow, ""}}, "connected")
	s.answered(nil, s.now)
	s.want(viewSending, nil, "allowed: sign-in of ada")
	s.shown(screenOf(1, 2)) // sent before the answer came in
	s.want(viewSending, nil)
	s.shown(withCodes(screenOf(2), 1))
	s.want(viewCode, nil)
	if s.code.Digits != "482913" || s.more(s.now) != 1 {
		t.Errorf("code = %s, %d more", s.code.Digits, s.more(s.now))
	}
	s.after(time.Second, 'a') // means nothing here
	s.want(viewCode, nil)
	s.after(time.Second, '\r') // typed: the next one, please
	s.want(viewAsk, nil)
	if s.prompt.SignIn != id(2) || len(s.codes) != 1 {
		t.Errorf("asked about %s with %d codes, want the second and the code still there", s.prompt.SignIn, len(s.codes))
	}
	s.shown(screenOf(2))
	s.want(viewAsk, nil, "code over: sign-in of ada to \u2068“Files”\u2069 on \u2068“MacBook Air”\u2069: it was used or cancelled")
	if s.finished != 1 {
		t.Errorf("finished = %d, want 1", s.finished)
	}
}

func TestNextPromptWaitsForTheCode(t *testing.T) {
	s := sit(t)
	s.shown(withCodes(screenOf(), 1))
	s.want(viewCode, nil, "connected")
	s.shown(withCodes(screenOf(2), 1))
	s.want(viewCode, nil)
	s.now = start.Add(2 * time.Minute)
	s.after(0, 0)
	s.want(viewAsk, nil, "it was not used in time")
	// In lines nothing has to wait: the code stays where it was printed.
	s = sit(t)
	s.codesWait = false
	s.shown(withCodes(screenOf(2), 1))
	s.want(viewAsk, nil, "connected")
}

func TestDenyAndReason(t *testing.T) {
	for key, reason := range map[rune]string{'m': statement.Mistake, 'n': statement.NotMe} {
		s := sit(t)
		s.shown(screenOf(1))
		s.after(time.Second, 'd')
		s.want(viewSending, []wanted{{id(1), statement.Deny, ""}}, "connected")
		s.answered(nil, s.now)
		s.shown(screenOf())
		s.want(viewReason, nil, "denied")
		s.after(time.Second, 'a')
		s.want(viewReason, nil)
		s.after(time.Second, key)
		s.want(viewSending, []wanted{{id(1), statement.Deny, reason}})
		s.answered(nil, s.now)
		advice := map[rune][]string{'m': {"noted as a mistake"}, 'n': {"noted as not by you", "Somebody may know the password of ada"}}
		s.want(viewIdle, nil, advice[key]...)
		if s.finished != 1 {
			t.Errorf("finished = %d, want 1", s.finished)
		}
	}
	// Not to say why is an answer, too, and so is to go away.
	for _, leave := range []func(*sitting){
		func(s *sitting) { s.after(time.Second, '\r') },
		func(s *sitting) { s.after(reasonTime, 0) },
		func(s *sitting) { s.mute = true; s.after(0, 0) },
	} {
		s := sit(t)
		s.shown(screenOf(1))
		s.after(time.Second, 'd')
		s.answered(nil, s.now)
		s.shown(screenOf(2))
		s.want(viewReason, []wanted{{id(1), statement.Deny, ""}}, "connected", "denied")
		leave(s)
		s.want(viewAsk, nil)
		if s.finished != 1 {
			t.Errorf("finished = %d, want 1", s.finished)
		}
	}
}

func TestTakeBack(t *testing.T) {
	s := sit(t)
	s.shown(withCodes(screenOf(), 1))
	s.after(time.Second, 'd')
	s.want(viewSending, []wanted{{id(1), statement.Deny, ""}}, "connected")
	s.answered(nil, s.now)
	s.shown(screenOf())
	s.want(viewReason, nil, "denied")
}

func TestDenyWhileAllowIsSent(t *testing.T) {
	for name, outcome := range map[string]error{"called off": errors.New("called off"), "too late": nil} {
		s := sit(t)
		s.shown(screenOf(1))
		s.after(time.Second, 'a')
		s.want(viewSending, []wanted{{id(1), statement.Allow, ""}}, "connected")
		s.after(time.Second, 'd')
		if !s.cancel {
			t.Errorf("%s: the allow was not called off", name)
		}
		s.answered(outcome, s.now)
		if outcome == nil {
			s.shown(withCodes(screenOf(), 1))
		}
		if s.view != viewSending || len(s.orders) != 1 || s.orders[0].decision != statement.Deny {
			t.Errorf("%s: view %d, orders %v; want the denial sent", name, s.view, s.orders)
		}
	}
}

func TestWithdrawn(t *testing.T) {
	s := sit(t)
	s.shown(screenOf(1, 2))
	s.shown(screenOf(2))
	s.want(viewAsk, nil, "connected", "withdrawn: sign-in of ada to \u2068“Files”\u2069 on \u2068“MacBook Air”\u2069: it was answered on another device or cancelled")
	s.after(0, 'a') // meant for the one that is gone
	s.want(viewAsk, nil)
	s.now = start.Add(300 * time.Second)
	s.after(0, 'a')
	s.want(viewIdle, nil, "its time is over")

	s = sit(t)
	s.shown(screenOf(1))
	suspended := screenOf()
	suspended.Suspended = true
	s.shown(suspended)
	s.want(viewIdle, nil, "connected", "the account is suspended", "the account was suspended")
	s.shown(screenOf())
	s.want(viewIdle, nil, "no longer suspended")
}

func TestRefusedAnswer(t *testing.T) {
	s := sit(t)
	s.shown(screenOf(1))
	s.after(time.Second, 'a')
	s.answered(errors.New("no connection"), s.now)
	s.want(viewAsk, []wanted{{id(1), statement.Allow, ""}}, "connected", "not allowed: no connection")
	s.after(0, 'a') // the person has not seen that yet
	s.want(viewAsk, nil)
	s.after(time.Second, 'd')
	s.want(viewSending, []wanted{{id(1), statement.Deny, ""}})
}

func TestStatusIsSaidOnce(t *testing.T) {
	s := sit(t)
	for _, status := range []string{"connected", "connected", "away", "away", "connected"} {
		s.shown(agent.Screen{Status: status})
	}
	s.want(viewIdle, nil, "connected", "away", "connected")
}
