package countersigntest

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/countersignd/countersign/internal/invitation"
	"github.com/countersignd/countersign/internal/pin"
	"github.com/countersignd/countersign/internal/statement"

	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

// A Device is a fake trusted device: it signs for whoever asks it to. Its
// methods may be called from many goroutines.
type Device struct {
	// ID is the key id of Identity. Account is empty before it is enrolled.
	ID       string
	Account  string
	Identity *ecdsa.PrivateKey
	Approval *ecdsa.PrivateKey

	// Certificate holds Identity, for a test that dials by itself.
	Certificate tls.Certificate

	// Conn is the device's connection, Client and Enrollment speak over it.
	Conn       *grpc.ClientConn
	Client     pb.DeviceServiceClient
	Enrollment pb.EnrollmentServiceClient

	// OfflineSecret is what it was given when it was enrolled, for its offline
	// codes.
	OfflineSecret []byte

	// Counter is that of the newest statement it signed. A test may set it.
	Counter atomic.Uint64

	system *System
}

// NewDevice returns a device with new keys that nobody has enrolled.
func (s *System) NewDevice() *Device {
	s.t.Helper()
	d := &Device{Identity: newKey(), Approval: newKey(), system: s}
	var err error
	d.Certificate, err = pin.Certificate(d.Identity, "test device")
	s.must(err)
	d.ID, err = pin.KeyID(d.Identity.Public())
	s.must(err)
	d.Conn = s.Dial(&d.Certificate)
	d.Client = pb.NewDeviceServiceClient(d.Conn)
	d.Enrollment = pb.NewEnrollmentServiceClient(d.Conn)
	return d
}

// EnrollDevice returns a new trusted device of the account.
func (s *System) EnrollDevice(account string) *Device {
	s.t.Helper()
	d := s.NewDevice()
	s.must(d.Enroll(s.t.Context(), s.Invite(account)))
	return d
}

// Dial returns a connection to the public listener that shows cert, or no
// certificate if it is nil. It is closed when the test ends.
func (s *System) Dial(cert *tls.Certificate, options ...grpc.DialOption) *grpc.ClientConn {
	s.t.Helper()
	creds := credentials.NewTLS(pin.ClientConfig(cert, s.Pin))
	conn, err := grpc.NewClient("passthrough:///"+s.Address, append(options, grpc.WithTransportCredentials(creds))...)
	s.must(err)
	s.t.Cleanup(func() { conn.Close() })
	return conn
}

// Enroll enrols the device with an invitation.
func (d *Device) Enroll(ctx context.Context, link string) error {
	inv, err := invitation.Parse(link)
	if err != nil {
		return err
	}
	key, err := statement.NewJWK(&d.Approval.PublicKey)
	if err != nil {
		return err
	}
	signed, err := statement.Sign(d.Approval, statement.Enrollment{
		ApprovalKey: key,
		Aud:         inv.Deployment,
		Device:      d.ID,
		Iat:         time.Now().Unix(),
		Invitation:  invitation.Hash(inv.Token),
		KeyStorage:  "file",
		Kind:        "terminal",
		Name:        "Test device " + d.ID[:4],
		ServerKey:   d.system.Pin,
	})
	if err != nil {
		return err
	}
	resp, err := d.Enrollment.EnrollDevice(ctx, &pb.EnrollDeviceRequest{InvitationToken: inv.Token, Statement: signed})
	if err != nil {
		return err
	}
	d.Account, d.OfflineSecret = resp.GetDevice().GetAccount(), resp.GetOfflineSecret()
	return nil
}

// Watch opens the device's stream.
func (d *Device) Watch(ctx context.Context) (grpc.ServerStreamingClient[pb.WatchPromptsResponse], error) {
	return d.Client.WatchPrompts(ctx, &pb.WatchPromptsRequest{})
}

// Prompt opens the stream, waits until it shows the prompt of the sign-in, and
// closes the stream.
func (d *Device) Prompt(ctx context.Context, signIn string) (*pb.Prompt, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := d.Watch(ctx)
	if err != nil {
		return nil, err
	}
	return PromptIn(stream, signIn)
}

// PromptIn reads the stream until it shows the prompt of the sign-in.
func PromptIn(stream grpc.ServerStreamingClient[pb.WatchPromptsResponse], signIn string) (*pb.Prompt, error) {
	for {
		screen, err := stream.Recv()
		if err != nil {
			return nil, err
		}
		for _, p := range screen.GetPrompts() {
			if p.GetSignInId() == signIn {
				return p, nil
			}
		}
	}
}

// Gone reads the stream until it shows neither a prompt nor a code.
func Gone(stream grpc.ServerStreamingClient[pb.WatchPromptsResponse]) error {
	for {
		screen, err := stream.Recv()
		if err != nil {
			return err
		}
		if len(screen.GetPrompts())+len(screen.GetCodes()) == 0 {
			return nil
		}
	}
}

