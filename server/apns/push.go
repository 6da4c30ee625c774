package apns

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/sideshow/apns2"

	"github.com/countersignd/countersign/server/approval"
)

const (
	// pushTimeout is how long one push may take, with the connection that it may
	// need.
	pushTimeout = 15 * time.Second

	// maxPushes is how many pushes are under way at once.
	maxPushes = 16

	// renewPause is how often APNs lets a provider change its token.
	renewPause = 20 * time.Minute

	// maxAnswer is how much of an answer is read. Apple's are under 100 bytes.
	maxAnswer = 4 << 10

	// clockSlack is how far ahead of the clock the time of a token may be.
	clockSlack = time.Minute
)

// An exchange is what was seen of one request and its answer.
type exchange struct {
	authorization string
	status        int
	reason        string
	since         time.Time     // the answer's timestamp, zero if there is none
	after         time.Duration // what Retry-After says, 0 if there is none
}

// push sends a notification, and once more if its token turns out to be too old.
func (w *Waker) push(ctx context.Context, n *apns2.Notification) error {
	w.renewFromTheFuture()
	for {
		x, err := w.try(ctx, n)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			return &approval.WakeError{Verdict: approval.WakeLater, Why: "APNs: no answer", Err: err}
		case x.reason != apns2.ReasonExpiredProviderToken || !w.renew(x.authorization):
			return x.verdict()
		}
	}
}

// try sends a notification. Its error holds text alone: no URL, in which the device's
// token is, and nothing that the caller could take for the end of its own context.
func (w *Waker) try(ctx context.Context, n *apns2.Notification) (*exchange, error) {
	x := &exchange{}
	ctx, cancel := context.WithTimeout(context.WithValue(ctx, exchangeKey{}, x), w.timeout)
	defer cancel()
	leave, err := w.enter(ctx)
	if err == nil {
		ends := w.line.endings()
		_, err = w.client.PushWithContext(ctx, n)
		w.line.answered(ends, err == nil && x.status != http.StatusForbidden)
		leave()
	}
	if err == nil {
		return x, nil
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("none came in %v", w.timeout)
	}
	if whole, ok := errors.AsType[*url.Error](err); ok {
		err = whole.Err
	}
	return nil, errors.New(err.Error())
}

// enter waits until a push may be sent. Until APNs has taken the provider's token on
// a connection, it takes one push at a time there; who sends more at once makes the
// transport open a connection for each, and APNs takes that for an attack. What is not
// seen here is a connection that APNs ends while pushes are under way on it: those that
// come meanwhile go to the next one together, and may need more than one.
func (w *Waker) enter(ctx context.Context) (leave func(), err error) {
	select {
	case w.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if w.line.isKnown() {
		return func() { <-w.slots }, nil
	}
	select {
	case w.first <- struct{}{}:
	case <-ctx.Done():
		<-w.slots
		return nil, ctx.Err()
	}
	if w.line.isKnown() { // since the one before
		<-w.first
		return func() { <-w.slots }, nil
	}
	return func() { <-w.first; <-w.slots }, nil
}

// renew makes sure that the token is another than one that APNs called too old,
// and reports whether another try makes sense. It makes none if it has just made
// one: then it is the clock that is wrong, and APNs would refuse the next one for
// being too soon.
func (w *Waker) renew(authorization string) bool {
	t := w.client.Token
	t.Lock()
	defer t.Unlock()
	if authorization != "bearer "+t.Bearer {
		return true // a push beside this one was first
	}
	if !w.renewed.IsZero() && time.Since(w.renewed) < renewPause {
		return false
	}
	w.renewed = time.Now()
	_, err := t.Generate()
	return err == nil
}

// renewFromTheFuture makes a new token in the place of one that was made while the
// clock was ahead: APNs refuses it, and apns2 would keep it until its time has come.
func (w *Waker) renewFromTheFuture() {
	t := w.client.Token
	t.Lock()
	defer t.Unlock()
	if time.Unix(t.IssuedAt, 0).After(time.Now().Add(clockSlack)) {
		// A failure leaves the token as it was; New has made one with this key.
		t.Generate()
	}
}

// noRedirect leaves a redirection for an answer. APNs sends none.
func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

type exchangeKey struct{}

// A listener notes down what apns2 does not tell, in the [exchange] of the request's
// context, and gives apns2 only bodies that it can read: with another it forgets the
// status.
type listener struct{ next http.RoundTripper }

// RoundTrip implements [http.RoundTripper].
func (l *listener) RoundTrip(r *http.Request) (*http.Response, error) {
	x := r.Context().Value(exchangeKey{}).(*exchange)
	x.authorization = r.Header.Get("Authorization")
	resp, err := l.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.ProtoMajor != 2 {
		return nil, errors.New("what answers does not speak HTTP/2")
	}
	x.status = resp.StatusCode
	x.after = retryAfter(resp.Header.Get("Retry-After"))
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, err
	}
	var said struct {
		Reason    string `json:"reason"`
		Timestamp int64  `json:"timestamp"` // in milliseconds
	}
	// What is no answer of APNs has no reason.
	if json.Unmarshal(body, &said) == nil && plainWord.MatchString(said.Reason) {
		x.reason = said.Reason
		if said.Timestamp > 0 {
			x.since = time.UnixMilli(said.Timestamp)
		}
	}
	resp.Body = io.NopCloser(bytes.NewReader(nil))
	return resp, nil
}

// retryAfter reads the header (RFC 9110, 10.2.3): seconds or a date.
func retryAfter(value string) time.Duration {
	if seconds, err := strconv.Atoi(value); err == nil {
		return time.Duration(min(max(seconds, 0), int(maxAfter/time.Second))) * time.Second
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	return min(max(time.Until(at), 0), maxAfter)
}

// maxAfter is longer than any prompt lives, by far.
const maxAfter = 24 * time.Hour
