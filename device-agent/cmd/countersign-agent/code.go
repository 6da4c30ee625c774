package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/countersignd/countersign/device-agent/agent"
	"github.com/countersignd/countersign/internal/code"
	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

type codeCmd struct {
	JSON bool `name:"json" help:"Print one JSON object."`
}

// Help is shown with code --help.
func (codeCmd) Help() string {
	return `For when a request did not show up, or was denied by accident. The code lets in the next sign-in of this device's account, or one that is open already or was just denied, once, for five minutes. A new code replaces the one before. An application may refuse such codes.

It needs the server; codes that work without a network do not exist yet.

With --json: {"code", "account", "expires"}; the time is in Unix seconds.`
}

// Run gets a verification code.
func (c *codeCmd) Run(ctx context.Context, env *environment) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	a, err := env.open(ctx)
	if err != nil {
		return err
	}
	got, err := a.NewCode(ctx)
	if err != nil {
		if reason := agent.Reason(err); reason == pb.ErrorReason_ERROR_REASON_UNSPECIFIED && !errors.As(err, new(*agent.WrongServerError)) {
			err = fmt.Errorf("%w. A code needs the server: try again when this device is connected", err)
		}
		return explain(err)
	}
	account := a.State().Account
	if c.JSON {
		return env.printJSON(map[string]any{"code": got.Digits, "account": account, "expires": got.ExpireTime.Unix()})
	}
	_, err = fmt.Fprintf(env.out, `code: %s
good for %s, once, for a sign-in of %s: the next one, or one that is open or was denied by accident
Never read this code to anyone who called you.
`, code.Group(got.Digits), left(time.Until(got.ExpireTime)), account)
	return err
}
