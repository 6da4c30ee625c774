package agent

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/countersignd/countersign/internal/invitation"
	"github.com/countersignd/countersign/internal/pin"
	"github.com/countersignd/countersign/internal/statement"
	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

const deployment = "abcdefghijklmnopqrstuvwxyz"

// A fakeServer keeps the promises of the API with maps instead of a store: it checks
// every signature, counter and invitation. Tests may break its promises.
type fakeServer struct {
	pb.UnimplementedEnrollmentServiceServer
	pb.UnimplementedDeviceServiceServer

	t         *testing.T
	behind    time.Duration // of the server's clock; set before it is used
	key       *ecdsa.PrivateKey
	keyID     string
	heartbeat time.Duration

	mu          sync.Mutex
	listener    *bufconn.Listener // nil while the server is down
	grpc        *grpc.Server
	dials       int
	invitations map[string]string // token → account
	usedBy      map[string]string // token → device
	devices     map[string]*fakeDevice
	signIns     []*fakeSignIn
	record      *fakeRecord // nil: it shows none
	requests    []*fakeRequest
	codes       []string        // recovery codes, of whatever account
	spent       map[string]bool // of codes
	wait        time.Duration   // after a recovery
	raw         []*pb.Prompt    // sent as they are, behind the others
	notices     []*pb.Notice
	suspended   bool
	changed     chan struct{} // closed and replaced at each change
	streams     int           // that were opened so far
	decisions   []string      // statements as they came in

	before    func(method string) error // may refuse a call before it has an effect
	after     func(method string) error // may lose the answer of one that had
	streamErr error                     // ends every stream
	delivery  fakeDelivery
	always    bool // each message has a checkpoint, not only the first
}

type fakeDevice struct {
	*pb.Device
	approval *ecdsa.PublicKey
	counter  uint64
	newest   string
	token    string
}

// offlineSecret is what a device makes offline codes from.
func offlineSecret(device string) []byte {
	sum := sha256.Sum256([]byte("offline secret of " + device))
	return sum[:]
}

// offline hands the secret over until the device's first statement.
func (d *fakeDevice) offline() []byte {
	if d.counter > 0 {
		return nil
	}
	return offlineSecret(d.Id)
}

type fakeSignIn struct {
	silent             bool
	rings              int32
	id, account, nonce string
	created            time.Time
	lifetime           time.Duration
	decision, reason   string
	by, code           string
	used               bool
	message            string
}

// document returns the prompt's bytes; one device is all that these tests need.
func (s *fakeSignIn) document() []byte {
	return statement.Prompt{
		Account: s.account, Action: statement.ActionSignIn,
		Application: statement.Application{ID: "files", Name: "Files"},
		Message:     s.message,
		Created:     s.created.Unix(), Expires: s.created.Add(s.lifetime).Unix(),
		Nonce:     s.nonce,
		Requester: statement.Requester{Address: "192.0.2.7", Device: "MacBook Air", Place: "Berlin, Germany", Program: "Firefox"},
		SignIn:    s.id, V: 1,
	}.Encode()
}

func newFake(t *testing.T) *fakeServer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id, err := pin.KeyID(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeServer{
		t: t, key: key, keyID: id, heartbeat: 30 * time.Second,
		invitations: make(map[string]string), spent: make(map[string]bool), usedBy: make(map[string]string),
		devices: make(map[string]*fakeDevice), changed: make(chan struct{}),
		before: func(string) error { return nil }, after: func(string) error { return nil },
	}
	f.record = newFakeRecord(t, 3)
	f.start()
	t.Cleanup(f.stop)
	return f
}

// start serves; start after stop is a restart of the server.
func (f *fakeServer) start() {
	cert, err := pin.Certificate(f.key, "server")
	if err != nil {
		f.t.Fatal(err)
	}
	server := grpc.NewServer(grpc.Creds(credentials.NewTLS(pin.ServerConfig(cert))))
	pb.RegisterEnrollmentServiceServer(server, f)
	pb.RegisterDeviceServiceServer(server, f)
	listener := bufconn.Listen(1 << 16)
	go server.Serve(listener)
	f.mu.Lock()
	f.listener, f.grpc = listener, server
	f.mu.Unlock()
}

func (f *fakeServer) stop() {
	f.mu.Lock()
	server := f.grpc
	f.listener, f.grpc = nil, nil
	f.mu.Unlock()
	if server != nil {
		server.Stop()
	}
}

func (f *fakeServer) dial(ctx context.Context, _ string) (net.Conn, error) {
	f.mu.Lock()
	f.dials++
	listener := f.listener
	f.mu.Unlock()
	if listener == nil {
		return nil, errors.New("connection refused")
	}
	return listener.DialContext(ctx)
}

// change runs fn under the lock and wakes the streams.
func (f *fakeServer) change(fn func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fn()
	close(f.changed)
	f.changed = make(chan struct{})
}

// get returns what fn reads under the lock.
func get[T any](f *fakeServer, fn func() T) T {
	f.mu.Lock()
	defer f.mu.Unlock()
	return fn()
}

