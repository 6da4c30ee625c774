package agent

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/countersignd/countersign/internal/statement"
	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

// shown returns the prompt that the agent has for a sign-in, or one that it
// never had.
func shown(a *Agent, signIn string) Prompt {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, p := range a.latest.prompts {
		if p.SignIn == signIn {
			return p
		}
	}
	for _, c := range a.latest.codes {
		if c.Prompt.SignIn == signIn {
			return c.Prompt
		}
	}
	if ans := a.answered[signIn]; ans != nil {
		return ans.prompt
	}
	return Prompt{Prompt: statement.Prompt{SignIn: signIn}, document: []byte("never shown")}
}

// A server that puts other words under a sign-in that is shown gets no
// signature for them.
func TestOnlyWhatWasShownIsSigned(t *testing.T) {
	f := newFake(t)
	a := trustedAgent(t, f, "ada")
	d, _ := running(t, a)
	signIn := f.begin("ada")
	d.waitFor(t, "the prompt", prompts(1))
	was := shown(a, signIn.id)
	other := was.Prompt
	other.Message = "Pay 10,000 to Mallory"
	f.change(func() { signIn.message = other.Message })
	d.waitFor(t, "the other words", func(s Screen) bool { return len(s.Prompts) == 1 && s.Prompts[0].Message == other.Message })
	for _, decision := range []string{statement.Allow, statement.Deny} {
		if _, err := a.Answer(t.Context(), was, decision, ""); !errors.Is(err, ErrGone) {
			t.Errorf("Answer(%s) to what was shown before = %v, want ErrGone", decision, err)
		}
	}
	if got := get(f, func() string { return signIn.decision }); got != "" {
		t.Errorf("the server got the decision %q", got)
	}
}

// A device whose clock is wrong by more than a prompt lives can answer, and
// counts down from the server's time.
func TestAWrongClockKeepsNobodyFromAnswering(t *testing.T) {
	for _, behind := range []time.Duration{10 * time.Minute, -10 * time.Minute} {
		f := newFake(t)
		f.behind = behind
		a := trustedAgent(t, f, "ada")
		d, _ := running(t, a)
		first, second := f.begin("ada"), f.begin("ada")
		s := d.waitFor(t, "the prompts", prompts(2))
		if left := time.Until(s.Prompts[0].ExpireTime()); left < 4*time.Minute || left > 5*time.Minute+time.Second {
			t.Errorf("server behind by %v: %v are left, want five minutes", behind, left)
		}
		code, err := a.Answer(t.Context(), shown(a, first.id), statement.Allow, "")
		if err != nil {
			t.Fatalf("server behind by %v: Answer(allow) = %v", behind, err)
		}
		if left := time.Until(code.ExpireTime); left < 4*time.Minute || left > 5*time.Minute+time.Second {
			t.Errorf("server behind by %v: the code is good for %v, want five minutes", behind, left)
		}
		if _, err := a.Answer(t.Context(), shown(a, second.id), statement.Deny, ""); err != nil {
			t.Errorf("server behind by %v: Answer(deny) = %v", behind, err)
		}
	}
}

func TestAllow(t *testing.T) {
	f := newFake(t)
	a := trustedAgent(t, f, "ada")
	d, _ := running(t, a)
	signIn := f.begin("ada")
	d.waitFor(t, "the prompt", prompts(1))
	code, err := a.Answer(t.Context(), shown(a, signIn.id), statement.Allow, "")
	if err != nil || code.Digits != "482913" || code.Prompt.SignIn != signIn.id || !code.ExpireTime.After(time.Now()) {
		t.Fatalf("Answer(allow) = %+v, %v", code, err)
	}
	s := d.waitFor(t, "the code", func(s Screen) bool { return len(s.Codes) == 1 })
	if len(s.Prompts) != 0 || s.Codes[0].Digits != code.Digits {
		t.Errorf("screen = %+v, want the code alone", s)
	}
	f.change(func() { signIn.used = true })
	d.waitFor(t, "nothing", func(s Screen) bool { return len(s.Codes) == 0 && len(s.Prompts) == 0 })
}

