package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/countersignd/countersign/device-agent/agent"
	"github.com/countersignd/countersign/internal/text"
	countersignv1 "github.com/countersignd/countersign/proto/countersign/v1"
)

type devicesCmd struct {
	List   devicesListCmd   `cmd:"" default:"withargs" help:"List the account's devices; devices alone does this."`
	Rename devicesRenameCmd `cmd:"" help:"Give this device another name."`
	Revoke devicesRevokeCmd `cmd:"" help:"End the trust in a device, for good."`

	Readmit devicesReadmitCmd `cmd:"" help:"Let a device count again that was not seen for 90 days."`
}

type devicesListCmd struct {
	JSON bool `name:"json" help:"Print one JSON object."`
}

// Help is shown with devices list --help.
func (devicesListCmd) Help() string {
	return `The device that this is run on is marked with *. A device that you do not know, or do not have any more, should be revoked: devices revoke ID. last reached is when the device last had a request or a test prompt; woken by says what wakes it when it is not connected, and why that fails. test ID sends a test prompt to it. One that was not seen for 90 days is dormant and does not count, until another one readmits it: devices readmit ID. Those that were revoked come last.

With --json: {"devices": [{"id", "fingerprint", "name", "kind", "key_storage", "state" ("trusted", "waiting", "dormant", "unconfirmed" or "revoked"), "enrolled", "enrolled_by", "trusted_from", "last_seen", "connected", "last_reached", "push", "readmitted", "readmitted_by", "revoked", "revoked_by", "revoke_reason", "self"}]}; times are Unix seconds, 0 means never. ` + pushHelp + `.`
}

type deviceJSON struct {
	ID           string   `json:"id"`
	Fingerprint  string   `json:"fingerprint"`
	Name         string   `json:"name"`
	Kind         string   `json:"kind"`
	KeyStorage   string   `json:"key_storage"`
	State        string   `json:"state"`
	Enrolled     int64    `json:"enrolled"`
	EnrolledBy   string   `json:"enrolled_by"`
	TrustedFrom  int64    `json:"trusted_from"`
	LastSeen     int64    `json:"last_seen"`
	Connected    bool     `json:"connected"`
	LastReached  int64    `json:"last_reached"`
	Push         pushJSON `json:"push"`
	Readmitted   int64    `json:"readmitted"`
	ReadmittedBy string   `json:"readmitted_by"`
	Revoked      int64    `json:"revoked"`
	RevokedBy    string   `json:"revoked_by"`
	RevokeReason string   `json:"revoke_reason"`
	Self         bool     `json:"self"`
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
				LastReached: unix(d.GetLastReachedTime()), Push: newPushJSON(d.GetPush()),
				Readmitted: unix(d.GetReadmitTime()), ReadmittedBy: d.GetReadmittedBy(),
				Revoked: unix(d.GetRevokeTime()), RevokedBy: d.GetRevokedBy(), RevokeReason: d.GetRevokeReason(),
				Self: d.GetId() == self,
			}
		}
		return env.printJSON(map[string]any{"devices": list})
	}
	printDevices(env, devices, self)
	return nil
}

// printDevices prints a list for people: those that were revoked last, and under
// all how many there are.
func printDevices(env *environment, devices []*countersignv1.Device, self string) {
	count := map[countersignv1.DeviceState]int{}
	connected := 0
	for _, d := range devices {
		count[d.GetState()]++
		if d.GetConnected() {
			connected++
		}
	}
	for _, last := range []bool{false, true} {
		for _, d := range devices {
			if (d.GetState() == countersignv1.DeviceState_DEVICE_STATE_REVOKED) == last {
				printDevice(env, d, self, devices)
				fmt.Fprintln(env.out)
			}
		}
	}
	const trusted = countersignv1.DeviceState_DEVICE_STATE_TRUSTED
	sum := fmt.Sprintf("%d trusted, %d of them connected now", count[trusted], connected)
	for _, state := range slices.Sorted(maps.Keys(count)) {
		if state != trusted {
			sum += fmt.Sprintf("; %d %s", count[state], strings.ToLower(strings.TrimPrefix(state.String(), statePrefix)))
		}
	}
	env.printHanging("", sum)
}

// shownID is how much of an id is shown, here and to administrators.
const shownID = 12

func printDevice(env *environment, d *countersignv1.Device, self string, all []*countersignv1.Device) {
	mark, note := "  ", ""
	if d.GetId() == self {
		mark, note = "* ", ", this device"
	}
	env.printHanging(mark, text.Isolate(d.GetName())+" ("+kindWord(d)+")"+note)
	env.printField("state", stateLine(d, all))
	env.printField("fingerprint", agent.Fingerprint(d.GetId()))
	env.printField("id", shortID(d))
	env.printField("enrolled", local(d.GetEnrollTime())+", "+names(d.GetEnrolledBy(), all))
	if d.GetReadmitTime() != nil {
		env.printField("readmitted", local(d.GetReadmitTime())+", by "+names(d.GetReadmittedBy(), all))
	}
	seen := local(d.GetLastSeenTime())
	if d.GetConnected() {
		seen = "connected now"
	}
	env.printField("last seen", seen)
	if d.GetState() != countersignv1.DeviceState_DEVICE_STATE_REVOKED {
		env.printField("last reached", reachedLine(d))
		env.printField("woken by", wokenLine(d.GetPush()))
	}
	env.printField("keys", storageWords(d.GetKeyStorage()))
}

// shortID returns the beginning of a device's id that is shown and may be typed.
func shortID(d *countersignv1.Device) string {
	return text.Escape(d.GetId()[:min(shownID, len(d.GetId()))])
}

func stateLine(d *countersignv1.Device, all []*countersignv1.Device) string {
	state := stateWord(d)
	switch d.GetState() {
	case countersignv1.DeviceState_DEVICE_STATE_DORMANT:
		return state + ": not seen for 90 days, so it does not count. If you have it: devices readmit " + shortID(d)
	case countersignv1.DeviceState_DEVICE_STATE_WAITING:
		return "not trusted yet, waiting until " + local(d.GetTrustTime()) + "; if you do not know it, revoke it before"
	case countersignv1.DeviceState_DEVICE_STATE_UNCONFIRMED:
		return state + ": the server was restored from a backup; an administrator must confirm it"
	case countersignv1.DeviceState_DEVICE_STATE_REVOKED:
		state += " " + local(d.GetRevokeTime()) + ", by " + names(d.GetRevokedBy(), all)
		if d.GetRevokeReason() != "" {
			state += ": " + text.Isolate(d.GetRevokeReason())
		}
	}
	return state
}

// names puts the names of devices in place of their ids, in what the server
// says of who did something.
func names(who string, all []*countersignv1.Device) string {
	var pairs []string
	for _, d := range all {
		if d.GetId() != "" {
			pairs = append(pairs, d.GetId(), text.Isolate(d.GetName())+" ("+shortID(d)+")")
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

const statePrefix = "DEVICE_STATE_"

func stateWord(d *countersignv1.Device) string {
	return strings.ToLower(strings.TrimPrefix(d.GetState().String(), statePrefix))
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
