package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/countersignd/countersign/device-agent/agent"
	"github.com/countersignd/countersign/internal/code"
	"github.com/countersignd/countersign/internal/statement"
	"github.com/countersignd/countersign/internal/text"
)

// A canvas is the lines of one screen. Nothing on it but the styles below is a
// control sequence.
type canvas struct {
	width int
	lines []string
}

const (
	bold  = "\x1b[1m"
	dim   = "\x1b[2m"
	plain = "\x1b[0m"

	margin = " "
	labels = 13 // columns for labels, where there is room for a second column
	narrow = 56 // below this width a value has lines of its own
	widest = 100
)

// text adds words of this program or isolated text.
func (c *canvas) text(style, s string) {
	for _, line := range wrap(s, c.width-len(margin)) {
		c.lines = append(c.lines, margin+style+line+end(style))
	}
}

func end(style string) string {
	if style == "" {
		return ""
	}
	return plain
}

func (c *canvas) blank() { c.lines = append(c.lines, "") }

// field adds a label and its value: beside it or, where that would not fit in
// a narrow window, below it. A value never begins where labels do, so it cannot
// pass for one.
func (c *canvas) field(f field) {
	indent := labels
	beside := c.width >= narrow || columnsOf(f.value) <= c.width-len(margin)-labels
	if !beside {
		indent = 3
		c.lines = append(c.lines, margin+dim+f.label+plain)
	}
	room := c.width - len(margin) - indent
	value := wrap(f.value, room)
	if f.note != "" {
		if last := value[len(value)-1]; columnsOf(last)+1+len(f.note) <= room {
			value[len(value)-1] = last + " " + f.note
		} else {
			value = append(value, wrap(f.note, room)...)
		}
	}
	for i, line := range value {
		first := strings.Repeat(" ", indent)
		if i == 0 && beside {
			first = dim + fmt.Sprintf("%-*s", labels, f.label) + plain
		}
		c.lines = append(c.lines, margin+first+line)
	}
}

// render returns the lines of the screen, at most height of them, and whether all
// that the person must see before she allows anything is among them. notes are what
// was said lately; the newest are kept if not all have room.
func render(d *desk, width, height int, now time.Time, notes []string) (lines []string, complete bool) {
	c := &canvas{width: min(width, widest)}
	switch d.view {
	case viewIdle:
		c.idle(d, now)
	case viewAsk:
		c.ask(d, now)
	case viewSending:
		c.text(bold, "Sending your answer…")
		c.blank()
		c.text("", sending(d))
		if d.sent.decision == statement.Allow && !d.denyNext {
			c.blank()
			c.key("d", "Don't Allow after all")
		}
	case viewReason:
		c.text(bold, "Denied. Nobody gets in with this sign-in.")
		c.blank()
		c.text("", "Why did you deny it? It is written down.")
		c.blank()
		c.key("m", "My mistake: it was me")
		c.key("n", "This wasn't me")
		c.key("Enter", "Don't say")
		c.blank()
		c.text(dim, fmt.Sprintf("This question goes away in %s.", left(d.until.Sub(now))))
	case viewCode:
		c.code(d, now)
	case viewTest:
		c.test(d, now)
	}
	c.waiting(d, now)
	c.record(d)
	if len(c.lines) > height-1 {
		c.lines = compact(c.lines)
	}
	if len(c.lines) > height-1 {
		warning := &canvas{width: c.width}
		warning.text(bold, tooSmall(d))
		kept := max(0, height-1-len(warning.lines))
		return append(c.lines[:kept:kept], warning.lines...), false
	}
	return append(c.lines, c.notes(notes, height-len(c.lines))...), true
}

// tooSmall is said instead of what has no room. Denying needs no reading.
func tooSmall(d *desk) string {
	if d.view == viewAsk {
		return "This window is too small for all of it. Make it larger to allow. [d] is Don't Allow."
	}
	return "This window is too small. Make it larger."
}

// compact drops the empty lines.
func compact(lines []string) []string {
	var kept []string
	for _, line := range lines {
		if line != "" {
			kept = append(kept, line)
		}
	}
	return kept
}

