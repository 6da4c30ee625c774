package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/countersignd/countersign/device-agent/agent"
	"github.com/countersignd/countersign/internal/recovery"
	"github.com/countersignd/countersign/internal/text"
	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

type recoveryCodesCmd struct {
	Left  recoveryLeftCmd  `cmd:"" default:"withargs" help:"Say how many recovery codes are left; recovery-codes alone does this."`
	Renew recoveryRenewCmd `cmd:"" help:"Make ten new recovery codes, and show them. All older ones stop working."`
}

type recoveryLeftCmd struct {
	JSON bool `name:"json" help:"Print one JSON object."`
}

// Help is shown with recovery-codes left --help.
func (recoveryLeftCmd) Help() string {
	return `A recovery code makes one device a trusted one of the account when no other is left:  enroll --server … --account … --recovery. Codes cannot be shown a second time; recovery-codes renew makes new ones.

With --json: {"account", "left"}`
}

// Run says how many recovery codes are left.
func (c *recoveryLeftCmd) Run(ctx context.Context, env *environment) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	a, err := env.open(ctx)
	if err != nil {
		return err
	}
	self, err := a.Self(ctx)
	if err != nil {
		return explain(err)
	}
	account, left := a.State().Account, self.GetRecoveryCodesLeft()
	if c.JSON {
		return env.printJSON(map[string]any{"account": account, "left": left})
	}
	return env.say(env.out, "Recovery codes of %s: %s\n", account, env.codesLeftLine(left))
}

// fewCodes is how many codes are few enough to say so.
const fewCodes = 2

// codesLeftLine says how many codes are left and, if they are few, what to do.
func (env *environment) codesLeftLine(left int32) string {
	words := fmt.Sprintf("%d left", left)
	if left == 0 {
		words = "NONE LEFT: if you lose your devices, only an administrator can help"
	}
	if left <= fewCodes {
		words += "; make new ones:  " + env.command() + " recovery-codes renew"
	}
	return words
}

type recoveryRenewCmd struct {
	Yes  bool `help:"Do not ask."`
	JSON bool `name:"json" help:"Print one JSON object."`
}

// Help is shown with recovery-codes renew --help.
func (recoveryRenewCmd) Help() string {
	return `The new codes are shown once, on this screen, and are kept nowhere: have pen and paper ready. If the screen is lost before they are written down, run this again. Each device of the account is told that there are new codes.

With --json: {"account", "recovery_codes": [10 codes]}`
}

