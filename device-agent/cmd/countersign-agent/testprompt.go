package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/countersignd/countersign/device-agent/agent"
	"github.com/countersignd/countersign/internal/pin"
	"github.com/countersignd/countersign/internal/text"
)

// A test prompt is shown when nothing else is to be, and gives way to whatever
// comes. It offers one key, Enter, which allows nothing in any view: pressed a
// moment too late, when a request has taken the place of the test, it does no harm.

// What is said with every test prompt.
const (
	testTitle  = "This is a test prompt"
	whatTestIs = "Nobody signs in with it, and there is nothing to allow. It shows that requests reach this device."
)

// nextTest returns the test prompt that is to be shown, if there is one.
func (d *desk) nextTest(now time.Time) (agent.TestPrompt, bool) {
	for _, t := range d.screen.Tests {
		if t.ID != d.away && now.Before(t.ExpireTime) {
			return t, true
		}
	}
	return agent.TestPrompt{}, false
}

// stepTest is step for viewTest.
func (d *desk) stepTest(now time.Time) bool {
	if t, stands := d.nextTest(now); !stands || t.ID != d.test.ID {
		d.say("test prompt over: nobody put it away here")
		return d.turn(viewIdle, now)
	}
	if _, due := d.due(now); due || len(d.codes) > 0 {
		return d.turn(viewIdle, now)
	}
	return false
}

// putAway takes the test prompt for seen.
func (d *desk) putAway(now time.Time) {
	d.away = d.test.ID
	d.tests = append(d.tests, d.test.ID)
	d.say("test prompt put away: whoever asked for it can see that")
	d.turn(viewIdle, now)
}

// sender says who asked for a test prompt, on the device self.
func sender(t agent.TestPrompt, self string) string {
	switch id := strings.TrimPrefix(t.RequestedBy, "device "); {
	case id == "":
		return "unknown"
	case id == self:
		return "this device"
	case pin.ValidKeyID(id):
		return "your device " + agent.Fingerprint(id)
	}
	return text.Isolate(t.RequestedBy)
}

func testFields(t agent.TestPrompt, self string) []field {
	return []field{
		{"Asked for by", sender(t, self), ""},
		{"Asked at", t.Created.Local().Format("15:04:05"), ""},
	}
}

func (c *canvas) test(d *desk, now time.Time) {
	c.text(bold, testTitle)
	c.blank()
	c.text("", whatTestIs)
	c.blank()
	for _, f := range testFields(d.test, d.self) {
		c.field(f)
	}
	c.blank()
	c.key("Enter", "Put it away")
	c.blank()
	c.text("", "It goes away by itself in "+left(d.test.ExpireTime.Sub(now))+".")
	if n := len(d.waiting(now)); n > 0 {
		c.blank()
		c.text("", silentWaiting(n)+".")
	}
}

// printTest prints a test prompt in words that scripts may rely on.
func printTest(out io.Writer, d *desk, now time.Time) {
	fmt.Fprintln(out, testTitle)
	for _, f := range testFields(d.test, d.self) {
		fmt.Fprintf(out, "  %s: %s\n", strings.ToLower(f.label), f.value)
	}
	fmt.Fprintf(out, "  time left: %s\n", left(d.test.ExpireTime.Sub(now)))
	fmt.Fprintln(out, whatTestIs)
	fmt.Fprintln(out, "Put it away with Enter.")
}