// key adds a key and what it does.
func (c *canvas) key(name, meaning string) {
	indent := len("  [") + len(name) + len("]  ")
	for i, line := range wrap(meaning, c.width-len(margin)-indent) {
		first := "  " + bold + "[" + name + "]" + plain + "  "
		if i > 0 {
			first = strings.Repeat(" ", indent)
		}
		c.lines = append(c.lines, margin+first+line)
	}
}

// idle says what to expect while there is nothing to show. It promises nothing
// that a lost connection or a suspended account does not keep.
func (c *canvas) idle(d *desk, now time.Time) {
	c.news(d)
	silent := len(d.waiting(now))
	switch {
	case d.screen.Suspended:
		c.text(bold, "Your account is suspended")
		c.blank()
		c.text("", "Nobody can sign in to it, and nothing can be allowed, until an administrator resumes it.")
	case d.screen.Barred != "":
		c.text(bold, "This device does not count at present")
		c.blank()
		c.text("", d.screen.Barred+". Asking again now and then.")
	case !d.screen.Connected:
		c.text(bold, "Not connected")
		c.blank()
		c.text("", "You cannot be asked about sign-ins until the server answers. Trying again.")
	case silent > 0:
		c.text(bold, silentWaiting(silent))
		c.blank()
		c.text("", "Your account was asked too often lately, or you said that such a request wasn't you. If you are signing in just now, yours may be among them. If not, let them be: they end by themselves.")
		c.blank()
		c.key("s", "Show it")
		c.blank()
	default:
		c.text(bold, "No sign-in is waiting for you")
		c.blank()
		c.text("", "When somebody signs in to your account, you are asked here.")
	}
	c.text("", "Ctrl-C stops this program.")
}

// mostNews is how many notices are on the screen at once.
const mostNews = 5

// news says what happened and was not read yet, newest first.
func (c *canvas) news(d *desk) {
	if len(d.news) == 0 {
		return
	}
	c.text(bold, "What happened to your account")
	c.blank()
	for i, n := range slices.Backward(d.news) {
		if len(d.news)-i > mostNews {
			c.note(fmt.Sprintf("… and %d more: %s notices", i+1, program))
			break
		}
		c.item(local(n.GetTime()) + "  " + sentence(n, d.self))
	}
	c.blank()
	c.key("Enter", "I have read it")
	c.blank()
}

func (c *canvas) ask(d *desk, now time.Time) {
	c.text(bold, title(d.prompt))
	c.text("", left(d.prompt.ExpireTime().Sub(now))+" left to answer")
	if d.prompt.Silent {
		c.text("", didNotRing)
	}
	if !d.again.IsZero() {
		c.text(bold, "Asked again at "+d.again.Local().Format("15:04:05")+".")
	}
	c.blank()
	for _, f := range fields(d.prompt) {
		c.field(f)
	}
	c.blank()
	if warning := consequence(d.prompt); warning != "" {
		c.text(bold, warning)
	} else {
		c.text("", "Is this you, signing in just now? If not, don't allow it.")
	}
	c.blank()
	// On one line, so that neither is seen without the other.
	c.lines = append(c.lines, margin+"  "+bold+"[a]"+plain+"  Allow      "+bold+"[d]"+plain+"  Don't Allow")
}

func (c *canvas) code(d *desk, now time.Time) {
	p := d.code.Prompt
	c.text(bold, "Your code")
	c.blank()
	for _, line := range large(d.code.Digits) {
		c.lines = append(c.lines, margin+"  "+bold+line+plain)
	}
	c.blank()
	c.text("", "  "+code.Group(d.code.Digits)+"   good for "+left(d.code.ExpireTime.Sub(now)))
	c.text("", whereToType(p))
	c.text(bold, "Never read this code to anyone who called you.")
	c.blank()
	list := fields(p)
	for _, f := range list[:min(5, len(list))] {
		c.field(f)
	}
	c.blank()
	c.key("d", "Take it back: don't let anybody in with it")
	if _, due := d.due(now); d.codesWait && due {
		c.key("Enter", "I have typed it: show the next request")
	}
}

