package main

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/countersignd/countersign/device-agent/agent"
	"github.com/countersignd/countersign/internal/statement"
	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

func exampleTest() agent.TestPrompt {
	return agent.TestPrompt{ID: strings.Repeat("t", 26), RequestedBy: "uid 0 (root)", Created: start, ExpireTime: start.Add(2 * time.Minute)}
}

func withTest(s agent.Screen) agent.Screen {
	s.Tests = []agent.TestPrompt{exampleTest()}
	return s
}

// A test prompt comes behind every request, and no key that is pressed at it, or
// was meant for it, allows anything.
func TestATestPromptAllowsNothing(t *testing.T) {
	s := sit(t)
	s.shown(withTest(screenOf(1)))
	s.want(viewAsk, nil, "connected")
	s.shown(withTest(screenOf()))
	s.want(viewTest, nil, "withdrawn")
	for _, key := range []rune{'a', 'd', 'm', 'n', 's', ' ', '\x1b'} {
		s.after(time.Second, key)
		s.want(viewTest, nil)
	}
	s.after(100*time.Millisecond, '\r') // too soon after another key
	s.want(viewTest, nil)

	// A request takes its place, under the finger that was to put it away.
	s.shown(withTest(screenOf(2)))
	s.want(viewAsk, nil)
	for _, d := range []time.Duration{0, time.Second} {
		s.after(d, '\r')
		s.want(viewAsk, nil)
	}
	s.after(100*time.Millisecond, 'a')
	s.want(viewAsk, nil)
	s.after(time.Second, 'd')
	s.want(viewSending, []wanted{{id(2), statement.Deny, ""}})
	s.answered(nil, s.now)
	s.shown(withTest(screenOf()))
	s.after(time.Second, '\r')
	s.want(viewTest, nil, "denied")
	s.after(time.Second, '\r')
	s.want(viewIdle, nil, "test prompt put away")
	if len(s.tests) != 1 || s.tests[0] != exampleTest().ID {
		t.Errorf("put away: %v", s.tests)
	}
	s.shown(withTest(screenOf())) // sent before the agent knew it
	s.want(viewIdle, nil)
	if s.finished != 1 {
		t.Errorf("finished = %d, want the one request alone", s.finished)
	}
}

func TestATestPromptGoesByItself(t *testing.T) {
	s := sit(t)
	s.shown(withTest(screenOf()))
	s.want(viewTest, nil, "connected")
	s.after(2*time.Minute, 0)
	s.want(viewIdle, nil, "test prompt over: nobody put it away")
	if len(s.tests) != 0 {
		t.Errorf("put away: %v, want none", s.tests)
	}
	// A code is in front of it.
	s = sit(t)
	s.shown(withTest(withCodes(screenOf(), 1)))
	s.want(viewCode, nil, "connected")
	s.shown(withTest(screenOf()))
	s.want(viewTest, nil, "code over")
}

// The screen cannot be taken for a request.
func TestTestPromptScreen(t *testing.T) {
	s := sit(t)
	s.calm = true
	silent := examplePrompt(1)
	silent.Silent = true
	screen := withTest(screenOf())
	screen.Prompts = []agent.Prompt{silent}
	s.shown(screen)
	lines, complete := render(s.desk, 80, 24, s.now, nil)
	all := bare(strings.Join(lines, "\n"))
	for _, want := range []string{"This is a test prompt", "Nobody signs in with it, and there is nothing to allow", "“uid 0 (root)”", "[Enter]  Put it away", "in 2:00", "1 request is waiting that did not ring"} {
		if !complete || !strings.Contains(all, want) {
			t.Errorf("the screen lacks %q, or is incomplete:\n%s", want, all)
		}
	}
	for _, never := range []string{"Sign-In", "[a]", "[d]", "Allow ", "Account"} {
		if strings.Contains(all, never) {
			t.Errorf("the screen says %q:\n%s", never, all)
		}
	}
	for who, want := range map[string]string{
		"":                                  "unknown",
		"device " + strings.Repeat("a", 52): "your device " + agent.Fingerprint(strings.Repeat("a", 52)),
		"device " + strings.Repeat("b", 52): "this device",
		strings.Repeat("b", 52):             "this device",
		"this device":                       "\u2068“this device”\u2069",
	} {
		if got := sender(agent.TestPrompt{RequestedBy: who}, strings.Repeat("b", 52)); got != want {
			t.Errorf("sender(%q) = %q, want %q", who, got, want)
		}
	}
}

