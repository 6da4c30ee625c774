package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"
)

// A stage is where the story is played: the programs, and what is printed.
type stage struct {
	dir     string // temporary, everything is in it
	server  string // path of countersign-server
	agent   string // path of countersign-agent
	person  bool   // somebody sits at a terminal and answers
	typed   chan string
	running []*process
	steps   int
}

// start starts a program that goes on until it is stopped or the demo ends.
func (s *stage) start(program string, args ...string) (*process, error) {
	p, err := start(s.dir, program, args...)
	if err == nil {
		s.running = append(s.running, p)
	}
	return p, err
}

// admin shows an administrator's command, runs it, and reads the JSON it prints.
func (s *stage) admin(ctx context.Context, into any, args ...string) error {
	s.command("countersign-server", args...)
	args = append(args, "--data-dir", "server")
	if args[0] != "keys" { // a key set is JSON whether one asks for it or not
		args = append(args, "--json")
	}
	out, err := output(ctx, s.dir, s.server, args...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(out), into); err != nil {
		return fmt.Errorf("reading what %s printed: %w", args[0], err)
	}
	return nil
}

// step prints a heading.
func (s *stage) step(title string) {
	s.steps++
	fmt.Printf("\n%s\n", style("1", fmt.Sprintf("%d  %s", s.steps, title)))
}

// say prints something that the demo itself has to say.
func (s *stage) say(format string, args ...any) {
	fmt.Printf("   "+format+"\n", args...)
}

// command prints a command that is run, as one would type it. Flags that only
// keep the demo in its directory are left out by the caller.
func (s *stage) command(program string, args ...string) {
	line := "$ " + program
	for i, arg := range args {
		if strings.ContainsAny(arg, " '&") {
			arg = `"` + arg + `"`
		}
		flag := strings.HasPrefix(arg, "--") && i+1 < len(args) // its value follows, on the same line
		if len(line)+len(arg) > 76 || flag && len(line)+len(arg)+len(args[i+1]) > 72 {
			fmt.Println("   " + style("2", line+" \\"))
			line = "     "
		}
		line += " " + arg
	}
	fmt.Println("   " + style("2", line))
}

// screen prints what a device shows.
func (s *stage) screen(device string, lines []string) {
	fmt.Println()
	for _, line := range lines {
		for _, part := range folded(line, screenWidth) {
			fmt.Printf("   %s %s %s\n", style("36", fmt.Sprintf("%-7s", device)), style("2", "│"), part)
		}
	}
}

// screenWidth is what a terminal of 80 columns has left beside the device's name.
const screenWidth = 80 - len("   phone   | ")

// folded breaks a line between words, so that each part has at most width columns
// if its words are no longer. What goes on is indented.
func folded(line string, width int) []string {
	var parts []string
	part := ""
	for word := range strings.SplitAfterSeq(line, " ") {
		if part != "" && columns(part)+columns(strings.TrimRight(word, " ")) > width {
			parts = append(parts, strings.TrimRight(part, " "))
			part = "  "
		}
		part += word
	}
	return append(parts, part)
}

// columns is how many columns a line of the agent has: the marks that keep a name's
// letters in their order have none.
func columns(s string) int {
	return utf8.RuneCountInString(strings.NewReplacer("\u2068", "", "\u2069", "").Replace(s))
}

// ask returns what the person types or, if there is nobody, the answer that is
// given for her.
func (s *stage) ask(ctx context.Context, question, answer string) (string, error) {
	fmt.Printf("\n   %s ", style("1", question))
	if !s.person {
		fmt.Println(answer)
		return answer, nil
	}
	select {
	case line, ok := <-s.typed:
		if !ok {
			return "", errors.New("the terminal is gone")
		}
		return strings.TrimSpace(line), nil
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// keep writes a file into the stage's directory.
func (s *stage) keep(name string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(s.dir, name), data, 0o600)
}

// styled says whether standard output is a terminal that wants styles.
var styled = term.IsTerminal(int(os.Stdout.Fd())) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"

// style sets words in an ANSI style, on a terminal that wants it.
func style(code, words string) string {
	if !styled {
		return words
	}
	return "\x1b[" + code + "m" + words + "\x1b[0m"
}
