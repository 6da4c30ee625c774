package countersigntest

import (
	"context"

	"google.golang.org/grpc"

	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

// An Application is a registered application with a connection of its own.
type Application struct {
	ID     string
	Token  string
	Conn   *grpc.ClientConn
	Client pb.SignInServiceClient

	system *System
}

// AddApplication registers an application under this id.
func (s *System) AddApplication(id string) *Application {
	s.t.Helper()
	resp, err := s.Admin.AddApplication(s.t.Context(), &pb.AddApplicationRequest{Id: id, Name: "The " + id})
	s.must(err)
	conn := s.Dial(nil, grpc.WithPerRPCCredentials(Bearer(resp.GetToken())))
	return &Application{ID: id, Token: resp.GetToken(), Conn: conn, Client: pb.NewSignInServiceClient(conn), system: s}
}

// Bearer is a token that goes with every call.
type Bearer string

// GetRequestMetadata implements [credentials.PerRPCCredentials].
func (b Bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}

// RequireTransportSecurity implements [credentials.PerRPCCredentials].
func (Bearer) RequireTransportSecurity() bool { return true }

// Begin begins a sign-in of the account. All that one application begins for
// an account has the same requester.
func (a *Application) Begin(ctx context.Context, account string) (*pb.SignIn, error) {
	resp, err := a.Client.BeginSignIn(ctx, &pb.BeginSignInRequest{
		Account: account,
		Requester: &pb.Requester{
			Address: "192.0.2.7",
			Place:   "Berlin, Germany",
			Device:  "MacBook Air",
			Program: "Firefox 145",
		},
	})
	return resp.GetSignIn(), err
}

// Verify hands in a code.
func (a *Application) Verify(ctx context.Context, signIn, code string) (*pb.VerifySignInResponse, error) {
	return a.Client.VerifySignIn(ctx, &pb.VerifySignInRequest{SignInId: signIn, Code: code})
}

// MustBegin is Begin in the test's context.
func (a *Application) MustBegin(account string) *pb.SignIn {
	a.system.t.Helper()
	signIn, err := a.Begin(a.system.t.Context(), account)
	a.system.must(annotate(err, "beginning a sign-in"))
	return signIn
}

// MustVerify is Verify in the test's context.
func (a *Application) MustVerify(signIn, code string) *pb.VerifySignInResponse {
	a.system.t.Helper()
	resp, err := a.Verify(a.system.t.Context(), signIn, code)
	a.system.must(annotate(err, "verifying"))
	return resp
}
