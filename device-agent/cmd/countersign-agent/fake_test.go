package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	grpccredentials "google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/countersignd/countersign/internal/audit"
	"github.com/countersignd/countersign/internal/invitation"
	"github.com/countersignd/countersign/internal/pin"
	"github.com/countersignd/countersign/internal/statement"
	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

const deployment = "abcdefghijklmnopqrstuvwxyz"

// A fakeServer has one account, ada, one application, files, and one sign-in at
// a time; for these it keeps the promises of the API. The real server is tried
// with this program in internal/stories.
type fakeServer struct {
	pb.UnimplementedEnrollmentServiceServer
	pb.UnimplementedDeviceServiceServer
	pb.UnimplementedSignInServiceServer

	t       *testing.T
	address string
	key     *ecdsa.PrivateKey
	keyID   string
	signer  *ecdsa.PrivateKey // of grants and checkpoints
	token   string            // of the one invitation
	offset  time.Duration     // of its clock

	mu       sync.Mutex
	left     int32  // recovery codes
	record   uint64 // how many records it has; they never change
	changed  chan struct{}
	device   *pb.Device
	approval statement.JWK
	signIn   *pb.SignIn
	document []byte
	code     string
	receipt  string
	tamper   func(*pb.VerifySignInResponse)
	stray    bool // WatchSignIn tells of another sign-in
	others   []*pb.Device
	notices  []*pb.Notice
	delivery fakeDelivery
}

