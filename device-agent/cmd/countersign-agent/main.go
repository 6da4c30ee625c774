// Countersign-agent makes this machine a trusted device: it is enrolled once, and
// then asks the person in front of it whether a sign-in somewhere else may go
// on, and shows the code that lets it in.
//
// It also plays the other side, with sign-in: the application and the device that
// signs in, for scripts and for trying it out.
//
// Exit codes:
//
//	0  done; run was stopped by a signal, by Ctrl-C or by --once
//	1  it failed; standard error says why
//	2  the command line is wrong
//	3  this device is not trusted: it is not enrolled, was revoked, does not
//	   count at present, or its keys are gone or in use by another process
//	4  sign-in: denied
//	5  sign-in, enroll: nobody answered in time, or it was cancelled
//	6  sign-in, enroll: the code was wrong, and there are no more tries or no other code
//	7  sign-in --one-field: there was no code yet; the trusted devices were asked
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/countersignd/countersign/device-agent/agent"
	"github.com/countersignd/countersign/internal/commandline"
	"github.com/countersignd/countersign/internal/output"
	countersignv1 "github.com/countersignd/countersign/proto/countersign/v1"
)

const program = "countersign-agent"

const (
	exitError      = 1
	exitUsage      = 2
	exitNotTrusted = 3
	exitDenied     = 4
	exitNotInTime  = 5
	exitWrongCode  = 6
	exitNoCode     = 7
)

// An exitErr ends the program with a code of its own.
type exitErr struct {
	error
	code int
}

func (e exitErr) Unwrap() error { return e.error }

const description = `Asks you whether a sign-in somewhere else may go on.

Enrol this device once with the invitation that an administrator gave you, then
leave it running:

  countersign-agent enroll 'countersign://…'
  countersign-agent run

Exit codes: 0 done, 1 failed, 2 wrong command line, 3 this device is not trusted (not enrolled, revoked, does not count at present, or its keys are gone or in use elsewhere). sign-in and enroll have others besides.`

type cli struct {
	Dir string `env:"COUNTERSIGN_AGENT_DIR" default:"${dir}" type:"path" placeholder:"DIR" help:"Directory of this device: its keys and what it is (default: ${dir})."`

	Enroll   enrollCmd        `cmd:"" help:"Make this a trusted device, with an invitation or by approval on another one."`
	Run      runCmd           `cmd:"" help:"Ask me about sign-ins, until it is stopped."`
	Status   statusCmd        `cmd:"" help:"Say what this device is and whether it works."`
	Code     codeCmd          `cmd:"" help:"Get a verification code, for when a request did not show up."`
	Recovery recoveryCodesCmd `cmd:"" name:"recovery-codes" help:"Say how many recovery codes are left, or make new ones."`
	Unlock   unlockCmd        `cmd:"" help:"Have wrong codes, gaps and silences of this device's account forgotten."`
	Devices  devicesCmd       `cmd:"" help:"List, rename, revoke and readmit the devices of this device's account."`
	Test     testCmd          `cmd:"" help:"Send a test prompt to a device and tell how far it comes."`
	SignIns  signInsCmd       `cmd:"" name:"sign-ins" help:"List the account's latest sign-ins, and where each arrived."`
	Push     pushCmd          `cmd:"" help:"Have this device woken when it is not connected."`
	Notices  noticesCmd       `cmd:"" help:"Show again what happened to the account lately."`
	Record   recordCmd        `cmd:"" help:"Say whether the server's record is still what this device remembers of it."`
	SignIn   signInCmd        `cmd:"" name:"sign-in" help:"Play the application and the device that signs in."`
	Version  versionCmd       `cmd:"" help:"Print the version."`
}

func main() {
	// SIGHUP too: a terminal that is closed must not leave an agent behind.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], newEnvironment()))
}

// run runs the command line and returns the exit code.
func run(ctx context.Context, args []string, env *environment) int {
	var c cli
	code := -1
	parser, err := kong.New(&c,
		kong.Name(program), kong.Description(description), kong.UsageOnError(),
		kong.Vars{"dir": defaultDir(), "program": program}, kong.Writers(env.out, env.err),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
		kong.Exit(func(n int) { code = n }))
	if err != nil {
		fmt.Fprintf(env.err, "%s: %v\n", program, err)
		return exitError
	}
	if err := commandline.Check(args, env.getenv, "COUNTERSIGN_AGENT_DIR"); err != nil {
		env.say(env.err, "%s: %v\n", program, err)
		return exitUsage
	}
	command, err := parser.Parse(args)
	if code >= 0 { // help was printed
		return code
	}
	if err != nil {
		env.say(env.err, "%s: %v (see %s --help)\n", program, err, commandline.Attempted(program, err))
		return exitUsage
	}
	env.dir = c.Dir
	command.BindTo(ctx, (*context.Context)(nil))
	err = command.Run(env)
	if err == nil {
		err = output.Failed(env.out)
	}
	if err != nil {
		if ctx.Err() != nil { // whatever it was doing
			err = errors.New("stopped")
		}
		env.say(env.err, "%s: %v\n", program, err)
		return exitCode(err)
	}
	return 0
}

func exitCode(err error) int {
	if exit, ok := errors.AsType[exitErr](err); ok {
		return exit.code
	}
	if errors.Is(err, agent.ErrNotEnrolled) || errors.Is(err, agent.ErrLost) {
		return exitNotTrusted
	}
	switch agent.Reason(err) {
	case countersignv1.ErrorReason_ERROR_REASON_DEVICE_REVOKED,
		countersignv1.ErrorReason_ERROR_REASON_DEVICE_UNKNOWN,
		countersignv1.ErrorReason_ERROR_REASON_DEVICE_WAITING,
		countersignv1.ErrorReason_ERROR_REASON_DEVICE_DORMANT,
		countersignv1.ErrorReason_ERROR_REASON_DEVICE_UNCONFIRMED,
		countersignv1.ErrorReason_ERROR_REASON_STREAM_REPLACED:
		return exitNotTrusted
	}
	return exitError
}

func defaultDir() string {
	config, err := os.UserConfigDir()
	if err != nil {
		return "countersign"
	}
	return filepath.Join(config, "countersign")
}

type versionCmd struct{}

// Run prints the version.
func (versionCmd) Run(env *environment) error {
	_, err := io.WriteString(env.out, program+" "+version()+"\n")
	return err
}
