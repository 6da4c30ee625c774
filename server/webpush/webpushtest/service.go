// Package webpushtest is a push service for tests, with the devices behind it: a
// real HTTPS server on a loopback port that refuses what push services refuse, and
// decrypts each message with the keys of the device it is for.
//
//	service := webpushtest.New(t, nil)
//	phone := service.Subscribe(vapidKey)
//	waker, err := webpush.New(webpush.Config{…, Allowed: loopback, Roots: service.Roots()})
//	err = waker.Wake(ctx, approval.PushAddress{Endpoint: phone.Endpoint, P256DH: phone.P256DH, Auth: phone.Auth}, wakeup)
//	message := phone.MustNext()
//
// It shares no code with the sender. What it checks is RFC 8030 (method, TTL,
// Urgency, Topic, size), RFC 8292 (the token's signature, algorithm, audience, life
// and subject, and that the subscription is for its key), and RFC 8291 with RFC 8188
// (that the device can read the message). Browsers' services do the last nowhere, as
// they cannot; here a message that the device cannot read is refused with 400.
//
// Everything is stopped when the test ends.
package webpushtest

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// maxBody is how much a service must take at least (RFC 8030, 7.2), and what
// services of today take at most.
const maxBody = 4096

// Options change what [New] makes. The zero value of each field means the default.
type Options struct {
	// Address is where it listens; empty means a free port of 127.0.0.1.
	Address string

	// Name is the host in endpoints and certificate; empty means the address.
	Name string
}

// A Service is a push service. Its methods may be called from many goroutines.
type Service struct {
	// Origin is the scheme, host and port of all endpoints.
	Origin string

	t           testing.TB
	certificate *x509.Certificate

	mu            sync.Mutex
	subscriptions map[string]*Subscription // by the path of the endpoint
	answer        http.HandlerFunc
	refusals      []string
	requests      int
}

// New starts a Service. o may be nil.
func New(t testing.TB, o *Options) *Service {
	t.Helper()
	if o == nil {
		o = &Options{}
	}
	address := o.Address
	if address == "" {
		address = "127.0.0.1:0"
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	host, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if o.Name != "" {
		host = o.Name
	}
	s := &Service{Origin: "https://" + net.JoinHostPort(host, port), t: t, subscriptions: map[string]*Subscription{}}
	certificate := s.makeCertificate(host)
	server := &httptest.Server{
		Listener:    listener,
		EnableHTTP2: true,
		TLS:         &tls.Config{Certificates: []tls.Certificate{certificate}},
		Config:      &http.Server{Handler: http.HandlerFunc(s.serve), ErrorLog: log.New(io.Discard, "", 0)},
	}
	server.StartTLS()
	t.Cleanup(server.Close)
	return s
}

// makeCertificate makes a certificate that is its own authority.
func (s *Service) makeCertificate(host string) tls.Certificate {
	s.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		s.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	if ip := net.ParseIP(host); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{host}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		s.t.Fatal(err)
	}
	if s.certificate, err = x509.ParseCertificate(der); err != nil {
		s.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// Roots returns the authority of the service's certificate.
func (s *Service) Roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(s.certificate)
	return pool
}

// RootPEM returns the same in PEM, for the file that SSL_CERT_FILE names to a
// program.
func (s *Service) RootPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.certificate.Raw})
}

// Subscribe makes a device that takes messages of the sender with this key only, an
// uncompressed P-256 point.
func (s *Service) Subscribe(vapidKey []byte) *Subscription {
	s.t.Helper()
	if _, err := ecdh.P256().NewPublicKey(vapidKey); err != nil {
		s.t.Fatalf("a device cannot subscribe with this key: %v", err)
	}
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		s.t.Fatal(err)
	}
	auth := make([]byte, 16)
	rand.Read(auth)
	path := "/push/" + rand.Text()
	sub := &Subscription{
		Endpoint: s.Origin + path, P256DH: key.PublicKey().Bytes(), Auth: auth,
		service: s, key: key, sender: bytes.Clone(vapidKey), messages: make(chan Message, 1024),
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.subscriptions[path] = sub
	return sub
}

// SetAnswer makes the service answer all requests so; nil makes it a push service
// again.
func (s *Service) SetAnswer(answer http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answer
}

// Requests returns how many there were.
func (s *Service) Requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests
}

