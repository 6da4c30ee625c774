// Countersign-server runs a Countersign server, and administers the one that
// runs.
//
// The command serve is the server. All other commands speak to it over a Unix
// socket in its data directory, as root or as the user that it runs as. What
// they print is for people; with --json they print one JSON object whose
// members do not change their meaning from one version to the next, and times
// in it are Unix seconds.
//
// It exits with 0 if it did what was asked, 1 if it could not (the last line
// on standard error says why), and 2 if the command line or the configuration
// file is wrong.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/countersignd/countersign/internal/commandline"
	"github.com/countersignd/countersign/internal/output"
)

const program = "countersign-server"

// The exit codes.
const (
	exitDone  = 0
	exitError = 1
	exitUsage = 2
)

// A usageError is a mistake in the command line or the configuration file.
type usageError struct{ error }

// cli is the command line. Each command is a struct with a method Run.
type cli struct {
	DataDir string `name:"data-dir" placeholder:"DIR" env:"COUNTERSIGN_DATA_DIR" type:"path" help:"Where the server keeps its data and its socket. Default: ${data_dir}."`

	Serve serveCmd `cmd:"" help:"Run the server."`

	Account struct {
		Add     accountAddCmd     `cmd:"" help:"Make an account."`
		List    accountListCmd    `cmd:"" help:"List all accounts."`
		Show    accountShowCmd    `cmd:"" help:"Show an account and its devices."`
		Unlock  accountUnlockCmd  `cmd:"" help:"Forget an account's wrong codes, gaps and silences."`
		Suspend accountSuspendCmd `cmd:"" help:"Stop everything for an account. Its devices stay enrolled."`
		Resume  accountResumeCmd  `cmd:"" help:"Undo suspend."`
	} `cmd:"" help:"The people: add, list, show, unlock, suspend, resume."`

	Invite struct {
		Create inviteCreateCmd `cmd:"" help:"Make an invitation: a link that enrols one trusted device, once."`
	} `cmd:"" help:"Invitations for devices: create."`

	Device struct {
		List    deviceListCmd    `cmd:"" help:"List the devices of an account, revoked ones too."`
		Show    deviceShowCmd    `cmd:"" help:"Show one device."`
		Test    deviceTestCmd    `cmd:"" help:"Send a test prompt to a device and see each step that it takes."`
		Revoke  deviceRevokeCmd  `cmd:"" help:"End the trust in a device, in all of an account, or in the older ones, at once and for good."`
		Readmit deviceReadmitCmd `cmd:"" help:"Let a device count again that was not seen for 90 days."`
	} `cmd:"" help:"Trusted devices: list, show, test, revoke, readmit."`

	App struct {
		Add    appAddCmd    `cmd:"" help:"Register an application and show its token."`
		List   appListCmd   `cmd:"" help:"List all applications."`
		Set    appSetCmd    `cmd:"" help:"Change or show what an application's sign-ins may do."`
		Rotate appRotateCmd `cmd:"" help:"Replace an application's token; the old one stops working."`
		Remove appRemoveCmd `cmd:"" help:"Forget an application and cancel its open sign-ins."`
	} `cmd:"" help:"Applications that ask for approvals: add, list, set, rotate, remove."`

	Signin struct {
		List signInListCmd `cmd:"" help:"List sign-ins, newest first."`
		Show signInShowCmd `cmd:"" help:"Show one sign-in and what is on record about it."`
	} `cmd:"" help:"Sign-ins: list, show."`

	Audit struct {
		List       auditListCmd       `cmd:"" help:"List the record of what happened, newest first."`
		Export     auditExportCmd     `cmd:"" help:"Write the record, or a part of it, as lines of JSON, oldest first."`
		Verify     auditVerifyCmd     `cmd:"" help:"Check that the record was not changed, and every signature in it."`
		Checkpoint auditCheckpointCmd `cmd:"" help:"Print what the server signs about the record as it is now."`
	} `cmd:"" help:"The record of what happened: list, export, verify, checkpoint."`

	Keys struct {
		JWKS keysJWKSCmd `cmd:"" name:"jwks" help:"Print the public keys that verify grants, as a JWK Set."`
	} `cmd:"" help:"The server's public keys: jwks."`

	Status statusCmd `cmd:"" help:"Show how the server is: its disk, its clock, its push services, and whether it was restored."`

	Restore struct {
		From    restoreFromCmd    `cmd:"" default:"withargs" help:"Put a backup in the place of the database, while no server runs."`
		Status  restoreStatusCmd  `cmd:"" help:"List the devices that must be confirmed after a restore."`
		Confirm restoreConfirmCmd `cmd:"" help:"Say that devices belong here, after a restore."`
	} `cmd:"" help:"Backups: put one back, and say which devices belong here."`

	Backup  backupCmd  `cmd:"" help:"Write a checked copy of the database, while the server runs."`
	Version versionCmd `cmd:"" help:"Print the version of this program."`

	CheckDatabase checkDatabaseCmd `cmd:"" name:"check-database" hidden:"" help:"Check a database that no server uses. The server runs this at its start."`
}