// A code is shown again by an agent that was restarted.
func TestCodeAfterRestart(t *testing.T) {
	f := newFake(t)
	a := trustedAgent(t, f, "ada")
	d, stop := running(t, a)
	signIn := f.begin("ada")
	d.waitFor(t, "the prompt", prompts(1))
	if _, err := a.Answer(t.Context(), shown(a, signIn.id), statement.Allow, ""); err != nil {
		t.Fatal(err)
	}
	stop()
	again, err := Open(a.dir, "")
	if err != nil {
		t.Fatal(err)
	}
	again.dialer = f.dial
	d, _ = running(t, again)
	d.waitFor(t, "the code", func(s Screen) bool { return len(s.Codes) == 1 && s.Codes[0].Digits == "482913" })
	// And it can be taken back.
	if _, err := again.Answer(t.Context(), shown(again, signIn.id), statement.Deny, ""); err != nil {
		t.Fatalf("Answer(deny) = %v", err)
	}
	d.waitFor(t, "nothing", func(s Screen) bool { return len(s.Codes) == 0 })
	if got := get(f, func() string { return signIn.decision }); got != statement.Deny {
		t.Errorf("decision = %q, want deny", got)
	}
}

func TestDenyThenReason(t *testing.T) {
	f := newFake(t)
	a := trustedAgent(t, f, "ada")
	d, _ := running(t, a)
	signIn := f.begin("ada")
	d.waitFor(t, "the prompt", prompts(1))
	for _, reason := range []string{"", statement.NotMe} {
		code, err := a.Answer(t.Context(), shown(a, signIn.id), statement.Deny, reason)
		if err != nil || code.Digits != "" {
			t.Fatalf("Answer(deny, %q) = %+v, %v", reason, code, err)
		}
		d.waitFor(t, "nothing", prompts(0))
	}
	if got := get(f, func() string { return signIn.reason }); got != statement.NotMe {
		t.Errorf("reason = %q, want %q", got, statement.NotMe)
	}
	// An allow cannot follow: the prompt is gone.
	if _, err := a.Answer(t.Context(), shown(a, signIn.id), statement.Allow, ""); !errors.Is(err, ErrGone) {
		t.Errorf("Answer(allow) after deny = %v, want ErrGone", err)
	}
}

// A set that was on its way when the answer came in does not bring the prompt
// back, nor does it take the code away.
func TestStaleSet(t *testing.T) {
	f := newFake(t)
	a := trustedAgent(t, f, "ada")
	d, stop := running(t, a)
	signIn := f.begin("ada")
	d.waitFor(t, "the prompt", prompts(1))
	a.mu.Lock()
	conn := a.conn
	a.mu.Unlock()
	stale := get(f, func() *pb.WatchPromptsResponse { return f.setLocked(f.devices[a.state.Device]) })
	if _, err := a.Answer(t.Context(), shown(a, signIn.id), statement.Allow, ""); err != nil {
		t.Fatal(err)
	}
	d.waitFor(t, "the code", func(s Screen) bool { return len(s.Codes) == 1 })
	stop() // so that no other set comes in between
	a.mu.Lock()
	a.latest = set{prompts: slices.Clone(a.read(stale).prompts)}
	a.answered[signIn.id].settled = false
	a.mu.Unlock()
	a.receive(conn, stale)
	if s := a.screen(); len(s.Prompts) != 0 || len(s.Codes) != 1 {
		t.Errorf("screen = %+v, want the code alone", s)
	}
	a.receive(conn, &pb.WatchPromptsResponse{}) // used
	if s := a.screen(); len(s.Prompts) != 0 || len(s.Codes) != 0 {
		t.Errorf("screen = %+v, want nothing", s)
	}
}

// A lost answer is asked for with the same bytes, so there is one decision, one
// counter and one code.
func TestAnswerIsRetried(t *testing.T) {
	for _, lost := range []error{
		status.Error(codes.Unavailable, "gone"),
		reject(codes.Unavailable, pb.ErrorReason_ERROR_REASON_SHUTTING_DOWN, "Stopping."),
		reject(codes.Unavailable, pb.ErrorReason_ERROR_REASON_STORE_FAILED, "Disk."),
	} {
		f := newFake(t)
		a := trustedAgent(t, f, "ada")
		d, _ := running(t, a)
		signIn := f.begin("ada")
		d.waitFor(t, "the prompt", prompts(1))
		var mu sync.Mutex
		left := 2
		f.mu.Lock()
		f.after = func(string) error {
			mu.Lock()
			defer mu.Unlock()
			if left--; left >= 0 {
				return lost
			}
			return nil
		}
		f.mu.Unlock()
		code, err := a.Answer(t.Context(), shown(a, signIn.id), statement.Allow, "")
		if err != nil || code.Digits != "482913" {
			t.Errorf("Answer = %+v, %v", code, err)
		}
		sent := get(f, func() []string { return slices.Clone(f.decisions) })
		if len(sent) != 3 || sent[0] != sent[1] || sent[1] != sent[2] {
			t.Errorf("%d statements sent, want the same one 3 times", len(sent))
		}
	}
}

