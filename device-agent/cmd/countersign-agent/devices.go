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
	JSON bool `name:"json" help:"Print one JSON object."`
}

// Help is shown with devices --help.
func (devicesCmd) Help() string {
	return `The device that this is run on is marked with *. A device that you do not know, or do not have any more, should be revoked: call an administrator.

With --json: {"devices": [{"id", "name", "kind", "state", "enrolled", "enrolled_by", "last_seen", "connected", "revoked", "revoked_by", "revoke_reason", "self"}]}; times are Unix seconds, 0 means never.`
}

type deviceJSON struct {
	ID           string `json:"id"`
	Name         string `json:"name"`
	Kind         string `json:"kind"`
	State        string `json:"state"`
	Enrolled     int64  `json:"enrolled"`
	EnrolledBy   string `json:"enrolled_by"`
	LastSeen     int64  `json:"last_seen"`
	Connected    bool   `json:"connected"`
	Revoked      int64  `json:"revoked"`
	RevokedBy    string `json:"revoked_by"`
	RevokeReason string `json:"revoke_reason"`
	Self         bool   `json:"self"`
}

// Run lists the devices.
func (c *devicesCmd) Run(ctx context.Context, env *environment) error {
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
				ID: d.GetId(), Name: d.GetName(), Kind: kindWord(d), State: stateWord(d),
				Enrolled: unix(d.GetEnrollTime()), EnrolledBy: d.GetEnrolledBy(),
				LastSeen: unix(d.GetLastSeenTime()), Connected: d.GetConnected(),
				Revoked: unix(d.GetRevokeTime()), RevokedBy: d.GetRevokedBy(), RevokeReason: d.GetRevokeReason(),
				Self: d.GetId() == self,
			}
		}
		return env.printJSON(map[string]any{"devices": list})
	}
	w := tabwriter.NewWriter(env.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, " \tFINGERPRINT\tSTATE\tKIND\tENROLLED\tLAST SEEN\tNAME")
	for _, d := range devices {
		mark := " "
		if d.GetId() == self {
			mark = "*"
		}
		seen := local(d.GetLastSeenTime())
		if d.GetConnected() {
			seen = "connected now"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", mark, agent.Fingerprint(d.GetId()), stateWord(d), kindWord(d),
			local(d.GetEnrollTime()), seen, text.Isolate(d.GetName()))
	}
	return w.Flush()
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
