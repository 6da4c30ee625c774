package apns

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"sync"
	"time"
)

// newTransport returns one connection to APNs that is kept, and tells l of it.
func newTransport(roots *x509.CertPool, l *lineState) *http.Transport {
	var only http.Protocols
	only.SetHTTP2(true)
	dialer := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second}
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dialer.DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return &watchedConn{conn, l}, nil
		},
		TLSClientConfig: &tls.Config{
			MinVersion: tls.VersionTLS12, // which is what Apple asks for
			RootCAs:    roots,
		},
		TLSHandshakeTimeout:    10 * time.Second,
		Protocols:              &only,
		MaxConnsPerHost:        1,
		IdleConnTimeout:        24 * time.Hour,
		MaxResponseHeaderBytes: 16 << 10,
		DisableCompression:     true,
		HTTP2: &http.HTTP2Config{
			SendPingTimeout:  time.Minute, // so that a dead connection is found before a push needs it
			PingTimeout:      10 * time.Second,
			WriteByteTimeout: 10 * time.Second,
		},
	}
}

// A watchedConn tells of its end.
type watchedConn struct {
	net.Conn
	line *lineState
}

// Close implements [net.Conn].
func (c *watchedConn) Close() error {
	c.line.end()
	return c.Conn.Close()
}

// A lineState is whether APNs has taken the provider's token on the connection that
// there is.
type lineState struct {
	mu    sync.Mutex
	known bool
	ends  int // how many connections have ended
}

func (l *lineState) isKnown() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.known
}

func (l *lineState) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.known = false
	l.ends++
}

func (l *lineState) endings() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ends
}

// answered is told of a push that was sent when so many connections had ended. If
// another has since, it may be the one that was answered on.
func (l *lineState) answered(ends int, known bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.known = known && ends == l.ends
}
