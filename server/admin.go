package server

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/countersignd/countersign/internal/invitation"
	"github.com/countersignd/countersign/server/approval"

	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

type adminService struct {
	pb.UnimplementedAdminServiceServer
	server *Server
}

// administrator returns the operations of the one who calls.
func (a *adminService) administrator(ctx context.Context) approval.Administrator {
	return a.server.broker.Administrator(callerOf(ctx).actor())
}

// AddAccount implements the API.
func (a *adminService) AddAccount(ctx context.Context, req *pb.AddAccountRequest) (*pb.AddAccountResponse, error) {
	account, err := a.administrator(ctx).AddAccount(ctx, req.GetName())
	if err != nil {
		return nil, err
	}
	return &pb.AddAccountResponse{Account: accountMessage(&account)}, nil
}

// ListAccounts implements the API.
func (a *adminService) ListAccounts(ctx context.Context, req *pb.ListAccountsRequest) (*pb.ListAccountsResponse, error) {
	accounts, next, err := a.administrator(ctx).ListAccounts(ctx, page(req))
	if err != nil {
		return nil, err
	}
	resp := &pb.ListAccountsResponse{NextPageToken: next}
	for i := range accounts {
		resp.Accounts = append(resp.Accounts, accountMessage(&accounts[i]))
	}
	return resp, nil
}

// GetAccount implements the API.
func (a *adminService) GetAccount(ctx context.Context, req *pb.GetAccountRequest) (*pb.GetAccountResponse, error) {
	account, devices, err := a.administrator(ctx).Account(ctx, req.GetName())
	if err != nil {
		return nil, err
	}
	m := accountMessage(&account)
	if err := a.addLanes(ctx, m); err != nil {
		return nil, err
	}
	return &pb.GetAccountResponse{Account: m, Devices: a.server.deviceMessages(devices)}, nil
}

// SuspendAccount implements the API.
func (a *adminService) SuspendAccount(ctx context.Context, req *pb.SuspendAccountRequest) (*pb.SuspendAccountResponse, error) {
	account, err := a.administrator(ctx).SuspendAccount(ctx, req.GetName(), req.GetReason())
	if err != nil {
		return nil, err
	}
	return &pb.SuspendAccountResponse{Account: accountMessage(&account)}, nil
}

// ResumeAccount implements the API.
func (a *adminService) ResumeAccount(ctx context.Context, req *pb.ResumeAccountRequest) (*pb.ResumeAccountResponse, error) {
	account, err := a.administrator(ctx).ResumeAccount(ctx, req.GetName())
	if err != nil {
		return nil, err
	}
	return &pb.ResumeAccountResponse{Account: accountMessage(&account)}, nil
}

// CreateInvitation implements the API.
func (a *adminService) CreateInvitation(ctx context.Context, req *pb.CreateInvitationRequest) (*pb.CreateInvitationResponse, error) {
	lifetime, err := invitationLifetime(req.GetLifetime())
	if err != nil {
		return nil, err
	}
	token, expires, err := a.administrator(ctx).CreateInvitation(ctx, req.GetAccount(), lifetime)
	if err != nil {
		return nil, err
	}
	link := invitation.Link{
		Server:     a.server.config.PublicAddress,
		Deployment: a.server.broker.Deployment(),
		Token:      token,
	}
	if !a.server.config.SystemRoots {
		link.Pin = a.server.serverKey
	}
	return &pb.CreateInvitationResponse{Link: link.URL(), ExpireTime: timestamp(expires)}, nil
}

// invitationLifetime tells an unset lifetime, which means the default, from
// one that is there and not positive, which is refused.
func invitationLifetime(d *durationpb.Duration) (time.Duration, error) {
	if d == nil {
		return 0, nil
	}
	if d.CheckValid() != nil || d.AsDuration() <= 0 {
		return 0, invalidField("lifetime", "want more than nothing, or no lifetime for ten minutes")
	}
	return d.AsDuration(), nil
}

