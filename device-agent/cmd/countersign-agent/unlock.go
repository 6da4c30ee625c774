package main

import (
	"context"
	"fmt"
)

type unlockCmd struct{}

// Help is shown with unlock --help.
func (unlockCmd) Help() string {
	return `For when wrong codes were typed by somebody else, or by you, and no code is compared any more; or when requests do not ring because of "this wasn't me"; or when strangers ask for your account so often that your new device's request does not show up. The server forgets the wrong codes, the gaps and the silences of this device's account; it is written down. How often the account is rung in an hour stays bounded.

If it was somebody else, he may have the password: change it first.`
}

// Run unlocks the account.
func (unlockCmd) Run(ctx context.Context, env *environment) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	a, err := env.open(ctx)
	if err != nil {
		return err
	}
	if err := a.Unlock(ctx); err != nil {
		return explain(err)
	}
	_, err = fmt.Fprintf(env.out, "Unlocked: the wrong codes, gaps and silences of %s are forgotten. If the codes were not yours, change the password.\n", a.State().Account)
	return err
}
