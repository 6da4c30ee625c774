package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/countersignd/countersign/internal/output"
	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

type deviceRevokeCmd struct {
	Device      string `arg:"" optional:"" help:"The device's id, its first characters (at least 4), or its fingerprint in words."`
	Account     string `placeholder:"NAME" help:"Revoke devices of this account: --all, or those enrolled --before a date."`
	AllAccounts bool   `help:"Revoke devices of every account, those enrolled --before a date."`
	All         bool   `help:"All devices of the account."`
	Before      string `placeholder:"DATE" help:"Only devices that were enrolled before it: 2026-01-31 (0:00 here) or 2026-01-31T12:00:00Z."`
	Reason      string `placeholder:"TEXT" help:"Why, for the record; at most 64 characters."`
	Yes         bool   `help:"Do not ask, where more than one device may be meant."`
	jsonFlag
}

// Help implements [kong.HelpProvider].
func (deviceRevokeCmd) Help() string {
	return `From this moment a revoked device gets no prompt, its approvals count for nothing and its codes are worthless. It can be enrolled again only with new keys. Whose last device is revoked can sign in to nothing until one is enrolled.

  device revoke kg4ujtp2krgu --reason 'stolen on the train'
  device revoke --account ada --all
  device revoke --account ada --before 2026-01-31
  device revoke --all-accounts --before 2026-01-31

Each account is one transaction. With all accounts, one after the other is done and reported; if it is interrupted, run it again.

` + deviceHelp + ` With --account or --all-accounts: {"accounts": [{"account", "devices": [...]}]}, the devices that were revoked now.`
}

// Validate is called by kong.
func (c *deviceRevokeCmd) Validate() error {
	switch {
	case c.Device != "" && (c.Account != "" || c.AllAccounts || c.All || c.Before != ""):
		return errors.New("give a device, or --account or --all-accounts, not both")
	case c.Device != "":
		return nil
	case c.Account == "" && !c.AllAccounts:
		return errors.New("say what to revoke: a device, or devices of --account NAME or --all-accounts")
	case c.Account != "" && c.AllAccounts:
		return errors.New("give --account or --all-accounts, not both")
	case c.All == (c.Before != ""):
		return errors.New("say which devices: --all, or those enrolled --before a date")
	case c.AllAccounts && c.All:
		return errors.New("all devices of all accounts are not revoked at one stroke: give --before with a date")
	}
	_, err := c.before()
	return err
}

// before returns the date, or the zero time if there is none.
func (c *deviceRevokeCmd) before() (time.Time, error) {
	if c.Before == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if t, err := time.ParseInLocation(layout, c.Before, time.Local); err == nil {
			if t.After(time.Now()) {
				return time.Time{}, errors.New("--before: the date is in the future")
			}
			return t, nil
		}
	}
	return time.Time{}, errors.New("--before: want a date as 2026-01-31, or a time as 2026-01-31T12:00:00Z")
}

// Run revokes one device, or many.
func (c *deviceRevokeCmd) Run(env *environment) error {
	if c.Device == "" {
		return c.many(env)
	}
	return env.administer(func(ctx context.Context, admin pb.AdminServiceClient) error {
		resp, err := admin.RevokeAccountDevice(ctx, &pb.RevokeAccountDeviceRequest{Device: deviceID(c.Device), Reason: c.Reason})
		if err != nil {
			return err
		}
		d := resp.GetDevice()
		if c.JSON {
			return env.printJSON(deviceObject(d))
		}
		env.hang("", fmt.Sprintf("The device %s (%s) of %s is revoked since %s, by %s.",
			short(d.GetId()), quoted(d.GetName()), safe(d.GetAccount()), local(d.GetRevokeTime()), safe(d.GetRevokedBy())))
		return nil
	})
}

