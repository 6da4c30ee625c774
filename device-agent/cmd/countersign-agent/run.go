package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/countersignd/countersign/device-agent/agent"
	countersignv1 "github.com/countersignd/countersign/proto/countersign/v1"
)

type runCmd struct {
	Once bool `help:"Stop after one request was answered and is over: its code used, or the denial sent."`
}

// Help is shown with run --help.
func (runCmd) Help() string {
	return `Each request says which account and application, from which device and place, and when.

In a terminal:
  a      Allow; then a code appears, to be typed where you sign in
  d      Don't Allow; or take an Allow back while its code is shown
  s      Show a request that did not ring
  Enter  decides nothing; when nothing is asked, it takes notices for read and
         puts a test prompt away

Notices tell what happened to the account since this device last showed them: devices that came and went, and the like. They are shown once; notices shows them again.

A test prompt says that it is one, and that there is nothing to allow. It shows that requests reach this device, comes behind all requests, and is put away with Enter; whoever asked for it sees how far it came. devices shows how a device is woken, and test sends one.

A request does not ring if your account was asked too often lately, or if you said that such a request wasn't you. It waits behind the others, and can be answered like them.

If standard input or output is no terminal, requests are printed line by line, and answers are read as lines: a or allow, d or deny, and after a denial m (my mistake), n (this wasn't me) or an empty line; an empty line also puts a test prompt away. A line is read only while something is asked, and one that was meant for a request that is gone is ignored, and said to be. A request that goes away is told as "withdrawn: …", a code as "code: 482 913".

It goes on when the network or the server is away, and stops with exit code 3 if this device is not trusted any more.`
}

// A runner connects the agent, the desk and the terminal. All of it but the
// reading of keys and the sending of answers happens on one goroutine.
type runner struct {
	agent *agent.Agent
	desk  *desk
	face  face
	once  bool

	screens  chan agent.Screen // one slot: the newest
	keys     chan key
	results  chan error
	ask      chan struct{}      // a line is wanted; nil if keys are read instead
	asked    bool               // a line is being waited for
	lineFor  string             // the sign-in whose prompt was shown when it was asked for, or ""
	forTest  bool               // a test prompt was shown then
	held     *key               // a script's line that was read beside a test prompt, for what comes next
	complete bool               // all that must be seen is to be seen
	calloff  context.CancelFunc // ends the sending of an answer
	sending  sync.WaitGroup
}

// A key is what was typed.
type key struct {
	key  rune // 0 if it means nothing
	line bool // it was a whole line
	end  bool // nothing more comes
}

// ctrlC is what a terminal in raw mode sends instead of a signal.
const ctrlC = 3

// Show implements [agent.Prompter].
func (r *runner) Show(s agent.Screen) {
	select {
	case <-r.screens:
	default:
	}
	r.screens <- s // only this goroutine fills the slot
}

// Run asks the person until it is stopped.
func (c *runCmd) Run(ctx context.Context, env *environment) error {
	if err := env.awaitTrust(ctx); err != nil {
		return err
	}
	a, err := env.open(ctx)
	if err != nil {
		return err
	}
	r := &runner{
		agent: a, desk: newDesk(), once: c.Once,
		screens: make(chan agent.Screen, 1), keys: make(chan key), results: make(chan error),
	}
	r.desk.self = a.State().Device
	// The one goroutine that nobody waits for is the reader of standard input,
	// because such a read cannot be interrupted. It ends with the process.
	if env.tty != nil && env.screen != nil {
		drawing := &drawing{out: env.screen}
		restore, err := drawing.begin(env.tty)
		if err != nil {
			return err
		}
		defer restore()
		r.face, r.desk.codesWait, r.desk.calm, r.desk.newsWait = drawing, true, true, true
		go readKeys(ctx, env.tty, r.keys)
	} else {
		r.face = &printout{out: env.out, codes: make(map[string]bool)}
		r.ask = make(chan struct{}, 1)
		go readLines(ctx, env, r.ask, r.keys)
	}
	return r.run(ctx, env.tty != nil)
}

func (r *runner) run(ctx context.Context, typed bool) error {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	var watching sync.WaitGroup
	watching.Go(func() { ended <- r.agent.Run(ctx, r) })
	defer watching.Wait()
	defer r.sending.Wait()
	defer cancel()

	resized := make(chan os.Signal, 1)
	signal.Notify(resized, syscall.SIGWINCH)
	defer signal.Stop(resized)
	second := time.NewTicker(time.Second)
	defer second.Stop()
	for {
		r.work(ctx, typed, time.Now())
		if r.giveHeld(typed, time.Now()) {
			continue
		}
		if r.once && r.desk.finished > 0 {
			return nil
		}
		select {
		case s := <-r.screens:
			r.desk.show(s, time.Now())
		case k := <-r.keys:
			if k.key == ctrlC {
				return nil
			}
			r.take(k, typed, time.Now())
		case err := <-r.results:
			r.calloff()
			r.desk.answered(err, time.Now())
		case <-second.C:
			r.desk.tick(time.Now())
		case <-resized:
		case err := <-ended:
			return explain(err)
		case <-ctx.Done():
			return nil
		}
	}
}