// The bell rings once for each time that somebody asked, and once for a test.
func TestBell(t *testing.T) {
	s, v := sit(t), &drawing{}
	rings := func(what string, want bool) {
		t.Helper()
		if got := v.bell(s.desk); got != want {
			t.Errorf("%s: the bell rings %v, want %v", what, got, want)
		}
	}
	at := func(rings int, silent bool) agent.Screen {
		screen := screenOf(1)
		screen.Prompts[0].Rings, screen.Prompts[0].Silent = rings, silent
		return screen
	}
	rings("nothing", false)
	s.shown(at(1, false))
	rings("a request", true)
	rings("drawn again", false)
	s.shown(at(1, false))
	rings("a heartbeat", false)
	s.want(viewAsk, nil, "connected")
	s.after(10*time.Second, 0)
	s.shown(at(2, false))
	rings("asked again", true)
	rings("drawn again", false)
	s.want(viewAsk, nil, "asked again: sign-in of ada")
	lines, _ := render(s.desk, 80, 24, s.now, nil)
	if want := "Asked again at " + s.now.Local().Format("15:04:05") + "."; !strings.Contains(strings.Join(lines, "\n"), want) {
		t.Errorf("the screen lacks %q", want)
	}
	s.shown(at(3, true))
	rings("silenced meanwhile", false)
	s.shown(screenOf())
	s.shown(withTest(screenOf()))
	rings("a test", true)
	rings("drawn again", false)
	s.shown(withTest(screenOf(2)))
	rings("another request", true)
	s.shown(withTest(screenOf()))
	rings("the same test", false)
}

// A18, for who asks for a test, and for what a push service says.
func TestA18HostileDelivery(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 8))
	for range 2_000 {
		d := newDesk()
		test := exampleTest()
		test.RequestedBy = hostile(random)
		d.show(agent.Screen{Status: "connected", Tests: []agent.TestPrompt{test}}, start)
		width := 40 + random.IntN(161)
		lines, _ := render(d, width, 200, start, nil)
		push := &pb.PushStatus{Service: pb.PushService(random.IntN(4)), Host: hostile(random), Failure: hostile(random), Dead: random.IntN(2) == 0}
		delivery := &pb.Delivery{DeviceId: strings.Repeat("a", 52), DeviceName: hostile(random), PushFailure: hostile(random),
			Stage: pb.DeliveryStage(random.IntN(9)), PushFailureTime: exampleNotice(1).GetTime()}
		lines = append(lines, labelled("woken by", wokenLine(push), width)...)
		for _, s := range stepsOf(delivery) {
			lines = append(lines, hanging("10:00:00  ", s.text, width)...)
		}
		recent := &pb.RecentSignIn{ApplicationName: hostile(random), Deliveries: []*pb.Delivery{delivery}, SignIn: &pb.SignIn{
			State: pb.SignInState(random.IntN(8)), Message: hostile(random), DecidedBy: strings.Repeat("a", 52), DenyReason: hostile(random),
			CancelCause: hostile(random), Silent: hostile(random),
			Requester: &pb.Requester{Device: hostile(random), Program: hostile(random), Place: hostile(random), Address: hostile(random)},
		}}
		if random.IntN(3) == 0 {
			recent.SignIn.Candidate = &pb.Candidate{Name: hostile(random), Kind: hostile(random)}
		}
		lines = append(lines, recentLines(recent, "", width)...)
		var out strings.Builder
		printTest(&out, d, start)
		lines = append(lines, strings.Split(out.String(), "\n")...)
		for i, line := range lines {
			if c := controls(bare(line)); c != "" {
				t.Fatalf("%q is in the line %q", c, line)
			}
			if printed := strings.Count(out.String(), "\n") + 1; columnsOf(bare(line)) > width && i < len(lines)-printed {
				t.Fatalf("%d columns of %d: %q", columnsOf(bare(line)), width, line)
			}
		}
	}
}
