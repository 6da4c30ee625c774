package main

import (
	"context"
	"fmt"

	"github.com/countersignd/countersign/internal/proquint"

	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

const deviceHelp = `With --json: {"id", "account", "name", "kind", "key_storage", "approval_key_id", "state": "trusted", "revoked", "waiting", "dormant" or "unconfirmed", "enrolled", "enrolled_by", "trusted_from" (if it had to wait), "last_seen", "connected", "revoked", "revoked_by", "revoke_reason"}; what is not known is left out.`

type deviceJSON struct {
	ID            string `json:"id"`
	Account       string `json:"account"`
	Name          string `json:"name"`
	Kind          string `json:"kind"`
	KeyStorage    string `json:"key_storage"`
	ApprovalKeyID string `json:"approval_key_id"`
	State         string `json:"state"`
	Enrolled      int64  `json:"enrolled"`
	EnrolledBy    string `json:"enrolled_by"`
	TrustedFrom   int64  `json:"trusted_from,omitempty"`
	LastSeen      int64  `json:"last_seen,omitempty"`
	Connected     bool   `json:"connected"`
	Revoked       int64  `json:"revoked,omitempty"`
	RevokedBy     string `json:"revoked_by,omitempty"`
	RevokeReason  string `json:"revoke_reason,omitempty"`
}

func deviceObject(d *pb.Device) deviceJSON {
	return deviceJSON{
		ID:            d.GetId(),
		Account:       d.GetAccount(),
		Name:          d.GetName(),
		Kind:          enumWord(d.GetKind(), "DEVICE_KIND_"),
		KeyStorage:    d.GetKeyStorage(),
		ApprovalKeyID: d.GetApprovalKeyId(),
		State:         enumWord(d.GetState(), "DEVICE_STATE_"),
		Enrolled:      unix(d.GetEnrollTime()),
		EnrolledBy:    d.GetEnrolledBy(),
		TrustedFrom:   unix(d.GetTrustTime()),
		LastSeen:      unix(d.GetLastSeenTime()),
		Connected:     d.GetConnected(),
		Revoked:       unix(d.GetRevokeTime()),
		RevokedBy:     d.GetRevokedBy(),
		RevokeReason:  d.GetRevokeReason(),
	}
}

func deviceObjects(devices []*pb.Device) []deviceJSON {
	objects := make([]deviceJSON, len(devices))
	for i, d := range devices {
		objects[i] = deviceObject(d)
	}
	return objects
}

func listDevices(env *environment, devices []*pb.Device) error {
	t := newTable(env.out, "DEVICE", "NAME", "KIND", "KEY", "STATE", "ENROLLED", "LAST SEEN", "FINGERPRINT")
	for _, d := range devices {
		t.row(short(d.GetId()), quoted(d.GetName()), enumWord(d.GetKind(), "DEVICE_KIND_"), safe(d.GetKeyStorage()),
			enumWord(d.GetState(), "DEVICE_STATE_"), local(d.GetEnrollTime()), lastSeen(d), proquint.OfKey(d.GetId()))
	}
	return t.flush()
}

// deviceID returns the beginning of the id of a device that is named by its
// fingerprint, as agents show it and people read it out, or what was given.
func deviceID(given string) string {
	if prefix, ok := proquint.KeyPrefix(given); ok {
		return prefix
	}
	return given
}

func lastSeen(d *pb.Device) string {
	switch {
	case d.GetConnected():
		return "now connected"
	case d.GetLastSeenTime() == nil:
		return "never"
	}
	return local(d.GetLastSeenTime())
}

type deviceListCmd struct {
	Account string `arg:"" help:"The account's name."`
	jsonFlag
}

// Help implements [kong.HelpProvider].
func (deviceListCmd) Help() string {
	return `With --json: {"devices": [...]}, each as device show prints it.`
}

// Run lists the devices of an account.
func (c *deviceListCmd) Run(env *environment) error {
	return env.administer(func(ctx context.Context, admin pb.AdminServiceClient) error {
		resp, err := admin.ListAccountDevices(ctx, &pb.ListAccountDevicesRequest{Account: c.Account})
		if err != nil {
			return err
		}
		if c.JSON {
			return env.printJSON(map[string]any{"devices": deviceObjects(resp.GetDevices())})
		}
		if len(resp.GetDevices()) == 0 {
			fmt.Fprintf(env.out, "The account %s has no devices. Invite one:  %s\n", safe(c.Account), env.command("invite create", safe(c.Account)))
			return nil
		}
		return listDevices(env, resp.GetDevices())
	})
}

type deviceShowCmd struct {
	Device string `arg:"" help:"The device's id, its first characters (at least 4), or its fingerprint in words."`
	jsonFlag
}

// Help implements [kong.HelpProvider].
func (deviceShowCmd) Help() string { return deviceHelp }

// Run shows a device.
func (c *deviceShowCmd) Run(env *environment) error {
	return env.administer(func(ctx context.Context, admin pb.AdminServiceClient) error {
		resp, err := admin.GetAccountDevice(ctx, &pb.GetAccountDeviceRequest{Device: deviceID(c.Device)})
		if err != nil {
			return err
		}
		if c.JSON {
			return env.printJSON(deviceObject(resp.GetDevice()))
		}
		return showDevice(env, resp.GetDevice())
	})
}

func showDevice(env *environment, d *pb.Device) error {
	s := newSheet(env.out)
	s.line("Device", safe(d.GetId()))
	s.line("Fingerprint", proquint.OfKey(d.GetId()))
	s.line("Account", safe(d.GetAccount()))
	s.line("Name", quoted(d.GetName()))
	s.line("Kind", enumWord(d.GetKind(), "DEVICE_KIND_"))
	s.line("Keys kept in", safe(d.GetKeyStorage()))
	s.line("Approval key", safe(d.GetApprovalKeyId()))
	s.line("State", enumWord(d.GetState(), "DEVICE_STATE_"))
	s.line("Enrolled", local(d.GetEnrollTime()))
	s.line("Enrolled by", safe(d.GetEnrolledBy()))
	s.line("Trusted from", local(d.GetTrustTime()))
	s.line("Last seen", lastSeen(d))
	s.line("Revoked", local(d.GetRevokeTime()))
	s.line("Revoked by", safe(d.GetRevokedBy()))
	s.line("Reason", quoted(d.GetRevokeReason()))
	return s.flush()
}

type deviceRevokeCmd struct {
	Device string `arg:"" help:"The device's id, its first characters (at least 4), or its fingerprint in words."`
	Reason string `placeholder:"TEXT" help:"Why, for the record; at most 64 characters."`
	jsonFlag
}

// Help implements [kong.HelpProvider].
func (deviceRevokeCmd) Help() string {
	return "From this moment the device gets no prompt, its approvals count for nothing and its codes are worthless. It can be enrolled again only with new keys.\n\n" + deviceHelp
}

// Run revokes a device.
func (c *deviceRevokeCmd) Run(env *environment) error {
	return env.administer(func(ctx context.Context, admin pb.AdminServiceClient) error {
		resp, err := admin.RevokeAccountDevice(ctx, &pb.RevokeAccountDeviceRequest{Device: deviceID(c.Device), Reason: c.Reason})
		if err != nil {
			return err
		}
		d := resp.GetDevice()
		if c.JSON {
			return env.printJSON(deviceObject(d))
		}
		fmt.Fprintf(env.out, "The device %s (%s) of %s is revoked since %s, by %s.\n",
			short(d.GetId()), quoted(d.GetName()), safe(d.GetAccount()), local(d.GetRevokeTime()), safe(d.GetRevokedBy()))
		return nil
	})
}
