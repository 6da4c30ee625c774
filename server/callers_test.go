package server_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/countersignd/countersign/internal/countersigntest"
	"github.com/countersignd/countersign/internal/pin"
	"github.com/countersignd/countersign/server"

	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

// A rpc is a method as its descriptor has it.
type rpc struct {
	service, name string
	desc          protoreflect.MethodDescriptor
}

func (r rpc) path() string { return "/" + r.service + "/" + r.name }

func rpcs() []rpc {
	var all []rpc
	for _, file := range []protoreflect.FileDescriptor{
		pb.File_countersign_v1_admin_proto, pb.File_countersign_v1_device_proto, pb.File_countersign_v1_enrollment_proto,
		pb.File_countersign_v1_sign_in_proto, grpc_health_v1.File_grpc_health_v1_health_proto,
	} {
		for i := range file.Services().Len() {
			service := file.Services().Get(i)
			for j := range service.Methods().Len() {
				m := service.Methods().Get(j)
				all = append(all, rpc{string(service.FullName()), string(m.Name()), m})
			}
		}
	}
	return all
}

// request returns a request that a device or an application could make, so that
// it is refused for its caller or not at all, and else an empty one.
func (r rpc) request(empty proto.Message) proto.Message {
	const noSignIn = "00000000000000000000000000"
	switch m := empty.(type) {
	case *pb.RecoverDeviceRequest:
		m.Statement = "x"
	case *pb.UpdateDeviceRequest:
		m.Name = "Renamed"
	case *pb.BeginSignInRequest:
		m.Account = "ada"
	case *pb.WatchSignInRequest:
		m.SignInId = noSignIn
	case *pb.VerifySignInRequest:
		m.SignInId, m.Code = noSignIn, "123456"
	case *pb.CancelSignInRequest:
		m.SignInId = noSignIn
	}
	return empty
}

// call calls and returns what became of it; a stream is left after its first
// message.
func (r rpc) call(ctx context.Context, t *testing.T, conn *grpc.ClientConn) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	message := func(d protoreflect.MessageDescriptor) proto.Message {
		typ, err := protoregistry.GlobalTypes.FindMessageByName(d.FullName())
		if err != nil {
			t.Fatal(err)
		}
		return typ.New().Interface()
	}
	if !r.desc.IsStreamingServer() {
		return conn.Invoke(ctx, r.path(), r.request(message(r.desc.Input())), message(r.desc.Output()))
	}
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, r.path())
	if err != nil {
		return err
	}
	if err := errors.Join(stream.SendMsg(r.request(message(r.desc.Input()))), stream.CloseSend()); err != nil {
		return err
	}
	return stream.RecvMsg(message(r.desc.Output()))
}

// outcome is the reason of an error, or its gRPC code if it has none.
func outcome(err error) string {
	if reason := countersigntest.Reason(err); reason != "" {
		return reason
	}
	return status.Code(err).String()
}

