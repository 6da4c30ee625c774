package main

import (
	"context"
	"fmt"
	"time"

	"github.com/countersignd/countersign/device-agent/agent"
	"github.com/countersignd/countersign/internal/code"
)

type codeCmd struct {
	Offline bool `help:"Make a code without asking the server."`
	JSON    bool `name:"json" help:"Print one JSON object."`
}

// Help is shown with code --help.
func (codeCmd) Help() string {
	return `For when a request did not show up, or was denied by accident. The code lets in the next sign-in of this device's account, or one that is open already or was just denied, once. An application may refuse such codes.

If the server answers, the code has six digits and is good for five minutes; a new one replaces the one before. If it does not within a few seconds, or with --offline at once, this device makes an offline code by itself: eight digits, which change every 30 seconds and are good for little longer. More applications refuse these. After a denial only one counts that is shown for the first time after it.

With --json: {"code", "account", "expires", "offline"}; the time is in Unix seconds, and for an offline code it is when the next one is made. With an offline code also "clock_offset", the seconds that this device's clock was ahead of the server's when it last heard from it; they are allowed for.`
}

// codePatience is how long the server may take before this device makes a code
// by itself.
const codePatience = 4 * time.Second

// Run gets a verification code.
func (c *codeCmd) Run(ctx context.Context, env *environment) error {
	a, err := env.open(ctx)
	if err != nil {
		return err
	}
	if c.Offline {
		return c.offline(env, a)
	}
	inTime, cancel := context.WithTimeout(ctx, codePatience)
	defer cancel()
	got, err := a.NewCode(inTime)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil && agent.Unreachable(err):
		env.say(env.err, "%v\n", err)
		return c.offline(env, a)
	case err != nil:
		return explain(err)
	}
	account := a.State().Account
	if c.JSON {
		return env.printJSON(map[string]any{"code": got.Digits, "account": account, "expires": got.ExpireTime.Unix(), "offline": false})
	}
	return env.say(env.out, `code: %s
good for %s, once, for a sign-in of %s: the next one, or one that is open or was denied by accident
Never read this code to anyone who called you.
`, code.Group(got.Digits), left(time.Until(got.ExpireTime)), account)
}

// offline makes a code without the server.
func (c *codeCmd) offline(env *environment, a *agent.Agent) error {
	got, err := a.OfflineCode()
	if err != nil {
		return err
	}
	account, ahead := a.State().Account, int64(got.Ahead/time.Second)
	if c.JSON {
		return env.printJSON(map[string]any{
			"code": got.Digits, "account": account, "expires": got.ExpireTime.Unix(), "offline": true, "clock_offset": ahead,
		})
	}
	env.say(env.out, `code: %s
an offline code: made by this device without the server; type all eight digits, where the application takes such codes
good for %s, then the next one comes; once, for a sign-in of %s
`, code.Group(got.Digits), left(time.Until(got.ExpireTime)), account)
	if ahead != 0 {
		env.say(env.out, "clock: %s when it last answered, which is allowed for; if the clock was set since, connect once\n", clockLine(ahead))
	}
	_, err = fmt.Fprintln(env.out, "Never read this code to anyone who called you.")
	return err
}