// waiting says what there is besides.
func (c *canvas) waiting(d *desk, now time.Time) {
	for _, other := range d.codes {
		if d.view == viewCode && other.Prompt.SignIn == d.code.Prompt.SignIn {
			continue
		}
		c.blank()
		c.text(bold, "Code "+code.Group(other.Digits)+", good for "+left(other.ExpireTime.Sub(now))+":")
		c.field(codeFor(other.Prompt))
	}
	if n := d.more(now); n > 0 && d.view != viewIdle && d.view != viewTest {
		c.blank()
		c.text("", moreWaiting(n))
	}
}

// record says that something is wrong with the server's record: in full while
// there is nothing else to do. It keeps nobody from answering.
func (c *canvas) record(d *desk) {
	switch {
	case d.screen.Record == "":
		return
	case d.view == viewIdle:
		c.blank()
		c.text(bold, d.screen.Record)
	default:
		c.blank()
		c.text(bold, "The server's record is not in order.")
	}
}

// codeFor says in one field what a code is for.
func codeFor(p agent.Prompt) field {
	if p.Action == statement.ActionTrustDevice {
		return field{"New device", text.Isolate(p.Candidate.Name), ""}
	}
	return field{"Application", text.Isolate(p.Application.Name), ""}
}

// didNotRing is said of a silent prompt.
const didNotRing = "It did not ring: your account was asked too often lately, or such a request was said not to be you."

func silentWaiting(n int) string {
	if n == 1 {
		return "1 request is waiting that did not ring"
	}
	return fmt.Sprintf("%d requests are waiting that did not ring", n)
}

func moreWaiting(n int) string {
	if n == 1 {
		return "1 more is waiting."
	}
	return fmt.Sprintf("%d more are waiting.", n)
}

func sending(d *desk) string {
	switch {
	case d.denyNext:
		return "Taking your Allow back."
	case d.sent.decision == statement.Allow:
		return "Allow. The code comes with the server's answer."
	case d.sent.reason != "":
		return "Your reason."
	}
	return "Don't Allow."
}

// note adds what was said. It may have a name in it, so only its first line
// begins where labels do.
func (c *canvas) note(s string) { c.hanging(dim, s) }

// item adds one of several things, in the same way.
func (c *canvas) item(s string) { c.hanging("", s) }

func (c *canvas) hanging(style, s string) {
	const indent = "   "
	for i, line := range wrap(s, c.width-len(margin)-len(indent)) {
		if i > 0 {
			line = indent + line
		}
		c.lines = append(c.lines, margin+style+line+end(style))
	}
}

// notes returns the newest notes that have room in n lines.
func (c *canvas) notes(notes []string, n int) []string {
	n -= 2 // an empty line before, and the last line stays free
	var lines []string
	for i := len(notes) - 1; i >= 0; i-- {
		note := &canvas{width: c.width}
		note.note(notes[i])
		if len(note.lines)+len(lines) > n {
			break
		}
		lines = append(note.lines, lines...)
	}
	if len(lines) == 0 {
		return nil
	}
	return append([]string{""}, lines...)
}

// glyphs are the digits in three columns and five rows.
var glyphs = [10][5]string{
	{"███", "█ █", "█ █", "█ █", "███"},
	{" ██", "  █", "  █", "  █", "  █"},
	{"███", "  █", "███", "█  ", "███"},
	{"███", "  █", "███", "  █", "███"},
	{"█ █", "█ █", "███", "  █", "  █"},
	{"███", "█  ", "███", "  █", "███"},
	{"███", "█  ", "███", "█ █", "███"},
	{"███", "  █", "  █", "  █", "  █"},
	{"███", "█ █", "███", "█ █", "███"},
	{"███", "█ █", "███", "  █", "███"},
}

// large returns a code in large digits, in two groups, 27 columns wide.
func large(digits string) []string {
	rows := make([]string, 5)
	for i := range rows {
		for j, digit := range digits {
			switch {
			case j == len(digits)/2:
				rows[i] += "    "
			case j > 0:
				rows[i] += " "
			}
			rows[i] += glyphs[digit-'0'][i]
		}
	}
	return rows
}
