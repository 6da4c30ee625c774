// Package server speaks gRPC to devices, applications and administrators.
//
// Every call takes three steps: a handler of this package, one method of
// [approval.Broker], one transaction of its store. This package holds no rule
// about accounts, devices or sign-ins. Its own part is what lies around that:
//
//   - who calls: the key of a TLS client certificate, a bearer token, or the
//     uid at the other end of a Unix socket. An exact table of method names
//     says which of them each method wants, and a method without a row is
//     refused. Credentials are only read here; whether they are trusted is
//     decided in the transaction.
//   - how much a caller may take before it is known, and afterwards: see
//     [Limits] and the file connections.go.
//   - streams: a doorbell rings, the handler reads the whole state again and
//     sends it if it differs. Each Send has a deadline, so a reader that is
//     slow is cut and holds up nobody.
//   - errors: each has exactly one ErrorInfo; the file errors.go holds the
//     only translation. What is no refusal is answered with its kind alone,
//     and logged.
//   - stopping: streams end with SHUTTING_DOWN, and nothing can make it hang.
//
// AdminService is served on the administrators' listener alone. Reflection,
// channelz and pprof are served nowhere.
package server

import (
	"context"
	"crypto/ecdh"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"

	"github.com/countersignd/countersign/internal/pin"
	"github.com/countersignd/countersign/server/approval"

	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

// Config is what a [Server] is made of. Broker, Certificate, PublicAddress and
// Backup are required.
type Config struct {
	Broker *approval.Broker

	// Certificate is shown on the public listener. Its key must be the P-256
	// key that the Broker knows as the server's.
	Certificate tls.Certificate

	// PublicAddress is the host and port that devices and applications are
	// told to call. It is what invitations carry.
	PublicAddress string

	// SystemRoots makes invitations say that the certificate is to be checked
	// with the system's certificate roots, rather than by the key's id.
	SystemRoots bool

	// Backup writes a checked copy of the store to a new file at path and
	// returns its size in bytes. The text of its errors is shown to the
	// administrator.
	Backup func(ctx context.Context, path string) (int64, error)

	// Disk says how the disk is that holds the store; nil means that nobody
	// knows.
	Disk func() Disk

	// Called is told of each call that is over. It is called from many goroutines
	// and must return at once; nil means that nobody is told.
	Called func(Call)

	// WebPushKey is the public key that devices subscribe with at a Web Push
	// service, an uncompressed point; empty without Web Push.
	WebPushKey []byte

	// Version is the program's version, for people; it may be empty.
	Version string

	// Log gets a line for each call that changes something and for every
	// fault; nil means slog.Default().
	Log *slog.Logger

	// Limits bound unknown callers; the zero value means the defaults.
	Limits Limits
}

// The numbers of the transport. docs/operations.md lists them; they are no settings.
const (
	maxMessage       = 64 << 10
	maxHeaders       = 8 << 10
	handshakeTimeout = 10 * time.Second
	idleTimeout      = 10 * time.Minute
	maxAge           = time.Hour // gRPC varies it by ±10 %
	maxAgeGrace      = 30 * time.Second
	keepaliveEvery   = 60 * time.Second
	keepaliveTimeout = 10 * time.Second
	keepaliveMin     = 30 * time.Second

	// stopGrace is how long calls may go on when the server stops.
	stopGrace = 5 * time.Second

	// Small, because thousands of connections are idle nearly always: nothing
	// is buffered for reading beyond what TLS does, and gRPC holds the buffer
	// for writing during a write only.
	readBuffer  = 0
	writeBuffer = 4 << 10

	// adminHandshakeTimeout is shorter, since nothing is exchanged there and
	// stopping waits for it.
	adminHandshakeTimeout = 2 * time.Second
)

// A Server serves the API on two listeners.
type Server struct {
	broker         *approval.Broker
	config         Config
	log            *slog.Logger
	serverKey      string // key id
	signingKey     string // as a JSON Web Key
	started        time.Time
	administrators []uint32 // uids

	budget  *budget
	public  *grpc.Server
	admin   *grpc.Server
	health  *health.Server
	streams map[string]*atomic.Int64 // how many are open, by full method

	stopping context.Context // ends when Serve is told to stop
	stop     context.CancelFunc
	crew     *crew
}

// New returns a Server that does not serve yet.
func New(c Config) (*Server, error) { return newServer(c, peerUID) }

func newServer(c Config, peerUID func(net.Conn) (uint32, error)) (*Server, error) {
	if c.Broker == nil || c.Backup == nil || c.PublicAddress == "" || len(c.Certificate.Certificate) == 0 {
		return nil, errors.New("a Server needs a Broker, a certificate, a public address and a way to make backups")
	}
	if _, _, err := net.SplitHostPort(c.PublicAddress); err != nil {
		return nil, fmt.Errorf("the public address is not host:port: %w", err)
	}
	key, err := certificateKey(c.Certificate)
	if err != nil {
		return nil, fmt.Errorf("the server's certificate: %w", err)
	}
	if key != c.Broker.ServerKey() {
		return nil, errors.New("the server's certificate has another key than the Broker was told")
	}
	if _, err := ecdh.P256().NewPublicKey(c.WebPushKey); err != nil && len(c.WebPushKey) > 0 {
		return nil, errors.New("the Web Push key is no uncompressed P-256 point")
	}
	limits, err := c.Limits.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Server{broker: c.Broker, config: c, log: c.Log, crew: newCrew(), serverKey: key, administrators: trustedUIDs()}
	if s.log == nil {
		s.log = slog.Default()
	}
	_, signing := c.Broker.SigningKey()
	if s.signingKey, err = jwkJSON(signing); err != nil {
		return nil, err
	}
	s.stopping, s.stop = context.WithCancel(context.Background())
	s.budget = newBudget(limits, s.log)
	s.health = health.NewServer()
	s.public = s.newPublic(newTLSCredentials(c.Certificate, c.Broker.Known))
	s.admin = s.newAdmin(socketCredentials{peerUID})
	s.streams = countable(s.public, s.admin)
	return s, errors.Join(checkMethods(s.public), checkMethods(s.admin))
}

// certificateKey returns the key id of the key that the certificate is for.
func certificateKey(cert tls.Certificate) (string, error) {
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		return "", err
	}
	return pin.KeyID(leaf.PublicKey)
}

