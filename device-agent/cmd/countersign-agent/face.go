package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/countersignd/countersign/internal/code"
)

// A face is how a desk shows itself: drawn on a terminal, or printed line by
// line.
type face interface {
	note(line string, now time.Time) // something happened
	// draw is called when something may have changed. It reports whether all that
	// must be seen is to be seen.
	draw(d *desk, now time.Time) (complete bool)
}

// A drawing is the face on a terminal: it owns the whole screen, and puts back
// what was there at the end.
type drawing struct {
	out    *os.File
	notes  []string
	asked  string // the sign-in for which the bell was rung
	rings  int    // how often it had been asked by then
	tested string // the test prompt for which the bell was rung
}

// maxNotes is how many notes are kept; a screen shows fewer.
const maxNotes = 20

func (v *drawing) note(line string, now time.Time) {
	v.notes = append(v.notes, now.Local().Format("15:04:05 ")+line)
	if len(v.notes) > maxNotes {
		v.notes = v.notes[1:]
	}
}

func (v *drawing) draw(d *desk, now time.Time) (complete bool) {
	width, height, err := term.GetSize(int(v.out.Fd()))
	if err != nil || width < 1 || height < 1 {
		width, height = 80, 24
	}
	lines, complete := render(d, width, height, now, v.notes)
	var b strings.Builder
	b.WriteString("\x1b[H") // the upper left corner
	for i, line := range lines {
		if i > 0 {
			b.WriteString("\r\n")
		}
		b.WriteString(line + "\x1b[K") // and clear what was behind it
	}
	b.WriteString("\x1b[J") // and below
	if v.bell(d) {
		b.WriteString("\a")
	}
	io.WriteString(v.out, b.String())
	return complete
}

// bell reports whether the bell is to be rung for what is shown, which it is once
// for each time that somebody asked.
func (v *drawing) bell(d *desk) bool {
	switch {
	case d.view == viewAsk && !d.prompt.Silent && (d.prompt.SignIn != v.asked || d.prompt.Rings > v.rings):
		v.asked, v.rings = d.prompt.SignIn, d.prompt.Rings
		return true
	case d.view == viewTest && d.test.ID != v.tested:
		v.tested = d.test.ID
		return true
	}
	return false
}

// begin takes the terminal over; the returned function gives it back.
func (v *drawing) begin(tty *os.File) (restore func(), err error) {
	state, err := term.MakeRaw(int(tty.Fd()))
	if err != nil {
		return nil, fmt.Errorf("preparing the terminal: %w", err)
	}
	io.WriteString(v.out, "\x1b[?1049h\x1b[?25l") // another screen, no cursor
	return func() {
		io.WriteString(v.out, "\x1b[?25h\x1b[?1049l")
		term.Restore(int(tty.Fd()), state)
	}, nil
}

// A printout is the face that prints each thing once, in words that scripts
// may rely on.
type printout struct {
	out   io.Writer
	view  view
	about string          // the sign-in or test prompt of view
	codes map[string]bool // that were printed
}

func (v *printout) note(line string, _ time.Time) { fmt.Fprintln(v.out, line) }

func (v *printout) draw(d *desk, now time.Time) (complete bool) {
	for _, c := range d.codes {
		if !v.codes[c.Prompt.SignIn] {
			v.codes[c.Prompt.SignIn] = true
			fmt.Fprintf(v.out, "code: %s\n", code.Group(c.Digits))
			fmt.Fprintf(v.out, "code is for: %s, good for %s\n", about(c.Prompt), left(c.ExpireTime.Sub(now)))
			fmt.Fprintln(v.out, "Never read this code to anyone who called you.")
		}
	}
	about := d.prompt.SignIn
	if d.view == viewTest {
		about = d.test.ID
	}
	if d.view == v.view && about == v.about {
		return true
	}
	v.view, v.about = d.view, about
	switch d.view {
	case viewTest:
		printTest(v.out, d, now)
	case viewAsk:
		fmt.Fprintln(v.out, title(d.prompt))
		for _, f := range fields(d.prompt) {
			fmt.Fprintln(v.out, strings.TrimRight(fmt.Sprintf("  %s: %s %s", strings.ToLower(f.label), f.value, f.note), " "))
		}
		fmt.Fprintf(v.out, "  time left: %s\n", left(d.prompt.ExpireTime().Sub(now)))
		if n := d.more(now); n > 0 {
			fmt.Fprintln(v.out, moreWaiting(n))
		}
		if d.prompt.Silent {
			fmt.Fprintln(v.out, didNotRing)
		}
		if warning := consequence(d.prompt); warning != "" {
			fmt.Fprintln(v.out, warning)
		}
		fmt.Fprintln(v.out, "Answer with a (Allow) or d (Don't Allow) and Enter.")
	case viewReason:
		fmt.Fprintln(v.out, "Why? m (my mistake), n (this wasn't me), or Enter alone (don't say).")
	}
	return true
}