// many revokes devices of one account or of all.
func (c *deviceRevokeCmd) many(env *environment) error {
	before, err := c.before()
	if err != nil {
		return err
	}
	// Not one deadline for all: there may be many accounts, and a person thinks.
	return env.connect(env.ctx, func(ctx context.Context, admin pb.AdminServiceClient) error {
		meant, err := c.meant(ctx, admin, before)
		if err != nil {
			return err
		}
		devices := 0
		for _, m := range meant {
			devices += m.devices
		}
		if devices == 0 {
			if c.JSON {
				return env.printJSON(map[string]any{"accounts": []revokedJSON{}})
			}
			fmt.Fprintln(env.out, "There is no such device that is not revoked already.")
			return nil
		}
		if err := c.confirm(env, devices, meant); err != nil {
			return err
		}
		list := []revokedJSON{}
		for _, m := range meant {
			revoked, err := c.revoke(ctx, admin, m.account, before)
			if err != nil {
				err = fmt.Errorf("%s: %w", safe(m.account), inWords(err))
				if len(list) > 0 {
					err = fmt.Errorf("%w; the accounts before it are done", err)
				}
				if c.JSON {
					err = errors.Join(err, env.printJSON(map[string]any{"accounts": list}))
				}
				return err
			}
			list = append(list, revokedJSON{m.account, deviceObjects(revoked)})
			for _, d := range revoked {
				if !c.JSON {
					env.hang("", fmt.Sprintf("revoked: %s  %s (%s) of %s", short(d.GetId()), quoted(d.GetName()), enumWord(d.GetKind(), "DEVICE_KIND_"), safe(m.account)))
				}
			}
		}
		if c.JSON {
			return env.printJSON(map[string]any{"accounts": list})
		}
		return nil
	})
}

type revokedJSON struct {
	Account string       `json:"account"`
	Devices []deviceJSON `json:"devices"`
}

// aim is how many devices of an account are meant.
type aim struct {
	account          string
	devices, trusted int // trusted: of those that are not meant
}

// meant returns the accounts that have devices that are meant.
func (c *deviceRevokeCmd) meant(ctx context.Context, admin pb.AdminServiceClient, before time.Time) ([]aim, error) {
	names := []string{c.Account}
	if c.AllAccounts {
		accounts, err := all(0, func(size int32, token string) ([]*pb.Account, string, error) {
			resp, err := admin.ListAccounts(ctx, &pb.ListAccountsRequest{PageSize: size, PageToken: token})
			return resp.GetAccounts(), resp.GetNextPageToken(), err
		})
		if err != nil {
			return nil, err
		}
		names = nil
		for _, a := range accounts {
			names = append(names, a.GetName())
		}
	}
	var meant []aim
	for _, name := range names {
		resp, err := admin.ListAccountDevices(ctx, &pb.ListAccountDevicesRequest{Account: name})
		if err != nil {
			return nil, err
		}
		m := aim{account: name}
		for _, d := range resp.GetDevices() {
			switch {
			case d.GetState() == pb.DeviceState_DEVICE_STATE_REVOKED:
			case before.IsZero() || d.GetEnrollTime().AsTime().Before(before):
				m.devices++
			case d.GetState() == pb.DeviceState_DEVICE_STATE_TRUSTED:
				m.trusted++
			}
		}
		if m.devices > 0 {
			meant = append(meant, m)
		}
	}
	return meant, nil
}

func (c *deviceRevokeCmd) revoke(ctx context.Context, admin pb.AdminServiceClient, account string, before time.Time) ([]*pb.Device, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	req := &pb.RevokeAccountDevicesRequest{Account: account, Reason: c.Reason}
	if !before.IsZero() {
		req.EnrolledBefore = timestamppb.New(before)
	}
	resp, err := admin.RevokeAccountDevices(ctx, req)
	return resp.GetDevices(), err
}

// confirm asks on the terminal, with how many devices it is about and who will
// be left with none.
func (c *deviceRevokeCmd) confirm(env *environment, devices int, meant []aim) error {
	if c.Yes {
		return nil
	}
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return fmt.Errorf("this would revoke %s, and nobody is there to be asked: give --yes to do it without a question", counted(devices, "device"))
	}
	left := 0
	for _, m := range meant {
		if m.trusted == 0 {
			left++
		}
	}
	question := "This revokes " + counted(devices, "device") + " of " + counted(len(meant), "account") + ", for good."
	if left > 0 {
		question += " " + counted(left, "account") + " will have no trusted device left and cannot be signed in to until one is enrolled."
	}
	if !env.agreed(os.Stdin, question+" Do it?") {
		return errors.New("nothing was revoked")
	}
	return nil
}

// agreed asks a question and reads the answer. Ctrl-C means no, and whoever pressed
// it is not asked on: the read, which cannot be interrupted, is left behind until the
// process ends.
func (e *environment) agreed(in io.Reader, question string) bool {
	fmt.Fprint(e.err, strings.Join(hanging("", question+" [y/N] ", output.Columns(e.err)), "\n"))
	answer := make(chan string, 1)
	go func() {
		line, err := bufio.NewReader(in).ReadString('\n')
		if err != nil {
			line = ""
		}
		answer <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case a := <-answer:
		return a == "y" || a == "yes"
	case <-e.ctx.Done():
		fmt.Fprintln(e.err)
		return false
	}
}

// counted returns "1 device" or "2 devices".
func counted(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
