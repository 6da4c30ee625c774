package agent

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/countersignd/countersign/internal/statement"
	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

func TestShowsAndWithdraws(t *testing.T) {
	f := newFake(t)
	d, stop := running(t, trustedAgent(t, f, "ada"))
	d.waitFor(t, "connected", func(s Screen) bool { return s.Status == "connected to countersign.test:8443" })

	first := f.begin("ada")
	f.begin("bob") // rings nobody here
	second := f.begin("ada")
	s := d.waitFor(t, "two prompts", prompts(2))
	if s.Prompts[0].SignIn != first.id || s.Prompts[1].SignIn != second.id {
		t.Errorf("prompts = %s, %s; want the oldest first", s.Prompts[0].SignIn, s.Prompts[1].SignIn)
	}
	if got := s.Prompts[0].Requester.Place; got != "Berlin, Germany" {
		t.Errorf("place = %q", got)
	}
	f.change(func() { first.decision = statement.Deny })
	if s := d.waitFor(t, "one prompt", prompts(1)); s.Prompts[0].SignIn != second.id {
		t.Errorf("prompt left = %s, want %s", s.Prompts[0].SignIn, second.id)
	}
	f.change(func() { f.suspended = true })
	if s := d.waitFor(t, "suspended", func(s Screen) bool { return s.Suspended }); len(s.Prompts) != 0 {
		t.Errorf("a suspended account still shows %d prompts", len(s.Prompts))
	}
	if err := stop(); err != nil {
		t.Errorf("Run = %v, want nil after its context was cancelled", err)
	}
}

// What cannot be shown as it is, is not shown, cannot be allowed, and is told.
func TestHostilePrompts(t *testing.T) {
	f := newFake(t)
	good := f.begin("ada")
	parse := func() statement.Prompt {
		p, err := statement.ParsePrompt(good.document())
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	other := strings.Repeat("v", 26)
	tests := []struct {
		name   string
		prompt func() *pb.Prompt
		want   string
	}{
		{"not JSON", func() *pb.Prompt { return &pb.Prompt{SignInId: other, Document: []byte("x")} }, "malformed"},
		{"trailing", func() *pb.Prompt {
			return &pb.Prompt{SignInId: good.id, Document: append(good.document(), ' ')}
		}, "malformed"},
		{"other sign-in", func() *pb.Prompt { return &pb.Prompt{SignInId: other, Document: good.document()} }, "another sign-in"},
		{"other account", func() *pb.Prompt {
			p := parse()
			p.Account, p.SignIn = "bob", other
			return &pb.Prompt{SignInId: other, Document: p.Encode()}
		}, "another account"},
		{"other action", func() *pb.Prompt {
			p := parse()
			p.SignIn, p.Action = other, "wire_money"
			return &pb.Prompt{SignInId: other, Document: p.Encode()}
		}, "too old"},
		{"a device, but none is named", func() *pb.Prompt {
			p := parse()
			p.SignIn, p.Action = other, statement.ActionTrustDevice
			return &pb.Prompt{SignInId: other, Document: p.Encode()}
		}, "malformed"},
		{"twice", func() *pb.Prompt { return &pb.Prompt{SignInId: good.id, Document: good.document()} }, "twice"},
		{"over", func() *pb.Prompt {
			p := parse()
			p.SignIn, p.Created, p.Expires = other, p.Created-1000, p.Created-900
			return &pb.Prompt{SignInId: other, Document: p.Encode()}
		}, "its time is over"},
	}
	a := trustedAgent(t, f, "ada")
	d, _ := running(t, a)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f.change(func() { f.raw = []*pb.Prompt{test.prompt()} })
			s := d.waitFor(t, test.want, func(s Screen) bool { return strings.Contains(s.Status, test.want) })
			if len(s.Prompts) != 1 || s.Prompts[0].SignIn != good.id || !slices.Equal(s.Prompts[0].document, good.document()) {
				t.Errorf("prompts = %+v, want the good one alone", s.Prompts)
			}
			if !strings.Contains(s.Status, "1 request cannot be shown") {
				t.Errorf("status = %q", s.Status)
			}
			if _, err := a.Answer(t.Context(), shown(a, other), statement.Allow, ""); !errors.Is(err, ErrGone) {
				t.Errorf("Answer(hidden prompt) = %v, want ErrGone", err)
			}
		})
	}
	if n := get(f, func() int { return len(f.decisions) }); n != 0 {
		t.Errorf("%d statements were sent", n)
	}
}

func TestStreamEndsForGood(t *testing.T) {
	for _, reason := range []pb.ErrorReason{
		pb.ErrorReason_ERROR_REASON_DEVICE_REVOKED,
		pb.ErrorReason_ERROR_REASON_DEVICE_UNKNOWN,
		pb.ErrorReason_ERROR_REASON_STREAM_REPLACED,
	} {
		f := newFake(t)
		a := trustedAgent(t, f, "ada")
		d, _ := running(t, a)
		d.waitFor(t, "connected", func(s Screen) bool { return strings.HasPrefix(s.Status, "connected") })
		f.change(func() { f.streamErr = reject(codes.Aborted, reason, "It is over.") })
		d.waitFor(t, "the end", func(s Screen) bool { return s.Status == "It is over" })
		err := a.Run(t.Context(), d) // begins anew and is refused at once
		if Reason(err) != reason || ReactionTo(err) == Retry || err.Error() != "It is over" {
			t.Errorf("Run = %v (%v), want %v", err, Reason(err), reason)
		}
	}
}

