package notification

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/google/go-cmp/cmp"
)

// patience is how long the tests wait for what must happen soon.
const patience = 30 * time.Second

// startBus starts a bus on which nobody is started, and has this process use it.
func startBus(t *testing.T) (address string, stop func()) {
	t.Helper()
	dir, err := os.MkdirTemp("", "csn") // a name that is short enough for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	address = "unix:path=" + filepath.Join(dir, "bus")
	config := filepath.Join(dir, "config")
	err = os.WriteFile(config, fmt.Appendf(nil, `<busconfig><type>session</type><listen>%s</listen><auth>EXTERNAL</auth>
		<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>`, address), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("dbus-daemon", "--nofork", "--nopidfile", "--config-file="+config)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	t.Cleanup(stop)
	until(t, "the bus", func() bool {
		conn, err := net.Dial("unix", filepath.Join(dir, "bus"))
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", address)
	return address, stop
}

func until(t *testing.T, what string, fn func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !fn(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// A shown is what a daemon was given.
type shown struct {
	Title, Body string
	Actions     []string
	Urgency     byte
}

// A daemon is a service for notifications that behaves as the specification says.
type daemon struct {
	t    *testing.T
	conn *dbus.Conn
	able []string

	mu     sync.Mutex
	next   uint32
	shows  map[uint32]shown
	given  int           // how often Notify was called
	caller string        // who called it last
	hang   chan struct{} // Notify waits for it, if it is not nil
}

func startDaemon(t *testing.T, address string, able ...string) *daemon {
	t.Helper()
	conn, err := dbus.Connect(address)
	if err != nil {
		t.Fatal(err)
	}
	d := &daemon{t: t, conn: conn, able: able, shows: make(map[uint32]shown)}
	t.Cleanup(func() { conn.Close() })
	methods := map[string]any{"GetCapabilities": d.getCapabilities, "Notify": d.notify, "CloseNotification": d.closeNotification}
	if err := conn.ExportMethodTable(methods, path, name); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.RequestName(name, dbus.NameFlagDoNotQueue); err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *daemon) getCapabilities() ([]string, *dbus.Error) { return d.able, nil }

func (d *daemon) notify(from dbus.Sender, _ string, replaces uint32, _, title, body string, actions []string, hints map[string]dbus.Variant, _ int32) (uint32, *dbus.Error) {
	d.mu.Lock()
	hang := d.hang
	d.mu.Unlock()
	if hang != nil {
		<-hang
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.given++
	d.caller = string(from)
	urgency, _ := hints["urgency"].Value().(byte)
	if _, is := d.shows[replaces]; !is {
		d.next++
		replaces = d.next
	}
	d.shows[replaces] = shown{title, body, actions, urgency}
	return replaces, nil
}

func (d *daemon) closeNotification(id uint32) *dbus.Error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, is := d.shows[id]; !is {
		return dbus.MakeFailedError(fmt.Errorf("there is no %d", id))
	}
	d.leave(id, 3)
	return nil
}

// leave takes a notification off the screen. The caller holds mu.
func (d *daemon) leave(id, reason uint32) {
	delete(d.shows, id)
	d.emit(".NotificationClosed", id, reason)
}

func (d *daemon) emit(signal string, values ...any) {
	d.t.Helper()
	if err := d.conn.Emit(path, name+signal, values...); err != nil {
		d.t.Error(err)
	}
}

// only returns the number of the one notification that is shown.
func (d *daemon) only() uint32 {
	d.t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.shows) != 1 {
		d.t.Fatalf("%d notifications are shown, want 1", len(d.shows))
	}
	for id := range d.shows {
		return id
	}
	return 0
}

// look returns the one notification that is shown.
func (d *daemon) look() shown {
	d.t.Helper()
	id := d.only()
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.shows[id]
}

// dismiss is what the person does who puts the only notification away.
func (d *daemon) dismiss() {
	id := d.only()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.leave(id, 2)
}

// titles waits until so many were given to the daemon and returns what is shown.
func (d *daemon) titles(given int) []string {
	d.t.Helper()
	until(d.t, fmt.Sprintf("%d notifications to be given", given), func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		return d.given >= given
	})
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.given > given {
		d.t.Errorf("%d notifications were given, want %d", d.given, given)
	}
	var titles []string
	for _, s := range d.shows {
		titles = append(titles, s.Title)
	}
	slices.Sort(titles)
	return titles
}

func (d *daemon) wantTitles(given int, want ...string) {
	d.t.Helper()
	if diff := cmp.Diff(want, d.titles(given)); diff != "" {
		d.t.Errorf("shown: -want +got:\n%s", diff)
	}
}

// A user is who uses the service: what was opened, and what is said of the service.
type user struct {
	*Service
	opened chan string
	said   chan error
	end    context.CancelFunc
	ended  chan struct{}
}

func use(t *testing.T, timeout time.Duration) *user {
	u := &user{opened: make(chan string, 10), said: make(chan error, 10), ended: make(chan struct{})}
	u.Service = New(func(key string) { u.opened <- key }, func(err error) { u.said <- err })
	u.timeout = timeout
	var ctx context.Context
	ctx, u.end = context.WithCancel(t.Context())
	go func() {
		defer close(u.ended)
		u.Run(ctx)
	}()
	t.Cleanup(func() {
		u.end()
		<-u.ended
	})
	return u
}

func (u *user) wantSaid(t *testing.T, want string) {
	t.Helper()
	select {
	case err := <-u.said:
		if got := fmt.Sprint(err); err == nil && want != "" || err != nil && (want == "" || !strings.Contains(got, want)) {
			t.Errorf("it is said of the service: %v, want %q", err, want)
		}
	case <-time.After(patience):
		t.Fatalf("nothing is said of the service, want %q", want)
	}
}

var signIn = Item{Key: "prompt", Title: "Sign-In Requested", Body: "“Files”", Action: "Show", Urgent: true, Rings: 1}

// barrier shows items, and one of another kind behind them. When that is given, what the
// others were to bring has come.
func (u *user) barrier(t *testing.T, d *daemon, given int, items ...Item) {
	t.Helper()
	u.Show(append(items, Item{Key: "barrier", Title: "~barrier", Rings: given})...)
	d.titles(given)
}

func TestShowsWhatIsWantedAndTakesItAway(t *testing.T) {
	address, _ := startBus(t)
	d := startDaemon(t, address, "actions", "body")
	u := use(t, callTimeout)
	u.wantSaid(t, "")
	u.Show(signIn)
	d.wantTitles(1, "Sign-In Requested")
	want := shown{"Sign-In Requested", "“Files”", []string{"default", "Show", "open", "Show"}, 2}
	if diff := cmp.Diff(want, d.look()); diff != "" {
		t.Errorf("given: -want +got:\n%s", diff)
	}
	news := Item{Key: "news", Title: "News", Action: "Show"}
	u.Show(signIn, news)
	d.wantTitles(2, "News", "Sign-In Requested")
	u.Show(news)
	until(t, "the answered one to go", func() bool { d.mu.Lock(); defer d.mu.Unlock(); return len(d.shows) == 1 })
	d.wantTitles(2, "News")
	u.end()
	<-u.ended
	d.wantTitles(2)
}

func TestAPressOpensWhatItIsAbout(t *testing.T) {
	address, _ := startBus(t)
	d := startDaemon(t, address, "actions")
	u := use(t, callTimeout)
	u.Show(signIn)
	d.titles(1)
	for _, action := range []string{"default", "open"} {
		d.emit(".ActionInvoked", d.only(), action)
		if got := <-u.opened; got != "prompt" {
			t.Errorf("%s opened %q, want prompt", action, got)
		}
	}
	// What is over, was never shown, or makes no sense opens nothing.
	over := d.only()
	u.Show()
	until(t, "it to go", func() bool { d.mu.Lock(); defer d.mu.Unlock(); return len(d.shows) == 0 })
	for _, values := range [][]any{{over, "open"}, {over + 9, "open"}, {uint32(0), "open"}, {"1", "open"}, {over}, {}} {
		d.emit(".ActionInvoked", values...)
		d.emit(".NotificationClosed", values...)
	}
	// Nor does another program, whom it tells it.
	again := signIn
	again.Rings++
	u.Show(again)
	d.titles(2)
	stranger, err := dbus.Connect(address)
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	message := &dbus.Message{Type: dbus.TypeSignal, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldPath: dbus.MakeVariant(dbus.ObjectPath(path)), dbus.FieldInterface: dbus.MakeVariant(name),
		dbus.FieldMember: dbus.MakeVariant("ActionInvoked"), dbus.FieldSignature: dbus.MakeVariant(dbus.ParseSignatureMust("us")),
		dbus.FieldDestination: dbus.MakeVariant(d.caller),
	}, Body: []any{d.only(), "open"}}
	if call := stranger.Send(message, nil); call != nil && call.Err != nil {
		t.Fatal(call.Err)
	}
	if err := stranger.BusObject().Call("org.freedesktop.DBus.GetId", 0).Err; err != nil { // the signal was passed on
		t.Fatal(err)
	}
	d.emit(".ActionInvoked", d.only(), "open")
	<-u.opened
	select {
	case key := <-u.opened:
		t.Errorf("a stranger's signal opened %q", key)
	default:
	}
}

func TestWhatWasPutAwayComesAgainOnlyIfItRings(t *testing.T) {
	address, _ := startBus(t)
	d := startDaemon(t, address, "actions")
	u := use(t, callTimeout)
	u.Show(signIn)
	d.titles(1)
	d.dismiss()
	u.barrier(t, d, 2, signIn) // what the daemon said before it took this is known
	more := signIn
	more.Body = "“Files”\n1 more request is waiting."
	u.barrier(t, d, 3, more)
	d.wantTitles(3, "~barrier")
	more.Rings++
	u.barrier(t, d, 5, more)
	d.wantTitles(5, "Sign-In Requested", "~barrier")
	// It rings while it is there: one takes the place of the other.
	more.Rings++
	u.barrier(t, d, 7, more)
	d.wantTitles(7, "Sign-In Requested", "~barrier")
	// It was put away in the window, and is there again: it has rung for that already.
	u.barrier(t, d, 8)
	u.barrier(t, d, 9, more)
	d.wantTitles(9, "~barrier")
}

func TestAnotherServiceShowsWhatIsStillWanted(t *testing.T) {
	address, _ := startBus(t)
	u := use(t, callTimeout)
	u.wantSaid(t, "no service for notifications")
	u.Show(signIn)
	u.wantSaid(t, "no service for notifications")
	d := startDaemon(t, address)
	u.wantSaid(t, "")
	d.wantTitles(1, "Sign-In Requested")
	if got := d.look().Actions; len(got) != 0 {
		t.Errorf("a service without buttons was given %q", got)
	}
	news := Item{Key: "news", Title: "News"}
	u.Show(signIn, news)
	d.titles(2)
	d.mu.Lock()
	for id, s := range d.shows {
		if s.Title == "News" {
			d.leave(id, 2)
		}
	}
	d.mu.Unlock()
	d.conn.Close()
	u.wantSaid(t, "has ended")
	d = startDaemon(t, address, "actions")
	u.wantSaid(t, "")
	d.wantTitles(1, "Sign-In Requested") // and not what was put away
}

func TestNothingWaitsForAServiceThatHangs(t *testing.T) {
	address, _ := startBus(t)
	d := startDaemon(t, address)
	hang := make(chan struct{})
	defer close(hang)
	d.mu.Lock()
	d.hang = hang
	d.mu.Unlock()
	u := use(t, time.Second)
	u.wantSaid(t, "")
	u.Show(signIn) // would never return if it waited
	u.wantSaid(t, "does not show what it was given")
}

func TestNoBus(t *testing.T) {
	_, stop := startBus(t)
	u := use(t, callTimeout)
	u.wantSaid(t, "no service for notifications")
	stop()
	u.wantSaid(t, "the bus of this session is gone")
	u.end()
	<-u.ended
	u = use(t, callTimeout)
	u.wantSaid(t, "this session has no bus")
}

// A18: a name is shown as it is, whatever the service makes of markup.
func TestA18NamesAreNoMarkup(t *testing.T) {
	const hostile = `“<b>Allow</b> &amp; <a href="x">go</a>”`
	for _, able := range [][]string{{"body"}, {"body", "body-markup"}} {
		address, _ := startBus(t)
		d := startDaemon(t, address, able...)
		u := use(t, callTimeout)
		item := signIn
		item.Body = hostile
		u.Show(item)
		d.titles(1)
		want := hostile
		if slices.Contains(able, "body-markup") {
			want = `“&lt;b&gt;Allow&lt;/b&gt; &amp;amp; &lt;a href="x"&gt;go&lt;/a&gt;”`
		}
		if got := d.look().Body; got != want {
			t.Errorf("a service that can do %q was given %s, want %s", able, got, want)
		}
	}
}
