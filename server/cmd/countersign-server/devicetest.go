package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

type deviceTestCmd struct {
	Device string `arg:"" help:"The device's id, its first characters (at least 4), or its fingerprint in words."`
	jsonFlag
}

// Help implements [kong.HelpProvider].
func (deviceTestCmd) Help() string {
	return `The device shows a test prompt, which asks nothing and lets nobody in. Where the device has registered for pushes, it is pushed also while it is connected. The command prints each step when it happens, and ends when the person has put the prompt away, or after two minutes. It is on record.

It exits with 0 if the test prompt arrived, and with 1 and a sentence that says why not if it did not.

With --json: a line for each step, {"test", "device", "name", "created", "expires", "connected", "delivery": as signin show prints it}; each replaces the one before.`
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
func (c *deviceTestCmd) Run(env *environment) error {
	return env.connect(env.ctx, func(ctx context.Context, admin pb.AdminServiceClient) error {
		found, err := admin.GetAccountDevice(ctx, &pb.GetAccountDeviceRequest{Device: deviceID(c.Device)})
		if err != nil {
			return err
		}
		d := found.GetDevice()
		stream, err := admin.TestAccountDevice(ctx, &pb.TestAccountDeviceRequest{Device: d.GetId()})
		if err != nil {
			return err
		}
		var last *pb.DeviceTest
		for {
			resp, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return err
			}
			if c.JSON {
				if err := env.printJSON(testObject(resp.GetTest())); err != nil {
					return err
				}
			} else {
				printSteps(env, d, last, resp.GetTest())
			}
			last = resp.GetTest()
		}
		if last.GetDelivery().GetReceiveTime() != nil {
			return nil
		}
		if again, err := admin.GetAccountDevice(ctx, &pb.GetAccountDeviceRequest{Device: d.GetId()}); err == nil {
			d = again.GetDevice()
		}
		return errors.New(whyNot(d, last))
	})
}

func testObject(t *pb.DeviceTest) testJSON {
	return testJSON{
		Test:      t.GetId(),
		Device:    t.GetDeviceId(),
		Name:      t.GetDelivery().GetDeviceName(),
		Created:   unix(t.GetCreateTime()),
		Expires:   unix(t.GetExpireTime()),
		Connected: t.GetConnected(),
		Delivery:  deliveryObject(t.GetDelivery()),
	}
}

// printSteps prints what is new since the last message.
func printSteps(env *environment, device *pb.Device, last, t *pb.DeviceTest) {
	step := func(at *timestamppb.Timestamp, words string) {
		env.hang("", at.AsTime().Local().Format("15:04:05.000")+"  "+words)
	}
	d, old := t.GetDelivery(), last.GetDelivery()
	if last == nil {
		step(t.GetCreateTime(), fmt.Sprintf("A test prompt is sent to %s (%s) of %s. It ends at %s.",
			short(device.GetId()), quoted(device.GetName()), safe(device.GetAccount()), t.GetExpireTime().AsTime().Local().Format(time.TimeOnly)))
		if t.GetConnected() {
			step(t.GetCreateTime(), "It is connected.")
		} else {
			step(t.GetCreateTime(), "It is not connected; "+lastSeenWords(device)+".")
		}
		if device.GetPush().GetService() == pb.PushService_PUSH_SERVICE_UNSPECIFIED || device.GetPush().GetDead() {
			step(t.GetCreateTime(), "Nothing is pushed. Push: "+pushWords(device.GetPush())+".")
		}
	}
	news := func(at, before *timestamppb.Timestamp, words string) {
		if at != nil && (before == nil || !at.AsTime().Equal(before.AsTime())) {
			step(at, words)
		}
	}
	news(d.GetPushFailureTime(), old.GetPushFailureTime(), "The push was not taken: "+safe(d.GetPushFailure())+".")
	news(d.GetPushTime(), old.GetPushTime(), servicePlace(device.GetPush())+" took the push.")
	news(d.GetReceiveTime(), old.GetReceiveTime(), "The device has it.")
	news(d.GetShowTime(), old.GetShowTime(), "The device shows it.")
	news(d.GetAnswerTime(), old.GetAnswerTime(), "The person put it away.")
}

// lastSeenWords says when a device was last connected.
func lastSeenWords(d *pb.Device) string {
	if d.GetLastSeenTime() == nil {
		return "it never was"
	}
	return "it was last seen on " + d.GetLastSeenTime().AsTime().Local().Format("Monday, 2006-01-02 at 15:04 MST")
}

// whyNot says why a test prompt did not arrive, and what to do.
func whyNot(d *pb.Device, t *pb.DeviceTest) string {
	name := "the test prompt did not arrive on " + quoted(d.GetName())
	push := d.GetPush()
	switch delivery := t.GetDelivery(); {
	case t == nil:
		return name + ": another test took its place"
	case d.GetConnected():
		return name + " although it is connected: its agent does not say what it shows, so it is old, or it hangs. Restart or update it"
	case push.GetService() == pb.PushService_PUSH_SERVICE_UNSPECIFIED:
		return name + ": " + lastSeenWords(d) + ", and it has not registered for pushes, so it is rung only while it is connected. Open its agent and see what it says"
	case push.GetDead():
		return name + ": " + lastSeenWords(d) + ", and its push registration is dead (" + safe(push.GetFailure()) + "). Open its agent, which registers again"
	case delivery.GetPushFailureTime() != nil:
		return name + ": " + lastSeenWords(d) + ", and " + servicePlace(push) + " did not take the push (" + safe(delivery.GetPushFailure()) + "). See docs/operations.md, Push, for what that means"
	case delivery.GetPushTime() != nil:
		return name + ": " + servicePlace(push) + " took the push, but the device did not connect afterwards. It is switched off, without a network, or does not let the agent run or notify"
	}
	return name + ": " + lastSeenWords(d) + ", and no push was tried. Look at the server's log"
}
