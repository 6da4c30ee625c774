package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/countersignd/countersign/internal/proquint"

	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

const deviceHelp = `With --json: {"id", "account", "name", "kind", "key_storage", "approval_key_id", "state": "trusted", "waiting", "dormant", "unconfirmed" or "revoked", "enrolled", "enrolled_by", "trusted_from" (if it had to wait), "last_seen", "last_reached", "connected", "push": {"service": "apns" or "web_push", "host", "registered", "accepted", "failed", "failure", "dead"}, "readmitted", "readmitted_by", "revoked", "revoked_by", "revoke_reason"}; what is not known is left out.`

type deviceJSON struct {
	ID            string    `json:"id"`
	Account       string    `json:"account"`
	Name          string    `json:"name"`
	Kind          string    `json:"kind"`
	KeyStorage    string    `json:"key_storage"`
	ApprovalKeyID string    `json:"approval_key_id"`
	State         string    `json:"state"`
	Enrolled      int64     `json:"enrolled"`
	EnrolledBy    string    `json:"enrolled_by"`
	TrustedFrom   int64     `json:"trusted_from,omitempty"`
	LastSeen      int64     `json:"last_seen,omitempty"`
	LastReached   int64     `json:"last_reached,omitempty"`
	Connected     bool      `json:"connected"`
	Push          *pushJSON `json:"push,omitempty"`
	Readmitted    int64     `json:"readmitted,omitempty"`
	ReadmittedBy  string    `json:"readmitted_by,omitempty"`
	Revoked       int64     `json:"revoked,omitempty"`
	RevokedBy     string    `json:"revoked_by,omitempty"`
	RevokeReason  string    `json:"revoke_reason,omitempty"`
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
		LastReached:   unix(d.GetLastReachedTime()),
		Connected:     d.GetConnected(),
		Push:          pushObject(d.GetPush()),
		Readmitted:    unix(d.GetReadmitTime()),
		ReadmittedBy:  d.GetReadmittedBy(),
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

// listDevices prints all there is to know of an account's devices, those that
// were revoked last, and under all how many there are.
func listDevices(env *environment, devices []*pb.Device) {
	count := map[pb.DeviceState]int{}
	connected := 0
	for _, d := range devices {
		count[d.GetState()]++
		if d.GetConnected() {
			connected++
		}
	}
	for _, last := range []bool{false, true} {
		for _, d := range devices {
			if (d.GetState() == pb.DeviceState_DEVICE_STATE_REVOKED) == last {
				listDevice(env, d, devices)
			}
		}
	}
	sum := fmt.Sprintf("%d trusted, %d of them connected now", count[pb.DeviceState_DEVICE_STATE_TRUSTED], connected)
	for _, state := range slices.Sorted(maps.Keys(count)) {
		if state != pb.DeviceState_DEVICE_STATE_TRUSTED {
			sum += fmt.Sprintf("; %d %s", count[state], enumWord(state, "DEVICE_STATE_"))
		}
	}
	env.hang("", sum)
}

func listDevice(env *environment, d *pb.Device, all []*pb.Device) {
	env.hang("", fmt.Sprintf("%s  %s (%s), %s", short(d.GetId()), quoted(d.GetName()), enumWord(d.GetKind(), "DEVICE_KIND_"), enumWord(d.GetState(), "DEVICE_STATE_")))
	line := func(label, value string) { env.hang(fmt.Sprintf("  %-13s", label), value) }
	line("fingerprint", proquint.OfKey(d.GetId()))
	line("enrolled", local(d.GetEnrollTime())+", "+byName(d.GetEnrolledBy(), all))
	if d.GetState() == pb.DeviceState_DEVICE_STATE_WAITING {
		line("waits until", local(d.GetTrustTime()))
	}
	if d.GetReadmitTime() != nil {
		line("readmitted", local(d.GetReadmitTime())+", by "+byName(d.GetReadmittedBy(), all))
	}
	line("last seen", lastSeen(d))
	if d.GetState() != pb.DeviceState_DEVICE_STATE_REVOKED {
		line("last reached", cmp.Or(local(d.GetLastReachedTime()), "never"))
		line("push", pushWords(d.GetPush()))
	}
	line("keys in", safe(d.GetKeyStorage()))
	if d.GetState() == pb.DeviceState_DEVICE_STATE_REVOKED {
		why := ""
		if d.GetRevokeReason() != "" {
			why = ": " + quoted(d.GetRevokeReason())
		}
		line("revoked", local(d.GetRevokeTime())+", by "+byName(d.GetRevokedBy(), all)+why)
	}
	fmt.Fprintln(env.out)
}

// byName puts the names of devices in place of their ids, in what the server
// says of who did something.
func byName(who string, all []*pb.Device) string {
	var pairs []string
	for _, d := range all {
		if d.GetId() != "" {
			pairs = append(pairs, d.GetId(), quoted(d.GetName())+" ("+short(d.GetId())+")")
		}
	}
	return strings.NewReplacer(pairs...).Replace(safe(who))
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
		listDevices(env, resp.GetDevices())
		return nil
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
		others, err := admin.ListAccountDevices(ctx, &pb.ListAccountDevicesRequest{Account: resp.GetDevice().GetAccount()})
		if err != nil {
			return err
		}
		return showDevice(env, resp.GetDevice(), others.GetDevices())
	})
}

func showDevice(env *environment, d *pb.Device, all []*pb.Device) error {
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
	s.line("Enrolled by", byName(d.GetEnrolledBy(), all))
	s.line("Trusted from", local(d.GetTrustTime()))
	s.line("Readmitted", local(d.GetReadmitTime()))
	s.line("Readmitted by", byName(d.GetReadmittedBy(), all))
	s.line("Last seen", lastSeen(d))
	if d.GetState() != pb.DeviceState_DEVICE_STATE_REVOKED {
		s.line("Last reached", cmp.Or(local(d.GetLastReachedTime()), "never: it has not said yet that a prompt came"))
		showPush(s, d.GetPush())
	}
	s.line("Revoked", local(d.GetRevokeTime()))
	s.line("Revoked by", byName(d.GetRevokedBy(), all))
	s.line("Reason", quoted(d.GetRevokeReason()))
	return s.flush()
}

type deviceReadmitCmd struct {
	Device string `arg:"" help:"The device's id, its first characters (at least 4), or its fingerprint in words."`
	jsonFlag
}

// Help implements [kong.HelpProvider].
func (deviceReadmitCmd) Help() string {
	return "A device that was not seen for 90 days is dormant and counts for nothing, because nobody would have missed it. Readmit it if its owner has it; compare its fingerprint with the one that its own screen shows. Another trusted device of the account can do this, too.\n\n" + deviceHelp
}

// Run readmits a device.
func (c *deviceReadmitCmd) Run(env *environment) error {
	return env.administer(func(ctx context.Context, admin pb.AdminServiceClient) error {
		resp, err := admin.ReadmitAccountDevice(ctx, &pb.ReadmitAccountDeviceRequest{Device: deviceID(c.Device)})
		if err != nil {
			return err
		}
		d := resp.GetDevice()
		if c.JSON {
			return env.printJSON(deviceObject(d))
		}
		fmt.Fprintf(env.out, "The device %s (%s) of %s is trusted.\n", short(d.GetId()), quoted(d.GetName()), safe(d.GetAccount()))
		return nil
	})
}