// ListAccountDevices implements the API.
func (a *adminService) ListAccountDevices(ctx context.Context, req *pb.ListAccountDevicesRequest) (*pb.ListAccountDevicesResponse, error) {
	devices, err := a.administrator(ctx).Devices(ctx, req.GetAccount())
	if err != nil {
		return nil, err
	}
	return &pb.ListAccountDevicesResponse{Devices: a.server.deviceMessages(devices)}, nil
}

// GetAccountDevice implements the API.
func (a *adminService) GetAccountDevice(ctx context.Context, req *pb.GetAccountDeviceRequest) (*pb.GetAccountDeviceResponse, error) {
	d, err := a.administrator(ctx).Device(ctx, req.GetDevice())
	if err != nil {
		return nil, err
	}
	return &pb.GetAccountDeviceResponse{Device: a.server.deviceMessage(&d)}, nil
}

// RevokeAccountDevice implements the API.
func (a *adminService) RevokeAccountDevice(ctx context.Context, req *pb.RevokeAccountDeviceRequest) (*pb.RevokeAccountDeviceResponse, error) {
	d, err := a.administrator(ctx).RevokeDevice(ctx, req.GetDevice(), req.GetReason())
	if err != nil {
		return nil, err
	}
	return &pb.RevokeAccountDeviceResponse{Device: a.server.deviceMessage(&d)}, nil
}

// RevokeAccountDevices implements the API.
func (a *adminService) RevokeAccountDevices(ctx context.Context, req *pb.RevokeAccountDevicesRequest) (*pb.RevokeAccountDevicesResponse, error) {
	var before time.Time
	if t := req.GetEnrolledBefore(); t != nil {
		if t.CheckValid() != nil || t.AsTime().IsZero() {
			return nil, invalidField("enrolled_before", "want a moment, or none for all devices")
		}
		before = t.AsTime()
	}
	devices, err := a.administrator(ctx).RevokeDevices(ctx, req.GetAccount(), before, req.GetReason())
	if err != nil {
		return nil, err
	}
	return &pb.RevokeAccountDevicesResponse{Devices: a.server.deviceMessages(devices)}, nil
}

// ReadmitAccountDevice implements the API.
func (a *adminService) ReadmitAccountDevice(ctx context.Context, req *pb.ReadmitAccountDeviceRequest) (*pb.ReadmitAccountDeviceResponse, error) {
	d, err := a.administrator(ctx).ReadmitDevice(ctx, req.GetDevice())
	if err != nil {
		return nil, err
	}
	return &pb.ReadmitAccountDeviceResponse{Device: a.server.deviceMessage(&d)}, nil
}

// AddApplication implements the API.
func (a *adminService) AddApplication(ctx context.Context, req *pb.AddApplicationRequest) (*pb.AddApplicationResponse, error) {
	app, token, err := a.administrator(ctx).AddApplication(ctx, req.GetId(), req.GetName())
	if err != nil {
		return nil, err
	}
	return &pb.AddApplicationResponse{Application: applicationMessage(&app), Token: token}, nil
}

// ListApplications implements the API.
func (a *adminService) ListApplications(ctx context.Context, req *pb.ListApplicationsRequest) (*pb.ListApplicationsResponse, error) {
	apps, next, err := a.administrator(ctx).ListApplications(ctx, page(req))
	if err != nil {
		return nil, err
	}
	resp := &pb.ListApplicationsResponse{NextPageToken: next}
	for i := range apps {
		resp.Applications = append(resp.Applications, applicationMessage(&apps[i]))
	}
	return resp, nil
}

// SetApplicationPolicy implements the API.
func (a *adminService) SetApplicationPolicy(ctx context.Context, req *pb.SetApplicationPolicyRequest) (*pb.SetApplicationPolicyResponse, error) {
	change, err := policyChange(req.GetPolicy())
	if err != nil {
		return nil, err
	}
	app, err := a.administrator(ctx).SetApplicationPolicy(ctx, req.GetId(), change)
	if err != nil {
		return nil, err
	}
	return &pb.SetApplicationPolicyResponse{Application: applicationMessage(&app)}, nil
}