// explain adds what to do when the device is not trusted any more.
func explain(err error) error {
	if agent.Reason(err) == countersignv1.ErrorReason_ERROR_REASON_DEVICE_DORMANT {
		return fmt.Errorf("%w: on another device, run %s devices readmit", err, program)
	}
	if err != nil && agent.ReactionTo(err) == agent.Reenroll {
		return fmt.Errorf("%w. To enrol this machine again, move its directory away (or choose another one with --dir), and run %s enroll with a new invitation", err, program)
	}
	return err
}

// work does what the desk has put out.
func (r *runner) work(ctx context.Context, typed bool, now time.Time) {
	d := r.desk
	if d.cancel {
		d.cancel = false
		r.calloff()
	}
	for _, o := range d.orders {
		var sendCtx context.Context
		sendCtx, r.calloff = context.WithCancel(ctx)
		r.sending.Go(func() {
			_, err := r.agent.Answer(sendCtx, o.prompt, o.decision, o.reason)
			select {
			case r.results <- err:
			case <-ctx.Done():
			}
		})
	}
	d.orders = nil
	for _, event := range d.events {
		r.face.note(event, now)
	}
	d.events = nil
	if len(d.shown) > 0 {
		if err := r.agent.NoticesShown(d.shown...); err != nil {
			r.face.note(err.Error(), now)
		}
		d.shown = nil
	}
	for _, id := range d.tests {
		r.agent.TestSeen(id)
	}
	d.tests = nil
	if r.complete = r.face.draw(d, now); r.complete {
		switch d.view {
		case viewAsk:
			r.agent.PromptsShown(d.prompt.SignIn)
		case viewTest:
			r.agent.PromptsShown(d.test.ID)
		}
	}
	r.wantLine(typed)
}

// wantLine has a line read if something is asked and none is waited for. Beside
// a code, only a line that is typed is read: a script's line is meant for the
// next prompt.
func (r *runner) wantLine(typed bool) {
	view := r.desk.view
	asks := view == viewAsk || view == viewReason || view == viewTest || view == viewCode && typed
	if r.ask == nil || r.asked || r.held != nil || r.desk.mute || !asks {
		return
	}
	r.asked, r.lineFor, r.forTest = true, "", view == viewTest
	if r.desk.view == viewAsk {
		r.lineFor = r.desk.prompt.SignIn
	}
	r.ask <- struct{}{}
}

// take gives the desk what was typed.
func (r *runner) take(k key, typed bool, now time.Time) {
	d := r.desk
	if !k.line {
		if k.key == 'a' && !r.complete {
			return // what is allowed must have been on the screen
		}
		d.press(k.key, now)
		return
	}
	r.asked = false
	switch {
	case k.end:
		d.mute = true
		d.tick(now)
	case !typed && r.forTest && k.key != '\r' && d.view != viewAsk && d.view != viewReason:
		r.held = &k
	case r.lineFor != "" && (r.lineFor != d.prompt.SignIn || d.view != viewAsk):
		d.say("ignored: the line was meant for a request that is gone")
	case typed && now.Sub(d.since) < minLook:
		d.say("ignored: the line was typed before this was shown")
	default:
		d.choose(k.key, now)
	}
}

// giveHeld gives the desk a line that was held back, when it asks for one. A script's
// answer may have been written long before the request that it is meant for, and a
// test prompt in between must not use it up.
func (r *runner) giveHeld(typed bool, now time.Time) bool {
	if r.held == nil || r.desk.view != viewAsk && r.desk.view != viewReason {
		return false
	}
	k := *r.held
	r.held, r.lineFor, r.forTest = nil, "", false
	r.take(k, typed, now)
	return true
}

// readKeys reads single keys from a terminal in raw mode. More than one byte at
// once is a function key, or text that was pasted, and means nothing.
func readKeys(ctx context.Context, tty io.Reader, keys chan<- key) {
	buffer := make([]byte, 256)
	for {
		n, err := tty.Read(buffer)
		k := key{}
		if n == 1 {
			k.key = rune(buffer[0])
		}
		if k.key == '\n' {
			k.key = '\r'
		}
		if err != nil {
			k.key = ctrlC // the terminal is gone
		}
		select {
		case keys <- k:
		case <-ctx.Done():
			return
		}
		if err != nil {
			return
		}
	}
}

// readLines reads a line each time one is asked for.
func readLines(ctx context.Context, env *environment, ask <-chan struct{}, keys chan<- key) {
	for range ask {
		line, err := env.readLine(ctx)
		k := key{line: true, end: err != nil}
		switch strings.ToLower(strings.TrimSpace(line)) {
		case "":
			k.key = '\r'
		case "a", "allow":
			k.key = 'a'
		case "d", "deny":
			k.key = 'd'
		case "m", "mistake":
			k.key = 'm'
		case "n", "not me":
			k.key = 'n'
		}
		select {
		case keys <- k:
		case <-ctx.Done():
			return
		}
	}
}
