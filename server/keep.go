package server

import (
	"context"
	"path/filepath"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

// This file serves what keeps a server: how it is, its backups, and what is to
// be done after one was restored.

// A Disk is how the disk is that holds the store.
type Disk struct {
	Free    uint64 // bytes
	Low     bool   // so little is free that nothing new can be begun
	Ballast bool   // there is a file to be given up for deny and revoke
}

// minAhead is how far the server's time must be ahead to be worth a word.
const minAhead = time.Second

// GetServer implements the API.
func (a *adminService) GetServer(context.Context, *pb.GetServerRequest) (*pb.GetServerResponse, error) {
	s := a.server
	m := &pb.GetServerResponse{
		Version:          s.config.Version,
		DeploymentId:     s.broker.Deployment(),
		PublicAddress:    s.config.PublicAddress,
		ServerKeyId:      s.serverKey,
		SystemRoots:      s.config.SystemRoots,
		StartTime:        timestamp(s.started),
		ConnectedDevices: int32(s.broker.ConnectedDevices()),
		RestoreTime:      timestamp(s.broker.Restored()),
	}
	for _, p := range s.broker.PushServices() {
		m.PushServices = append(m.PushServices, &pb.PushServiceStatus{
			Service: pushService(p.Service), Trouble: p.Trouble, TroubleTime: timestamp(p.Since),
		})
	}
	if s.config.Disk != nil {
		disk := s.config.Disk()
		m.StorageLow, m.FreeBytes, m.Ballast = disk.Low, int64(disk.Free), disk.Ballast
	}
	if ahead := s.broker.ClockAhead(); ahead >= minAhead {
		m.ClockAhead = durationpb.New(ahead)
	}
	return m, nil
}

// Backup implements the API. Its errors name files, which is all right: the
// caller is root or the server's own user.
func (a *adminService) Backup(ctx context.Context, req *pb.BackupRequest) (*pb.BackupResponse, error) {
	if !filepath.IsAbs(req.GetPath()) || filepath.Clean(req.GetPath()) != req.GetPath() {
		return nil, invalidField("path", "want an absolute path on the server's machine, without . and ..")
	}
	size, err := a.server.config.Backup(ctx, req.GetPath())
	if err != nil {
		return nil, backupFailed(err)
	}
	return &pb.BackupResponse{SizeBytes: size}, nil
}

// ConfirmDevices implements the API.
func (a *adminService) ConfirmDevices(ctx context.Context, req *pb.ConfirmDevicesRequest) (*pb.ConfirmDevicesResponse, error) {
	devices, err := a.administrator(ctx).ConfirmDevices(ctx, req.GetAccount(), req.GetDevices())
	if err != nil {
		return nil, err
	}
	return &pb.ConfirmDevicesResponse{Devices: a.server.deviceMessages(devices)}, nil
}
