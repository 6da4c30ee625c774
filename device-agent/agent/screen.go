package agent

import (
	"errors"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/countersignd/countersign/internal/code"
	"github.com/countersignd/countersign/internal/statement"
	countersignv1 "github.com/countersignd/countersign/proto/countersign/v1"
)

// A set is what one message of the stream says.
type set struct {
	prompts   []Prompt
	codes     []Code
	suspended bool
	trouble   string // what it holds that cannot be shown, or ""
	notices   []*countersignv1.Notice
	tests     tests
}

func (s set) asks(signIn string) bool {
	return slices.ContainsFunc(s.prompts, func(p Prompt) bool { return p.SignIn == signIn })
}

func (s set) holdsCode(signIn string) bool {
	return slices.ContainsFunc(s.codes, func(c Code) bool { return c.Prompt.SignIn == signIn })
}

// read makes a set of a message. What cannot be shown as it is, is left out and
// counted.
func (a *Agent) read(message *countersignv1.WatchPromptsResponse) set {
	s := set{suspended: message.GetAccountSuspended(), notices: message.GetNotices()}
	var refused int
	var first error
	refuse := func(err error) {
		if refused++; first == nil {
			first = err
		}
	}
	now := time.Now()
	ahead := clockAhead(message.GetServerTime(), now)
	for _, m := range message.GetPrompts() {
		p, err := a.readPrompt(m.GetSignInId(), m.GetDocument())
		p.ahead, p.Silent, p.Rings = ahead, m.GetSilent(), int(m.GetRingCount())
		if err == nil && s.asks(p.SignIn) {
			err = errors.New("the server sent it twice")
		}
		if err == nil && !now.Before(p.ExpireTime()) {
			err = errors.New("its time is over")
		}
		if err != nil {
			refuse(err)
			continue
		}
		s.prompts = append(s.prompts, p)
	}
	slices.SortStableFunc(s.prompts, func(p, q Prompt) int {
		switch {
		case p.Silent == q.Silent:
			return 0
		case p.Silent:
			return 1
		}
		return -1
	})
	for _, m := range message.GetCodes() {
		c, err := a.readCode(m.GetSignInId(), m.GetDocument(), m.GetCode(), m.GetExpireTime().AsTime(), ahead)
		if err == nil && s.holdsCode(c.Prompt.SignIn) {
			err = errors.New("the server sent its code twice")
		}
		if err != nil {
			refuse(err)
			continue
		}
		s.codes = append(s.codes, c)
	}
	for _, m := range message.GetTests() {
		t, err := readTest(m, ahead)
		if err == nil && s.has(t.ID) {
			err = errors.New("the server sent it twice")
		}
		if err == nil && !now.Before(t.ExpireTime) {
			continue // nothing is lost with it
		}
		if err != nil {
			refuse(err)
			continue
		}
		s.tests = append(s.tests, t)
	}
	s.trouble = trouble(refused, first)
	return s
}

func readTest(m *countersignv1.TestPrompt, ahead time.Duration) (TestPrompt, error) {
	if !statement.ValidSignIn(m.GetId()) || m.GetCreateTime().CheckValid() != nil || m.GetExpireTime().CheckValid() != nil {
		return TestPrompt{}, errors.New("it is a malformed test prompt")
	}
	return TestPrompt{
		ID: m.GetId(), RequestedBy: m.GetRequestedBy(),
		Created: m.GetCreateTime().AsTime().Add(ahead), ExpireTime: m.GetExpireTime().AsTime().Add(ahead),
	}, nil
}

// readPrompt refuses every prompt that a person cannot be asked about with a
// good conscience.
func (a *Agent) readPrompt(signIn string, document []byte) (Prompt, error) {
	p, err := statement.ParsePrompt(document)
	switch {
	case err != nil:
		return Prompt{}, errors.New("it is malformed, or this program is too old for it")
	case p.SignIn != signIn:
		return Prompt{}, errors.New("it came under the name of another sign-in")
	case p.Account != a.state.Account:
		return Prompt{}, errors.New("it is for another account")
	case p.Action != statement.ActionSignIn && p.Action != statement.ActionTrustDevice:
		// To show it as a sign-in would have the person allow something else.
		return Prompt{}, errors.New("it asks for something that this version cannot show")
	}
	return Prompt{Prompt: p, document: slices.Clone(document)}, nil
}

