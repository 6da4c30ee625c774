package agent

import (
	"context"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/countersignd/countersign/internal/pin"
	"github.com/countersignd/countersign/internal/recovery"
	"github.com/countersignd/countersign/internal/statement"
	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

// giveCodes makes ten recovery codes.
func (f *fakeServer) giveCodes() []string {
	var made []string
	for i := range recovery.Codes {
		sum := make([]byte, 32)
		sum[9] = byte(i + 1)
		made = append(made, recovery.FromMAC(sum))
	}
	f.change(func() { f.codes = made })
	return made
}

func (f *fakeServer) RecoverDevice(ctx context.Context, r *pb.RecoverDeviceRequest) (*pb.RecoverDeviceResponse, error) {
	before, after := f.hooks()
	if err := before("RecoverDevice"); err != nil {
		return nil, err
	}
	id, err := f.caller(ctx)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	d := f.devices[id]
	switch {
	case r.GetStatement() == "" && d == nil:
		return nil, reject(codes.Unauthenticated, pb.ErrorReason_ERROR_REASON_DEVICE_UNKNOWN, "No code.")
	case r.GetStatement() != "":
		e, key, err := statement.VerifyEnrollment(id, r.GetStatement())
		if err != nil || e.Aud != deployment || e.ServerKey != f.keyID || e.Recovery != recovery.Hash(e.Account, r.GetRecoveryCode()) {
			return nil, reject(codes.InvalidArgument, pb.ErrorReason_ERROR_REASON_STATEMENT_INVALID, "Invalid.")
		}
		switch code := r.GetRecoveryCode(); {
		case d != nil && d.token != code:
			return nil, reject(codes.AlreadyExists, pb.ErrorReason_ERROR_REASON_KEY_IN_USE, "This key belongs to a device already.")
		case d == nil && (e.Account != "ada" || f.spent[code] || !slices.Contains(f.codes, code)):
			return nil, reject(codes.PermissionDenied, pb.ErrorReason_ERROR_REASON_RECOVERY_CODE_INVALID, "This recovery code is not good for this account.")
		case d == nil:
			approvalID, _ := pin.KeyID(key)
			d = &fakeDevice{Device: &pb.Device{
				Id: id, Account: e.Account, Name: e.Name, ApprovalKeyId: approvalID, State: pb.DeviceState_DEVICE_STATE_TRUSTED,
			}, approval: key, token: code}
			if f.wait > 0 {
				d.State, d.TrustTime = pb.DeviceState_DEVICE_STATE_WAITING, timestamppb.New(time.Now().Add(f.wait))
			}
			f.devices[id], f.spent[code] = d, true
		}
	}
	switch {
	case d.State == pb.DeviceState_DEVICE_STATE_REVOKED:
		return nil, reject(codes.PermissionDenied, pb.ErrorReason_ERROR_REASON_DEVICE_REVOKED, "This device was revoked.")
	case d.State == pb.DeviceState_DEVICE_STATE_WAITING && f.wait == 0:
		d.State = pb.DeviceState_DEVICE_STATE_TRUSTED
	}
	if err := after("RecoverDevice"); err != nil {
		return nil, err
	}
	return &pb.RecoverDeviceResponse{Device: d.Device, RecoveryCodesLeft: int32(len(f.codes) - len(f.spent)), OfflineSecret: d.offline()}, nil
}

func (f *fakeServer) CreateRecoveryCodes(ctx context.Context, r *pb.CreateRecoveryCodesRequest) (*pb.CreateRecoveryCodesResponse, error) {
	_, after := f.hooks()
	f.mu.Lock()
	defer f.mu.Unlock()
	d, err := f.deviceLocked(ctx)
	if err != nil {
		return nil, err
	}
	c, err := statement.Verify[statement.RecoveryRenewal](d.approval, d.Id, r.GetStatement())
	if err != nil || c.Aud != deployment || c.ServerKey != f.keyID || c.Account != d.Account {
		return nil, reject(codes.InvalidArgument, pb.ErrorReason_ERROR_REASON_STATEMENT_INVALID, "Invalid.")
	}
	if err := d.numbered(c.Counter, r.GetStatement()); err != nil {
		return nil, err
	}
	f.decisions = append(f.decisions, r.GetStatement())
	return &pb.CreateRecoveryCodesResponse{RecoveryCodes: f.codes}, after("CreateRecoveryCodes")
}
