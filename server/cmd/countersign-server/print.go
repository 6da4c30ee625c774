package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/countersignd/countersign/internal/output"
	"github.com/countersignd/countersign/internal/text"
)

// printJSON prints v as one line.
func (e *environment) printJSON(v any) error {
	encoder := json.NewEncoder(e.out)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(v)
}

// A table is printed in columns that are as wide as they must be. Rows that are
// wider than the terminal are broken between words.
type table struct {
	out  io.Writer
	w    *tabwriter.Writer // writes rows
	rows strings.Builder
}

func newTable(out io.Writer, header ...string) *table {
	t := &table{out: out}
	t.w = tabwriter.NewWriter(&t.rows, 0, 0, 2, ' ', 0)
	t.row(header...)
	return t
}

// row prints a row. Text that somebody else wrote must come through [safe].
func (t *table) row(cells ...string) {
	for i, c := range cells {
		if c == "" {
			cells[i] = "-"
		}
	}
	fmt.Fprintln(t.w, strings.Join(cells, "\t"))
}

// flush prints the table.
func (t *table) flush() error {
	if err := t.w.Flush(); err != nil {
		return err
	}
	_, err := io.WriteString(t.out, broken(t.rows.String(), output.Columns(t.out)))
	return err
}

// broken breaks the rows of a table that are wider than width columns. What goes
// on is indented by four, so that it is not taken for a row.
func broken(rows string, width int) string {
	var all strings.Builder
	for row := range strings.Lines(rows) {
		row = strings.TrimSuffix(row, "\n")
		start := min(len(row), 2)
		for _, line := range hanging(row[:start], row[start:], width) {
			fmt.Fprintln(&all, line)
		}
	}
	return all.String()
}

// A sheet shows one thing: a name and a value on each line. Lines without a
// value are left out.
type sheet struct {
	env   *environment
	lines [][2]string
}

func newSheet(env *environment) *sheet { return &sheet{env: env} }

// line adds a line. Text that somebody else wrote must come through [safe].
func (s *sheet) line(name, value string) {
	if value != "" {
		s.lines = append(s.lines, [2]string{name + ":", value})
	}
}

// print prints the lines, of which long ones are broken.
func (s *sheet) print() error {
	widest := 0
	for _, l := range s.lines {
		widest = max(widest, len(l[0]))
	}
	var all strings.Builder
	for _, l := range s.lines {
		for _, line := range hanging(fmt.Sprintf("%-*s  ", widest, l[0]), l[1], s.env.width()) {
			fmt.Fprintln(&all, line)
		}
	}
	_, err := io.WriteString(s.env.out, all.String())
	return err
}

// width returns how many columns the terminal has that is printed to, or 0 if
// it is none, where lines are as long as they are.
func (e *environment) width() int { return output.Columns(e.out) }

// hang prints s, which is ASCII as [safe] and [quoted] return it, behind first.
func (e *environment) hang(first, s string) {
	for _, line := range hanging(first, s, e.width()) {
		fmt.Fprintln(e.out, line)
	}
}

// hanging breaks s, printed behind first, into lines of at most width columns
// if there is so much room; a width of 0 has room for all. Lines after the first
// are indented further than first is, so that no name that somebody chose begins
// where this program's own lines do.
func hanging(first, s string, width int) []string {
	indent := strings.Repeat(" ", len(first)+2)
	room := max(width-len(indent), 8)
	var lines []string
	for width > 0 && len(first)+len(s) > width && len(s) > room {
		end := room
		if space := strings.LastIndexByte(s[:room+1], ' '); space > 0 {
			end = space
		}
		for !utf8.RuneStart(s[end]) {
			end-- // errors may have more than ASCII
		}
		lines = append(lines, first+strings.TrimRight(s[:end], " "))
		s, first = strings.TrimLeft(s[end:], " "), indent
	}
	return append(lines, first+s)
}

// safe returns text that somebody else wrote in a form that drives no terminal.
func safe(s string) string { return text.Escape(s) }

// quoted returns the same in quotation marks, for text that is not an id: a
// name may hold spaces and words, and must not pass for the next column.
func quoted(s string) string {
	if s == "" {
		return ""
	}
	return `"` + strings.ReplaceAll(safe(s), `"`, `\u{22}`) + `"`
}

// local returns a moment in the time zone of whoever reads it.
func local(t *timestamppb.Timestamp) string {
	if t == nil {
		return ""
	}
	return t.AsTime().Local().Format("2006-01-02 15:04:05 MST")
}

// localMinute is local for what is known to the minute.
func localMinute(t *timestamppb.Timestamp) string {
	if t == nil {
		return ""
	}
	return t.AsTime().Local().Format("2006-01-02 15:04 MST")
}

// unix returns a moment for programs; 0 means never.
func unix(t *timestamppb.Timestamp) int64 {
	if t == nil {
		return 0
	}
	return t.AsTime().Unix()
}

// short returns the beginning of a device's id that people are shown and may
// type: 60 bits.
func short(id string) string { return safe(id[:min(len(id), 12)]) }

// enumWord returns the name of an enum's value as a word: "trusted" for
// DEVICE_STATE_TRUSTED with the prefix "DEVICE_STATE_".
func enumWord(value fmt.Stringer, prefix string) string {
	return strings.ToLower(strings.TrimPrefix(value.String(), prefix))
}

// inWordsDuration says how long something is good: "10 minutes".
func inWordsDuration(d time.Duration) string {
	d = d.Round(time.Second)
	for _, unit := range []struct {
		length time.Duration
		name   string
	}{{time.Hour, "hour"}, {time.Minute, "minute"}, {time.Second, "second"}} {
		if d >= unit.length && d%unit.length == 0 {
			if n := int(d / unit.length); n != 1 {
				return fmt.Sprintf("%d %ss", n, unit.name)
			}
			return "1 " + unit.name
		}
	}
	return d.String()
}
