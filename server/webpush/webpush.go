// Package webpush wakes devices through Web Push services, those of browsers and
// those of UnifiedPush: [approval.Waker] on RFC 8030 (the request), RFC 8291 with
// RFC 8188 (its encryption) and RFC 8292 (who sends it), with the standard
// library alone.
//
// # What a push says
//
// The payload is one of two constants: something is asked, or is over. It names
// no account, application, address or code, and has one size. Only the device can
// read it. The service learns when a device is rung, for how long, and, by the
// urgency, what is a ring and what the end of one; and whose server it is.
//
// # Where it goes
//
// The endpoint is chosen by whoever holds the device, so it must not lead to what
// only this machine can reach. It is parsed strictly ([Service.Check]); its host is
// judged by the very address that is about to be connected to, so that no name can
// be looked up once for the judge and once for the connection. A public address that
// is this machine's own, and an IPv6 one beside it, are refused like private ones; what
// an operator has of his own there he must allow ([ParseAllowed]). Nothing follows a
// redirect, reads the environment's proxies or more than a KiB of an answer.
//
// # What is not here
//
// A push is tried once. When to try again, and how many devices to wake at the same
// time, is for the caller. Delivery receipts (RFC 8030, 5.1) are not asked for: that
// a message was delivered does not say that anybody saw it, which the device itself
// reports.
package webpush

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/countersignd/countersign/server/approval"
)

const (
	// maxTime is how long one try may take. Push services answer in less than a
	// second.
	maxTime = 8 * time.Second

	// maxTTL is how long a service may keep a wake-up at most, whatever the clocks
	// say: no prompt lives longer.
	maxTTL = 10 * time.Minute

	// maxBody is how much of an answer's body is read, and thrown away, so that the
	// connection can be used again; maxHeader is how long its header may be.
	maxBody   = 1 << 10
	maxHeader = 16 << 10
)

// Config is what a [Service] is made of. Key and Contact are required.
type Config struct {
	// Key is the server's VAPID key, a P-256 key. Subscriptions are made for it,
	// and with another key all of them are worthless.
	Key *ecdsa.PrivateKey

	// Contact is where a push service's operator can complain: see [CheckContact].
	Contact string

	// Allowed is where to push besides public addresses.
	Allowed Allowed

	// Roots are the authorities that push services' certificates must be of; nil
	// means the system's.
	Roots *x509.CertPool
}

// A Service wakes devices through Web Push services. It implements
// [approval.Waker].
type Service struct {
	vapid     *vapid
	guard     *guard
	transport *http.Transport
	maxTime   time.Duration
}

var _ approval.Waker = (*Service)(nil)

// New returns a Service.
func New(c Config) (*Service, error) {
	if c.Key == nil || c.Key.Curve != elliptic.P256() {
		return nil, errors.New("a P-256 key is needed for Web Push")
	}
	if err := CheckContact(c.Contact); err != nil {
		return nil, err
	}
	tokens, err := newVAPID(c.Key, c.Contact)
	if err != nil {
		return nil, err
	}
	g := newGuard(c.Allowed)
	return &Service{vapid: tokens, guard: g, maxTime: maxTime, transport: &http.Transport{
		Proxy:                  nil, // one from the environment would reach what the guard refuses
		DialContext:            g.dial,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: c.Roots},
		TLSHandshakeTimeout:    dialTimeout,
		ForceAttemptHTTP2:      true,
		DisableCompression:     true,
		MaxIdleConns:           64,
		MaxIdleConnsPerHost:    2,
		MaxConnsPerHost:        8,
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: maxHeader,
		// A connection whose other end has vanished is noticed by the first push that
		// it swallows, which is tried again on a new one.
		HTTP2: &http.HTTP2Config{SendPingTimeout: maxTime / 2, PingTimeout: maxTime / 4},
	}}, nil
}

// Check implements [approval.Waker].
func (s *Service) Check(to approval.PushAddress) error {
	_, err := s.target(to)
	return err
}

// A target is a push address that was checked.
type target struct {
	endpoint endpoint
	key      *ecdh.PublicKey
	auth     []byte
}

func (s *Service) target(to approval.PushAddress) (target, error) {
	if to.Token != "" {
		return target{}, errors.New("a Web Push subscription has no token: give its endpoint, p256dh and auth")
	}
	e, err := s.guard.parse(to.Endpoint)
	if err != nil {
		return target{}, fmt.Errorf("the endpoint %w", err)
	}
	key, err := ecdh.P256().NewPublicKey(to.P256DH)
	if err != nil {
		return target{}, fmt.Errorf("p256dh is no uncompressed point of P-256, which has %d bytes and begins with 4: give what getKey(\"p256dh\") of the subscription returns", pointLen)
	}
	if len(to.Auth) != authLen {
		return target{}, fmt.Errorf("auth has %d bytes, want %d: give what getKey(\"auth\") of the subscription returns", len(to.Auth), authLen)
	}
	return target{endpoint: e, key: key, auth: to.Auth}, nil
}

// Wake implements [approval.Waker]. It takes eight seconds at most.
func (s *Service) Wake(ctx context.Context, to approval.PushAddress, w approval.Wakeup) error {
	now := time.Now()
	t, err := s.target(to)
	if err != nil {
		// It was taken once, and the operator allows less now.
		return &approval.WakeError{Why: "Web Push: " + err.Error()}
	}
	if !now.Before(w.Expires) {
		return &approval.WakeError{Why: "Web Push: the prompt had ended before it could be pushed"}
	}
	try, cancel := context.WithTimeout(ctx, s.maxTime)
	defer cancel()
	req, err := s.request(try, t, w, now)
	if err != nil {
		return &approval.WakeError{Why: "Web Push: this server could not make the message", Err: err}
	}
	// Not by an http.Client, which follows redirects, keeps cookies and writes the
	// endpoint into its errors.
	resp, err := s.transport.RoundTrip(req)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return unreachable(t.endpoint.host, err)
	}
	defer resp.Body.Close()
	io.CopyN(io.Discard, resp.Body, maxBody) // the status has said it all
	return judge(t.endpoint.host, resp, time.Now())
}

// request makes the request of RFC 8030, 5.
func (s *Service) request(ctx context.Context, t target, w approval.Wakeup, now time.Time) (*http.Request, error) {
	authorization, err := s.vapid.authorization(t.endpoint.origin, now)
	if err != nil {
		return nil, err
	}
	kind := asked
	if w.Over {
		kind = over
	}
	body, err := kind.sealFor(t.key, t.auth)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.endpoint.url, bytes.NewReader(body))
	if err != nil {
		return nil, errors.New("the endpoint makes no request") // its error has the endpoint in it
	}
	ttl := min(w.Expires.Sub(now), maxTTL) / time.Second // rounded down: never later
	req.Header = http.Header{
		"Authorization":    {authorization},
		"Content-Encoding": {"aes128gcm"},
		"Content-Type":     {"application/octet-stream"},
		"Topic":            {topic(t.auth, w.Topic)},
		"Ttl":              {strconv.FormatInt(int64(ttl), 10)},
		"Urgency":          {kind.urgency},
		"User-Agent":       {"countersign"},
	}
	return req, nil
}

// topic returns what makes a service replace an older wake-up of the same prompt
// that it still holds (RFC 8030, 5.4). It is another for each device, so that the
// services cannot tell by it which devices are of one account.
func topic(auth []byte, prompt string) string {
	mac := hmac.New(sha256.New, auth)
	mac.Write([]byte("countersign web push topic\x00" + prompt))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:24]) // 32 characters, the most
}
