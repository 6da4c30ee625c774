package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/countersignd/countersign/device-agent/agent"
	"github.com/countersignd/countersign/device-agent/keystore"
	"github.com/countersignd/countersign/internal/invitation"
	"github.com/countersignd/countersign/internal/pin"
	"github.com/countersignd/countersign/internal/text"
	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

type enrollCmd struct {
	Invitation string `arg:"" optional:"" help:"The link that begins with countersign://, or - to read it from standard input. Leave it out to finish an enrolment that was interrupted."`
	Server     string `placeholder:"HOST:PORT" help:"Ask the trusted devices of --account on this server, instead of using an invitation."`
	Account    string `placeholder:"NAME" help:"The account whose devices are asked."`
	Pin        string `placeholder:"KEYID" help:"The id of the server's TLS key, as countersign-agent status --json shows it on a trusted device."`
	Recovery   bool   `help:"With --server and --account: use one of the account's recovery codes, which is asked for. For when no trusted device is left."`
	Roots      bool   `help:"The server's certificate is one that this system's roots vouch for."`
	Name       string `placeholder:"NAME" help:"What to call this device (default: its host name)."`
	Kind       string `default:"terminal" enum:"terminal,desktop,phone,tablet,watch,other" help:"What this device is: ${enum} (default: terminal)."`
	Passphrase bool   `help:"Encrypt the keys with a passphrase, which is asked for. ($COUNTERSIGN_PASSPHRASE encrypts them, too.)"`
}

// Help is shown with enroll --help.
func (enrollCmd) Help() string {
	return `There are three ways. With an invitation from an administrator. With --server and --account by approval: each trusted device of the account asks whether to trust this one, and after Allow shows a code, which is typed here; compare the fingerprint that both screens show. And, if no trusted device is left, with --recovery besides: then one of the recovery codes is asked for that were shown when the account's first device was enrolled. It is read from standard input if that is no terminal, and is never given on the command line.

How the server is known then: by --pin or --roots. With neither, its key is shown in words, to be compared with what  countersign-agent status  shows on a trusted device; that needs a terminal.

Whatever interrupts it, enroll alone goes on with what was begun.

If the server makes devices wait after a recovery, this one says until when; each other device of the account sees it and can revoke it. Then enroll alone, or run, finishes it.

Exit codes: 0 trusted, 1 failed, 3 this device was revoked or has to wait, 5 nobody allowed it in time, 6 the code was wrong too often, or there was none.

The invitation is a secret: whoever has it first is enrolled. It works once and not for long.

Other users of this machine can see it in the list of processes; with - it is read from standard input instead.`
}

// Validate is called by kong.
func (c *enrollCmd) Validate() error {
	switch {
	case (c.Server == "") != (c.Account == ""):
		return errors.New("--server and --account go together")
	case c.Server != "" && c.Invitation != "":
		return errors.New("give an invitation, or --server and --account, not both")
	case c.Recovery && c.Server == "":
		return errors.New("--recovery goes with --server and --account")
	case c.Server == "" && (c.Pin != "" || c.Roots):
		return errors.New("--pin and --roots go with --server; an invitation says it itself")
	case c.Pin != "" && c.Roots:
		return errors.New("give --pin or --roots, not both")
	case c.Pin != "" && !pin.ValidKeyID(c.Pin):
		return errors.New("--pin: a key id has 52 characters of a-z and 2-7")
	}
	return nil
}

// Run enrols this device.
func (c *enrollCmd) Run(ctx context.Context, env *environment) error {
	begun, err := agent.LoadState(env.dir)
	if c.Recovery || c.Server == "" && c.Invitation == "" && err == nil && begun.Phase == agent.Recovering {
		return c.recover(ctx, env)
	}
	if c.Server != "" || c.Invitation == "" && err == nil && begun.Phase == agent.Asked {
		return c.askTrust(ctx, env)
	}
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
	enrolled, err := agent.Enroll(ctx, agent.Enrollment{Dir: env.dir, Passphrase: passphrase, Link: link, Name: name, Kind: c.Kind})
	if agent.Reason(err) == pb.ErrorReason_ERROR_REASON_DEVICE_REVOKED {
		return explain(err)
	}
	if err != nil {
		return err
	}
	return sayTrusted(env, enrolled.State, func() error {
		sayOlder(env, enrolled.Namesakes)
		return showRecoveryCodes(env, enrolled.State, enrolled.RecoveryCodes)
	})
}

// sayOlder says that there are other devices of this one's name.
func sayOlder(env *environment, namesakes []*pb.Device) {
	for _, d := range namesakes {
		env.say(env.out, `There is another device of the same name, last seen %s: %s (%s, %s). It stays as it was. If it is gone, or is this one before it was wiped, revoke it:

  %s devices revoke %s

`, localMinute(d.GetLastSeenTime()), text.Isolate(d.GetName()), kindWord(d), agent.Fingerprint(d.GetId()), env.command(), shortID(d))
	}
}

// sayTrusted says that this device is trusted, what else there is to say, and what
// to do next.
func sayTrusted(env *environment, state agent.State, besides func() error) error {
	if _, err := fmt.Fprintf(env.out, `This device is trusted now: it may approve sign-ins of the account %s.

  account      %s
  server       %s
  device       %s
  fingerprint  %s
  keys         %s

`, state.Account, state.Account, state.Server, text.Isolate(state.Name), agent.Fingerprint(state.Device), keysLine(env.dir)); err != nil {
		return err
	}
	if err := besides(); err != nil {
		return err
	}
	return env.say(env.out, "Next, and whenever this machine is on:\n\n  %s run\n", env.command())
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
		given, err = env.readLine(ctx)
		if err != nil && !errors.Is(err, io.EOF) { // with nothing at all, Parse says what is missing
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
	storage, _ := keystore.Storage(dir) // with the same error
	switch {
	case err != nil:
		return "missing"
	case storage != "file":
		return storageWords(storage)
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
