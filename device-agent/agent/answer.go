package agent

import (
	"context"
	"encoding/base64"
	"errors"
	"time"

	"github.com/countersignd/countersign/internal/statement"
	countersignv1 "github.com/countersignd/countersign/proto/countersign/v1"
)

const (
	// tryTimeout is how long one attempt to hand in a decision may take.
	tryTimeout = 10 * time.Second

	// maxDecisionPause is short, since a person waits.
	maxDecisionPause = 2 * time.Second

	// minPatience is how long a deny is tried at least: it does no harm late.
	minPatience = 20 * time.Second
)

// ErrGone says that there is nothing to answer: the prompt was answered
// elsewhere, cancelled, or is over.
var ErrGone = errors.New("this prompt is gone: it was answered on another device, cancelled, or is over")

// Answer signs the person's answer to the prompt that was shown, and hands it
// in. What is signed is what was shown: if the server has put other words under
// the same sign-in since, the answer is not for those. decision is
// statement.Allow or statement.Deny. With a deny, reason may be
// statement.Mistake or statement.NotMe; it may also follow the deny in a second
// Answer. A deny may follow an allow, and voids its code.
//
// The code is set after an allow and only then. If the network fails, Answer
// hands in the same statement again until the prompt is over or ctx is done. The
// error wraps [ErrGone] if there is no such prompt here; for other refusals see [Reason].
func (a *Agent) Answer(ctx context.Context, shown Prompt, decision, reason string) (Code, error) {
	done, err := a.alone(ctx)
	if err != nil {
		return Code{}, err
	}
	defer done()
	prompt, err := a.find(shown, decision)
	if err != nil {
		return Code{}, err
	}
	deadline := prompt.ExpireTime()
	if patient := time.Now().Add(minPatience); decision == statement.Deny && deadline.Before(patient) {
		deadline = patient
	}
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	response, err := a.handIn(ctx, prompt, decision, reason)
	if err != nil {
		return Code{}, err
	}
	ans := &answer{prompt: prompt, decision: decision, forget: time.Now().Add(keepAnswers)}
	var code Code
	if decision == statement.Allow {
		if code, err = newCode(prompt, response.GetCode(), response.GetExpireTime().AsTime()); err != nil {
			return Code{}, err
		}
		ans.code, ans.forget = &code, code.ExpireTime
	}
	a.mu.Lock()
	a.answered[prompt.SignIn] = ans
	a.settleLocked(time.Now())
	a.mu.Unlock()
	a.ring()
	return code, nil
}

// find returns the prompt to answer. What is not shown cannot be allowed.
func (a *Agent) find(shown Prompt, decision string) (Prompt, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, p := range a.latest.prompts {
		if !p.Same(shown) {
			continue
		}
		if decision == statement.Allow && (a.latest.suspended || !time.Now().Before(p.ExpireTime())) {
			return Prompt{}, ErrGone
		}
		return p, nil
	}
	if decision == statement.Deny {
		for _, c := range a.latest.codes {
			if c.Prompt.Same(shown) {
				return c.Prompt, nil
			}
		}
		if ans := a.answered[shown.SignIn]; ans != nil && ans.prompt.Same(shown) {
			return ans.prompt, nil
		}
	}
	return Prompt{}, ErrGone
}

// handIn signs a decision and sends it until the server has answered it.
func (a *Agent) handIn(ctx context.Context, prompt Prompt, decision, reason string) (*countersignv1.DecideSignInResponse, error) {
	return submit(ctx, a, submission[*countersignv1.DecideSignInResponse]{
		sign: func(counter uint64, serverKey string) (string, error) {
			return a.sign(prompt, decision, reason, counter, serverKey)
		},
		send: func(ctx context.Context, conn *Conn, signed string) (*countersignv1.DecideSignInResponse, error) {
			return countersignv1.NewDeviceServiceClient(conn).DecideSignIn(ctx, &countersignv1.DecideSignInRequest{Statement: signed})
		},
	}, a.connected)
}

// gaveUp is the error of an answer that the server never confirmed.
func gaveUp(lastErr error) error {
	return andThat(lastErr, NotConfirmed, "Whether it counted is not known")
}

// connected returns the connection of the stream, and waits for it if there is none.
func (a *Agent) connected(ctx context.Context) (*Conn, error) {
	for {
		a.mu.Lock()
		conn, up := a.conn, a.up
		a.mu.Unlock()
		if conn != nil && ctx.Err() == nil {
			return conn, nil
		}
		select {
		case <-up:
		case <-ctx.Done():
			return nil, gaveUp(&problemError{Problem{Kind: Unanswered, Server: a.state.Server}, "there is no connection to the server", nil})
		}
	}
}

// sign makes the statement.
func (a *Agent) sign(prompt Prompt, decision, reason string, counter uint64, serverKey string) (string, error) {
	return statement.Sign(a.keys.Approval, statement.Decision{
		Account:     prompt.Account,
		Application: prompt.Application.ID,
		ApprovalKey: a.approvalKey,
		Aud:         a.state.Deployment,
		Counter:     counter,
		Decision:    decision,
		Device:      a.state.Device,
		Iat:         time.Now().Unix(),
		Nonce:       prompt.Nonce,
		// The bytes that came, not those that the fields would give.
		Prompt:    base64.RawURLEncoding.EncodeToString(prompt.document),
		Reason:    reason,
		ServerKey: serverKey,
		SignIn:    prompt.SignIn,
	})
}