// Decision returns a signed decision about a prompt: statement.Allow, or
// statement.Deny with a reason or none.
func (d *Device) Decision(prompt *pb.Prompt, decision, reason string) (string, error) {
	p, err := statement.ParsePrompt(prompt.GetDocument())
	if err != nil {
		return "", err
	}
	key, err := pin.KeyID(d.Approval.Public())
	if err != nil {
		return "", err
	}
	return statement.Sign(d.Approval, statement.Decision{
		Account:     p.Account,
		Application: p.Application.ID,
		ApprovalKey: key,
		Aud:         d.system.Deployment,
		Counter:     d.Counter.Add(1),
		Decision:    decision,
		Device:      d.ID,
		Iat:         time.Now().Unix(),
		Nonce:       p.Nonce,
		Prompt:      base64.RawURLEncoding.EncodeToString(prompt.GetDocument()),
		Reason:      reason,
		ServerKey:   d.system.Pin,
		SignIn:      p.SignIn,
	})
}

func (d *Device) decide(ctx context.Context, prompt *pb.Prompt, decision, reason string) (string, error) {
	signed, err := d.Decision(prompt, decision, reason)
	if err != nil {
		return "", err
	}
	resp, err := d.Client.DecideSignIn(ctx, &pb.DecideSignInRequest{Statement: signed})
	return resp.GetCode(), err
}

// Allow allows a prompt and returns the code.
func (d *Device) Allow(ctx context.Context, prompt *pb.Prompt) (string, error) {
	return d.decide(ctx, prompt, statement.Allow, "")
}

// Deny denies a prompt, with statement.Mistake, statement.NotMe or no reason.
func (d *Device) Deny(ctx context.Context, prompt *pb.Prompt, reason string) error {
	_, err := d.decide(ctx, prompt, statement.Deny, reason)
	return err
}

// CreateCode asks for a code without a prompt.
func (d *Device) CreateCode(ctx context.Context) (string, error) {
	key, err := pin.KeyID(d.Approval.Public())
	if err != nil {
		return "", err
	}
	signed, err := statement.Sign(d.Approval, statement.CodeRequest{
		Account:     d.Account,
		ApprovalKey: key,
		Aud:         d.system.Deployment,
		Counter:     d.Counter.Add(1),
		Device:      d.ID,
		Iat:         time.Now().Unix(),
		ServerKey:   d.system.Pin,
	})
	if err != nil {
		return "", err
	}
	resp, err := d.Client.CreateCode(ctx, &pb.CreateCodeRequest{Statement: signed})
	return resp.GetCode(), err
}

// Revoke revokes a device of the same account.
func (d *Device) Revoke(ctx context.Context, device, reason string) error {
	key, err := pin.KeyID(d.Approval.Public())
	if err != nil {
		return err
	}
	signed, err := statement.Sign(d.Approval, statement.Revocation{
		Account:     d.Account,
		ApprovalKey: key,
		Aud:         d.system.Deployment,
		Counter:     d.Counter.Add(1),
		Device:      d.ID,
		Iat:         time.Now().Unix(),
		Reason:      reason,
		Revoked:     device,
		ServerKey:   d.system.Pin,
	})
	if err != nil {
		return err
	}
	_, err = d.Client.RevokeDevice(ctx, &pb.RevokeDeviceRequest{Statement: signed})
	return err
}

// MustPrompt is Prompt in the test's context.
func (d *Device) MustPrompt(signIn string) *pb.Prompt {
	d.system.t.Helper()
	prompt, err := d.Prompt(d.system.t.Context(), signIn)
	d.system.must(annotate(err, "waiting for a prompt"))
	return prompt
}

// MustAllow is Allow in the test's context.
func (d *Device) MustAllow(prompt *pb.Prompt) string {
	d.system.t.Helper()
	code, err := d.Allow(d.system.t.Context(), prompt)
	d.system.must(annotate(err, "allowing"))
	return code
}

// MustDeny is Deny in the test's context.
func (d *Device) MustDeny(prompt *pb.Prompt, reason string) {
	d.system.t.Helper()
	d.system.must(annotate(d.Deny(d.system.t.Context(), prompt, reason), "denying"))
}

// MustWatch is Watch in the test's context, with the first message read.
func (d *Device) MustWatch() grpc.ServerStreamingClient[pb.WatchPromptsResponse] {
	d.system.t.Helper()
	stream, err := d.Watch(d.system.t.Context())
	d.system.must(annotate(err, "watching"))
	_, err = stream.Recv()
	d.system.must(annotate(err, "watching"))
	return stream
}

func annotate(err error, doing string) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", doing, err)
}
