package agent

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/countersignd/countersign/internal/pin"
	"github.com/countersignd/countersign/internal/statement"
	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

// A fakeRequest is a device's request to be trusted.
type fakeRequest struct {
	id, device, code string // code is "" until somebody allowed it
	enrollment       statement.Enrollment
	tries            int
	expired          bool
}

// allow answers the one open request; the code is returned.
func (f *fakeServer) allow() string {
	const code = "482913"
	f.change(func() { f.requests[len(f.requests)-1].code = code })
	return code
}

func (f *fakeServer) GetDeployment(context.Context, *pb.GetDeploymentRequest) (*pb.GetDeploymentResponse, error) {
	return &pb.GetDeploymentResponse{DeploymentId: deployment}, nil
}

func (f *fakeServer) RequestTrust(ctx context.Context, r *pb.RequestTrustRequest) (*pb.RequestTrustResponse, error) {
	_, after := f.hooks()
	id, err := f.caller(ctx)
	if err != nil {
		return nil, err
	}
	e, _, err := statement.VerifyEnrollment(id, r.GetStatement())
	if err != nil || e.Account == "" || e.Aud != deployment || e.ServerKey != f.keyID {
		return nil, reject(codes.InvalidArgument, pb.ErrorReason_ERROR_REASON_STATEMENT_INVALID, "Invalid.")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.devices[id] != nil {
		return nil, reject(codes.AlreadyExists, pb.ErrorReason_ERROR_REASON_KEY_IN_USE, "One of the two keys belongs to a device already.")
	}
	expires := timestamppb.New(time.Now().Add(5 * time.Minute))
	for _, open := range f.requests {
		if open.device == id && open.enrollment.Account == e.Account && !open.expired {
			return &pb.RequestTrustResponse{RequestId: open.id, ExpireTime: expires}, after("RequestTrust")
		}
	}
	request := &fakeRequest{id: fmt.Sprintf("%026d", 900+len(f.requests)), device: id, enrollment: e, tries: 5}
	f.requests = append(f.requests, request)
	if err := after("RequestTrust"); err != nil {
		return nil, err
	}
	return &pb.RequestTrustResponse{RequestId: request.id, ExpireTime: expires}, nil
}

func (f *fakeServer) CompleteTrust(ctx context.Context, r *pb.CompleteTrustRequest) (*pb.CompleteTrustResponse, error) {
	_, after := f.hooks()
	id, err := f.caller(ctx)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var request *fakeRequest
	for _, open := range f.requests {
		if open.id == r.GetRequestId() && open.device == id {
			request = open
		}
	}
	switch {
	case f.devices[id] != nil && f.devices[id].token == r.GetRequestId():
	case request == nil || request.expired:
		return nil, reject(codes.FailedPrecondition, pb.ErrorReason_ERROR_REASON_SIGN_IN_EXPIRED, "The request was not allowed in time.")
	case request.code == "":
		return nil, reject(codes.FailedPrecondition, pb.ErrorReason_ERROR_REASON_SIGN_IN_PENDING, "Nobody has allowed this yet.")
	case request.tries == 0:
		return nil, reject(codes.FailedPrecondition, pb.ErrorReason_ERROR_REASON_TOO_MANY_TRIES, "Too many wrong codes.")
	case request.code != r.GetCode():
		request.tries--
		return nil, rejectWith(codes.PermissionDenied, pb.ErrorReason_ERROR_REASON_CODE_WRONG, "That code is wrong.", map[string]string{"tries_left": fmt.Sprint(request.tries)})
	default:
		key, err := request.enrollment.ApprovalKey.PublicKey()
		if err != nil {
			return nil, err
		}
		approvalID, err := pin.KeyID(key)
		if err != nil {
			return nil, err
		}
		f.devices[id] = &fakeDevice{
			Device:   &pb.Device{Id: id, Account: request.enrollment.Account, ApprovalKeyId: approvalID, State: pb.DeviceState_DEVICE_STATE_TRUSTED},
			approval: key, token: request.id,
		}
	}
	if err := after("CompleteTrust"); err != nil {
		return nil, err
	}
	return &pb.CompleteTrustResponse{Device: f.devices[id].Device, OfflineSecret: f.devices[id].offline()}, nil
}

// numbered checks a statement's counter, as the server does, and notes it.
func (d *fakeDevice) numbered(counter uint64, jws string) error {
	if counter <= d.counter && d.newest != statement.SigningInput(jws) {
		return reject(codes.PermissionDenied, pb.ErrorReason_ERROR_REASON_COUNTER_REUSED, "The counter did not rise.")
	}
	d.counter, d.newest = counter, statement.SigningInput(jws)
	return nil
}

func (f *fakeServer) CreateCode(ctx context.Context, r *pb.CreateCodeRequest) (*pb.CreateCodeResponse, error) {
	before, after := f.hooks()
	if err := before("CreateCode"); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	d, err := f.deviceLocked(ctx)
	if err != nil {
		return nil, err
	}
	c, err := statement.Verify[statement.CodeRequest](d.approval, d.Id, r.GetStatement())
	if err != nil || c.Aud != deployment || c.ServerKey != f.keyID || c.Account != d.Account {
		return nil, reject(codes.InvalidArgument, pb.ErrorReason_ERROR_REASON_STATEMENT_INVALID, "Invalid.")
	}
	if err := d.numbered(c.Counter, r.GetStatement()); err != nil {
		return nil, err
	}
	f.decisions = append(f.decisions, r.GetStatement())
	return &pb.CreateCodeResponse{
		Code: "271828", ExpireTime: timestamppb.New(f.now().Add(5 * time.Minute)),
		OfflineSecret: offlineSecret(d.Id), ServerTime: timestamppb.New(f.now()),
	}, after("CreateCode")
}

func (f *fakeServer) RevokeDevice(ctx context.Context, r *pb.RevokeDeviceRequest) (*pb.RevokeDeviceResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	d, err := f.deviceLocked(ctx)
	if err != nil {
		return nil, err
	}
	v, err := statement.Verify[statement.Revocation](d.approval, d.Id, r.GetStatement())
	if err != nil || v.Aud != deployment || v.ServerKey != f.keyID || v.Account != d.Account {
		return nil, reject(codes.InvalidArgument, pb.ErrorReason_ERROR_REASON_STATEMENT_INVALID, "Invalid.")
	}
	if err := d.numbered(v.Counter, r.GetStatement()); err != nil {
		return nil, err
	}
	target := f.devices[v.Revoked]
	if target == nil {
		return nil, reject(codes.NotFound, pb.ErrorReason_ERROR_REASON_NO_SUCH_DEVICE, "There is no such device in this account.")
	}
	target.State, target.RevokeReason = pb.DeviceState_DEVICE_STATE_REVOKED, v.Reason
	return &pb.RevokeDeviceResponse{Device: target.Device}, nil
}

func (f *fakeServer) ReadmitDevice(ctx context.Context, r *pb.ReadmitDeviceRequest) (*pb.ReadmitDeviceResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	d, err := f.deviceLocked(ctx)
	if err != nil {
		return nil, err
	}
	v, err := statement.Verify[statement.Readmission](d.approval, d.Id, r.GetStatement())
	if err != nil || v.Aud != deployment || v.ServerKey != f.keyID || v.Account != d.Account {
		return nil, reject(codes.InvalidArgument, pb.ErrorReason_ERROR_REASON_STATEMENT_INVALID, "Invalid.")
	}
	if err := d.numbered(v.Counter, r.GetStatement()); err != nil {
		return nil, err
	}
	target := f.devices[v.Readmitted]
	if target == nil {
		return nil, reject(codes.NotFound, pb.ErrorReason_ERROR_REASON_NO_SUCH_DEVICE, "There is no such device in this account.")
	}
	target.State = pb.DeviceState_DEVICE_STATE_TRUSTED
	return &pb.ReadmitDeviceResponse{Device: target.Device}, nil
}

func (f *fakeServer) Unlock(ctx context.Context, r *pb.UnlockRequest) (*pb.UnlockResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	d, err := f.deviceLocked(ctx)
	if err != nil {
		return nil, err
	}
	u, err := statement.Verify[statement.Unlock](d.approval, d.Id, r.GetStatement())
	if err != nil || u.Aud != deployment || u.ServerKey != f.keyID || u.Account != d.Account {
		return nil, reject(codes.InvalidArgument, pb.ErrorReason_ERROR_REASON_STATEMENT_INVALID, "Invalid.")
	}
	if err := d.numbered(u.Counter, r.GetStatement()); err != nil {
		return nil, err
	}
	f.decisions = append(f.decisions, r.GetStatement())
	return &pb.UnlockResponse{}, nil
}