// An answer outlives a restart of the server.
func TestAnswerAcrossRestart(t *testing.T) {
	f := newFake(t)
	a := trustedAgent(t, f, "ada")
	d, _ := running(t, a)
	signIn := f.begin("ada")
	d.waitFor(t, "the prompt", prompts(1))
	f.stop()
	var wg sync.WaitGroup
	wg.Go(func() {
		if code, err := a.Answer(t.Context(), shown(a, signIn.id), statement.Allow, ""); err != nil || code.Digits != "482913" {
			t.Errorf("Answer = %+v, %v", code, err)
		}
	})
	f.start()
	wg.Wait()
}

// Answer gives up when the prompt is over, and says that it does not know.
func TestAnswerGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		a := trustedAgent(t, f, "ada")
		d, stop := running(t, a)
		signIn := f.begin("ada")
		d.waitFor(t, "the prompt", prompts(1))
		f.stop()
		began := time.Now()
		_, err := a.Answer(t.Context(), shown(a, signIn.id), statement.Allow, "")
		if err == nil || !strings.Contains(err.Error(), "Whether it counted is not known") {
			t.Errorf("Answer = %v", err)
		}
		if waited := time.Since(began); waited < 4*time.Minute || waited > 5*time.Minute+time.Second {
			t.Errorf("gave up after %v, want when the prompt was over", waited)
		}
		// It is over here, whatever the server would say.
		if _, err := a.Answer(t.Context(), shown(a, signIn.id), statement.Allow, ""); !errors.Is(err, ErrGone) {
			t.Errorf("Answer(allow) after the end = %v, want ErrGone", err)
		}
		stop()
	})
}

func TestAnswerRefused(t *testing.T) {
	f := newFake(t)
	a := trustedAgent(t, f, "ada")
	d, _ := running(t, a)
	signIn := f.begin("ada")
	d.waitFor(t, "the prompt", prompts(1))
	f.mu.Lock()
	f.before = func(string) error {
		return reject(codes.FailedPrecondition, pb.ErrorReason_ERROR_REASON_SIGN_IN_CANCELLED, "Called \u202eoff.")
	}
	f.mu.Unlock()
	_, err := a.Answer(t.Context(), shown(a, signIn.id), statement.Allow, "")
	if Reason(err) != pb.ErrorReason_ERROR_REASON_SIGN_IN_CANCELLED || err.Error() != `Called \u{202e}off` {
		t.Errorf("Answer = %v (%v)", err, Reason(err))
	}
}

// Two answers at once reach the server one after the other, so that counters rise.
func TestAnswersAreInOrder(t *testing.T) {
	f := newFake(t)
	a := trustedAgent(t, f, "ada")
	d, _ := running(t, a)
	const n = 20
	var ids []string
	for range n {
		ids = append(ids, f.begin("ada").id)
	}
	d.waitFor(t, "all prompts", prompts(n))
	var wg sync.WaitGroup
	for _, id := range ids {
		wg.Go(func() {
			if _, err := a.Answer(t.Context(), shown(a, id), statement.Allow, ""); err != nil {
				t.Errorf("Answer = %v", err)
			}
		})
	}
	wg.Wait()
	d.waitFor(t, "all codes", func(s Screen) bool { return len(s.Codes) == n && len(s.Prompts) == 0 })
}

// Where the server's key is not pinned it can change, and the statement is
// signed for the new one, once.
func TestSignsAnewForNewServerKey(t *testing.T) {
	f := newFake(t)
	a := trustedAgent(t, f, "ada")
	d, _ := running(t, a)
	signIn := f.begin("ada")
	d.waitFor(t, "the prompt", prompts(1))
	a.mu.Lock()
	conn := a.conn
	a.mu.Unlock()
	conn.tried(a.approvalKey, nil) // some other key
	f.mu.Lock()
	f.before = func(string) error { return nil }
	f.mu.Unlock()
	if _, err := a.Answer(t.Context(), shown(a, signIn.id), statement.Allow, ""); Reason(err) != pb.ErrorReason_ERROR_REASON_STATEMENT_MISMATCH {
		t.Fatalf("Answer for another key = %v, want a refusal while the key is the same", err)
	}
	f.mu.Lock()
	f.before = func(string) error { conn.tried(f.keyID, nil); return nil }
	f.mu.Unlock()
	if _, err := a.Answer(t.Context(), shown(a, signIn.id), statement.Allow, ""); err != nil {
		t.Errorf("Answer after the key changed = %v", err)
	}
	if n := get(f, func() int { return len(f.decisions) }); n != 3 {
		t.Errorf("%d statements, want 3", n)
	}
}