func (s *Server) newPublic(creds credentials.TransportCredentials) *grpc.Server {
	g := grpc.NewServer(append(s.options(),
		grpc.Creds(creds),
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.InTapHandle(s.limitStreams),
	)...)
	pb.RegisterEnrollmentServiceServer(g, &enrollmentService{server: s})
	pb.RegisterDeviceServiceServer(g, &deviceService{server: s})
	pb.RegisterSignInServiceServer(g, &signInService{server: s})
	grpc_health_v1.RegisterHealthServer(g, s.health)
	return g
}

func (s *Server) newAdmin(creds credentials.TransportCredentials) *grpc.Server {
	g := grpc.NewServer(append(s.options(), grpc.Creds(creds), grpc.ConnectionTimeout(adminHandshakeTimeout))...)
	pb.RegisterAdminServiceServer(g, &adminService{server: s})
	grpc_health_v1.RegisterHealthServer(g, s.health)
	return g
}

// options are what both servers have in common.
func (s *Server) options() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.UnaryInterceptor(s.unary),
		grpc.StreamInterceptor(s.stream),
		grpc.MaxConcurrentStreams(applicationStreams),
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxHeaderListSize(maxHeaders),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			MaxConnectionIdle:     idleTimeout,
			MaxConnectionAge:      maxAge,
			MaxConnectionAgeGrace: maxAgeGrace,
			Time:                  keepaliveEvery,
			Timeout:               keepaliveTimeout,
		}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: keepaliveMin, PermitWithoutStream: true}),
		grpc.ReadBufferSize(readBuffer),
		grpc.WriteBufferSize(writeBuffer),
		// The window stays what it is, rather than grow to megabytes for a
		// caller that sends fast: our messages are small.
		grpc.StaticStreamWindowSize(maxMessage),
		grpc.StaticConnWindowSize(maxMessage),
		grpc.WaitForHandlers(true),
	}
}

// Serve serves devices and applications on public, which speaks TLS, and
// administrators on admin, which must be a Unix socket, until ctx ends; then
// it stops within seconds: streams end with SHUTTING_DOWN, other calls may
// finish, and what has not ended after five seconds is cut off.
//
// It closes both listeners and returns when nothing of the server runs any
// more. The error says which listener failed; after a stop it is nil. A Server
// serves once.
func (s *Server) Serve(ctx context.Context, public, admin net.Listener) error {
	s.started = time.Now()
	s.log.Info("serving", "address", public.Addr().String(), "server_key", s.serverKey,
		"deployment", s.broker.Deployment(), "version", s.config.Version)
	failed := make(chan error, 2)
	go func() {
		failed <- serveError("the public listener", s.public.Serve(newLimitedListener(public, s.budget)))
	}()
	go func() { failed <- serveError("the administrators' listener", s.admin.Serve(admin)) }()

	var err error
	running := 2
	select {
	case <-ctx.Done():
		s.log.Info("stopping")
	case err = <-failed:
		running--
	}
	s.shutdown()
	for ; running > 0; running-- {
		err = errors.Join(err, <-failed)
	}
	s.crew.end()
	s.log.Info("stopped")
	return err
}

func serveError(what string, err error) error {
	if err == nil || errors.Is(err, grpc.ErrServerStopped) {
		return nil
	}
	return fmt.Errorf("serving on %s: %w", what, err)
}

// shutdown ends both gRPC servers. GracefulStop waits for every stream, so
// the handlers of streams are told first; and it waits for clients, so it does
// not wait for long.
func (s *Server) shutdown() {
	s.health.Shutdown()
	s.stop()
	s.broker.RingDevices()
	var graceful sync.WaitGroup
	graceful.Go(s.public.GracefulStop)
	graceful.Go(s.admin.GracefulStop)
	late := time.AfterFunc(stopGrace, func() {
		// Stop waits for connections that are not through their handshake, so
		// the sockets themselves are closed before.
		s.budget.closeAll()
		s.public.Stop()
		s.admin.Stop()
	})
	graceful.Wait()
	late.Stop()
}
