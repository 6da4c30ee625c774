// Package apnstest is an APNs for tests, on this machine. It refuses what Apple
// refuses, in Apple's words: "Sending notification requests to APNs", "Establishing a
// token-based connection to APNs" and "Handling notification responses from APNs" in
// Apple's documentation. Where these leave a choice, the stricter one is taken, and
// the place says so.
//
// A [Server] knows one team with one key, its programs, and the devices they are
// installed on. It keeps every push, so that a test can search them for what must not
// be in one, and can be told to fail in the ways in which APNs fails.
package apnstest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// What a server knows its team by.
const (
	KeyID = "ABC123DEFG"
	Team  = "DEF456GHIJ"
	Topic = "org.example.countersign" // of a program with push notifications
	Other = "org.example.other"       // of another one of the team
)

// A Server is an APNs.
type Server struct {
	URL string // "https://127.0.0.1:…"

	// Now is the time on the server's clock. Set it before the first push.
	Now func() time.Time

	key     *ecdsa.PrivateKey
	root    *x509.Certificate
	closing chan struct{}

	mu      sync.Mutex
	devices map[string]*device // by token
	script  []Answer
	pushes  []Push
	conns   int
}

// A device has a program installed, or had.
type device struct {
	topic  string
	reason string    // why it cannot be reached any more, or empty
	since  time.Time // since when
}

// A Push is a request as it came, and what was answered.
type Push struct {
	Connection   int // counted from 1
	Proto        string
	Method, Path string
	Header       http.Header
	Payload      []byte
	Provider     string // what the provider's token says: its header and its claims
	Status       int    // 0 if there was no answer
	Reason       string // empty if it was taken
}

// A connection is one of HTTP/2. APNs looks at a provider's tokens by connection.
type connection struct {
	number int
	raw    net.Conn
	open   int       // pushes under way
	known  bool      // one was answered whose provider's token was taken
	bearer string    // the provider's token that was taken last
	since  time.Time // when that was first seen
}

// Start starts a server. It ends with the test.
func Start(t testing.TB) *Server {
	t.Helper()
	s := &Server{Now: time.Now, devices: map[string]*device{}, closing: make(chan struct{}), key: newKey(t)}
	cert := s.certificate(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.URL = "https://" + listener.Addr().String()
	var only http.Protocols
	only.SetHTTP2(true)
	server := &http.Server{
		Handler:     s,
		TLSConfig:   &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}},
		Protocols:   &only,
		ConnContext: s.connected,
		ErrorLog:    log.New(io.Discard, "", 0),
	}
	var serving sync.WaitGroup
	serving.Go(func() { server.ServeTLS(listener, "", "") })
	t.Cleanup(func() {
		close(s.closing)
		server.Close()
		serving.Wait()
	})
	return s
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// certificate makes the certificate of the listener and the root that vouches for it.
func (s *Server) certificate(t testing.TB) tls.Certificate {
	t.Helper()
	must := func(der []byte, err error) *x509.Certificate {
		if err == nil {
			var cert *x509.Certificate
			if cert, err = x509.ParseCertificate(der); err == nil {
				return cert
			}
		}
		t.Fatal(err)
		return nil
	}
	rootKey, key := newKey(t), newKey(t)
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "apnstest root"}, NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	s.root = must(x509.CreateCertificate(rand.Reader, root, root, rootKey.Public(), rootKey))
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "apnstest"}, NotAfter: root.NotAfter,
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	cert := must(x509.CreateCertificate(rand.Reader, leaf, s.root, key.Public(), rootKey))
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
}

// Roots is what the server's certificate is checked with.
func (s *Server) Roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(s.root)
	return pool
}

// RootsPEM is the same as a file, such as for SSL_CERT_FILE.
func (s *Server) RootsPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.root.Raw})
}

// Key is the key that the team was given.
func (s *Server) Key() *ecdsa.PrivateKey { return s.key }

// KeyPEM is the same as the file that Apple hands out.
func (s *Server) KeyPEM() []byte {
	der, err := x509.MarshalPKCS8PrivateKey(s.key)
	if err != nil {
		panic(err) // a P-256 key has such a form
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// Device returns the token of a new device on which the program is installed whose
// topic this is.
func (s *Server) Device(topic string) string {
	token := make([]byte, 32)
	rand.Read(token)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.devices[hex.EncodeToString(token)] = &device{topic: topic}
	return hex.EncodeToString(token)
}

// Lose makes a device one that cannot be reached any more, for a reason of status
// 410, since a time.
func (s *Server) Lose(token, reason string, since time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.devices[token]
	d.reason, d.since = reason, since
}

// Pushes returns all pushes so far, the refused ones too.
func (s *Server) Pushes() []Push {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.pushes)
}

// Taken returns those that were taken.
func (s *Server) Taken() []Push {
	return slices.DeleteFunc(s.Pushes(), func(p Push) bool { return p.Status != http.StatusOK })
}

// Connections returns how many connections there have been.
func (s *Server) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conns
}

// Text is all that the server has seen of a push, in one text to be searched.
func (p Push) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %s\n", p.Method, p.Path, p.Provider)
	p.Header.Write(&b)
	b.Write(p.Payload)
	return b.String()
}

type connectionKey struct{}

func (s *Server) connected(ctx context.Context, raw net.Conn) context.Context {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns++
	return context.WithValue(ctx, connectionKey{}, &connection{number: s.conns, raw: raw})
}