const description = `Countersign lets the devices a person trusts approve sign-ins.

The command serve runs the server; it needs no configuration to be tried out. All other commands speak to the running server and must be run by root or by the user that it runs as. Each has a --help of its own.

First steps:

  countersign-server serve
  countersign-server account add ada
  countersign-server invite create ada
  countersign-server app add files --name "Files"

Exit codes: 0 done, 1 not done, 2 wrong usage.`

// An environment is what a command may use of the world.
type environment struct {
	ctx     context.Context
	out     io.Writer
	err     io.Writer
	dataDir string // as the flag or the environment gave it, or empty
}

func main() {
	os.Exit(run(os.Args[1:], output.New(os.Stdout), os.Stderr))
}

func run(args []string, stdout, stderr io.Writer) int {
	var c cli
	exited := -1
	parser, err := kong.New(&c,
		kong.Name(program),
		kong.Description(description),
		kong.Vars{"data_dir": defaultDataDir()},
		kong.Writers(stdout, stderr),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true, WrapUpperBound: 88}),
		kong.Exit(func(code int) { exited = code }),
	)
	if err != nil {
		panic(err) // the struct above is wrong
	}
	if err := commandline.Check(args, os.Getenv, "COUNTERSIGN_DATA_DIR"); err != nil {
		return report(stderr, usageError{err})
	}
	command, err := parser.Parse(args)
	if exited >= 0 {
		return exited // --help was printed
	}
	if err != nil {
		return report(stderr, usageError{fmt.Errorf("%w; see  %s --help", err, commandline.Attempted(program, err))})
	}
	// serve has its own way with signals. The others end their call.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	if command.Command() == "serve" {
		stop()
		ctx = context.Background()
	}
	defer stop()
	err = command.Run(&environment{ctx, stdout, stderr, c.DataDir})
	// What serve does is not what it says.
	if err == nil && command.Command() != "serve" {
		err = output.Failed(stdout)
	}
	return report(stderr, err)
}

// command returns a command line for a person to copy.
func (e *environment) command(words ...string) string {
	line := program
	if e.dataDir != "" && os.Getenv("COUNTERSIGN_DATA_DIR") == "" {
		line += " --data-dir " + e.dataDir
	}
	return line + " " + strings.Join(words, " ")
}

// report prints an error, if it is one, and returns the exit code.
func report(stderr io.Writer, err error) int {
	if err == nil {
		return exitDone
	}
	for line := range strings.SplitSeq(fmt.Sprintf("%s: %v", program, err), "\n") {
		for _, part := range hanging("", line, output.Columns(stderr)) {
			fmt.Fprintln(stderr, part)
		}
	}
	if _, ok := errors.AsType[usageError](err); ok {
		return exitUsage
	}
	return exitError
}
