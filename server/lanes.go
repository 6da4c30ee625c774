package server

import (
	"context"

	"github.com/countersignd/countersign/server/approval"

	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

// This file is what the API says of lanes, budgets and silences.

// Unlock implements the API.
func (d *deviceService) Unlock(ctx context.Context, req *pb.UnlockRequest) (*pb.UnlockResponse, error) {
	if err := d.server.broker.Unlock(ctx, callerOf(ctx).device, req.GetStatement(), remoteIP(ctx)); err != nil {
		return nil, err
	}
	return &pb.UnlockResponse{}, nil
}

// UnlockAccount implements the API.
func (a *adminService) UnlockAccount(ctx context.Context, req *pb.UnlockAccountRequest) (*pb.UnlockAccountResponse, error) {
	account, err := a.administrator(ctx).UnlockAccount(ctx, req.GetName(), req.GetReason())
	if err != nil {
		return nil, err
	}
	m := accountMessage(&account)
	if err := a.addLanes(ctx, m); err != nil {
		return nil, err
	}
	return &pb.UnlockAccountResponse{Account: m}, nil
}

// addLanes fills in how an account fares in its lanes.
func (a *adminService) addLanes(ctx context.Context, m *pb.Account) error {
	lanes, sources, err := a.administrator(ctx).Lanes(ctx, m.GetName())
	if err != nil {
		return err
	}
	for _, l := range lanes {
		m.Lanes = append(m.Lanes, laneMessage(l))
	}
	for _, s := range sources {
		m.SilencedSources = append(m.SilencedSources, &pb.SilencedSource{Source: s.Source, UntilTime: timestamp(s.Until)})
	}
	return nil
}

func laneMessage(l approval.LaneStatus) *pb.LaneStatus {
	return &pb.LaneStatus{
		Lane:            string(l.Lane),
		Rung:            int32(l.Rung),
		FailuresDay:     int32(l.FailuresDay),
		FailuresMonth:   int32(l.FailuresMonth),
		CloseTime:       timestamp(l.Closed),
		BarredUntilTime: timestamp(l.BarredUntil),
		SilentUntilTime: timestamp(l.SilentUntil),
	}
}
