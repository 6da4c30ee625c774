package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/countersignd/countersign/device-agent/agent"
	"github.com/countersignd/countersign/internal/text"
	countersignv1 "github.com/countersignd/countersign/proto/countersign/v1"
)

type devicesRenameCmd struct {
	Name string `arg:"" help:"The new name, at most 64 characters."`
}

// Run renames this device.
func (c *devicesRenameCmd) Run(ctx context.Context, env *environment) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	a, err := env.open(ctx)
	if err != nil {
		return err
	}
	if err := a.Rename(ctx, c.Name); err != nil {
		return explain(err)
	}
	_, err = fmt.Fprintf(env.out, "This device is called %s now.\n", text.Isolate(c.Name))
	return err
}

type devicesRevokeCmd struct {
	Device string `arg:"" help:"Its id or the beginning of it, its fingerprint, or its name, as devices shows them."`
	Reason string `placeholder:"TEXT" help:"Why; it is written down."`
	Yes    bool   `help:"Do not ask."`
}

// Help is shown with devices revoke --help.
func (devicesRevokeCmd) Help() string {
	return `A revoked device gets no request any more, from this moment on; what it allowed and was not used yet, and a code that it got, count for nothing. It cannot be trusted again, except with new keys. This device itself can be revoked, too. The last trusted one of the account only if there are recovery codes left, because nothing else brings the account back then, except an administrator.`
}

// Run revokes a device.
func (c *devicesRevokeCmd) Run(ctx context.Context, env *environment) error {
	if err := text.Check(c.Reason); err != nil {
		return fmt.Errorf("the reason cannot be used: %w", err)
	}
	a, err := env.open(ctx)
	if err != nil {
		return err
	}
	d, devices, err := listed(ctx, a, c.Device)
	if err != nil {
		return err
	}
	if d.GetState() == countersignv1.DeviceState_DEVICE_STATE_REVOKED {
		_, err := fmt.Fprintf(env.out, "The device %s is revoked already.\n", text.Isolate(d.GetName()))
		return err
	}
	self := d.GetId() == a.State().Device
	if self && trustedCount(devices) == 1 {
		if err := sayLast(ctx, env, a); err != nil {
			return err
		}
	}
	question := "Revoke %s? It cannot be undone."
	if self {
		question = "Revoke this very device, %s? It cannot be undone."
	}
	if !c.Yes {
		if err := env.confirmDevice(ctx, question, d); err != nil {
			return fmt.Errorf("nothing was revoked: %w", err)
		}
	}
	revoking, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if _, err := a.Revoke(revoking, d.GetId(), c.Reason); err != nil {
		return explain(err)
	}
	env.say(env.out, "Revoked: %s. It gets no request any more, and nothing that it allowed or allows counts.\n", text.Isolate(d.GetName()))
	if self {
		env.say(env.out, "This was the device you are using. Its directory %s can be removed.\n", text.Escape(env.dir))
	}
	return nil
}

func trustedCount(devices []*countersignv1.Device) (n int) {
	for _, d := range devices {
		if d.GetState() == countersignv1.DeviceState_DEVICE_STATE_TRUSTED {
			n++
		}
	}
	return n
}

// sayLast says what it means to revoke the last trusted device.
func sayLast(ctx context.Context, env *environment, a *agent.Agent) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	self, err := a.Self(ctx)
	if err != nil {
		return explain(err)
	}
	account, left := a.State().Account, self.GetRecoveryCodesLeft()
	if left == 0 {
		return fmt.Errorf("this is the last trusted device of %s, and there are no recovery codes, so nobody could get in afterwards: make some first with  %s recovery-codes renew, or ask an administrator", account, env.command())
	}
	return env.say(env.err, "This is the last trusted device of %s. Afterwards only one of its %d recovery codes, or an administrator, brings the account back. Are the codes at hand?\n", account, left)
}

