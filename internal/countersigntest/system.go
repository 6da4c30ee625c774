// Package countersigntest runs a whole Countersign in one process, for tests:
// the real server on a loopback port with real TLS and a Unix socket for
// administrators, devices that hold real keys and sign real statements, and
// applications that hold real tokens. Only the store is in memory, unless a
// test brings another.
//
//	system := countersigntest.New(t, nil)
//	system.AddAccount("ada")
//	phone := system.EnrollDevice("ada")
//	files := system.AddApplication("files")
//
//	signIn := files.MustBegin("ada")
//	prompt := phone.MustPrompt(signIn.Id)
//	code := phone.MustAllow(prompt)
//	verified := files.MustVerify(signIn.Id, code)
//
// A function named Must… fails the test, as do [New] and the functions that
// add something, so they may be called only on the test's own goroutine; all
// others return errors and may be called on any. Everything is stopped and
// removed when the test ends. If the test failed, the server's log is shown.
package countersigntest

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/countersignd/countersign/internal/pin"
	"github.com/countersignd/countersign/server"
	"github.com/countersignd/countersign/server/approval"
	"github.com/countersignd/countersign/server/approval/storetest"

	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

// Options change what [New] makes. The zero value of each field means the
// default.
type Options struct {
	// Store is what the Broker works on; nil means a new one in memory. The
	// System never closes it.
	Store approval.Store

	// DevicesPerAccount and Limits are passed on to the Broker and the server. But where
	// the limits of strangers' calls are zero, there is none, so that a test
	// can enrol a thousand devices from one address.
	DevicesPerAccount int
	Limits            server.Limits

	// Wakers are passed on to the Broker.
	Wakers map[approval.PushService]approval.Waker

	// Backup is passed on to the server; nil means that backups fail.
	Backup func(ctx context.Context, path string) (int64, error)
}

// A System is a running server with what it takes to call it.
type System struct {
	// Address is the host and port of the public listener, Pin the key id of
	// the server's TLS key, and Deployment the deployment id. They are the
	// same after a Restart.
	Address    string
	Pin        string
	Deployment string

	// Admin calls the server as the administrator with this process's uid.
	// AdminConn is the connection it uses.
	Admin     pb.AdminServiceClient
	AdminConn *grpc.ClientConn

	// ServerKey is the server's TLS key, for a test that makes servers of its
	// own for the same Broker.
	ServerKey *ecdsa.PrivateKey

	// Broker is the one behind the server. Restart makes a new one.
	Broker *approval.Broker

	t       testing.TB
	options Options
	cert    tls.Certificate
	secrets *approval.Secrets
	socket  string
	log     *logBuffer
	stop    func() error // nil while stopped
}

