package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/countersignd/countersign/device-agent/agent"
	"github.com/countersignd/countersign/device-agent/keystore"
	"github.com/countersignd/countersign/internal/invitation"
	"github.com/countersignd/countersign/internal/text"
)

type enrollCmd struct {
	Invitation string `arg:"" optional:"" help:"The link that begins with countersign://, or - to read it from standard input. Leave it out to finish an enrolment that was interrupted."`
	Name       string `placeholder:"NAME" help:"What to call this device (default: its host name)."`
	Kind       string `default:"terminal" enum:"terminal,desktop,phone,tablet,watch,other" help:"What this device is: ${enum} (default: terminal)."`
	Passphrase bool   `help:"Encrypt the keys with a passphrase, which is asked for. ($COUNTERSIGN_PASSPHRASE encrypts them, too.)"`
}

// Help is shown with enroll --help.
func (enrollCmd) Help() string {
	return `The invitation is a secret: whoever has it first is enrolled. It works once and not for long.

Other users of this machine can see it in the list of processes; with - it is read from standard input instead.`
}

// Run enrols this device.
func (c *enrollCmd) Run(ctx context.Context, env *environment) error {
	link, err := c.link(ctx, env)
	if err != nil {
		return err
	}
	name := c.Name
	if name == "" {
		name = hostName()
	}
	passphrase, err := c.passphrase(ctx, env)
	if err != nil {
		return err
	}
	state, err := agent.Enroll(ctx, agent.Enrollment{Dir: env.dir, Passphrase: passphrase, Link: link, Name: name, Kind: c.Kind})
	if err != nil {
		return err
	}
	fmt.Fprintf(env.out, `This device is trusted now: it may approve sign-ins of the account %s.

  account      %s
  server       %s
  device       %s
  fingerprint  %s
  keys         %s

Next, and whenever this machine is on:  %s run
`, state.Account, state.Account, state.Server, text.Isolate(state.Name), agent.Fingerprint(state.Device), keysLine(env.dir), program)
	return nil
}

func (c *enrollCmd) link(ctx context.Context, env *environment) (invitation.Link, error) {
	given := c.Invitation
	switch given {
	case "":
		return invitation.Link{}, nil
	case "-":
		if env.tty != nil {
			fmt.Fprint(env.err, "Paste the invitation: ")
		}
		var err error
		if given, err = env.readLine(ctx); err != nil {
			return invitation.Link{}, fmt.Errorf("reading the invitation: %w", err)
		}
	}
	return invitation.Parse(given)
}

// passphrase returns the passphrase of keys that are there, or the new one.
func (c *enrollCmd) passphrase(ctx context.Context, env *environment) (string, error) {
	_, err := keystore.Encrypted(env.dir)
	if !errors.Is(err, keystore.ErrNoKeys) || !c.Passphrase || env.getenv(passphraseVariable) != "" {
		return env.passphrase(ctx)
	}
	first, err := env.ask(ctx, "New passphrase for this device's keys: ")
	if err != nil {
		return "", err
	}
	second, err := env.ask(ctx, "Once more: ")
	if err != nil {
		return "", err
	}
	switch {
	case first == "":
		return "", errors.New("the passphrase is empty: choose one, or leave out --passphrase")
	case first != second:
		return "", errors.New("the two passphrases are not the same: nothing was done")
	}
	return first, nil
}

// keysLine says where the keys are, and whether they can be read by who copies them.
func keysLine(dir string) string {
	encrypted, err := keystore.Encrypted(dir)
	switch {
	case err != nil:
		return "missing"
	case encrypted:
		return "in a file, encrypted with a passphrase"
	}
	return "in a file, not encrypted"
}

// hostName returns this machine's name as far as a device may be called so.
func hostName() string {
	name, err := os.Hostname()
	if err != nil || name == "" || text.Check(name) != nil {
		return "unnamed device"
	}
	return name
}