func newKey(t *testing.T) (*ecdsa.PrivateKey, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id, err := pin.KeyID(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return key, id
}

func newFake(t *testing.T) *fakeServer {
	t.Helper()
	f := &fakeServer{t: t, token: invitation.NewToken(), changed: make(chan struct{}), tamper: func(*pb.VerifySignInResponse) {}}
	f.key, f.keyID = newKey(t)
	f.signer, _ = newKey(t)
	f.record = 3
	f.delivery.lifetime = 2 * time.Minute
	cert, err := pin.Certificate(f.key, "server")
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.address = listener.Addr().String()
	server := grpc.NewServer(grpc.Creds(grpccredentials.NewTLS(pin.ServerConfig(cert))))
	pb.RegisterEnrollmentServiceServer(server, f)
	pb.RegisterDeviceServiceServer(server, f)
	pb.RegisterSignInServiceServer(server, f)
	var serving sync.WaitGroup
	serving.Go(func() { server.Serve(listener) })
	t.Cleanup(func() { server.Stop(); serving.Wait() })
	return f
}

func (f *fakeServer) link() string {
	return invitation.Link{Server: f.address, Deployment: deployment, Pin: f.keyID, Token: f.token}.URL()
}

// files writes the application's credentials and the keys of grants.
func (f *fakeServer) files() (credentialsFile, keysFile string) {
	dir := f.t.TempDir()
	write := func(name string, v any) string {
		data, err := json.Marshal(v)
		if err != nil {
			f.t.Fatal(err)
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			f.t.Fatal(err)
		}
		return path
	}
	jwk, err := statement.NewJWK(&f.signer.PublicKey)
	if err != nil {
		f.t.Fatal(err)
	}
	return write("files.json", map[string]string{"server": f.address, "server_key_id": f.keyID, "application": "files", "token": "s3cret"}),
		write("jwks.json", map[string]any{"keys": []map[string]string{{"kty": jwk.Kty, "crv": jwk.Crv, "x": jwk.X, "y": jwk.Y, "use": "sig"}}})
}

// copyOf returns what gRPC may still read after the fake has changed it.
func copyOf[M proto.Message](m M) M { return proto.Clone(m).(M) }

func (f *fakeServer) change(fn func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fn()
	close(f.changed)
	f.changed = make(chan struct{})
}

func reject(code codes.Code, reason pb.ErrorReason, data map[string]string) error {
	name := strings.TrimPrefix(reason.String(), "ERROR_REASON_")
	st, err := status.New(code, "Refused: "+name+".").WithDetails(&errdetails.ErrorInfo{Domain: "countersign", Reason: name, Metadata: data})
	if err != nil {
		panic(err)
	}
	return st.Err()
}

func (f *fakeServer) EnrollDevice(ctx context.Context, r *pb.EnrollDeviceRequest) (*pb.EnrollDeviceResponse, error) {
	p, _ := peer.FromContext(ctx)
	id, err := pin.PeerKeyID(p.AuthInfo.(grpccredentials.TLSInfo).State)
	if err != nil {
		return nil, err
	}
	e, key, err := statement.VerifyEnrollment(id, r.GetStatement())
	if err != nil || e.Invitation != invitation.Hash(f.token) || r.GetInvitationToken() != f.token {
		return nil, reject(codes.PermissionDenied, pb.ErrorReason_ERROR_REASON_INVITATION_INVALID, nil)
	}
	approvalID, err := pin.KeyID(key)
	if err != nil {
		return nil, err
	}
	var enrolled *pb.Device
	f.change(func() {
		f.approval = e.ApprovalKey
		f.device = &pb.Device{Id: id, Account: "ada", Name: e.Name, Kind: pb.DeviceKind_DEVICE_KIND_TERMINAL, ApprovalKeyId: approvalID, State: pb.DeviceState_DEVICE_STATE_TRUSTED, EnrollTime: timestamppb.Now()}
		enrolled = copyOf(f.device)
	})
	return &pb.EnrollDeviceResponse{Device: enrolled}, nil
}

func (f *fakeServer) trustedLocked() error {
	switch {
	case f.device == nil:
		return reject(codes.Unauthenticated, pb.ErrorReason_ERROR_REASON_DEVICE_UNKNOWN, nil)
	case f.device.State == pb.DeviceState_DEVICE_STATE_DORMANT:
		return reject(codes.PermissionDenied, pb.ErrorReason_ERROR_REASON_DEVICE_DORMANT, nil)
	case f.device.State != pb.DeviceState_DEVICE_STATE_TRUSTED:
		return reject(codes.PermissionDenied, pb.ErrorReason_ERROR_REASON_DEVICE_REVOKED, nil)
	}
	return nil
}

func (f *fakeServer) GetSelf(context.Context, *pb.GetSelfRequest) (*pb.GetSelfResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return &pb.GetSelfResponse{Device: copyOf(f.device), DeploymentId: deployment, ServerTime: timestamppb.New(time.Now().Add(f.offset)), RecoveryCodesLeft: f.left, Notices: f.notices, Checkpoint: f.checkpoint(), WebPushKey: f.delivery.key}, f.trustedLocked()
}

// checkpoint signs that the record has so many records; which they are, is a
// matter of their number here.
func (f *fakeServer) checkpoint() *pb.Checkpoint {
	var tree audit.Tree
	for range f.record {
		tree.Add(audit.Hash([]byte(fmt.Sprint(f.record))))
	}
	c, err := audit.NewCheckpoint(f.signer, deployment, tree.Size(), tree.Root(), time.Now())
	if err != nil {
		f.t.Error(err)
	}
	key, err := json.Marshal(c.Key)
	if err != nil {
		f.t.Error(err)
	}
	return &pb.Checkpoint{Statement: c.Statement, Key: string(key)}
}

// GetConsistencyProof proves nothing, as its records never grow.
func (f *fakeServer) GetConsistencyProof(context.Context, *pb.GetConsistencyProofRequest) (*pb.GetConsistencyProofResponse, error) {
	return nil, reject(codes.InvalidArgument, pb.ErrorReason_ERROR_REASON_INVALID_FIELD, nil)
}

func (f *fakeServer) ListDevices(context.Context, *pb.ListDevicesRequest) (*pb.ListDevicesResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return &pb.ListDevicesResponse{Devices: append([]*pb.Device{copyOf(f.device)}, f.others...)}, f.trustedLocked()
}

func (f *fakeServer) WatchPrompts(_ *pb.WatchPromptsRequest, stream grpc.ServerStreamingServer[pb.WatchPromptsResponse]) error {
	f.change(func() { f.delivery.watching = true })
	defer f.change(func() { f.delivery.watching = false })
	for {
		f.mu.Lock()
		err := f.trustedLocked()
		m := &pb.WatchPromptsResponse{Notices: f.notices, Checkpoint: f.checkpoint(), Tests: f.testsLocked()}
		switch f.signIn.GetState() {
		case pb.SignInState_SIGN_IN_STATE_PENDING:
			m.Prompts = []*pb.Prompt{{SignInId: f.signIn.Id, Document: f.document, RingCount: f.delivery.rings}}
		case pb.SignInState_SIGN_IN_STATE_APPROVED:
			m.Codes = []*pb.OutstandingCode{{SignInId: f.signIn.Id, Document: f.document, Code: f.code, ExpireTime: f.signIn.ExpireTime}}
		}
		changed := f.changed
		f.mu.Unlock()
		if err != nil {
			return err
		}
		if err := stream.Send(m); err != nil {
			return err
		}
		select {
		case <-changed:
		case <-stream.Context().Done():
			return nil
		}
	}
}

func (f *fakeServer) DecideSignIn(_ context.Context, r *pb.DecideSignInRequest) (response *pb.DecideSignInResponse, err error) {
	f.change(func() {
		key, keyErr := f.approval.PublicKey()
		d, verifyErr := statement.Verify[statement.Decision](key, f.device.Id, r.GetStatement())
		if keyErr != nil || verifyErr != nil || string(d.PromptBytes()) != string(f.document) {
			err = reject(codes.InvalidArgument, pb.ErrorReason_ERROR_REASON_STATEMENT_INVALID, nil)
			return
		}
		response = &pb.DecideSignInResponse{}
		if d.Decision == statement.Allow {
			f.signIn.State, f.receipt = pb.SignInState_SIGN_IN_STATE_APPROVED, r.GetStatement()
			response.Code, response.ExpireTime = f.code, f.signIn.ExpireTime
		} else {
			f.signIn.State, f.signIn.DenyReason = pb.SignInState_SIGN_IN_STATE_DENIED, d.Reason
		}
	})
	return response, err
}

func (f *fakeServer) BeginSignIn(ctx context.Context, r *pb.BeginSignInRequest) (*pb.BeginSignInResponse, error) {
	if md, _ := metadata.FromIncomingContext(ctx); strings.Join(md.Get("authorization"), "") != "Bearer s3cret" {
		return nil, reject(codes.Unauthenticated, pb.ErrorReason_ERROR_REASON_UNAUTHENTICATED, nil)
	}
	if r.GetAccount() != "ada" {
		return nil, reject(codes.NotFound, pb.ErrorReason_ERROR_REASON_ACCOUNT_UNKNOWN, nil)
	}
	now := time.Now()
	id := fmt.Sprintf("%026d", now.UnixNano())
	nonce := make([]byte, 32)
	rand.Read(nonce)
	var begun *pb.SignIn
	f.change(func() {
		f.code = fmt.Sprintf("%06d", now.UnixNano()%1e6)
		f.signIn = &pb.SignIn{Id: id, Account: "ada", Application: "files", State: pb.SignInState_SIGN_IN_STATE_PENDING, Requester: r.GetRequester(), Message: r.GetMessage(),
			TriesLeft: 5, ExpireTime: timestamppb.New(now.Add(5 * time.Minute)), TrustedDevices: 1, Delivery: &pb.DeliveryCounts{}}
		if f.delivery.watching {
			f.signIn.ConnectedDevices = 1
		}
		f.document = statement.Prompt{Account: "ada", Action: statement.ActionSignIn, Application: statement.Application{ID: "files", Name: "Files"},
			Created: now.Unix(), Expires: now.Unix() + 300, Message: r.GetMessage(), Nonce: base64.RawURLEncoding.EncodeToString(nonce),
			Requester: statement.Requester{Address: r.GetRequester().GetAddress(), Device: r.GetRequester().GetDevice(), Place: r.GetRequester().GetPlace(), Program: r.GetRequester().GetProgram()},
			SignIn:    id, V: 1}.Encode()
		begun = copyOf(f.signIn)
	})
	return &pb.BeginSignInResponse{SignIn: begun}, nil
}

func (f *fakeServer) WatchSignIn(_ *pb.WatchSignInRequest, stream grpc.ServerStreamingServer[pb.WatchSignInResponse]) error {
	for {
		f.mu.Lock()
		state, changed := f.signIn.State, f.changed
		m := &pb.WatchSignInResponse{SignIn: copyOf(f.signIn)}
		if f.stray {
			m.SignIn = &pb.SignIn{Id: strings.Repeat("v", 26), State: pb.SignInState_SIGN_IN_STATE_APPROVED}
		}
		if err := stream.Send(m); err != nil {
			f.mu.Unlock()
			return err
		}
		f.mu.Unlock()
		if state > pb.SignInState_SIGN_IN_STATE_APPROVED {
			return nil
		}
		select {
		case <-changed:
		case <-stream.Context().Done():
			return nil
		}
	}
}

func (f *fakeServer) VerifySignIn(_ context.Context, r *pb.VerifySignInRequest) (response *pb.VerifySignInResponse, err error) {
	f.change(func() {
		s := f.signIn
		switch {
		case s.State == pb.SignInState_SIGN_IN_STATE_PENDING:
			err = reject(codes.FailedPrecondition, pb.ErrorReason_ERROR_REASON_SIGN_IN_PENDING, nil)
		case s.State != pb.SignInState_SIGN_IN_STATE_APPROVED:
			err = reject(codes.FailedPrecondition, pb.ErrorReason_ERROR_REASON_SIGN_IN_EXPIRED, nil)
		case r.GetCode() != f.code:
			s.TriesLeft--
			if s.TriesLeft == 0 {
				s.State = pb.SignInState_SIGN_IN_STATE_CANCELLED
			}
			err = reject(codes.PermissionDenied, pb.ErrorReason_ERROR_REASON_CODE_WRONG, map[string]string{"tries_left": fmt.Sprint(s.TriesLeft)})
		}
		if err != nil {
			return
		}
		s.State = pb.SignInState_SIGN_IN_STATE_VERIFIED
		now := time.Now().Unix()
		grant, signErr := statement.Sign(f.signer, statement.Grant{Acr: "urn:countersign:acr:code", Amr: []string{"swk", "user"}, Aud: "files",
			AuthTime: now, Exp: now + 120, Iat: now, Iss: deployment, Jti: "x", SignInID: s.Id, Sub: "ada"})
		jwk, jsonErr := json.Marshal(f.approval)
		if signErr != nil || jsonErr != nil {
			err = fmt.Errorf("%v, %v", signErr, jsonErr)
			return
		}
		response = &pb.VerifySignInResponse{Grant: grant, Receipt: &pb.Receipt{Statement: f.receipt, DeviceId: f.device.Id, ApprovalKey: string(jwk)}}
		f.tamper(response)
	})
	return response, err
}
