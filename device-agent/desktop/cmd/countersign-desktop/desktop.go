package main

import (
	"context"
	"errors"
	"os/signal"
	"sync"
	"sync/atomic"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/app"
	"fyne.io/fyne/v2/lang"

	"github.com/countersignd/countersign/device-agent/agent"
	"github.com/countersignd/countersign/device-agent/desktop/desk"
	"github.com/countersignd/countersign/device-agent/desktop/keys"
	"github.com/countersignd/countersign/device-agent/desktop/notification"
	"github.com/countersignd/countersign/device-agent/desktop/window"
	"github.com/countersignd/countersign/device-agent/keystore"
	"github.com/countersignd/countersign/internal/code"
)

// callTimeout is how long the server may take to answer a simple question.
const callTimeout = 15 * time.Second

// A desktopAgent connects the agent, the desk and the windows. All of it but the
// calls to the server happens on the toolkit's goroutine.
type desktopAgent struct {
	dir      string
	host     string // what to call this device, unless the person has a better name
	one      *instance
	app      fyne.App
	messages *window.Messages
	desk     *desk.Desk
	asking   *stage
	testing  *stage
	showing  atomic.Bool // one of the two is on the screen, for the clock
	rings    int         // up to which ring they have come to the front
	home     *home
	tray     *tray
	notes    *notification.Service
	notesErr error        // why the desktop shows no notifications
	keysIn   []keys.Vault // where keys may be besides in a file, the best one first

	ctx       context.Context    // done when the program is to end
	quit      context.CancelFunc // of ctx
	running   atomic.Bool        // the toolkit's loop runs
	work      sync.WaitGroup     // what goes on beside the toolkit: see aside
	agent     *agent.Agent       // nil until this device is trusted and its keys are open
	state     agent.State        // of that device
	unlocking bool               // its keys are being opened
	ended     error              // why the agent gave up
	calloff   context.CancelFunc
	copied    string // what this program put on the clipboard and must take off it
}

func newDesktop(dir string, one *instance) *desktopAgent {
	d := &desktopAgent{dir: dir, host: hostName(), one: one, desk: desk.New(), keysIn: keys.Vaults(), calloff: func() {}}
	d.app = app.NewWithID(program)
	d.app.SetIcon(icon)
	d.app.Settings().SetTheme(window.NewTheme())
	d.messages = window.LoadMessages(string(lang.SystemLocale()))
	d.asking = d.newStage(window.NewFace(d.messages, d.palette()))
	d.testing = d.newStage(window.NewTestFace(d.messages, d.palette()))
	d.notes = d.newNotifications()
	d.home = newHome(d)
	d.tray = newTray(d)
	d.tray.draw() // the toolkit shows a tray icon only if there is one before it runs
	return d
}

func (d *desktopAgent) palette() *window.Palette {
	return window.PaletteOf(d.app.Settings().ThemeVariant())
}

// run must be called on the goroutine of main, which the toolkit wants. It does not return:
// end ends the program.
func (d *desktopAgent) run(link string, hidden bool) {
	d.ctx, d.quit = signal.NotifyContext(context.Background(), endSignals...)
	go d.end()
	d.app.Settings().AddListener(func(fyne.Settings) {
		d.asking.face.SetPalette(d.palette())
		d.testing.face.SetPalette(d.palette())
		d.refresh()
		d.home.draw()
	})
	d.app.Lifecycle().SetOnStarted(func() {
		d.running.Store(true)
		d.takeSignals()
		keepKeyboard()
		d.aside(d.clock)
		d.aside(func() { d.notes.Run(d.ctx) })
		d.start()
		if !hidden || !d.unlocking || link != "" {
			d.home.open(link)
		}
	})
	d.app.Run() // until the toolkit ends by itself, as by a system's own menu
	d.running.Store(false)
	d.quit()
	select {}
}

// clock looks at the time, and at who starts this program again.
func (d *desktopAgent) clock() {
	second := time.NewTicker(time.Second)
	defer second.Stop()
	beat := time.NewTicker(desk.BeatTime)
	defer beat.Stop()
	var beating atomic.Bool
	for {
		select {
		case <-beat.C:
			// Never more than one on its way.
			if d.showing.Load() && beating.CompareAndSwap(false, true) {
				fyne.Do(func() {
					beating.Store(false)
					d.beat()
				})
			}
		case <-second.C:
			fyne.Do(func() {
				d.renewCode(time.Now())
				d.desk.Tick(time.Now())
				d.refresh()
				d.home.keepDrawn()
			})
		case link, ok := <-d.one.opened:
			if !ok {
				return
			}
			fyne.Do(func() { d.startedAgain(link) })
		case <-d.ctx.Done():
			return
		}
	}
}

// beat tells the desk that the toolkit has looked for presses, and the buttons whether
// they count.
func (d *desktopAgent) beat() {
	now := time.Now()
	d.desk.Beat(now)
	live := d.desk.View(now).Live
	d.asking.face.SetLive(live)
	d.testing.face.SetLive(live)
}

// startedAgain brings up what the person wants to see who starts this program again.
func (d *desktopAgent) startedAgain(link string) {
	d.bringBack()
	for _, s := range []*stage{d.asking, d.testing} {
		if link == "" && s.visible {
			s.show(d.desk.View(time.Now()), true)
			s.window.RequestFocus() // she wants to see what is asked
			return
		}
	}
	d.home.open(link)
}

