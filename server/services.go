package server

import (
	"context"

	"github.com/countersignd/countersign/server/approval"

	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

type enrollmentService struct {
	pb.UnimplementedEnrollmentServiceServer
	server *Server
}

// GetDeployment implements the API.
func (e *enrollmentService) GetDeployment(context.Context, *pb.GetDeploymentRequest) (*pb.GetDeploymentResponse, error) {
	return &pb.GetDeploymentResponse{DeploymentId: e.server.broker.Deployment()}, nil
}

// EnrollDevice implements the API.
func (e *enrollmentService) EnrollDevice(ctx context.Context, req *pb.EnrollDeviceRequest) (*pb.EnrollDeviceResponse, error) {
	who := callerOf(ctx)
	d, err := e.server.broker.EnrollDevice(ctx, approval.Enrolling{
		Device:    who.device,
		Token:     req.GetInvitationToken(),
		Statement: req.GetStatement(),
		Address:   remoteIP(ctx),
	})
	if err != nil {
		return nil, err
	}
	who.conn.promote(classDevice, who.device)
	return &pb.EnrollDeviceResponse{
		Device:        e.server.deviceMessage(&d.Device),
		OfflineSecret: e.server.broker.OfflineSecret(&d.Device),
		RecoveryCodes: d.RecoveryCodes,
	}, nil
}

// RequestTrust implements the API.
func (e *enrollmentService) RequestTrust(ctx context.Context, req *pb.RequestTrustRequest) (*pb.RequestTrustResponse, error) {
	id, expires, err := e.server.broker.RequestTrust(ctx, approval.Requesting{
		Device:    callerOf(ctx).device,
		Statement: req.GetStatement(),
		Address:   remoteIP(ctx),
	})
	if err != nil {
		return nil, err
	}
	return &pb.RequestTrustResponse{RequestId: id, ExpireTime: timestamp(expires)}, nil
}

// CompleteTrust implements the API.
func (e *enrollmentService) CompleteTrust(ctx context.Context, req *pb.CompleteTrustRequest) (*pb.CompleteTrustResponse, error) {
	who := callerOf(ctx)
	d, err := e.server.broker.CompleteTrust(ctx, who.device, req.GetRequestId(), req.GetCode(), remoteIP(ctx))
	if err != nil {
		return nil, err
	}
	who.conn.promote(classDevice, who.device)
	return &pb.CompleteTrustResponse{Device: e.server.deviceMessage(&d), OfflineSecret: e.server.broker.OfflineSecret(&d)}, nil
}

// RecoverDevice implements the API.
func (e *enrollmentService) RecoverDevice(ctx context.Context, req *pb.RecoverDeviceRequest) (*pb.RecoverDeviceResponse, error) {
	who := callerOf(ctx)
	r, err := e.server.broker.RecoverDevice(ctx, approval.Recovering{
		Device:    who.device,
		Statement: req.GetStatement(),
		Code:      req.GetRecoveryCode(),
		Address:   remoteIP(ctx),
	})
	if err != nil {
		return nil, err
	}
	resp := &pb.RecoverDeviceResponse{Device: e.server.deviceMessage(&r.Device), RecoveryCodesLeft: int32(r.CodesLeft)}
	if resp.GetDevice().GetState() == pb.DeviceState_DEVICE_STATE_TRUSTED {
		who.conn.promote(classDevice, who.device)
		resp.OfflineSecret = e.server.broker.OfflineSecret(&r.Device)
	}
	return resp, nil
}

type deviceService struct {
	pb.UnimplementedDeviceServiceServer
	server *Server
}

// DecideSignIn implements the API.
func (d *deviceService) DecideSignIn(ctx context.Context, req *pb.DecideSignInRequest) (*pb.DecideSignInResponse, error) {
	c, err := d.server.broker.Decide(ctx, callerOf(ctx).device, req.GetStatement(), remoteIP(ctx))
	if err != nil {
		return nil, err
	}
	return &pb.DecideSignInResponse{Code: c.Digits, ExpireTime: timestamp(c.Expires)}, nil
}

// CreateCode implements the API.
func (d *deviceService) CreateCode(ctx context.Context, req *pb.CreateCodeRequest) (*pb.CreateCodeResponse, error) {
	c, err := d.server.broker.CreateCode(ctx, callerOf(ctx).device, req.GetStatement(), remoteIP(ctx))
	if err != nil {
		return nil, err
	}
	return &pb.CreateCodeResponse{
		Code:          c.Digits,
		ExpireTime:    timestamp(c.Expires),
		OfflineSecret: c.OfflineSecret,
		ServerTime:    timestamp(d.server.broker.Now()),
	}, nil
}

// CreateRecoveryCodes implements the API.
func (d *deviceService) CreateRecoveryCodes(ctx context.Context, req *pb.CreateRecoveryCodesRequest) (*pb.CreateRecoveryCodesResponse, error) {
	codes, err := d.server.broker.CreateRecoveryCodes(ctx, callerOf(ctx).device, req.GetStatement(), remoteIP(ctx))
	if err != nil {
		return nil, err
	}
	return &pb.CreateRecoveryCodesResponse{RecoveryCodes: codes}, nil
}

// ListDevices implements the API.
func (d *deviceService) ListDevices(ctx context.Context, _ *pb.ListDevicesRequest) (*pb.ListDevicesResponse, error) {
	devices, err := d.server.broker.Devices(ctx, callerOf(ctx).device)
	if err != nil {
		return nil, err
	}
	return &pb.ListDevicesResponse{Devices: d.server.deviceMessages(devices)}, nil
}

// RevokeDevice implements the API.
func (d *deviceService) RevokeDevice(ctx context.Context, req *pb.RevokeDeviceRequest) (*pb.RevokeDeviceResponse, error) {
	revoked, err := d.server.broker.RevokeDevice(ctx, callerOf(ctx).device, req.GetStatement(), remoteIP(ctx))
	if err != nil {
		return nil, err
	}
	return &pb.RevokeDeviceResponse{Device: d.server.deviceMessage(&revoked)}, nil
}

// ReadmitDevice implements the API.
func (d *deviceService) ReadmitDevice(ctx context.Context, req *pb.ReadmitDeviceRequest) (*pb.ReadmitDeviceResponse, error) {
	readmitted, err := d.server.broker.ReadmitDevice(ctx, callerOf(ctx).device, req.GetStatement(), remoteIP(ctx))
	if err != nil {
		return nil, err
	}
	return &pb.ReadmitDeviceResponse{Device: d.server.deviceMessage(&readmitted)}, nil
}

// UpdateDevice implements the API.
func (d *deviceService) UpdateDevice(ctx context.Context, req *pb.UpdateDeviceRequest) (*pb.UpdateDeviceResponse, error) {
	push, err := pushChange(req.GetPush())
	if err != nil {
		return nil, err
	}
	updated, err := d.server.broker.UpdateDevice(ctx, callerOf(ctx).device, approval.Update{Name: req.GetName(), Push: push}, remoteIP(ctx))
	if err != nil {
		return nil, err
	}
	return &pb.UpdateDeviceResponse{Device: d.server.deviceMessage(&updated)}, nil
}

// GetSelf implements the API.
func (d *deviceService) GetSelf(ctx context.Context, _ *pb.GetSelfRequest) (*pb.GetSelfResponse, error) {
	self, err := d.server.broker.Self(ctx, callerOf(ctx).device)
	if err != nil {
		return nil, err
	}
	checkpoint, _, err := d.server.broker.Checkpoint(ctx)
	if err != nil {
		return nil, err
	}
	return &pb.GetSelfResponse{
		Device:            d.server.deviceMessage(&self.Device),
		AccountSuspended:  self.Suspended,
		DeploymentId:      d.server.broker.Deployment(),
		ServerTime:        timestamp(d.server.broker.Now()),
		RecoveryCodesLeft: int32(self.RecoveryCodes),
		OfflineSecret:     d.server.broker.OfflineSecret(&self.Device),
		Checkpoint:        d.server.checkpointMessage(checkpoint),
		Notices:           noticeMessages(self.Notices),
		PushServices:      pushServices(d.server.broker.PushServices()),
		WebPushKey:        d.server.config.WebPushKey,
	}, nil
}

// GetConsistencyProof implements the API.
func (d *deviceService) GetConsistencyProof(ctx context.Context, req *pb.GetConsistencyProofRequest) (*pb.GetConsistencyProofResponse, error) {
	hashes, err := d.server.broker.ConsistencyProof(ctx, callerOf(ctx).device, req.GetOldSize(), req.GetNewSize())
	if err != nil {
		return nil, err
	}
	return &pb.GetConsistencyProofResponse{Hashes: hashes}, nil
}

type signInService struct {
	pb.UnimplementedSignInServiceServer
	server *Server
}

// BeginSignIn implements the API.
func (g *signInService) BeginSignIn(ctx context.Context, req *pb.BeginSignInRequest) (*pb.BeginSignInResponse, error) {
	who, r := callerOf(ctx), req.GetRequester()
	signIn, err := g.server.broker.BeginSignIn(ctx, who.token, approval.Request{
		Account: req.GetAccount(),
		Requester: approval.Requester{
			Address: r.GetAddress(),
			Place:   r.GetPlace(),
			Device:  r.GetDevice(),
			Program: r.GetProgram(),
			Session: r.GetSession(),
		},
		Message: req.GetMessage(),
		Token:   r.GetToken(),
	})
	if err != nil {
		return nil, err
	}
	return &pb.BeginSignInResponse{SignIn: signInMessage(&signIn, g.server.broker.Now())}, nil
}

// VerifySignIn implements the API.
func (g *signInService) VerifySignIn(ctx context.Context, req *pb.VerifySignInRequest) (*pb.VerifySignInResponse, error) {
	who := callerOf(ctx)
	verify, typed := g.server.broker.VerifySignIn, req.GetCode()
	if req.GetTrailingDigits() != "" {
		if req.GetCode() != "" {
			return nil, invalidField("trailing_digits", "give these or the code, not both")
		}
		verify, typed = g.server.broker.VerifyTrailing, req.GetTrailingDigits()
	}
	admission, err := verify(ctx, who.token, req.GetSignInId(), typed)
	if err != nil {
		return nil, err
	}
	key, err := jwkJSON(admission.Receipt.ApprovalKey)
	if err != nil {
		return nil, err
	}
	return &pb.VerifySignInResponse{
		Grant:      admission.Grant,
		CodeLength: int32(admission.CodeLength),
		Receipt: &pb.Receipt{
			Statement:   admission.Receipt.Statement,
			DeviceId:    admission.Receipt.Device,
			ApprovalKey: key,
		},
		RequesterToken:           admission.RequesterToken,
		RequesterTokenExpireTime: timestamp(admission.RequesterExpires),
	}, nil
}

// CancelSignIn implements the API.
func (g *signInService) CancelSignIn(ctx context.Context, req *pb.CancelSignInRequest) (*pb.CancelSignInResponse, error) {
	who := callerOf(ctx)
	signIn, err := g.server.broker.CancelSignIn(ctx, who.token, req.GetSignInId())
	if err != nil {
		return nil, err
	}
	return &pb.CancelSignInResponse{SignIn: signInMessage(&signIn, g.server.broker.Now())}, nil
}
