package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/countersignd/countersign/internal/proquint"

	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

type restoreStatusCmd struct{ jsonFlag }

// Help implements [kong.HelpProvider].
func (restoreStatusCmd) Help() string {
	return `With --json: {"restored" (0 if never), "devices": [...]}, each as device show prints it.`
}

// Run lists what is to be confirmed.
func (c *restoreStatusCmd) Run(env *environment) error {
	return env.administer(func(ctx context.Context, admin pb.AdminServiceClient) error {
		server, err := admin.GetServer(ctx, &pb.GetServerRequest{})
		if err != nil {
			return err
		}
		var devices []*pb.Device
		if server.GetRestoreTime() != nil {
			if devices, err = unconfirmed(ctx, admin); err != nil {
				return err
			}
		}
		if c.JSON {
			return env.printJSON(map[string]any{"restored": unix(server.GetRestoreTime()), "devices": deviceObjects(devices)})
		}
		if server.GetRestoreTime() == nil {
			fmt.Fprintln(env.out, "This server was not restored from a backup.")
			return nil
		}
		fmt.Fprintf(env.out, "Restored from a backup; started with it at %s.\n", local(server.GetRestoreTime()))
		if len(devices) == 0 {
			fmt.Fprintln(env.out, "Every device is confirmed or revoked.")
			return nil
		}
		return env.listUnconfirmed(devices)
	})
}

func (e *environment) listUnconfirmed(devices []*pb.Device) error {
	fmt.Fprint(e.out, "These devices count for nothing until somebody says that they belong here:\n\n")
	t := newTable(e.out, "ACCOUNT", "DEVICE", "NAME", "LAST SEEN", "FINGERPRINT")
	for _, d := range devices {
		t.row(safe(d.GetAccount()), short(d.GetId()), quoted(d.GetName()), lastSeen(d), proquint.OfKey(d.GetId()))
	}
	if err := t.flush(); err != nil {
		return err
	}
	fmt.Fprintf(e.out, `
What happened since the backup was made is forgotten here. If a device was
revoked since, revoke it again first:  %s
then confirm all others:  %s
An application's token that was replaced since is the old one again: replace it
once more. An account that was suspended since is active again.
Invitations and recovery codes are void. Each owner, on a device that counts,
makes new codes and, if it warns of the record, takes that as it is now:

  countersign-agent recovery-codes renew
  countersign-agent record accept
`, e.command("device revoke DEVICE"), e.command("restore confirm --all"))
	return nil
}

// unconfirmed returns the devices of all accounts that are to be confirmed.
func unconfirmed(ctx context.Context, admin pb.AdminServiceClient) ([]*pb.Device, error) {
	accounts, err := allAccounts(ctx, admin)
	if err != nil {
		return nil, err
	}
	var devices []*pb.Device
	for _, a := range accounts {
		resp, err := admin.ListAccountDevices(ctx, &pb.ListAccountDevicesRequest{Account: a.GetName()})
		if err != nil {
			return nil, err
		}
		for _, d := range resp.GetDevices() {
			if d.GetState() == pb.DeviceState_DEVICE_STATE_UNCONFIRMED {
				devices = append(devices, d)
			}
		}
	}
	return devices, nil
}

func allAccounts(ctx context.Context, admin pb.AdminServiceClient) ([]*pb.Account, error) {
	return all(0, func(size int32, token string) ([]*pb.Account, string, error) {
		resp, err := admin.ListAccounts(ctx, &pb.ListAccountsRequest{PageSize: size, PageToken: token})
		return resp.GetAccounts(), resp.GetNextPageToken(), err
	})
}

type restoreConfirmCmd struct {
	Devices []string `arg:"" optional:"" name:"device" help:"Devices, each by its id, its first characters (at least 4), or its fingerprint in words."`
	Account string   `placeholder:"ACCOUNT" help:"All devices of this account that are not confirmed."`
	All     bool     `help:"All devices of all accounts that are not confirmed."`
	jsonFlag
}

// Help implements [kong.HelpProvider].
func (restoreConfirmCmd) Help() string {
	return `Confirm a device only if you know that it was not revoked since the backup was made. From then on it counts again; if it runs, it connects by itself within seconds.

With --json: {"devices": [...]}, those that were not confirmed before, each as device show prints it.`
}

// Run confirms.
func (c *restoreConfirmCmd) Run(env *environment) error {
	ways := 0
	for _, given := range []bool{len(c.Devices) > 0, c.Account != "", c.All} {
		if given {
			ways++
		}
	}
	if ways != 1 {
		return usageError{errors.New("say which devices: their ids, --account ACCOUNT, or --all")}
	}
	return env.administer(func(ctx context.Context, admin pb.AdminServiceClient) error {
		devices, err := c.confirm(ctx, admin)
		if c.JSON {
			return errors.Join(err, env.printJSON(map[string]any{"devices": deviceObjects(devices)}))
		}
		for _, d := range devices {
			fmt.Fprintf(env.out, "Confirmed %s (%s) of %s.\n", short(d.GetId()), quoted(d.GetName()), safe(d.GetAccount()))
		}
		if err == nil && len(devices) == 0 {
			fmt.Fprintln(env.out, "There was nothing to confirm.")
		}
		return err
	})
}

// confirm returns what it has confirmed, with an error too.
func (c *restoreConfirmCmd) confirm(ctx context.Context, admin pb.AdminServiceClient) ([]*pb.Device, error) {
	if !c.All {
		request := &pb.ConfirmDevicesRequest{Account: c.Account}
		for _, given := range c.Devices {
			request.Devices = append(request.Devices, deviceID(given))
		}
		resp, err := admin.ConfirmDevices(ctx, request)
		return resp.GetDevices(), err
	}
	accounts, err := allAccounts(ctx, admin)
	if err != nil {
		return nil, err
	}
	var devices []*pb.Device
	for _, a := range accounts {
		resp, err := admin.ConfirmDevices(ctx, &pb.ConfirmDevicesRequest{Account: a.GetName()})
		if err != nil {
			return devices, err
		}
		devices = append(devices, resp.GetDevices()...)
	}
	return devices, nil
}
