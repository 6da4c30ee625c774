package main

import (
	"context"
	"fmt"

	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

type statusCmd struct{ jsonFlag }

// Help implements [kong.HelpProvider].
func (statusCmd) Help() string {
	return `With --json: {"version", "deployment", "address", "server_key", "started", "connected_devices", "restored" (0 if never), "storage_low", "free_bytes", "ballast", "clock_ahead" (seconds that the server's time is ahead of the machine's clock), "push_services": [{"service": "apns" or "web_push", "trouble", "since"}] ("trouble" is left out while nothing is known to be wrong)}`
}

// Run shows how the server is.
func (c *statusCmd) Run(env *environment) error {
	return env.administer(func(ctx context.Context, admin pb.AdminServiceClient) error {
		s, err := admin.GetServer(ctx, &pb.GetServerRequest{})
		if err != nil {
			return err
		}
		if c.JSON {
			return env.printJSON(map[string]any{
				"version": s.GetVersion(), "deployment": s.GetDeploymentId(), "address": s.GetPublicAddress(),
				"server_key": s.GetServerKeyId(), "started": unix(s.GetStartTime()), "connected_devices": s.GetConnectedDevices(),
				"restored": unix(s.GetRestoreTime()), "storage_low": s.GetStorageLow(), "free_bytes": s.GetFreeBytes(),
				"ballast": s.GetBallast(), "clock_ahead": int64(s.GetClockAhead().AsDuration().Seconds()), "push_services": pushServiceObjects(s.GetPushServices()),
			})
		}
		sheet := newSheet(env.out)
		sheet.line("Version", safe(s.GetVersion()))
		sheet.line("Deployment", safe(s.GetDeploymentId()))
		sheet.line("Address", safe(s.GetPublicAddress()))
		sheet.line("Server's key", safe(s.GetServerKeyId()))
		sheet.line("Started", local(s.GetStartTime()))
		sheet.line("Connected devices", fmt.Sprint(s.GetConnectedDevices()))
		sheet.line("Disk", diskWords(s))
		for _, p := range s.GetPushServices() {
			sheet.line("Push by "+serviceWords(p.GetService()), pushServiceWords(p))
		}
		if len(s.GetPushServices()) == 0 {
			sheet.line("Push", "no service is configured: only devices that are connected are rung")
		}
		if ahead := s.GetClockAhead().AsDuration(); ahead > 0 {
			sheet.line("Clock", inWordsDuration(ahead)+" ahead of this machine's, which was set back")
		}
		if s.GetRestoreTime() != nil {
			sheet.line("Restored", local(s.GetRestoreTime())+"; see  "+env.command("restore status"))
		}
		return sheet.flush()
	})
}

// diskWords says how the disk is and what that means.
func diskWords(s *pb.GetServerResponse) string {
	words := fmt.Sprintf("%d MiB free", s.GetFreeBytes()>>20)
	if s.GetStorageLow() {
		words += ": too little for anything new, so make room. Denying and revoking go on"
	}
	if !s.GetBallast() {
		words += "; no ballast"
	}
	return words
}
