package main

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/countersignd/countersign/device-agent/agent"
	"github.com/countersignd/countersign/internal/text"
	countersignv1 "github.com/countersignd/countersign/proto/countersign/v1"
)

type devicesCmd struct {
	List   devicesListCmd   `cmd:"" default:"withargs" help:"List them; this is what devices alone does."`
	Rename devicesRenameCmd `cmd:"" help:"Give this device another name."`
	Revoke devicesRevokeCmd `cmd:"" help:"End the trust in a device, for good."`
}

type devicesListCmd struct {
	JSON bool `name:"json" help:"Print one JSON object."`
}

// Help is shown with devices list --help.
func (devicesListCmd) Help() string {
	return `The device that this is run on is marked with *. A device that you do not know, or do not have any more, should be revoked: devices revoke ID.

With --json: {"devices": [{"id", "fingerprint", "name", "kind", "key_storage", "state", "enrolled", "enrolled_by", "trusted_from", "last_seen", "connected", "revoked", "revoked_by", "revoke_reason", "self"}]}; times are Unix seconds, 0 means never.`
}

type deviceJSON struct {
	ID           string `json:"id"`
	Fingerprint  string `json:"fingerprint"`
	Name         string `json:"name"`
	Kind         string `json:"kind"`
	KeyStorage   string `json:"key_storage"`
	State        string `json:"state"`
	Enrolled     int64  `json:"enrolled"`
	EnrolledBy   string `json:"enrolled_by"`
	TrustedFrom  int64  `json:"trusted_from"`
	LastSeen     int64  `json:"last_seen"`
	Connected    bool   `json:"connected"`
	Revoked      int64  `json:"revoked"`
	RevokedBy    string `json:"revoked_by"`
	RevokeReason string `json:"revoke_reason"`
	Self         bool   `json:"self"`
}

// Run lists the devices.
func (c *devicesListCmd) Run(ctx context.Context, env *environment) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	a, err := env.open(ctx)
	if err != nil {
		return err
	}
	devices, err := a.Devices(ctx)
	if err != nil {
		return explain(err)
	}
	self := a.State().Device
	if c.JSON {
		list := make([]deviceJSON, len(devices))
		for i, d := range devices {
			list[i] = deviceJSON{
				ID: d.GetId(), Fingerprint: agent.Fingerprint(d.GetId()), Name: d.GetName(), Kind: kindWord(d), KeyStorage: d.GetKeyStorage(), State: stateWord(d),
				Enrolled: unix(d.GetEnrollTime()), EnrolledBy: d.GetEnrolledBy(), TrustedFrom: unix(d.GetTrustTime()),
				LastSeen: unix(d.GetLastSeenTime()), Connected: d.GetConnected(),
				Revoked: unix(d.GetRevokeTime()), RevokedBy: d.GetRevokedBy(), RevokeReason: d.GetRevokeReason(),
				Self: d.GetId() == self,
			}
		}
		return env.printJSON(map[string]any{"devices": list})
	}
	for i, d := range devices {
		if i > 0 {
			fmt.Fprintln(env.out)
		}
		if err := printDevice(env, d, self, devices); err != nil {
			return err
		}
	}
	return nil
}

// shownID is how much of an id is shown, here and to administrators.
const shownID = 12

func printDevice(env *environment, d *countersignv1.Device, self string, all []*countersignv1.Device) error {
	mark, note := " ", ""
	if d.GetId() == self {
		mark, note = "*", ", this device"
	}
	w := tabwriter.NewWriter(env.out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(env.out, "%s %s (%s)%s\n", mark, text.Isolate(d.GetName()), kindWord(d), note)
	line := func(label, value string) { fmt.Fprintf(w, "    %s\t%s\n", label, value) }
	line("id", text.Escape(d.GetId()[:min(shownID, len(d.GetId()))]))
	line("fingerprint", agent.Fingerprint(d.GetId()))
	line("state", stateLine(d, all))
	line("enrolled", local(d.GetEnrollTime())+", "+names(d.GetEnrolledBy(), all))
	seen := local(d.GetLastSeenTime())
	if d.GetConnected() {
		seen = "connected now"
	}
	line("last seen", seen)
	line("keys", storageWords(d.GetKeyStorage()))
	return w.Flush()
}

func stateLine(d *countersignv1.Device, all []*countersignv1.Device) string {
	state := stateWord(d)
	if d.GetState() == countersignv1.DeviceState_DEVICE_STATE_WAITING {
		return "not trusted yet, waiting until " + local(d.GetTrustTime()) + "; if you do not know it, revoke it before"
	}
	if d.GetState() != countersignv1.DeviceState_DEVICE_STATE_REVOKED {
		return state
	}
	state += " " + local(d.GetRevokeTime()) + ", by " + names(d.GetRevokedBy(), all)
	if d.GetRevokeReason() != "" {
		state += ": " + text.Isolate(d.GetRevokeReason())
	}
	return state
}

// names puts the names of devices in place of their ids, in what the server
// says of who did something.
func names(who string, all []*countersignv1.Device) string {
	var pairs []string
	for _, d := range all {
		if d.GetId() != "" {
			pairs = append(pairs, d.GetId(), text.Isolate(d.GetName())+" ("+d.GetId()[:min(shownID, len(d.GetId()))]+")")
		}
	}
	return strings.NewReplacer(pairs...).Replace(text.Escape(who))
}

func storageWords(storage string) string {
	switch storage {
	case "file":
		return "in a file"
	case "keyring":
		return "in a keyring"
	case "tpm":
		return "in a TPM"
	}
	return "unknown"
}

func stateWord(d *countersignv1.Device) string {
	return strings.ToLower(strings.TrimPrefix(d.GetState().String(), "DEVICE_STATE_"))
}

func kindWord(d *countersignv1.Device) string {
	return strings.ToLower(strings.TrimPrefix(d.GetKind().String(), "DEVICE_KIND_"))
}

func local(t *timestamppb.Timestamp) string {
	if t == nil {
		return "never"
	}
	return t.AsTime().Local().Format(time.DateTime)
}

func unix(t *timestamppb.Timestamp) int64 {
	if t == nil {
		return 0
	}
	return t.GetSeconds()
}
