package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/countersignd/countersign/device-agent/agent"
	"github.com/countersignd/countersign/device-agent/keystore"
	"github.com/countersignd/countersign/internal/output"
)

// command returns how this program is called for the directory in use.
func (env *environment) command() string {
	if env.dir == defaultDir() {
		return program
	}
	return program + " --dir " + env.dir
}

// An environment is what a command sees of the world. Tests give it other files.
type environment struct {
	dir      string // of the device
	in       io.Reader
	out, err io.Writer
	tty      *os.File // standard input, if it is a terminal
	screen   *os.File // standard output, if it is a terminal that can be drawn on
	getenv   func(string) string

	lines *bufio.Reader // of in, for those who read lines
}

func newEnvironment() *environment {
	env := &environment{in: os.Stdin, out: output.New(os.Stdout), err: os.Stderr, getenv: os.Getenv, lines: bufio.NewReaderSize(os.Stdin, maxLine)}
	if term.IsTerminal(int(os.Stdin.Fd())) {
		env.tty = os.Stdin
	}
	if term.IsTerminal(int(os.Stdout.Fd())) && os.Getenv("TERM") != "dumb" {
		env.screen = os.Stdout
	}
	return env
}

// maxLine is longer than any line that is to be read, an invitation included.
const maxLine = 4 << 10

// readLine reads one line, without its end. At the end of input the error is
// io.EOF. When ctx is done, the read goes on alone, as it cannot be interrupted,
// until the process ends: nobody must read after that.
func (env *environment) readLine(ctx context.Context) (string, error) {
	type result struct {
		line string
		err  error
	}
	read := make(chan result, 1)
	go func() {
		line, err := env.lines.ReadSlice('\n')
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			err = errors.New("the line is too long")
		case len(line) > 0:
			err = nil
		}
		read <- result{strings.TrimRight(string(line), "\r\n"), err}
	}()
	select {
	case r := <-read:
		return r.line, r.err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

const passphraseVariable = "COUNTERSIGN_PASSPHRASE"

// passphrase returns the passphrase of the keys, or "" if they have none.
func (env *environment) passphrase(ctx context.Context) (string, error) {
	if p := env.getenv(passphraseVariable); p != "" {
		return p, nil
	}
	encrypted, err := keystore.Encrypted(env.dir)
	if errors.Is(err, keystore.ErrNoKeys) || err == nil && !encrypted {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return env.ask(ctx, "Passphrase of this device's keys: ")
}

// ask reads a secret from the terminal, without echo.
func (env *environment) ask(ctx context.Context, question string) (string, error) {
	if env.tty == nil {
		return "", fmt.Errorf("a passphrase is needed: run this in a terminal, or set %s", passphraseVariable)
	}
	fd := int(env.tty.Fd())
	state, err := term.GetState(fd)
	if err != nil {
		return "", fmt.Errorf("preparing the terminal: %w", err)
	}
	// Ctrl-C must bring the echo back, and the read cannot be interrupted.
	stop := context.AfterFunc(ctx, func() {
		term.Restore(fd, state)
		fmt.Fprintln(env.err)
		os.Exit(exitError)
	})
	defer stop()
	fmt.Fprint(env.err, question)
	secret, err := term.ReadPassword(fd)
	fmt.Fprintln(env.err)
	if err != nil {
		return "", fmt.Errorf("reading the passphrase: %w", err)
	}
	return string(secret), nil
}

// open returns the agent of the enrolled device.
func (env *environment) open(ctx context.Context) (*agent.Agent, error) {
	// First, because without a device there is no use in asking for a
	// passphrase.
	if _, err := agent.LoadState(env.dir); err != nil {
		return nil, err
	}
	passphrase, err := env.passphrase(ctx)
	if err != nil {
		return nil, err
	}
	return agent.Open(env.dir, passphrase)
}

// width returns how many columns the terminal has that is printed to, or 0 if
// it is none, where lines are as long as they are.
func (env *environment) width() int {
	return output.Columns(env.screen)
}

// say prints text for people. Lines that do not fit the terminal are broken between
// words, but for those that begin with a space: these are to be copied, or tables.
func (env *environment) say(w io.Writer, format string, args ...any) error {
	_, err := io.WriteString(w, filled(fmt.Sprintf(format, args...), output.Columns(w)))
	return err
}

// filled breaks the lines of s that are longer than width columns, as say does.
func filled(s string, width int) string {
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		if !strings.HasPrefix(line, " ") {
			lines[i] = strings.Join(hanging("", line, width), "\n")
		}
	}
	return strings.Join(lines, "\n")
}

// printHanging prints s behind first, in lines that fit the terminal.
func (env *environment) printHanging(first, s string) {
	for _, line := range hanging(first, s, env.width()) {
		fmt.Fprintln(env.out, line)
	}
}

// printField prints a label and its value beside it or, where that would not
// fit in a narrow terminal, below.
func (env *environment) printField(label, value string) {
	for _, line := range labelled(label, value, env.width()) {
		fmt.Fprintln(env.out, line)
	}
}

// hanging breaks s, printed behind first, into lines of width columns; a width
// of 0 has room for all. Lines after the first are indented further than first
// is, so that no name that somebody chose begins where this program's own lines do.
func hanging(first, s string, width int) []string {
	if width == 0 || columnsOf(first)+columnsOf(s) <= width {
		return []string{first + s}
	}
	indent := strings.Repeat(" ", columnsOf(first)+2)
	lines := wrap(s, width-len(indent))
	for i := range lines {
		lines[i] = first + lines[i]
		first = indent
	}
	return lines
}

func labelled(label, value string, width int) []string {
	first := fmt.Sprintf("    %-13s", label)
	if 0 < width && width < narrow && columnsOf(first)+columnsOf(value) > width {
		return append([]string{strings.TrimRight(first, " ")}, hanging("      ", value, width)...)
	}
	return hanging(first, value, width)
}

// printJSON prints v as one line.
func (env *environment) printJSON(v any) error {
	encoder := json.NewEncoder(env.out)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(v)
}

// left says how much time is left, as "4:59".
func left(d time.Duration) string {
	// Up, so that it says 0:00 only when it is over.
	seconds := max(0, int((d+time.Second-1)/time.Second))
	return fmt.Sprintf("%d:%02d", seconds/60, seconds%60)
}

// version returns the version of the module this was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(devel)"
	}
	return info.Main.Version
}
