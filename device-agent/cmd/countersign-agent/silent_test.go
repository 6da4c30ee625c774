package main

import (
	"strings"
	"testing"
	"time"

	"github.com/countersignd/countersign/device-agent/agent"
	"github.com/countersignd/countersign/internal/statement"
)

// silently makes the prompts with these numbers silent, and puts them last.
func silently(s agent.Screen, numbers ...int) agent.Screen {
	s.Connected = true
	for _, n := range numbers {
		p := examplePrompt(n)
		p.Silent = true
		s.Prompts = append(s.Prompts, p)
	}
	return s
}

func TestASilentPromptTakesNoScreenUntilItIsWanted(t *testing.T) {
	s := sit(t)
	s.calm = true
	s.shown(silently(screenOf(), 1, 2))
	s.want(viewIdle, nil, "connected")
	if text := drawn(t, s.desk, s.now); !strings.Contains(text, "2 requests are waiting that did not ring") || !strings.Contains(text, "[s]") {
		t.Errorf("the screen says\n%s", text)
	}
	s.after(time.Second, 'a')
	s.want(viewIdle, nil)
	s.after(time.Second, 's')
	s.want(viewAsk, nil)
	if text := drawn(t, s.desk, s.now); !strings.Contains(text, didNotRing[:30]) || !strings.Contains(text, "1 more is waiting") {
		t.Errorf("the screen says\n%s", text)
	}
	s.after(time.Second, 'd')
	s.want(viewSending, []wanted{{id(1), statement.Deny, ""}})
	s.shown(silently(screenOf(), 2))
	s.answered(nil, s.now)
	s.after(0, 0)
	s.want(viewReason, nil, "denied")
	s.after(time.Second, '\r')
	s.want(viewIdle, nil) // the other waits until it is wanted, too
}

func TestWhatRingsGoesBeforeWhatIsSilent(t *testing.T) {
	for _, calm := range []bool{true, false} {
		s := sit(t)
		s.calm = calm
		s.shown(silently(screenOf(), 1))
		if calm {
			s.want(viewIdle, nil, "connected")
			s.after(time.Second, 's')
			s.want(viewAsk, nil)
		} else {
			s.want(viewAsk, nil, "connected") // line by line there is no screen to take
		}
		s.shown(silently(screenOf(2), 1))
		if s.view != viewAsk || s.prompt.SignIn != id(2) {
			t.Errorf("calm %v: view %d of %s, want the prompt that rings", calm, s.view, s.prompt.SignIn)
		}
		s.after(0, 'a') // meant for what was there before
		s.want(viewAsk, nil)
		s.after(time.Second, 'a')
		s.want(viewSending, []wanted{{id(2), statement.Allow, ""}})
	}
}

func TestAPromptThatWasSilencedGivesWay(t *testing.T) {
	s := sit(t)
	s.calm = true
	s.shown(screenOf(1))
	s.want(viewAsk, nil, "connected")
	s.shown(silently(screenOf(), 1)) // another device said that it was not her
	s.want(viewAsk, nil)             // and it stays, as she is looking at it
	s.shown(silently(screenOf(2), 1))
	if s.prompt.SignIn != id(2) {
		t.Errorf("the screen is of %s, want the one that rings", s.prompt.SignIn)
	}
}

func TestACodeStaysInFrontOfSilentPrompts(t *testing.T) {
	s := sit(t)
	s.calm = true
	s.shown(withCodes(silently(screenOf(), 2), 1))
	s.want(viewCode, nil, "connected")
	s.after(time.Second, '\r')
	s.want(viewCode, nil)
}

// drawn is what a terminal of ordinary size shows.
func drawn(t *testing.T, d *desk, now time.Time) string {
	t.Helper()
	lines, _ := render(d, 80, 24, now, nil)
	return strings.Join(lines, "\n")
}