func (f *fakeServer) invite(account string) invitation.Link {
	token := invitation.NewToken()
	f.change(func() { f.invitations[token] = account })
	return invitation.Link{Server: "countersign.test:8443", Deployment: deployment, Pin: f.keyID, Token: token}
}

// now is the server's clock.
func (f *fakeServer) now() time.Time { return time.Now().Add(-f.behind) }

func (f *fakeServer) begin(account string) *fakeSignIn {
	nonce := make([]byte, 32)
	rand.Read(nonce)
	s := &fakeSignIn{account: account, nonce: base64.RawURLEncoding.EncodeToString(nonce), created: f.now(), lifetime: 5 * time.Minute}
	f.change(func() {
		s.id = fmt.Sprintf("%026d", len(f.signIns)+1)
		f.signIns = append(f.signIns, s)
	})
	return s
}

func reject(code codes.Code, reason pb.ErrorReason, message string) error {
	return rejectWith(code, reason, message, nil)
}

func rejectWith(code codes.Code, reason pb.ErrorReason, message string, metadata map[string]string) error {
	st, err := status.New(code, message).WithDetails(&errdetails.ErrorInfo{
		Domain: "countersign", Reason: strings.TrimPrefix(reason.String(), "ERROR_REASON_"), Metadata: metadata})
	if err != nil {
		panic(err)
	}
	return st.Err()
}

func (f *fakeServer) hooks() (before, after func(method string) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.before, f.after
}

func (f *fakeServer) caller(ctx context.Context) (string, error) {
	p, _ := peer.FromContext(ctx)
	return pin.PeerKeyID(p.AuthInfo.(credentials.TLSInfo).State)
}

func (f *fakeServer) EnrollDevice(ctx context.Context, r *pb.EnrollDeviceRequest) (*pb.EnrollDeviceResponse, error) {
	before, after := f.hooks()
	if err := before("EnrollDevice"); err != nil {
		return nil, err
	}
	id, err := f.caller(ctx)
	if err != nil {
		return nil, err
	}
	e, key, err := statement.VerifyEnrollment(id, r.GetStatement())
	if err != nil {
		return nil, reject(codes.InvalidArgument, pb.ErrorReason_ERROR_REASON_STATEMENT_INVALID, err.Error())
	}
	if e.Aud != deployment || e.ServerKey != f.keyID || e.Invitation != invitation.Hash(r.GetInvitationToken()) {
		return nil, reject(codes.InvalidArgument, pb.ErrorReason_ERROR_REASON_STATEMENT_MISMATCH, "Mismatch.")
	}
	approvalID, _ := pin.KeyID(key)
	f.mu.Lock()
	defer f.mu.Unlock()
	d, token := f.devices[id], r.GetInvitationToken()
	switch {
	case d != nil && d.token != token:
		return nil, reject(codes.AlreadyExists, pb.ErrorReason_ERROR_REASON_KEY_IN_USE, "One of the two keys belongs to a device already.")
	case d == nil && (f.invitations[token] == "" || f.usedBy[token] != ""):
		return nil, reject(codes.PermissionDenied, pb.ErrorReason_ERROR_REASON_INVITATION_INVALID, "This invitation is unknown, used or expired, or has ended with the trust in all devices. Ask an administrator for a new one.")
	case d == nil:
		d = &fakeDevice{Device: &pb.Device{Id: id, Account: f.invitations[token], Name: e.Name, ApprovalKeyId: approvalID, State: pb.DeviceState_DEVICE_STATE_TRUSTED}, approval: key, token: token}
		f.devices[id], f.usedBy[token] = d, id
	}
	if err := after("EnrollDevice"); err != nil {
		return nil, err
	}
	return &pb.EnrollDeviceResponse{Device: d.Device, RecoveryCodes: f.codes, OfflineSecret: d.offline()}, nil
}

func (f *fakeServer) deviceLocked(ctx context.Context) (*fakeDevice, error) {
	id, err := f.caller(ctx)
	if err != nil {
		return nil, err
	}
	switch d := f.devices[id]; {
	case d == nil:
		return nil, reject(codes.Unauthenticated, pb.ErrorReason_ERROR_REASON_DEVICE_UNKNOWN, "Enrol this device.")
	case d.State == pb.DeviceState_DEVICE_STATE_DORMANT:
		return nil, reject(codes.PermissionDenied, pb.ErrorReason_ERROR_REASON_DEVICE_DORMANT, "This device was not seen for 90 days.")
	case d.State != pb.DeviceState_DEVICE_STATE_TRUSTED:
		return nil, reject(codes.PermissionDenied, pb.ErrorReason_ERROR_REASON_DEVICE_REVOKED, "This device was revoked.")
	default:
		return d, nil
	}
}

func (f *fakeServer) GetSelf(ctx context.Context, _ *pb.GetSelfRequest) (*pb.GetSelfResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	d, err := f.deviceLocked(ctx)
	if err != nil {
		return nil, err
	}
	return &pb.GetSelfResponse{Device: d.Device, DeploymentId: deployment, ServerTime: timestamppb.New(f.now()), OfflineSecret: d.offline(), Checkpoint: f.record.checkpoint()}, nil
}

