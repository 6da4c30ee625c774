package webpush

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/countersignd/countersign/server/approval"
)

// maxAfter bounds how long a service can ask to wait: by then no prompt of today's
// is open any more.
const maxAfter = time.Hour

// judge returns what follows from an answer. nil means that the push was taken.
//
// No answer is [approval.WakeBroken]: who answers was chosen by a device, and one
// device must not be able to stop the pushes of all. For the same reason a refusal
// of this server's token is no end of the registration: if the server's clock is
// wrong all of them would end, and would be lost when it is right again.
//
// The words are short, since only the first 160 bytes are kept with the device.
func judge(host string, resp *http.Response, now time.Time) error {
	status := resp.StatusCode
	refusal := func(verdict approval.WakeVerdict, meaning string) *approval.WakeError {
		return &approval.WakeError{Verdict: verdict, Why: fmt.Sprintf("Web Push: %d from %s: %s", status, host, meaning)}
	}
	switch {
	case status == http.StatusOK, status == http.StatusCreated, status == http.StatusAccepted, status == http.StatusNoContent:
		return nil
	case status == http.StatusNotFound, status == http.StatusGone:
		return refusal(approval.WakeDead, "the subscription is no more")
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return refusal(approval.WakeRefused, "it does not accept this server's key or contact; the device may have to subscribe anew")
	case status == http.StatusRequestEntityTooLarge:
		return refusal(approval.WakeRefused, "the message is too large for it")
	case status >= 300 && status < 400:
		return refusal(approval.WakeRefused, "it wants to send the push elsewhere, which is not followed")
	case status == http.StatusTooManyRequests:
		later := refusal(approval.WakeLater, "too many pushes")
		later.After = retryAfter(resp.Header.Get("Retry-After"), now)
		return later
	case status == http.StatusRequestTimeout, status == http.StatusTooEarly, status >= 500:
		later := refusal(approval.WakeLater, "it cannot take a push at the moment")
		later.After = retryAfter(resp.Header.Get("Retry-After"), now)
		return later
	}
	return refusal(approval.WakeRefused, "it does not take the push")
}

// retryAfter reads a Retry-After header (RFC 9110, 10.2.3): seconds, or a moment.
// It is 0 for what is neither or has passed, and never more than maxAfter.
func retryAfter(header string, now time.Time) time.Duration {
	if header == "" {
		return 0
	}
	if consists(header, digits) {
		n, err := strconv.ParseInt(header, 10, 64)
		if err != nil || n > int64(maxAfter/time.Second) {
			return maxAfter
		}
		return time.Duration(n) * time.Second
	}
	moment, err := http.ParseTime(header)
	if err != nil {
		return 0
	}
	return min(max(moment.Sub(now), 0), maxAfter)
}

// unreachable returns what follows if there was no answer. The words are all this
// package's own: those of the error may have come from the other side. A name that
// does not exist and one that leads where nobody may push look the same, so that
// devices cannot ask this server about the names of its own network.
func unreachable(host string, err error) error {
	var (
		missing     *net.DNSError
		authority   x509.UnknownAuthorityError
		name        x509.HostnameError
		certificate x509.CertificateInvalidError
		verify      *tls.CertificateVerificationError
		network     *net.OpError
		timeout     net.Error
	)
	failure := func(verdict approval.WakeVerdict, meaning string) error {
		return &approval.WakeError{Verdict: verdict, Why: "Web Push: " + host + " " + meaning}
	}
	switch {
	case errors.Is(err, errRefusedAddress), errors.As(err, &missing) && missing.IsNotFound:
		return failure(approval.WakeRefused, "has no address that this server may push to")
	case errors.As(err, &missing):
		return failure(approval.WakeLater, "could not be looked up")
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return failure(approval.WakeLater, "did not answer in time")
	case errors.As(err, &authority):
		return failure(approval.WakeLater, "has a certificate of an authority that this server does not know")
	case errors.As(err, &name):
		return failure(approval.WakeLater, "has a certificate for another name")
	case errors.As(err, &certificate), errors.As(err, &verify):
		return failure(approval.WakeLater, "has a certificate that is not valid")
	case errors.As(err, &network):
		return failure(approval.WakeLater, "could not be reached")
	}
	return failure(approval.WakeLater, "did not answer as a push service does")
}
