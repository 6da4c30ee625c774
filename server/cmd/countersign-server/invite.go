package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

type inviteCreateCmd struct {
	Account  string        `arg:"" help:"The account that the device will approve for."`
	Lifetime time.Duration `default:"10m" help:"How long it is good, at most 24h. More than 10m goes on record."`
	PNG      string        `name:"png" placeholder:"FILE" type:"path" help:"Also write the QR code to this new file, as a picture."`
	QR       bool          `name:"qr" help:"Show the QR code though the output is no terminal."`
	NoQR     bool          `name:"no-qr" help:"Do not show the QR code."`
	jsonFlag
}

// Help implements [kong.HelpProvider].
func (inviteCreateCmd) Help() string {
	return `Whoever opens the link first is trusted to approve for the account, so hand it over so that nobody else sees it. It works once, and no more when the account was suspended or all of its devices were revoked since.

With --json: {"link", "expires"}`
}

// Run creates an invitation.
func (c *inviteCreateCmd) Run(env *environment) error {
	if c.QR && c.NoQR {
		return usageError{errors.New("--qr and --no-qr exclude each other")}
	}
	return env.administer(func(ctx context.Context, admin pb.AdminServiceClient) error {
		// Before the invitation exists, so that none is made in vain.
		picture, err := c.createPNG()
		if err != nil {
			return err
		}
		resp, err := admin.CreateInvitation(ctx, &pb.CreateInvitationRequest{
			Account:  c.Account,
			Lifetime: durationpb.New(c.Lifetime),
		})
		if err != nil {
			if picture != nil {
				err = errors.Join(err, picture.Close(), os.Remove(c.PNG))
			}
			return err
		}
		code, err := newQR(resp.GetLink())
		if err != nil {
			return err
		}
		if picture != nil {
			_, err := picture.Write(code.PNG())
			if err := errors.Join(err, picture.Close()); err != nil {
				return fmt.Errorf("writing the picture: %w", err)
			}
		}
		if c.JSON {
			return env.printJSON(map[string]any{"link": resp.GetLink(), "expires": unix(resp.GetExpireTime())})
		}
		if c.QR || !c.NoQR && env.width() > 0 { // first, so that the link stays in sight
			fmt.Fprintln(env.out, code.terminal())
		}
		fmt.Fprintf(env.out, "Invitation for one device of %s, until %s (%s):\n\n%s\n\n",
			safe(c.Account), local(resp.GetExpireTime()), inWordsDuration(c.Lifetime), resp.GetLink())
		if c.PNG != "" {
			fmt.Fprintf(env.out, "The QR code is in %s. Delete it when the device is enrolled.\n", c.PNG)
		}
		fmt.Fprintf(env.out, "On the new device, run  countersign-agent enroll  with this link.\n"+
			"Whoever opens it first is trusted: hand it over so that nobody else sees it,\n"+
			"and compare the fingerprint that the device shows then with\n\n  %s\n", env.command("device list", safe(c.Account)))
		return nil
	})
}

// createPNG opens the file for the picture, if one is wanted.
func (c *inviteCreateCmd) createPNG() (*os.File, error) {
	if c.PNG == "" {
		return nil, nil
	}
	f, err := os.OpenFile(c.PNG, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("there is a file %s already: remove it or choose another name", c.PNG)
	}
	if err != nil {
		return nil, fmt.Errorf("creating the picture: %w", err)
	}
	return f, nil
}
