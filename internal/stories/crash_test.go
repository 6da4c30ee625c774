package stories

import (
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/countersignd/countersign/device-agent/agent"
	"github.com/countersignd/countersign/internal/statement"

	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

// TestWhatWasShownSurvivesAKill kills the server with SIGKILL right after a
// code was shown and right after it was used, and at random moments between.
func TestWhatWasShownSurvivesAKill(t *testing.T) {
	h := newHouse(t)
	w := h.crowd(1, 1)[0]
	again := func() {
		h.kill()
		h.start()
		together(t, []*watcher{w}, patience, "coming back", connected)
	}
	for range 2 {
		signIn := h.begin(account(0))
		again() // the request is durable before the prompt is shown
		together(t, []*watcher{w}, patience, "showing the prompt", shows(1))

		code, err := w.agent.Answer(t.Context(), w.prompt(signIn.GetId()), statement.Allow, "")
		h.must(err)
		again()
		together(t, []*watcher{w}, patience, "showing the code again", func(s agent.Screen) bool {
			return connected(s) && len(s.Codes) == 1 && s.Codes[0].Digits == code.Digits
		})
		verify := &pb.VerifySignInRequest{SignInId: signIn.GetId(), Code: code.Digits}
		if _, err := h.app.VerifySignIn(t.Context(), verify); err != nil {
			t.Fatalf("the code that was shown before the kill = %v", err)
		}
		again()
		if _, err := h.app.VerifySignIn(t.Context(), verify); agent.Reason(err) != pb.ErrorReason_ERROR_REASON_SIGN_IN_VERIFIED {
			t.Fatalf("the code a second time, after a kill = %v, want SIGN_IN_VERIFIED", err)
		}
	}
}

// TestAKillWhileAnsweringLeavesOneOutcome kills the server at a random moment
// while a device allows and the application verifies. Whatever was
// acknowledged holds afterwards, and nobody is let in twice.
func TestAKillWhileAnsweringLeavesOneOutcome(t *testing.T) {
	h := newHouse(t)
	w := h.crowd(1, 1)[0]
	for range 5 {
		together(t, []*watcher{w}, patience, "connecting", connected)
		signIn := h.begin(account(0))
		together(t, []*watcher{w}, patience, "showing the prompt", shows(1))
		killed := make(chan struct{})
		go func() {
			defer close(killed)
			time.Sleep(time.Duration(rand.IntN(12_000)) * time.Microsecond)
			h.server.Process.Kill()
		}()
		type answer struct {
			code agent.Code
			err  error
		}
		answered := make(chan answer, 1)
		go func() {
			// The agent hands in the same statement until it is answered.
			code, err := w.agent.Answer(t.Context(), w.prompt(signIn.GetId()), statement.Allow, "")
			answered <- answer{code, err}
		}()
		<-killed
		h.server.Wait()
		h.start()
		a := <-answered
		if a.err != nil {
			t.Fatalf("Answer = %v, want it to survive the kill", a.err)
		}
		let := 0
		for range 2 {
			_, err := h.app.VerifySignIn(t.Context(), &pb.VerifySignInRequest{SignInId: signIn.GetId(), Code: a.code.Digits})
			for status.Code(err) == codes.Unavailable {
				time.Sleep(50 * time.Millisecond)
				_, err = h.app.VerifySignIn(t.Context(), &pb.VerifySignInRequest{SignInId: signIn.GetId(), Code: a.code.Digits})
			}
			if err == nil {
				let++
			} else if agent.Reason(err) != pb.ErrorReason_ERROR_REASON_SIGN_IN_VERIFIED {
				t.Fatal(errors.Join(errors.New("verifying the code that was shown"), err))
			}
		}
		if let != 1 {
			t.Fatalf("the code let in %d times, want 1", let)
		}
	}
}