// confirmDevice asks a question about a device on the terminal.
func (env *environment) confirmDevice(ctx context.Context, question string, d *countersignv1.Device) error {
	if env.tty == nil {
		return errors.New("nobody is there to be asked; give --yes to do it without a question")
	}
	yes, err := env.confirm(ctx, fmt.Sprintf(question, text.Isolate(d.GetName())+" ("+kindWord(d)+", "+agent.Fingerprint(d.GetId())+")"))
	if err == nil && !yes {
		err = errors.New("the answer was no")
	}
	return err
}

// minPick is how much of an id must be given.
const minPick = 4

// pick returns the one device that is meant. Ids and fingerprints go before
// names, which a device chooses itself: no name keeps the owner from naming a
// device by what it cannot choose. Of two with one name, one that was revoked is
// not meant.
func pick(devices []*countersignv1.Device, meant string) (*countersignv1.Device, error) {
	matching := func(matches func(*countersignv1.Device) bool) (list []*countersignv1.Device) {
		for _, d := range devices {
			if matches(d) {
				list = append(list, d)
			}
		}
		return list
	}
	found := matching(func(d *countersignv1.Device) bool {
		return len(meant) >= minPick && strings.HasPrefix(d.GetId(), meant) || meant != "" && agent.Fingerprint(d.GetId()) == meant
	})
	if len(found) == 0 {
		named := func(d *countersignv1.Device) bool { return meant != "" && d.GetName() == meant }
		if found = matching(func(d *countersignv1.Device) bool {
			return named(d) && d.GetState() != countersignv1.DeviceState_DEVICE_STATE_REVOKED
		}); len(found) == 0 {
			found = matching(named)
		}
	}
	switch len(found) {
	case 0:
		return nil, fmt.Errorf("this account has no such device: give its id, at least the first %d characters, its fingerprint or its name, as %s devices shows them", minPick, program)
	case 1:
		return found[0], nil
	}
	return nil, errors.New("more than one device is meant by that: give more of the id, or the fingerprint")
}

type devicesReadmitCmd struct {
	Device string `arg:"" help:"Its id or the beginning of it, its fingerprint, or its name, as devices shows them."`
	Yes    bool   `help:"Do not ask."`
}

// Help is shown with devices readmit --help.
func (devicesReadmitCmd) Help() string {
	return `A device that was not seen for 90 days is dormant: it is asked nothing, and nothing that it says counts, because it may have been lost or given away and nobody noticed. Readmit it if you have it in front of you and its own screen (status there) shows the same fingerprint. An administrator can do it, too.`
}

// Run readmits a device.
func (c *devicesReadmitCmd) Run(ctx context.Context, env *environment) error {
	a, err := env.open(ctx)
	if err != nil {
		return err
	}
	d, _, err := listed(ctx, a, c.Device)
	if err != nil {
		return err
	}
	if d.GetState() == countersignv1.DeviceState_DEVICE_STATE_TRUSTED {
		_, err := fmt.Fprintf(env.out, "The device %s is trusted; there is nothing to do.\n", text.Isolate(d.GetName()))
		return err
	}
	if !c.Yes {
		if err := env.confirmDevice(ctx, "Do you have %s in your hands, and may it approve sign-ins again?", d); err != nil {
			return fmt.Errorf("nothing was changed: %w", err)
		}
	}
	readmitting, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if _, err := a.Readmit(readmitting, d.GetId()); err != nil {
		return explain(err)
	}
	_, err = fmt.Fprintf(env.out, "Readmitted: %s. It can approve sign-ins again.\n", text.Isolate(d.GetName()))
	return err
}

// listed returns the account's device that the person named, and all of them.
func listed(ctx context.Context, a *agent.Agent, named string) (*countersignv1.Device, []*countersignv1.Device, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	devices, err := a.Devices(ctx)
	if err != nil {
		return nil, nil, explain(err)
	}
	d, err := pick(devices, named)
	return d, devices, err
}
