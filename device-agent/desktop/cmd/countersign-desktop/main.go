// Countersign-desktop makes this machine a trusted device with a window: it asks the
// person in front of it whether a sign-in somewhere else may go on, and shows the code
// that lets it in. It is countersign-agent run for those who do not live in a
// terminal; the two share a directory, and one of them runs at a time.
//
// There is one for each directory. Started again, it brings the one that runs to the
// front, and hands it the invitation that it was started with.
//
// Exit codes:
//
//	0  done, or handed over to the one that runs
//	1  it failed; standard error says why
//	2  the command line is wrong
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"

	"github.com/alecthomas/kong"

	"github.com/countersignd/countersign/internal/commandline"
)

const program = "countersign-desktop"

type cli struct {
	Dir     string           `env:"COUNTERSIGN_AGENT_DIR" default:"${dir}" type:"path" placeholder:"DIR" help:"Directory of this device: its keys and what it is (default: ${dir})."`
	Hidden  bool             `help:"Open no window until there is something to ask. For starting with the session."`
	Version kong.VersionFlag `help:"Print the version."`
	Link    string           `arg:"" optional:"" help:"An invitation, as the desktop hands it over when its link is opened."`
}

func main() {
	var c cli
	parser := kong.Must(&c, kong.Name(program),
		kong.Description("Asks you in a window whether a sign-in somewhere else may go on."),
		kong.Vars{"dir": defaultDir(), "version": program + " " + version()})
	if err := commandline.Check(os.Args[1:], os.Getenv, "COUNTERSIGN_AGENT_DIR"); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", program, err)
		os.Exit(2)
	}
	if _, err := parser.Parse(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v (see %s --help)\n", program, err, program)
		os.Exit(2)
	}
	if err := run(c); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", program, err)
		os.Exit(1)
	}
}

func run(c cli) error {
	if err := checkDisplay(); err != nil {
		return err
	}
	one, err := enter(c.Dir, c.Link)
	if err != nil || one == nil {
		return err
	}
	newDesktop(c.Dir, one).run(c.Link, c.Hidden) // does not return
	return nil
}

// checkDisplay returns an error if there is nothing to open a window on. The toolkit
// would say it in words for those who wrote it.
func checkDisplay() error {
	if runtime.GOOS == "windows" || runtime.GOOS == "darwin" || os.Getenv("WAYLAND_DISPLAY") != "" || os.Getenv("DISPLAY") != "" {
		return nil
	}
	return errors.New("there is no screen to open a window on (neither WAYLAND_DISPLAY nor DISPLAY is set): start it in a desktop's session, or use countersign-agent run in a terminal")
}

// defaultDir is the directory of countersign-agent, too: $XDG_CONFIG_HOME/countersign.
func defaultDir() string {
	config, err := os.UserConfigDir()
	if err != nil {
		return "countersign"
	}
	return filepath.Join(config, "countersign")
}

// version returns the version of the module this was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(devel)"
	}
	return info.Main.Version
}