// Run makes new recovery codes.
func (c *recoveryRenewCmd) Run(ctx context.Context, env *environment) error {
	a, err := env.open(ctx)
	if err != nil {
		return err
	}
	if !c.Yes {
		if env.tty == nil {
			return errors.New("nobody is there to be asked: give --yes to make new recovery codes, which voids the older ones, without a question")
		}
		yes, err := env.confirm(ctx, "Make new recovery codes? All codes that you wrote down before stop working.")
		if err != nil {
			return err
		}
		if !yes {
			return errors.New("no new codes were made; the older ones go on working")
		}
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	codes, err := a.NewRecoveryCodes(ctx)
	if err != nil {
		if agent.ReactionTo(err) == agent.Retry && !errors.As(err, new(*agent.WrongServerError)) {
			err = fmt.Errorf("%w. Whether the older codes still work is not known: run this again", err)
		}
		return explain(err)
	}
	if c.JSON {
		return env.printJSON(map[string]any{"account": a.State().Account, "recovery_codes": codes})
	}
	return showRecoveryCodes(env, a.State(), codes)
}

// showRecoveryCodes shows codes, this once, and says what they are for.
func showRecoveryCodes(env *environment, state agent.State, codes []string) error {
	if len(codes) == 0 {
		return nil
	}
	fmt.Fprintf(env.out, "RECOVERY CODES of %s. Write them down now: they are never shown again.\n\n", state.Account)
	rows := (len(codes) + 1) / 2
	for i := range rows {
		fmt.Fprintf(env.out, "  %2d  %s", i+1, codes[i])
		if j := i + rows; j < len(codes) {
			fmt.Fprintf(env.out, "    %2d  %s", j+1, codes[j])
		}
		fmt.Fprintln(env.out)
	}
	how := fmt.Sprintf("%s enroll --server %s --account %s --recovery", program, state.Server, state.Account)
	if state.Pin == "" {
		how += " --roots"
	}
	env.say(env.out, `
Each works once, on a new device, when you have no trusted one left. Keep them on paper, away from your devices: whoever has one can enrol a device in your name. Write down, too, how to use them%s:

  %s
`, map[bool]string{true: ", and the words that the server's key must have then"}[state.Pin != ""], how)
	if state.Pin != "" {
		fmt.Fprintf(env.out, "  %s\n", agent.Fingerprint(state.Pin))
	}
	return env.say(env.out, `
If they are lost or used up, this makes new ones, and all older ones stop working:

  %s recovery-codes renew

`, env.command())
}

// recover enrols this device with a recovery code, or goes on with that.
func (c *enrollCmd) recover(ctx context.Context, env *environment) error {
	in, err := c.asking(ctx, env)
	if err != nil {
		return err
	}
	r, err := agent.Recover(ctx, in)
	if err != nil {
		return recoveryRefusal(err)
	}
	if r.State().Phase != agent.Trusted && r.State().TrustTime == 0 {
		if err := useCode(ctx, env, r); err != nil {
			return err
		}
	}
	if r.State().Phase != agent.Trusted {
		return sayWaiting(env, r)
	}
	return sayTrusted(env, r.State(), func() error { return sayRecovered(env, r) })
}

// useCode asks for a recovery code until one is taken.
func useCode(ctx context.Context, env *environment, r *agent.Recovery) error {
	if env.tty != nil {
		env.say(env.err, "Take one of the recovery codes of %s that you wrote down. It has 16 letters and digits; it does not matter whether they are capitals, nor where the hyphens are.\n", r.State().Account)
	}
	for {
		if env.tty != nil {
			fmt.Fprint(env.err, "Recovery code: ")
		}
		line, err := env.readLine(ctx)
		if errors.Is(err, io.EOF) {
			return exitErr{errors.New("there is no recovery code: standard input has ended. Nothing was begun"), exitWrongCode}
		}
		if err != nil {
			return err
		}
		if _, err := recovery.Parse(line); err != nil { // not sent
			env.say(env.err, "%v\n", err)
			continue
		}
		err = r.Use(ctx, line)
		if agent.Reason(err) != pb.ErrorReason_ERROR_REASON_RECOVERY_CODE_INVALID {
			return recoveryRefusal(err)
		}
		env.say(env.err, "%v.\n", err)
	}
}

// recoveryRefusal gives an error its exit code.
func recoveryRefusal(err error) error {
	if agent.Reason(err) == pb.ErrorReason_ERROR_REASON_TOO_MANY_FAILURES {
		return exitErr{err, exitWrongCode}
	}
	return explain(err)
}

// sayRecovered says on the device itself that a recovery code was used.
func sayRecovered(env *environment, r *agent.Recovery) error {
	return env.say(env.out, `One of the recovery codes was used for this. It works no more: cross it out. This is on record, and the other devices of %s are told. Codes that are not used yet: %s

`, r.State().Account, env.codesLeftLine(int32(r.CodesLeft())))
}

// sayWaiting says until when this device waits.
func sayWaiting(env *environment, r *agent.Recovery) error {
	state := r.State()
	err := env.say(env.out, `The recovery code was taken, and works no more: cross it out. Codes left: %d

This device is not trusted yet: it has to wait until %s. Until then the other devices of %s, and an administrator, see that it waits and can revoke it.

  account      %s
  server       %s
  device       %s
  fingerprint  %s

Then, or now if this machine stays on:

  %s run

`, r.CodesLeft(), local64(state.TrustTime), state.Account, state.Account, state.Server, text.Isolate(state.Name), agent.Fingerprint(state.Device), env.command())
	if err != nil {
		return err
	}
	return notYet(r.TrustTime())
}

func local64(unix int64) string { return time.Unix(unix, 0).Local().Format(time.DateTime) }

func notYet(until time.Time) error {
	return exitErr{fmt.Errorf("this device is not trusted yet: it was enrolled with a recovery code and waits until %s", until.Local().Format(time.DateTime)), exitNotTrusted}
}

// How often a device that waits asks, so that it learns soon that it was revoked
// or, with a clock that is behind, that it may be trusted; how often if the server
// does not answer; and if its clock is behind ours.
const (
	askWhileWaiting  = 5 * time.Minute
	askWhileAway     = time.Minute
	askWhenTimeIsUp  = 30 * time.Second
	roundedOffAtMost = time.Second // of the waiting time
)

// awaitTrust waits until a device that was enrolled with a recovery code is
// trusted. For all others it does nothing.
func (env *environment) awaitTrust(ctx context.Context) error {
	state, err := agent.LoadState(env.dir)
	if err != nil || state.Phase != agent.Recovering {
		return nil // open says what is wrong
	}
	passphrase, err := env.passphrase(ctx)
	if err != nil {
		return err
	}
	for said := ""; ; {
		r, err := agent.Recover(ctx, agent.Asking{Dir: env.dir, Passphrase: passphrase})
		words, pause := "", askWhileAway
		switch {
		case errors.Is(err, agent.ErrEnrolled):
			return nil // by another process
		case err != nil && (agent.ReactionTo(err) != agent.Retry || errors.As(err, new(*agent.WrongServerError))):
			return recoveryRefusal(err)
		case err != nil:
			words = err.Error() + "; trying again"
		case r.State().Phase == agent.Trusted:
			fmt.Fprintln(env.err, "The waiting time is over: this device is trusted now.")
			return nil
		case r.State().TrustTime == 0:
			return errors.New("the recovery code has not reached the server: run " + env.command() + " enroll --recovery again, with --server and --account")
		default:
			words = "waiting until " + local64(r.State().TrustTime) + " to be trusted; until then the account's other devices can revoke this one"
			pause = askWhenTimeIsUp
			if left := time.Until(r.TrustTime()) + roundedOffAtMost; left > 0 {
				pause = min(left, askWhileWaiting)
			}
		}
		if words != said {
			env.say(env.err, "%s\n", words)
			said = words
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