// TestEveryCallEveryCaller calls every method as every kind of caller. What is
// let through fails for its request, if at all, and never for its caller.
func TestEveryCallEveryCaller(t *testing.T) {
	system := countersigntest.New(t, nil)
	system.AddAccount("ada")
	system.AddAccount("bob")
	trusted, revoked := system.EnrollDevice("ada"), system.EnrollDevice("ada")
	system.Revoke(revoked.ID)
	suspended := system.EnrollDevice("bob")
	system.Suspend("bob")
	files, removed := system.AddApplication("files"), system.AddApplication("removed")
	if _, err := system.Admin.RemoveApplication(t.Context(), &pb.RemoveApplicationRequest{Id: "removed"}); err != nil {
		t.Fatal(err)
	}
	bearer := func(token string) grpc.DialOption {
		return grpc.WithPerRPCCredentials(countersigntest.Bearer(token))
	}

	// What the requests come to when the caller is let through.
	through := []string{"OK", "INVALID_FIELD", "STATEMENT_INVALID", "SIGN_IN_UNKNOWN"}
	const (
		health     = "grpc.health.v1.Health"
		enrollment = "countersign.v1.EnrollmentService"
		devices    = "countersign.v1.DeviceService"
		signIns    = "countersign.v1.SignInService"
		admin      = "countersign.v1.AdminService"
	)
	unauthenticated := []string{"UNAUTHENTICATED"}
	for _, caller := range []struct {
		name string
		conn *grpc.ClientConn
		want map[string][]string // by service
	}{
		{"nobody", system.Dial(nil), map[string][]string{enrollment: unauthenticated, devices: unauthenticated, signIns: unauthenticated}},
		{"an unknown key", system.NewDevice().Conn, map[string][]string{enrollment: through, devices: {"DEVICE_UNKNOWN"}, signIns: unauthenticated}},
		{"a trusted device", trusted.Conn, map[string][]string{enrollment: through, devices: through, signIns: unauthenticated}},
		{"a revoked device", revoked.Conn, map[string][]string{enrollment: through, devices: {"DEVICE_REVOKED"}, signIns: unauthenticated}},
		{"a device of a suspended account", suspended.Conn, map[string][]string{enrollment: through, devices: append(through, "ACCOUNT_SUSPENDED"), signIns: unauthenticated}},
		{"an application", files.Conn, map[string][]string{enrollment: unauthenticated, devices: unauthenticated, signIns: through}},
		{"a wrong token", system.Dial(nil, bearer("x"+files.Token)), map[string][]string{enrollment: unauthenticated, devices: unauthenticated, signIns: unauthenticated}},
		{"a removed application", removed.Conn, map[string][]string{enrollment: unauthenticated, devices: unauthenticated, signIns: unauthenticated}},
		{"a trusted device with a token", system.Dial(&trusted.Certificate, bearer(files.Token)), map[string][]string{enrollment: unauthenticated, devices: unauthenticated, signIns: through}},
	} {
		// The administrators' service does not exist there, for anybody.
		caller.want[admin] = []string{codes.Unimplemented.String()}
		caller.want[health] = []string{codes.OK.String()}
		for _, r := range rpcs() {
			got := outcome(r.call(t.Context(), t, caller.conn))
			if !slices.Contains(caller.want[r.service], got) {
				t.Errorf("%s calls %s: %s, want one of %s", caller.name, r.path(), got, caller.want[r.service])
			}
		}
	}

	// The administrators' socket has nothing else.
	for _, r := range rpcs() {
		want := []string{codes.Unimplemented.String()}
		switch r.service {
		case admin:
			want = append(through, "NO_SUCH_DEVICE", "BACKUP_FAILED")
		case health:
			want = []string{codes.OK.String()}
		}
		if got := outcome(r.call(t.Context(), t, system.AdminConn)); !slices.Contains(want, got) {
			t.Errorf("an administrator calls %s: %s, want one of %s", r.path(), got, want)
		}
	}
}

func TestAuthorizationMustBeThereOnce(t *testing.T) {
	system := countersigntest.New(t, nil)
	system.AddAccount("ada")
	files := system.AddApplication("files")
	client := pb.NewSignInServiceClient(system.Dial(nil))
	for _, test := range []struct {
		name   string
		values []string
		want   string
	}{
		{"once", []string{"Bearer " + files.Token}, "NO_TRUSTED_DEVICE"},
		{"twice", []string{"Bearer " + files.Token, "Bearer " + files.Token}, "UNAUTHENTICATED"},
		{"with another", []string{"Bearer " + files.Token, "Basic x"}, "UNAUTHENTICATED"},
		{"in a list", []string{"Bearer " + files.Token + ", Bearer " + files.Token}, "UNAUTHENTICATED"},
		{"without a scheme", []string{files.Token}, "UNAUTHENTICATED"},
		{"empty", []string{"Bearer "}, "UNAUTHENTICATED"},
	} {
		ctx := t.Context()
		for _, v := range test.values {
			ctx = metadata.AppendToOutgoingContext(ctx, "authorization", v)
		}
		_, err := client.BeginSignIn(ctx, &pb.BeginSignInRequest{Account: "ada"})
		if got := countersigntest.Reason(err); got != test.want {
			t.Errorf("authorization %s: %v, want %s", test.name, err, test.want)
		}
	}
}