// start opens what is in the directory, as far as it goes without the person.
func (d *desktopAgent) start() {
	state, err := agent.LoadState(d.dir)
	switch {
	case errors.Is(err, agent.ErrNotEnrolled):
		d.home.turnTo(d.home.first)
	case err != nil:
		d.home.fail(err)
	case state.Phase != agent.Trusted:
		d.home.turnTo(d.home.begun)
	default:
		d.unlock("")
	}
}

// unlock opens the keys and begins to watch.
func (d *desktopAgent) unlock(passphrase string) {
	if d.unlocking {
		return
	}
	d.unlocking = true
	d.home.turnTo(d.home.status) // says so
	// Not in d.work: a keyring may wait for the person, who may rather quit.
	go func() {
		a, err := agent.Open(d.dir, passphrase, d.vaults()...)
		fyne.Do(func() {
			d.unlocking = false
			d.unlocked(a, err)
		})
	}()
}

func (d *desktopAgent) unlocked(a *agent.Agent, err error) {
	switch {
	case errors.Is(err, keystore.ErrPassphraseNeeded):
		d.home.turnTo(func(s *window.Sheet) { d.home.passphrase(s, nil) })
		d.home.open("")
	case errors.Is(err, keystore.ErrWrongPassphrase):
		d.home.turnTo(func(s *window.Sheet) { d.home.passphrase(s, err) })
		d.home.open("")
	case err != nil:
		d.home.fail(err)
	default:
		d.agent, d.state, d.ended = a, a.State(), nil
		d.aside(func() {
			err := a.Run(d.ctx, d)
			fyne.Do(func() {
				d.ended = err
				d.refresh()
				d.home.draw()
			})
		})
		d.refresh()
		if d.home.live {
			d.home.draw() // another sheet may have come up meanwhile, and stays
		}
	}
}

// Show implements [agent.Prompter].
func (d *desktopAgent) Show(s agent.Screen) {
	fyne.Do(func() {
		d.desk.Show(s, time.Now())
		d.refresh()
	})
}

func (d *desktopAgent) press(p desk.Press, byKey bool) {
	if byKey {
		d.desk.Key(p, time.Now())
	} else {
		d.desk.Click(p, time.Now())
	}
	d.refresh()
}

// bringBack brings back what was put away.
func (d *desktopAgent) bringBack() {
	d.desk.BringBack(time.Now())
	d.refresh()
}

// refresh does what the desk has put out and shows what is on it.
func (d *desktopAgent) refresh() {
	now := time.Now()
	orders, cancel := d.desk.TakeOrders()
	if cancel {
		d.calloff()
	}
	for _, o := range orders {
		d.answer(o)
	}
	for _, account := range d.desk.TakeNotMe() {
		d.home.notMe(account)
	}
	for _, id := range d.desk.TakeSeen() {
		d.agent.TestSeen(id)
	}
	v := d.desk.View(now)
	again := d.desk.Rings() > d.rings
	d.rings = d.desk.Rings()
	front, behind := d.asking, d.testing
	if v.Kind == desk.Test {
		front, behind = behind, front
	}
	behind.hide()
	if v.Kind == desk.Nothing {
		front.hide()
	} else {
		front.show(v, again)
	}
	d.showing.Store(d.asking.visible || d.testing.visible)
	d.tray.draw()
	d.home.tell()
	d.home.drawIfChanged()
	d.notes.Show(d.notifications(now)...)
}

// answer hands in an answer.
func (d *desktopAgent) answer(o desk.Order) {
	var ctx context.Context
	ctx, d.calloff = context.WithCancel(d.ctx)
	d.aside(func() {
		_, err := d.agent.Answer(ctx, o.Prompt, o.Decision, o.Reason)
		fyne.Do(func() {
			d.desk.Answered(err, time.Now())
			d.refresh()
		})
	})
}

// codePatience is how long the server may take before this device makes a code by
// itself.
const codePatience = 4 * time.Second

// getCode gets a verification code from the server or, if it cannot be reached, makes
// one that works without it.
func (d *desktopAgent) getCode() {
	a := d.agent
	if a == nil {
		return
	}
	d.call(func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, codePatience)
		defer cancel()
		got, err := a.NewCode(ctx)
		if err != nil && agent.Unreachable(err) {
			if got, err = offlineCode(a); errors.Is(err, agent.ErrNoOfflineSecret) {
				err = window.Said(d.messages.Say("code.no-offline"))
			}
		}
		if err != nil {
			return err
		}
		fyne.Do(func() { d.addCode(got) })
		return nil
	})
}

// offlineCode makes a code without the server.
func offlineCode(a *agent.Agent) (agent.Code, error) {
	made, err := a.OfflineCode()
	return agent.Code{Digits: made.Digits, ExpireTime: made.ExpireTime}, err
}

func (d *desktopAgent) addCode(c agent.Code) {
	c.Prompt.Account = d.state.Account
	d.desk.Add(c, time.Now())
	d.refresh()
}

// renewCode has the next offline code follow the one that is shown when that is over.
func (d *desktopAgent) renewCode(now time.Time) {
	c := d.desk.View(now).Code
	if len(c.Digits) != code.OfflineDigits || now.Before(c.ExpireTime) {
		return
	}
	if next, err := offlineCode(d.agent); err == nil {
		d.addCode(next)
	}
}

// call asks the server, and shows the error if there is one.
func (d *desktopAgent) call(fn func(context.Context) error) {
	d.aside(func() {
		ctx, cancel := context.WithTimeout(d.ctx, callTimeout)
		defer cancel()
		if err := fn(ctx); err != nil && d.ctx.Err() == nil {
			fyne.Do(func() { d.home.fail(err) })
		}
	})
}