func (f *fakeServer) WatchPrompts(_ *pb.WatchPromptsRequest, stream grpc.ServerStreamingServer[pb.WatchPromptsResponse]) error {
	f.mu.Lock()
	f.streams++
	f.mu.Unlock()
	for first := true; ; first = false {
		f.mu.Lock()
		d, err := f.deviceLocked(stream.Context())
		if err == nil {
			err = f.streamErr
		}
		if err != nil {
			f.mu.Unlock()
			return err
		}
		m := f.setLocked(d)
		if first || f.always {
			m.Checkpoint = f.record.checkpoint()
		}
		changed, heartbeat := f.changed, f.heartbeat
		f.mu.Unlock()
		if err := stream.Send(m); err != nil {
			return err
		}
		select {
		case <-changed:
		case <-time.After(heartbeat):
		case <-stream.Context().Done():
			return nil
		}
	}
}

func (f *fakeServer) setLocked(d *fakeDevice) *pb.WatchPromptsResponse {
	m := &pb.WatchPromptsResponse{AccountSuspended: f.suspended, ServerTime: timestamppb.New(f.now())}
	for _, s := range f.signIns {
		switch expires := s.created.Add(s.lifetime); {
		case s.account != d.Account:
		case s.decision == "" && f.now().Before(expires):
			m.Prompts = append(m.Prompts, &pb.Prompt{SignInId: s.id, Document: s.document(), Silent: s.silent, RingCount: s.rings})
		case s.decision == statement.Allow && s.by == d.Id && !s.used:
			m.Codes = append(m.Codes, &pb.OutstandingCode{SignInId: s.id, Document: s.document(), Code: s.code, ExpireTime: timestamppb.New(expires)})
		}
	}
	m.Prompts = append(m.Prompts, f.raw...)
	m.Notices = append(m.Notices, f.notices...)
	m.Tests = f.testsLocked(d)
	return m
}

func (f *fakeServer) DecideSignIn(ctx context.Context, r *pb.DecideSignInRequest) (*pb.DecideSignInResponse, error) {
	before, after := f.hooks()
	if err := before("DecideSignIn"); err != nil {
		return nil, err
	}
	var response *pb.DecideSignInResponse
	var err error
	f.change(func() { response, err = f.decideLocked(ctx, r.GetStatement()) })
	if err == nil {
		err = after("DecideSignIn")
	}
	return response, err
}

func (f *fakeServer) decideLocked(ctx context.Context, jws string) (*pb.DecideSignInResponse, error) {
	f.decisions = append(f.decisions, jws)
	d, err := f.deviceLocked(ctx)
	if err != nil {
		return nil, err
	}
	v, err := statement.Verify[statement.Decision](d.approval, d.Id, jws)
	if err != nil {
		return nil, reject(codes.InvalidArgument, pb.ErrorReason_ERROR_REASON_STATEMENT_INVALID, err.Error())
	}
	i := slices.IndexFunc(f.signIns, func(s *fakeSignIn) bool { return s.id == v.SignIn })
	if i < 0 || v.Aud != deployment || v.ServerKey != f.keyID || string(v.PromptBytes()) != string(f.signIns[i].document()) {
		return nil, reject(codes.InvalidArgument, pb.ErrorReason_ERROR_REASON_STATEMENT_MISMATCH, "Mismatch.")
	}
	s := f.signIns[i]
	switch {
	case v.Counter == d.counter && d.newest == statement.SigningInput(jws): // asked again
	case v.Counter <= d.counter:
		return nil, reject(codes.PermissionDenied, pb.ErrorReason_ERROR_REASON_COUNTER_REUSED, "The counter did not rise.")
	case v.Decision == statement.Allow && s.decision != "":
		return nil, reject(codes.FailedPrecondition, pb.ErrorReason_ERROR_REASON_SIGN_IN_ALLOWED_ELSEWHERE, "Another device was first.")
	default:
		d.counter, d.newest = v.Counter, statement.SigningInput(jws)
		s.decision, s.reason, s.by, s.code = v.Decision, v.Reason, d.Id, ""
		if v.Decision == statement.Allow {
			s.code = fmt.Sprintf("%06d", 482913+i)
		}
	}
	if s.code == "" {
		return &pb.DecideSignInResponse{}, nil
	}
	return &pb.DecideSignInResponse{Code: s.code, ExpireTime: timestamppb.New(s.created.Add(s.lifetime))}, nil
}

// trust makes the agent's device a trusted one.
func (f *fakeServer) trust(a *Agent) {
	f.change(func() {
		f.devices[a.state.Device] = &fakeDevice{
			Device:   &pb.Device{Id: a.state.Device, Account: a.state.Account, ApprovalKeyId: a.approvalKey, State: pb.DeviceState_DEVICE_STATE_TRUSTED},
			approval: a.keys.Approval.Public().(*ecdsa.PublicKey),
		}
	})
}
