package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/countersignd/countersign/internal/pin"
	"github.com/countersignd/countersign/internal/text"
)

// The limits that client and server agree on.
const (
	maxMessage  = 64 << 10 // that the server takes
	maxAnswer   = 1 << 20  // a list of devices has no limit of its own
	maxHeaders  = 8 << 10
	dialTimeout = 10 * time.Second // to connect, without the handshake
)

// A WrongServerError says that a server showed another key than the pinned one.
// Nothing was sent to it.
type WrongServerError struct {
	Got string // key id of the key it showed; empty if that was none
}

func (e *WrongServerError) Error() string {
	return "the server's key " + e.short() + "is not the expected one: it is another server, or its key was replaced. " +
		"Nothing was sent to it. Ask the administrator before going on"
}

func (e *WrongServerError) short() string {
	if e.Got == "" {
		return ""
	}
	return "(" + Fingerprint(e.Got) + ") "
}

// A Conn is a connection to a server that knows whom it reached and why it
// failed.
type Conn struct {
	*grpc.ClientConn
	address string
	dial    func(ctx context.Context, address string) (net.Conn, error)

	mu        sync.Mutex
	serverKey string // of the latest handshake that succeeded
	failure   error  // of the latest attempt to connect; nil if it succeeded
}

// A Server is where a server is and how to know it.
type Server struct {
	Address string // host and port
	Pin     string // key id of its TLS key; if empty, the system's roots vouch for it
}

// Dial prepares a connection to the server, showing cert or, if it is nil, no
// certificate. It does not use the network yet. The connection reads no proxy
// settings and sends nothing before the server has shown the right key.
func Dial(server Server, cert *tls.Certificate, options ...grpc.DialOption) (*Conn, error) {
	return dial(server, cert, dialTCP, options...)
}

func dialTCP(ctx context.Context, address string) (net.Conn, error) {
	return (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "tcp", address)
}

func dial(server Server, cert *tls.Certificate, dialer func(context.Context, string) (net.Conn, error), options ...grpc.DialOption) (*Conn, error) {
	host, _, err := net.SplitHostPort(server.Address)
	if err != nil {
		return nil, fmt.Errorf("the server's address is not a host and port: %w", err)
	}
	c := &Conn{address: server.Address, dial: dialer}
	config := pin.ClientConfigWithRoots(cert, host)
	if server.Pin != "" {
		config = pin.ClientConfig(cert, server.Pin)
		verify := config.VerifyConnection
		config.VerifyConnection = func(cs tls.ConnectionState) error {
			if err := verify(cs); err != nil {
				got, _ := pin.PeerKeyID(cs)
				return &WrongServerError{Got: got}
			}
			return nil
		}
	}
	options = append([]grpc.DialOption{
		grpc.WithTransportCredentials(handshaker{credentials.NewTLS(config), c}),
		grpc.WithContextDialer(c.connect),
		// PermitWithoutStream, so that a connection that a laptop's sleep
		// has cut is noticed between two calls as well.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: time.Minute, Timeout: 10 * time.Second, PermitWithoutStream: true}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswer), grpc.MaxCallSendMsgSize(maxMessage)),
		grpc.WithMaxHeaderListSize(maxHeaders),
		grpc.WithDisableServiceConfig(),
	}, options...)
	// passthrough, so that the name is resolved anew for each attempt.
	c.ClientConn, err = grpc.NewClient("passthrough:///"+server.Address, options...)
	if err != nil {
		return nil, fmt.Errorf("preparing the connection: %w", err)
	}
	return c, nil
}

// Ready connects, and waits until the server has shown the right key. It makes one
// attempt.
func (c *Conn) Ready(ctx context.Context) error {
	c.Connect()
	for first := true; ; first = false {
		state := c.GetState()
		switch {
		case state == connectivity.Ready:
			return nil
		case state == connectivity.TransientFailure, state == connectivity.Shutdown:
			return c.Explain(errors.New("the connection failed"))
		case state == connectivity.Idle && !first:
			// It was ready, for less time than it takes to look. Nobody but us
			// would make it connect again, so there is nothing to wait for.
			return c.Explain(errors.New("it was closed at once"))
		}
		if !c.WaitForStateChange(ctx, state) {
			return c.Explain(ctx.Err())
		}
	}
}