// serveAdmin serves with another answer to who is at the socket.
func serveAdmin(t *testing.T, peerUID func(net.Conn) (uint32, error)) *grpc.ClientConn {
	t.Helper()
	system := countersigntest.New(t, nil)
	cert, err := pin.Certificate(system.ServerKey, "")
	if err != nil {
		t.Fatal(err)
	}
	srv, err := server.NewWithPeerUID(server.Config{
		Broker: system.Broker, Certificate: cert, PublicAddress: "localhost:1",
		Backup: func(context.Context, string) (int64, error) { return 0, errors.New("no") },
	}, peerUID)
	if err != nil {
		t.Fatal(err)
	}
	public, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	admin, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- srv.Serve(ctx, public, admin) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	conn, err := grpc.NewClient("passthrough:///"+admin.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func TestAStrangersUIDIsNotAllowed(t *testing.T) {
	conn := serveAdmin(t, func(net.Conn) (uint32, error) { return 4_000_000_000, nil })
	for _, r := range rpcs() {
		if !strings.HasSuffix(r.service, ".AdminService") {
			continue
		}
		if got := outcome(r.call(t.Context(), t, conn)); got != "CALLER_NOT_ALLOWED" {
			t.Errorf("%s by a stranger's uid: %s, want CALLER_NOT_ALLOWED", r.path(), got)
		}
	}
}

func TestAnUnknownUIDIsCutOff(t *testing.T) {
	conn := serveAdmin(t, func(net.Conn) (uint32, error) { return 0, errors.New("no uid") })
	_, err := pb.NewAdminServiceClient(conn).GetServer(t.Context(), &pb.GetServerRequest{})
	if status.Code(err) != codes.Unavailable {
		t.Errorf("GetServer = %v, want Unavailable", err)
	}
}

// A20: nobody says a word before the other side is known.
func TestA20(t *testing.T) {
	system := countersigntest.New(t, nil)
	device := system.NewDevice()
	rsa := rsaCertificate(t)
	two := device.Certificate
	two.Certificate = append(slices.Clone(two.Certificate), system.NewDevice().Certificate.Certificate[0])
	for _, test := range []struct {
		name   string
		change func(*tls.Config)
		ok     bool
	}{
		{"as it should be", func(*tls.Config) {}, true},
		{"without a certificate", func(c *tls.Config) { c.Certificates = nil }, true},
		{"TLS 1.2", func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 }, false},
		{"a wrong pin", func(c *tls.Config) { *c = *pin.ClientConfig(&device.Certificate, device.ID) }, false},
		{"the system's roots", func(c *tls.Config) { *c = *pin.ClientConfigWithRoots(&device.Certificate, "localhost") }, false},
		{"an RSA certificate", func(c *tls.Config) { c.Certificates = []tls.Certificate{rsa} }, false},
		{"two certificates", func(c *tls.Config) { c.Certificates = []tls.Certificate{two} }, false},
		{"HTTP/1.1", func(c *tls.Config) { c.NextProtos = []string{"http/1.1"} }, false},
		{"no protocol", func(c *tls.Config) { c.NextProtos = nil }, false},
	} {
		config := pin.ClientConfig(&device.Certificate, system.Pin)
		test.change(config)
		got := "let in"
		conn, err := tls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, "tcp", system.Address, config)
		if err == nil {
			// With TLS 1.3 a client learns of the server's refusal when it reads.
			conn.SetDeadline(time.Now().Add(5 * time.Second))
			b := make([]byte, 9)
			_, err = conn.Read(b)
			if err == nil && b[3] != 4 { // a SETTINGS frame
				err = fmt.Errorf("the server speaks first, with %x", b)
			}
			conn.Close()
		}
		if err != nil {
			got = "refused"
		}
		if want := map[bool]string{true: "let in", false: "refused"}[test.ok]; got != want {
			t.Errorf("%s: %s (%v), want %s", test.name, got, err, want)
		}
	}
	// Plaintext gets an alert or nothing, and not one byte of HTTP/2.
	raw, err := net.Dial("tcp", system.Address)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	raw.SetDeadline(time.Now().Add(15 * time.Second))
	fmt.Fprint(raw, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	b := make([]byte, 64)
	if n, _ := raw.Read(b); n > 0 && b[0] != 21 { // 21: a TLS alert
		t.Errorf("in plaintext the server answers %q, want an alert or nothing", b[:n])
	}
}
