package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/countersignd/countersign/internal/text"
	countersignv1 "github.com/countersignd/countersign/proto/countersign/v1"
)

type testCmd struct {
	Device string `arg:"" optional:"" help:"A device of the account: its id or the beginning of it, its fingerprint, or its name, as devices shows them (default: this one)."`
	JSON   bool   `name:"json" help:"Print a JSON object for each step."`
}

// Help is shown with test --help.
func (testCmd) Help() string {
	return `The device shows a test prompt, which asks nothing and lets nobody in. Where it is registered for pushes, it is pushed also while it is connected. The command prints each step when it happens, and ends when a person has put the prompt away, or after two minutes. For a test of this device, its agent must be running beside this command.

It exits with 0 if the test prompt arrived, and with 1 and a sentence that says why not if it did not.

With --json: a line for each step, {"test", "device", "name", "created", "expires", "connected" (when it was sent), "delivery": ` + deliveryHelp + `}; each replaces the one before; times are Unix seconds, 0 means never.`
}

type testJSON struct {
	Test      string       `json:"test"`
	Device    string       `json:"device"`
	Name      string       `json:"name"`
	Created   int64        `json:"created"`
	Expires   int64        `json:"expires"`
	Connected bool         `json:"connected"`
	Delivery  deliveryJSON `json:"delivery"`
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
	t := tester{env: env, device: d, self: a.State().Device, asJSON: c.JSON, told: make(map[string]bool), began: time.Now()}
	err = a.TestDevice(ctx, d.GetId(), t.step)
	if ctx.Err() != nil { // the connection is not to blame
		err = errors.New("this was stopped")
	}
	if err != nil && !t.arrived() {
		return explain(err)
	}
	if !t.arrived() {
		// The test may have found that the device's registration is dead.
		if again, _, err := listed(ctx, a, d.GetId()); err == nil {
			t.device = again
		}
	}
	return t.end(err)
}

// A tester tells what becomes of a test prompt.
type tester struct {
	env    *environment
	device *countersignv1.Device
	self   string // the id of this device
	asJSON bool
	began  time.Time
	told   map[string]bool // steps
	last   *countersignv1.DeviceTest
	joined bool // the device was connected at some time
	failed error
}

// step tells what is new.
func (t *tester) step(test *countersignv1.DeviceTest) {
	first, d := t.last == nil, test.GetDelivery()
	t.last = test
	t.joined = t.joined || test.GetConnected() || d.GetStage() == countersignv1.DeliveryStage_DELIVERY_STAGE_CONNECTED
	if t.asJSON {
		t.failed = errors.Join(t.failed, t.env.printJSON(testJSON{
			Test: test.GetId(), Device: test.GetDeviceId(), Name: d.GetDeviceName(), Created: unix(test.GetCreateTime()), Expires: unix(test.GetExpireTime()),
			Connected: test.GetConnected(), Delivery: newDeliveryJSON(d),
		}))
		return
	}
	if first {
		t.say(test.GetCreateTime(), fmt.Sprintf("A test prompt is sent to %s (%s). It ends at %s.", text.Isolate(t.device.GetName()), kindWord(t.device), clock(test.GetExpireTime())))
		if test.GetConnected() {
			t.say(test.GetCreateTime(), "It is connected.")
		} else {
			t.say(test.GetCreateTime(), "It is not connected; "+lastSeen(t.device)+".")
		}
		nothing := true // wakes it
		switch push := t.device.GetPush(); {
		case push.GetService() == countersignv1.PushService_PUSH_SERVICE_UNSPECIFIED:
			t.say(test.GetCreateTime(), "Nothing is pushed, because it registered with no push service.")
		case push.GetDead():
			t.say(test.GetCreateTime(), "Nothing is pushed, because its registration is gone. It must register again.")
		default:
			nothing = false
		}
		if nothing && !test.GetConnected() {
			t.say(test.GetCreateTime(), "The test waits until it connects: open its agent there.")
		}
	}
	for _, s := range stepsOf(d) {
		if !t.told[s.id] {
			t.told[s.id] = true
			t.say(s.time, s.text)
		}
	}
}

func (t *tester) say(at *timestamppb.Timestamp, words string) {
	t.env.printHanging(at.AsTime().Local().Format("15:04:05.000")+"  ", words)
}

func (t *tester) arrived() bool { return t.last.GetDelivery().GetReceiveTime() != nil }

// ousted reports whether the test ended long before its time, without an answer,
// which it does only where another one took its place.
func (t *tester) ousted() bool {
	lifetime := t.last.GetExpireTime().AsTime().Sub(t.last.GetCreateTime().AsTime())
	return t.last.GetDelivery().GetAnswerTime() == nil && time.Since(t.began) < lifetime-2*time.Second
}

// end says how the test came out. broken is why no more is told of it, or nil.
func (t *tester) end(broken error) error {
	d := t.last.GetDelivery()
	switch {
	case t.failed != nil:
		return t.failed
	case !t.arrived():
		return fmt.Errorf("the test prompt did not arrive on %s: %s", text.Isolate(t.device.GetName()), t.why())
	case t.asJSON:
		return nil
	case d.GetAnswerTime() != nil:
		return t.env.say(t.env.out, "It arrived %s, and somebody saw it.\n", t.took())
	case broken != nil:
		return t.env.say(t.env.out, "It arrived %s. No more is known of it: %v.\n", t.took(), explain(broken))
	case t.ousted():
		return t.env.say(t.env.out, "It arrived %s. Then another test of that device took its place.\n", t.took())
	case d.GetShowTime() != nil:
		return t.env.say(t.env.out, "It arrived %s. Nobody put it away.\n", t.took())
	}
	return t.env.say(t.env.out, "It arrived %s, and was not shown: the device was locked, or its agent's window was closed.\n", t.took())
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
	d, push := t.last.GetDelivery(), t.device.GetPush()
	seen := lastSeen(t.device)
	switch {
	case t.ousted():
		return "another test took its place"
	case t.joined:
		return "it is connected, but its agent does not say what it shows, so it is old, or it hangs. Restart or update it"
	case t.device.GetId() == t.self && d.GetPushTime() == nil:
		return "the agent of this device is not running. Start it with  " + t.env.command() + " run"
	case push.GetService() == countersignv1.PushService_PUSH_SERVICE_UNSPECIFIED:
		return seen + ", and nothing wakes it. Open its agent there"
	case push.GetDead():
		return seen + ", and nothing wakes it any more: " + text.Isolate(push.GetFailure()) + ". Open its agent there, so that it registers again"
	case d.GetPushFailureTime() != nil && d.GetPushFailure() != "":
		return seen + ", and the push was not taken: " + text.Isolate(d.GetPushFailure())
	case d.GetPushFailureTime() != nil:
		return seen + ", and the push was not taken"
	case d.GetPushTime() != nil:
		return "the push service took the push, but the device did not connect afterwards. It is switched off, without a network, or does not let the agent run or notify"
	}
	return seen + ", and no push was tried. Ask the administrator, who has the server's log"
}

// lastSeen says when a device was last connected.
func lastSeen(d *countersignv1.Device) string {
	if d.GetLastSeenTime() == nil {
		return "it was never seen"
	}
	return "it was last seen " + localMinute(d.GetLastSeenTime())
}