// RotateApplicationToken implements the API.
func (a *adminService) RotateApplicationToken(ctx context.Context, req *pb.RotateApplicationTokenRequest) (*pb.RotateApplicationTokenResponse, error) {
	app, token, err := a.administrator(ctx).RotateApplicationToken(ctx, req.GetId())
	if err != nil {
		return nil, err
	}
	return &pb.RotateApplicationTokenResponse{Application: applicationMessage(&app), Token: token}, nil
}

// RemoveApplication implements the API.
func (a *adminService) RemoveApplication(ctx context.Context, req *pb.RemoveApplicationRequest) (*pb.RemoveApplicationResponse, error) {
	if err := a.administrator(ctx).RemoveApplication(ctx, req.GetId()); err != nil {
		return nil, err
	}
	return &pb.RemoveApplicationResponse{}, nil
}

// ListSignIns implements the API.
func (a *adminService) ListSignIns(ctx context.Context, req *pb.ListSignInsRequest) (*pb.ListSignInsResponse, error) {
	signIns, next, err := a.administrator(ctx).ListSignIns(ctx, req.GetAccount(), page(req))
	if err != nil {
		return nil, err
	}
	resp, now := &pb.ListSignInsResponse{NextPageToken: next}, a.server.broker.Now()
	for i := range signIns {
		resp.SignIns = append(resp.SignIns, signInMessage(&signIns[i], now))
	}
	return resp, nil
}

// GetSignIn implements the API.
func (a *adminService) GetSignIn(ctx context.Context, req *pb.GetSignInRequest) (*pb.GetSignInResponse, error) {
	signIn, records, err := a.administrator(ctx).SignIn(ctx, req.GetId())
	if err != nil {
		return nil, err
	}
	return &pb.GetSignInResponse{
		SignIn:     signInMessage(&signIn, a.server.broker.Now()),
		Records:    recordMessages(records),
		Deliveries: deliveryMessages(signIn.Deliveries),
	}, nil
}

// ListAuditRecords implements the API.
func (a *adminService) ListAuditRecords(ctx context.Context, req *pb.ListAuditRecordsRequest) (*pb.ListAuditRecordsResponse, error) {
	f, err := recordFilter(req)
	if err != nil {
		return nil, err
	}
	records, next, err := a.administrator(ctx).ListRecords(ctx, f, page(req))
	if err != nil {
		return nil, err
	}
	return &pb.ListAuditRecordsResponse{Records: recordMessages(records), NextPageToken: next}, nil
}

// recordFilter returns what a request asks for.
func recordFilter(req *pb.ListAuditRecordsRequest) (approval.RecordFilter, error) {
	f := approval.RecordFilter{
		Account: req.GetAccount(), Device: req.GetDevice(), Application: req.GetApplication(),
		Event: approval.Event(req.GetEvent()), OldestFirst: req.GetOldestFirst(),
	}
	for _, bound := range []struct {
		field string
		given *timestamppb.Timestamp
		to    *time.Time
	}{{"since_time", req.GetSinceTime(), &f.Since}, {"until_time", req.GetUntilTime(), &f.Until}} {
		if bound.given == nil {
			continue
		}
		if bound.given.CheckValid() != nil {
			return f, invalidField(bound.field, "want a moment between the years 1 and 9999")
		}
		*bound.to = bound.given.AsTime()
	}
	return f, nil
}

// GetCheckpoint implements the API.
func (a *adminService) GetCheckpoint(ctx context.Context, _ *pb.GetCheckpointRequest) (*pb.GetCheckpointResponse, error) {
	c, size, err := a.server.broker.Checkpoint(ctx)
	if err != nil {
		return nil, err
	}
	return &pb.GetCheckpointResponse{Checkpoint: a.server.checkpointMessage(c), Size: size}, nil
}

// GetKeys implements the API.
func (a *adminService) GetKeys(context.Context, *pb.GetKeysRequest) (*pb.GetKeysResponse, error) {
	jwks, err := jwksJSON(a.server.broker.SigningKey())
	if err != nil {
		return nil, err
	}
	return &pb.GetKeysResponse{Jwks: jwks}, nil
}

// page returns the part of a list that a request asks for.
func page(req interface {
	GetPageSize() int32
	GetPageToken() string
}) approval.Page {
	return approval.Page{Size: int(req.GetPageSize()), Token: req.GetPageToken()}
}