// ServerKey returns the key id of the server's TLS key, as the latest handshake
// has proven it, or "" before the first.
func (c *Conn) ServerKey() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.serverKey
}

// Explain returns err, of a call on this connection, as a sentence for a person.
// [Reason] and [errors.As] still see what it was.
func (c *Conn) Explain(err error) error {
	if err == nil {
		return nil
	}
	c.mu.Lock()
	failure := c.failure
	c.mu.Unlock()
	var wrong *WrongServerError
	switch {
	case errorInfo(err) != nil:
		// The server's sentences end with a full stop, and ours go on.
		return &explained{strings.TrimSuffix(text.EscapeSentence(status.Convert(err).Message()), "."), err}
	case errors.As(failure, &wrong):
		return wrong
	case failure != nil:
		kind, words := plain(failure)
		return &problemError{Problem{Kind: kind, Server: c.address, Detail: words}, fmt.Sprintf("cannot reach %s: %s", c.address, words), err}
	case errors.Is(err, context.DeadlineExceeded), status.Code(err) == codes.DeadlineExceeded:
		return &problemError{Problem{Kind: Unanswered, Server: c.address}, fmt.Sprintf("no answer from %s in time", c.address), err}
	}
	words := text.Escape(status.Convert(err).Message())
	return &problemError{Problem{Kind: Broke, Server: c.address, Detail: words}, fmt.Sprintf("the connection to %s broke (%s)", c.address, words), err}
}

// explained is an error with better words.
type explained struct {
	words string
	err   error
}

func (e *explained) Error() string { return e.words }
func (e *explained) Unwrap() error { return e.err }

// plain returns what went wrong without the layers through which it came.
func plain(err error) (ProblemKind, string) {
	var errno syscall.Errno
	var dns *net.DNSError
	var timeout net.Error
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		return Unresolved, "there is no host of that name"
	case errors.Is(err, syscall.ECONNREFUSED):
		return NotListening, syscall.ECONNREFUSED.Error()
	case errors.As(err, &errno):
		return NotReached, errno.Error()
	case errors.As(err, &timeout) && timeout.Timeout(), errors.Is(err, context.DeadlineExceeded):
		return Unanswered, "no answer"
	}
	return NotReached, text.Escape(strings.TrimPrefix(err.Error(), "tls: "))
}

func (c *Conn) connect(ctx context.Context, address string) (net.Conn, error) {
	raw, err := c.dial(ctx, address)
	if err != nil {
		c.tried("", err)
	}
	return raw, err
}

func (c *Conn) tried(serverKey string, failure error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failure = failure
	if failure == nil {
		c.serverKey = serverKey
	}
}

// A handshaker tells its Conn how each handshake went.
type handshaker struct {
	credentials.TransportCredentials
	conn *Conn
}

func (h handshaker) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	secure, info, err := h.TransportCredentials.ClientHandshake(ctx, authority, raw)
	var serverKey string
	if err == nil {
		// Only now, when the server has proven to hold the private key;
		// VerifyConnection runs before that.
		serverKey, err = leafKey(info)
	}
	h.conn.tried(serverKey, err)
	if err != nil {
		return nil, nil, err
	}
	return secure, info, nil
}

func (h handshaker) Clone() credentials.TransportCredentials {
	return handshaker{h.TransportCredentials.Clone(), h.conn}
}

// leafKey returns the key id of the server's certificate. A server that the
// system's roots vouch for shows further certificates after its own.
func leafKey(info credentials.AuthInfo) (string, error) {
	tlsInfo, ok := info.(credentials.TLSInfo)
	if !ok || len(tlsInfo.State.PeerCertificates) == 0 {
		return "", errors.New("the server showed no certificate")
	}
	key, err := pin.KeyID(tlsInfo.State.PeerCertificates[0].PublicKey)
	if err != nil {
		return "", fmt.Errorf("the server's certificate cannot be used: %w", err)
	}
	return key, nil
}