// A restart of the server, however long, ends with everything shown again.
func TestReconnects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		d, stop := running(t, trustedAgent(t, f, "ada"))
		d.waitFor(t, "connected", func(s Screen) bool { return strings.HasPrefix(s.Status, "connected") })
		time.Sleep(2 * time.Minute)
		f.stop()
		time.Sleep(time.Minute)
		if s := d.all()[len(d.all())-1]; s.Status != "cannot reach countersign.test:8443: connection refused; trying again" {
			t.Errorf("status = %q", s.Status)
		}
		time.Sleep(29 * time.Minute)
		// Full jitter up to 15 s: 7.5 s a try on average once the ceiling
		// is reached. Twice as many would be a stampede, half as many idle.
		if tries := get(f, func() int { return f.dials }); tries < 120 || tries > 480 {
			t.Errorf("%d attempts in 30 minutes", tries)
		}
		f.begin("ada")
		f.start()
		back := time.Now()
		d.waitFor(t, "the prompt", prompts(1))
		if waited := time.Since(back); waited > maxPause {
			t.Errorf("back after %v, want %v at most", waited, maxPause)
		}
		stop()
		f.stop()
	})
}

// A connection that is dead without a sign of it is noticed by its silence.
func TestSilentStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		d, stop := running(t, trustedAgent(t, f, "ada"))
		d.waitFor(t, "connected", func(s Screen) bool { return strings.HasPrefix(s.Status, "connected") })
		time.Sleep(10 * time.Minute)
		if n := get(f, func() int { return f.streams }); n != 1 {
			t.Fatalf("%d streams while heartbeats came, want 1", n)
		}
		f.change(func() { f.heartbeat = time.Hour })
		time.Sleep(silence - time.Second)
		if n := get(f, func() int { return f.streams }); n != 1 {
			t.Errorf("%d streams before the silence was long enough, want 1", n)
		}
		time.Sleep(2 * time.Second)
		if n := get(f, func() int { return f.streams }); n != 2 {
			t.Errorf("%d streams after %v of silence, want 2", n, silence)
		}
		stop()
		f.stop()
	})
}

func TestSuspend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		a := trustedAgent(t, f, "ada")
		asleepFor := make(chan time.Duration, 1)
		asleepFor <- 0
		a.clocks = func() clocks {
			c, d := readClocks(), <-asleepFor
			asleepFor <- d
			c.wall = c.wall.Add(d)
			return c
		}
		d, stop := running(t, a)
		d.waitFor(t, "connected", func(s Screen) bool { return strings.HasPrefix(s.Status, "connected") })
		time.Sleep(3 * time.Minute)
		<-asleepFor
		asleepFor <- 8 * time.Hour
		time.Sleep(lookAtClocks + time.Millisecond)
		if n := get(f, func() int { return f.streams }); n != 2 {
			t.Errorf("%d streams %v after a sleep, want 2", n, lookAtClocks)
		}
		stop()
		f.stop()
	})
}

func TestSlept(t *testing.T) {
	now := clocks{wall: time.Unix(1e9, 0), monotonic: time.Hour}
	for _, test := range []struct {
		wall, monotonic time.Duration
		want            bool
	}{
		{5 * time.Second, 5 * time.Second, false},
		{time.Hour, 5 * time.Second, true},
		{16 * time.Second, 5 * time.Second, false},
		{-time.Hour, 5 * time.Second, false}, // the clock was set back
	} {
		then := clocks{wall: now.wall.Add(test.wall), monotonic: now.monotonic + test.monotonic}
		if got := slept(now, then); got != test.want {
			t.Errorf("slept(%v, %v) = %v, want %v", test.wall, test.monotonic, got, test.want)
		}
	}
}

// A20: a server with another key gets nothing, and the person is told.
func TestWrongPinIsTold(t *testing.T) {
	f := newFake(t)
	a := trustedAgent(t, f, "ada")
	stranger := newFake(t)
	a.dialer = stranger.dial
	d, _ := running(t, a)
	s := d.waitFor(t, "the wrong key", func(s Screen) bool { return strings.Contains(s.Status, "not the one this device was enrolled with") })
	if !strings.Contains(s.Status, Fingerprint(stranger.keyID)) {
		t.Errorf("status = %q, want the key in it", s.Status)
	}
	if n := get(stranger, func() int { return stranger.streams }); n != 0 {
		t.Errorf("the stranger got %d calls", n)
	}
}

func TestBackoff(t *testing.T) {
	b := backoff{max: maxPause}
	ceiling := firstPause
	for range 100 {
		if got := b.next(); got < 0 || got >= ceiling {
			t.Errorf("next() = %v, want below %v", got, ceiling)
		}
		ceiling = min(2*ceiling, maxPause)
	}
	var sum time.Duration
	for range 1000 {
		sum += b.next()
	}
	if mean := sum / 1000; mean < maxPause*2/5 || mean > maxPause*3/5 {
		t.Errorf("mean pause = %v, want about %v: full jitter", mean, maxPause/2)
	}
	b.reset()
	if got := b.next(); got >= firstPause {
		t.Errorf("next() after reset = %v, want below %v", got, firstPause)
	}
}

// What does not ring comes after what does, and can be answered like it.
func TestSilentPromptsComeLast(t *testing.T) {
	f := newFake(t)
	a := trustedAgent(t, f, "ada")
	silent := f.begin("ada")
	f.change(func() { silent.silent = true })
	f.begin("ada")
	d, _ := running(t, a)
	s := d.waitFor(t, "both prompts", prompts(2))
	if s.Prompts[0].Silent || !s.Prompts[1].Silent || s.Prompts[1].SignIn != silent.id {
		t.Errorf("the prompts are %+v, want the silent one last", s.Prompts)
	}
	if _, err := a.Answer(t.Context(), s.Prompts[1], statement.Deny, ""); err != nil {
		t.Errorf("answering the silent one = %v", err)
	}
}
