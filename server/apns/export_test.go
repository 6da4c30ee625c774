package apns

import "time"

// SetTimeout replaces how long one try may take.
func (w *Waker) SetTimeout(d time.Duration) { w.timeout = d }

// SetIssued says when the provider's token was made.
func (w *Waker) SetIssued(at time.Time) {
	w.client.Token.Lock()
	defer w.client.Token.Unlock()
	w.client.Token.IssuedAt = at.Unix()
}

// Known reports whether there is a connection on which APNs has taken the token.
func (w *Waker) Known() bool { return w.line.isKnown() }

// SetKnown says that there is one.
func (w *Waker) SetKnown() { w.line.answered(w.line.endings(), true) }

// RetryAfter reads the header.
var RetryAfter = retryAfter