func (a *Agent) readCode(signIn string, document []byte, digits string, expires time.Time, ahead time.Duration) (Code, error) {
	p, err := a.readPrompt(signIn, document)
	if err != nil {
		return Code{}, err
	}
	p.ahead = ahead
	return newCode(p, digits, expires)
}

func newCode(p Prompt, digits string, expires time.Time) (Code, error) {
	parsed, err := code.Parse(digits)
	if err != nil || parsed != digits {
		return Code{}, errors.New("the server sent something that is not a code")
	}
	if expires.Unix() <= 0 {
		return Code{}, errors.New("the server did not say how long its code is good")
	}
	return Code{Prompt: p, Digits: digits, ExpireTime: expires.Add(p.ahead)}, nil
}

// clockNoise is what a message's way may make of two clocks that agree.
const clockNoise = 2 * time.Second

// clockAhead returns how far this device's clock is ahead of the server's. The
// server decides when a prompt ends, and a wrong clock must keep nobody from
// denying.
func clockAhead(server *timestamppb.Timestamp, now time.Time) time.Duration {
	if server.CheckValid() != nil {
		return 0
	}
	if ahead := now.Sub(server.AsTime()); ahead.Abs() > clockNoise {
		return ahead
	}
	return 0
}

// An answer is what this process answered to a prompt, and the server took. It
// bridges the moment until the stream shows the same, and keeps a denied
// prompt at hand for the reason, which comes in a second statement.
type answer struct {
	prompt   Prompt
	decision string
	code     *Code     // after an allow
	settled  bool      // the stream has shown the effect; it is to be believed from now on
	forget   time.Time // when nothing more can be said about the prompt
}

// keepAnswers is how long a denied prompt is kept: the longest life of a whole
// sign-in (NIST SP 800-63B-4, 3.1.3.2).
const keepAnswers = 10 * time.Minute

// settleLocked compares what was answered here with what the stream says now.
func (a *Agent) settleLocked(now time.Time) {
	for id, ans := range a.answered {
		switch {
		case now.After(ans.forget):
			delete(a.answered, id)
		case ans.decision == statement.Allow:
			// A set that still asks was sent before the answer came in.
			ans.settled = ans.settled || !a.latest.asks(id)
		default:
			ans.settled = ans.settled || !a.latest.asks(id) && !a.latest.holdsCode(id)
		}
	}
}

// screen returns what is to be shown now: what the stream said, and what was
// answered since.
func (a *Agent) screen() Screen {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	s := Screen{Suspended: a.latest.suspended, Connected: a.conn != nil, Barred: a.barred, Status: a.status, Record: a.recordTrouble}
	s.Notices = a.newNoticesLocked(a.latest.notices)
	pending := func(id string) *answer {
		if ans := a.answered[id]; ans != nil && !ans.settled {
			return ans
		}
		return nil
	}
	for _, p := range a.latest.prompts {
		if pending(p.SignIn) == nil && now.Before(p.ExpireTime()) && !s.Suspended {
			s.Prompts = append(s.Prompts, p)
		}
	}
	for _, c := range a.latest.codes {
		if pending(c.Prompt.SignIn) == nil && now.Before(c.ExpireTime) {
			s.Codes = append(s.Codes, c)
		}
	}
	for _, ans := range a.answered {
		if !ans.settled && ans.code != nil && now.Before(ans.code.ExpireTime) {
			s.Codes = append(s.Codes, *ans.code)
		}
	}
	for _, t := range a.latest.tests {
		if a.stages[t.ID] < countersignv1.DeliveryStage_DELIVERY_STAGE_ANSWERED && now.Before(t.ExpireTime) {
			s.Tests = append(s.Tests, t)
		}
	}
	slices.SortFunc(s.Codes, func(a, b Code) int { return a.ExpireTime.Compare(b.ExpireTime) })
	return s
}
