package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/countersignd/countersign/device-agent/agent"
	"github.com/countersignd/countersign/internal/audit"
)

type recordCmd struct {
	Show   recordShowCmd   `cmd:"" default:"withargs" help:"Say whether the server's record is what this device remembers; record alone does this."`
	Accept recordAcceptCmd `cmd:"" help:"Take the server's record as it is now, after it was changed or set back."`
}

type recordShowCmd struct {
	JSON bool `name:"json" help:"Print the checkpoint that this device remembers, as one line of JSON; does not ask the server."`
}

// Help is shown with record show --help.
func (recordShowCmd) Help() string {
	return `The server keeps a record of everything, and signs how long it is and what is in it. This device remembers the newest such checkpoint, and checks that each later one only adds to it. Who changes or removes what is on record, and be it the server itself, cannot hide it from this device.

An auditor needs the line that --json prints:  countersign-server audit verify --checkpoint FILE`
}

// Run asks the server and says what is known.
func (c *recordShowCmd) Run(ctx context.Context, env *environment) error {
	if c.JSON {
		r, err := agent.LoadRecord(env.dir)
		if err != nil {
			return err
		}
		if r.Newest == (audit.Checkpoint{}) {
			return errors.New("this device has not seen the server's record yet: run " + program + " record")
		}
		fmt.Fprintf(env.out, "%s\n", r.Newest.Line())
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	a, err := env.open(ctx)
	if err != nil {
		return err
	}
	r, err := a.CheckRecord(ctx)
	if err != nil {
		return explain(err)
	}
	if r.Alarm != nil {
		return r.Alarm
	}
	return env.say(env.out, "The server's record is in order: %s.\n", headLine(r.Head))
}

// headLine says what a checkpoint says.
func headLine(h audit.Head) string {
	return fmt.Sprintf("%d records at %s, signed by the key %s", h.Size, h.Time.Local().Format(time.DateTime), agent.Fingerprint(h.Key))
}

type recordAcceptCmd struct{}

// Help is shown with record accept --help.
func (recordAcceptCmd) Help() string {
	return `Ask the administrator first. If the server was restored from a backup, what was recorded since is gone, and it is right to accept that. If not, somebody has changed the record, perhaps to hide who was let in.

Both checkpoints are kept in this device's directory: they are signed by the server, and show that it had another record before.`
}

// Run accepts.
func (c *recordAcceptCmd) Run(ctx context.Context, env *environment) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	a, err := env.open(ctx)
	if err != nil {
		return err
	}
	before, after, evidence, err := a.AcceptRecord(ctx)
	if err != nil {
		return explain(err)
	}
	if before.Size > 0 {
		fmt.Fprintf(env.out, "before: %s\n", headLine(before))
	}
	fmt.Fprintf(env.out, "now:    %s\n", headLine(after))
	if evidence != "" {
		fmt.Fprintf(env.out, "kept:   %s\n", evidence)
	}
	fmt.Fprintln(env.out, "From here on this device holds the server to the record it has now.")
	return nil
}
