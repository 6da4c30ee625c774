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

// RetryAfter reads the header.
var RetryAfter = retryAfter