// Refusals returns why requests were refused, each as "400: the TTL is …".
func (s *Service) Refusals() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.refusals...)
}

func (s *Service) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.requests++
	answer, sub := s.answer, s.subscriptions[r.URL.Path]
	gone := sub != nil && sub.gone
	s.mu.Unlock()
	if answer != nil {
		answer(w, r)
		return
	}
	message, refused := s.take(w, r, sub, gone)
	if refused == nil {
		select {
		case sub.messages <- message:
		default:
			refused = refuse(http.StatusTooManyRequests, "the device has %d messages that it did not look at", cap(sub.messages))
		}
	}
	if refused != nil {
		s.mu.Lock()
		s.refusals = append(s.refusals, refused.Error())
		s.mu.Unlock()
		http.Error(w, refused.why, refused.status)
		return
	}
	w.Header().Set("Location", s.Origin+"/message/"+rand.Text())
	w.WriteHeader(http.StatusCreated)
}

// A refusal is an answer that is no success.
type refusal struct {
	status int
	why    string
}

func (r *refusal) Error() string { return fmt.Sprintf("%d: %s", r.status, r.why) }

func refuse(status int, format string, args ...any) *refusal {
	return &refusal{status, fmt.Sprintf(format, args...)}
}

// take reads a request for a push.
func (s *Service) take(w http.ResponseWriter, r *http.Request, sub *Subscription, gone bool) (Message, *refusal) {
	switch {
	case r.Method != http.MethodPost:
		return Message{}, refuse(http.StatusMethodNotAllowed, "the method is %s, want POST", r.Method)
	case sub == nil:
		return Message{}, refuse(http.StatusNotFound, "there is no such subscription")
	case gone:
		return Message{}, refuse(http.StatusGone, "the subscription has expired")
	}
	for name, values := range r.Header {
		if len(values) != 1 {
			return Message{}, refuse(http.StatusBadRequest, "there are %d headers %s", len(values), name)
		}
	}
	if err := verifyVAPID(r.Header.Get("Authorization"), s.Origin, sub.sender, time.Now()); err != nil {
		return Message{}, err
	}
	m, refused := readHeader(r.Header)
	if refused != nil {
		return Message{}, refused
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return Message{}, refuse(http.StatusRequestEntityTooLarge, "the body has more than %d bytes", maxBody)
	}
	if m.Payload, err = decryptPush(body, sub.key, sub.Auth); err != nil {
		return Message{}, refuse(http.StatusBadRequest, "the device cannot read it: %v", err)
	}
	m.Size = len(body)
	return m, nil
}

// A Subscription is a device that can be pushed to.
type Subscription struct {
	// Endpoint, P256DH and Auth are what the device tells the sender.
	Endpoint     string
	P256DH, Auth []byte

	service  *Service
	key      *ecdh.PrivateKey
	sender   []byte
	gone     bool // under the service's mutex
	messages chan Message
}

// A Message is a push that was taken and decrypted.
type Message struct {
	Payload []byte
	TTL     time.Duration
	Urgency string
	Topic   string
	Size    int // of the encrypted body
}

// Expire ends the subscription: pushes to it are answered with 410.
func (sub *Subscription) Expire() {
	sub.service.mu.Lock()
	defer sub.service.mu.Unlock()
	sub.gone = true
}

// Forget removes it: pushes to it are answered with 404.
func (sub *Subscription) Forget() {
	sub.service.mu.Lock()
	defer sub.service.mu.Unlock()
	delete(sub.service.subscriptions, strings.TrimPrefix(sub.Endpoint, sub.service.Origin))
}

// Next returns the oldest message that was not returned yet, and waits for it.
func (sub *Subscription) Next(ctx context.Context) (Message, error) {
	select {
	case m := <-sub.messages:
		return m, nil
	case <-ctx.Done():
		return Message{}, ctx.Err()
	}
}

// MustNext does the same, for ten seconds. It may be called only on the test's own
// goroutine.
func (sub *Subscription) MustNext() Message {
	sub.service.t.Helper()
	ctx, cancel := context.WithTimeout(sub.service.t.Context(), 10*time.Second)
	defer cancel()
	m, err := sub.Next(ctx)
	if err != nil {
		sub.service.t.Fatalf("no push came; refused were %q", sub.service.Refusals())
	}
	return m
}