// New starts a System. o may be nil.
func New(t testing.TB, o *Options) *System {
	t.Helper()
	s := &System{t: t, log: &logBuffer{}}
	if o != nil {
		s.options = *o
	}
	if s.options.Store == nil {
		s.options.Store = storetest.NewMemory()
	}
	if l := &s.options.Limits; l.StrangerCallRate == 0 && l.StrangerCallBurst == 0 {
		l.StrangerCallRate, l.StrangerCallBurst = 1e6, 1e6
	}
	if s.options.Backup == nil {
		s.options.Backup = func(context.Context, string) (int64, error) {
			return 0, errors.New("this test makes no backups")
		}
	}
	s.makeSecrets()
	// Not in t.TempDir, whose names can be too long for a socket.
	dir, err := os.MkdirTemp("", "cst")
	s.must(err)
	s.socket = filepath.Join(dir, "admin.sock")
	t.Cleanup(func() {
		s.Stop()
		os.RemoveAll(dir)
		if t.Failed() {
			t.Logf("the server's log:\n%s", s.Log())
		}
	})
	s.start()
	conn, err := grpc.NewClient("unix:"+s.socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	s.must(err)
	t.Cleanup(func() { conn.Close() })
	s.AdminConn = conn
	s.Admin = pb.NewAdminServiceClient(conn)
	t.Cleanup(s.verifyAtTheEnd)
	return s
}

func (s *System) makeSecrets() {
	s.t.Helper()
	root := make([]byte, 32)
	rand.Read(root)
	var err error
	s.secrets, err = approval.NewSecrets(root, newKey())
	s.must(err)
	s.ServerKey = newKey()
	s.cert, err = pin.Certificate(s.ServerKey, "countersign-server")
	s.must(err)
	s.Pin, err = pin.KeyID(s.cert.Leaf.PublicKey)
	s.must(err)
}

// start starts a server and returns when it listens.
func (s *System) start() {
	s.t.Helper()
	log := slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	broker, err := approval.Open(context.Background(), approval.Config{
		Store: s.options.Store, Secrets: s.secrets, ServerKey: s.Pin, DevicesPerAccount: s.options.DevicesPerAccount,
		Wakers: s.options.Wakers, Log: log,
	})
	s.must(err)
	public, err := net.Listen("tcp", cmp.Or(s.Address, "127.0.0.1:0"))
	s.must(err)
	admin, err := net.Listen("unix", s.socket)
	s.must(err)
	s.Broker, s.Address, s.Deployment = broker, public.Addr().String(), broker.Deployment()
	srv, err := server.New(server.Config{
		Broker:        broker,
		Certificate:   s.cert,
		PublicAddress: s.Address,
		Backup:        s.options.Backup,
		Version:       "test",
		Log:           log,
		Limits:        s.options.Limits,
	})
	s.must(err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	var beside sync.WaitGroup
	beside.Go(func() { broker.KeepWaking(ctx) })
	go func() { ended <- srv.Serve(ctx, public, admin) }()
	s.stop = func() error {
		cancel()
		defer beside.Wait()
		return <-ended
	}
}

// Stop stops the server gracefully and waits for it. Stopping twice is once.
func (s *System) Stop() {
	s.t.Helper()
	if s.stop == nil {
		return
	}
	if err := s.stop(); err != nil {
		s.t.Errorf("the server ended with %v, want nil", err)
	}
	s.stop = nil
}

// Restart stops the server if it runs, and starts it again at the same
// address with the same store and keys.
func (s *System) Restart() {
	s.t.Helper()
	s.Stop()
	s.start()
}

// Log returns what the server has logged so far, at all levels.
func (s *System) Log() string { return s.log.String() }

// AddAccount adds an account.
func (s *System) AddAccount(name string) {
	s.t.Helper()
	_, err := s.Admin.AddAccount(s.t.Context(), &pb.AddAccountRequest{Name: name})
	s.must(err)
}

// Invite returns the link of a new invitation.
func (s *System) Invite(account string) string {
	s.t.Helper()
	resp, err := s.Admin.CreateInvitation(s.t.Context(), &pb.CreateInvitationRequest{Account: account})
	s.must(err)
	return resp.GetLink()
}

// Revoke revokes a device as an administrator.
func (s *System) Revoke(device string) {
	s.t.Helper()
	_, err := s.Admin.RevokeAccountDevice(s.t.Context(), &pb.RevokeAccountDeviceRequest{Device: device})
	s.must(err)
}

// Suspend suspends an account.
func (s *System) Suspend(account string) {
	s.t.Helper()
	_, err := s.Admin.SuspendAccount(s.t.Context(), &pb.SuspendAccountRequest{Name: account})
	s.must(err)
}

func (s *System) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// Reason returns the reason of an error of the API, for example
// "DEVICE_REVOKED". It is empty if err does not have exactly one detail, or one
// that is no ErrorInfo of Countersign; for a nil err it is "OK".
func Reason(err error) string {
	if err == nil {
		return "OK"
	}
	details := status.Convert(err).Details()
	if len(details) != 1 {
		return ""
	}
	info, ok := details[0].(*errdetails.ErrorInfo)
	if !ok || info.GetDomain() != "countersign" {
		return ""
	}
	return info.GetReason()
}

func newKey() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err) // the source of randomness never fails
	}
	return key
}

// logBuffer is a log that is read while it is written.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write implements [io.Writer].
func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
