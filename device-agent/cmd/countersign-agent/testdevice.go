package main

import (
	"context"
	"fmt"
	"time"

	"github.com/countersignd/countersign/internal/text"
	countersignv1 "github.com/countersignd/countersign/proto/countersign/v1"
)

type testCmd struct {
	Device string `arg:"" optional:"" help:"A device of the account: its id or the beginning of it, its fingerprint, or its name, as devices shows them (default: this one)."`
	JSON   bool   `name:"json" help:"Print one JSON object at the end, and nothing else."`
}

// Help is shown with test --help.
func (testCmd) Help() string {
	return `It sends a test prompt to a device and tells each step that it takes, with its time, until somebody put it away there or its time is over. A test prompt asks nothing and lets nobody in. Exit code 1 means that it did not arrive; then the last line says why, as far as that is known. For a test of this device, the agent must be running on it beside this command.

With --json: {"test", "device", "sent", "connected" (when it was sent), "push_refused", "push_failure" (why), "pushed", "received", "shown", "answered" (by a person, who put it away), "arrived"}; times are Unix seconds, 0 means never.`
}

type testJSON struct {
	Test        string `json:"test"`
	Device      string `json:"device"`
	Sent        int64  `json:"sent"`
	Connected   bool   `json:"connected"`
	PushRefused int64  `json:"push_refused"`
	PushFailure string `json:"push_failure"`
	Pushed      int64  `json:"pushed"`
	Received    int64  `json:"received"`
	Shown       int64  `json:"shown"`
	Answered    int64  `json:"answered"`
	Arrived     bool   `json:"arrived"`
}

// Run tests a device.
func (c *testCmd) Run(ctx context.Context, env *environment) error {
	a, err := env.open(ctx)
	if err != nil {
		return err
	}
	named := c.Device
	if named == "" {
		named = a.State().Device
	}
	d, _, err := listed(ctx, a, named)
	if err != nil {
		return err
	}
	if d.GetState() != countersignv1.DeviceState_DEVICE_STATE_TRUSTED {
		return fmt.Errorf("the device %s is %s, so nothing is sent to it: see  %s devices", text.Isolate(d.GetName()), stateWord(d), env.command())
	}
	t := tester{env: env, device: d, self: a.State().Device, quiet: c.JSON, told: make(map[string]bool)}
	err = a.TestDevice(ctx, d.GetId(), t.step)
	if err != nil && !t.arrived() {
		return explain(err)
	}
	return t.end(err, c.JSON)
}

// A tester tells what becomes of a test prompt.
type tester struct {
	env    *environment
	device *countersignv1.Device
	self   string // the id of this device
	quiet  bool
	told   map[string]bool // steps
	last   *countersignv1.DeviceTest
	ousted bool // another test of the device took its place
}

// step tells what is new.
func (t *tester) step(test *countersignv1.DeviceTest) {
	first := t.last == nil
	if !first && test.GetCreateTime() == nil { // all that is known is that it is gone
		t.ousted = true
		return
	}
	t.last = test
	if t.quiet {
		return
	}
	if first {
		t.env.say(t.env.out, "A test prompt for %s (%s), good until %s.\n", text.Isolate(t.device.GetName()), kindWord(t.device), clock(test.GetExpireTime()))
		connected := "the device is connected"
		if !test.GetConnected() {
			connected = "the device is not connected"
		}
		t.say(step{"", test.GetCreateTime(), connected})
	}
	for _, s := range stepsOf(test.GetDelivery()) {
		if !t.told[s.id] {
			t.told[s.id] = true
			t.say(s)
		}
	}
	if first && test.GetDelivery().GetAnswerTime() == nil {
		t.env.say(t.env.err, "Waiting until somebody puts it away there. Ctrl-C ends the waiting.\n")
	}
}

func (t *tester) say(s step) { t.env.printHanging(clock(s.time)+"  ", s.text) }

func (t *tester) arrived() bool { return t.last.GetDelivery().GetReceiveTime() != nil }

// end says how the test came out. broken is why no more is told of it, or nil.
func (t *tester) end(broken error, asJSON bool) error {
	d := t.last.GetDelivery()
	var err error
	if !t.arrived() {
		err = fmt.Errorf("the test prompt did not arrive: %s", t.why())
	}
	if asJSON {
		if printing := t.env.printJSON(testJSON{
			Test: t.last.GetId(), Device: t.last.GetDeviceId(), Sent: unix(t.last.GetCreateTime()), Connected: t.last.GetConnected(),
			PushRefused: unix(d.GetPushFailureTime()), PushFailure: d.GetPushFailure(), Pushed: unix(d.GetPushTime()),
			Received: unix(d.GetReceiveTime()), Shown: unix(d.GetShowTime()), Answered: unix(d.GetAnswerTime()), Arrived: t.arrived(),
		}); printing != nil {
			return printing
		}
		return err
	}
	switch {
	case err != nil:
		return err
	case d.GetAnswerTime() != nil:
		return t.env.say(t.env.out, "It arrived %s, and somebody saw it.\n", t.took())
	case broken != nil:
		return t.env.say(t.env.out, "It arrived %s. No more is known of it: %v.\n", t.took(), explain(broken))
	case t.ousted:
		return t.env.say(t.env.out, "It arrived %s. Then another test of that device took its place.\n", t.took())
	case d.GetShowTime() != nil:
		return t.env.say(t.env.out, "It arrived %s. Nobody put it away.\n", t.took())
	}
	return t.env.say(t.env.out, "It arrived %s, and was not on the screen: the device was locked, or its agent's window was closed.\n", t.took())
}

// took says how long it was under way.
func (t *tester) took() string {
	took := t.last.GetDelivery().GetReceiveTime().AsTime().Sub(t.last.GetCreateTime().AsTime())
	if took < 50*time.Millisecond {
		return "at once"
	}
	return fmt.Sprintf("after %.1f s", took.Seconds())
}

// why says why a test did not arrive, as far as the server can know.
func (t *tester) why() string {
	d, self := t.last.GetDelivery(), t.device.GetId() == t.self
	switch {
	case t.ousted:
		return "another test of that device took its place"
	case d.GetPushTime() != nil:
		return "a push service took the wake-up, and the device was not heard of since. Is it switched on and online, and may the agent show messages there?"
	case t.last.GetConnected():
		return "the device is connected and did not say that it came. Its agent may be too old to say so, or hang: restart it"
	case d.GetPushFailureTime() != nil && d.GetPushFailure() != "":
		return "the device is not connected, and the push service refused to wake it: " + text.Isolate(d.GetPushFailure())
	case d.GetPushFailureTime() != nil:
		return "the device is not connected, and the push service refused to wake it"
	case self:
		return "the agent of this device is not running: start it with  " + t.env.command() + " run"
	}
	return "the device is not connected, and nothing wakes it: start the agent there. It was last seen " + local(t.device.GetLastSeenTime())
}
