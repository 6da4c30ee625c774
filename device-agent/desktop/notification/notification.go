// Package notification shows notifications by the service of the desktop's own for
// them (org.freedesktop.Notifications, Desktop Notifications Specification 1.2).
//
// # What it sees to
//
//   - Whoever uses it says what is to be shown now, all of it, and says it again
//     whenever that changes. What is not wanted any more is taken away.
//   - What the person has put away, or the service has, comes again only if it rings
//     anew. What a service showed that was restarted is shown by the new one.
//   - A press opens something, and can do no more: a notification is in the hands of
//     other programs, shows on locked screens, and is pressed by mistake.
//   - Signals count only if the service itself sent them, and only about what is shown.
//   - Texts are plain: a service that knows markup is given none.
//   - Nobody waits for the service. A call that takes too long has failed.
package notification

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"
)

const (
	// name is the service's name and that of its interface.
	name = "org.freedesktop.Notifications"
	path = "/org/freedesktop/Notifications"

	bus = "org.freedesktop.DBus"

	// callTimeout is how long the service may take to answer.
	callTimeout = 5 * time.Second

	// busPause is how long to wait before looking for the session's bus again.
	busPause = time.Minute
)

// An Item is one notification.
type Item struct {
	Key    string // what it is about: there is one for each key
	Title  string
	Body   string // may have line feeds
	Action string // what its button says; to press the notification itself does the same
	Icon   string // a name in the icon theme
	// Urgent is whether it may break through a silence that the person set, and stays
	// until it is over.
	Urgent bool
	// Rings tells an item that was shown from one that rings anew: it is shown once for
	// each number.
	Rings int
	// Until is when the service takes it away, should nobody do so before.
	Until time.Time
}

// A Service is the desktop's service for notifications. Make one with [New].
type Service struct {
	open func(key string)
	told func(error)
	bell chan struct{} // has one slot, filled when wanted has changed

	timeout time.Duration // of a call

	mu     sync.Mutex
	wanted []Item

	// These belong to the goroutine of Run.
	conn   *dbus.Conn
	owner  string // who on the bus is the service; "" while nobody is, as far as is known
	able   []string
	placed map[string]*placed // by key
}

// placed is what became of an item.
type placed struct {
	item Item
	id   uint32 // at the service; 0 if it does not show there
	away bool   // it was shown, and has gone
}

// New returns a service that calls open when an item was pressed, and told when there
// is a service that shows what is wanted (nil), or none, with why not. Both are called on
// the goroutine of [Service.Run], and must soon return.
func New(open func(key string), told func(error)) *Service {
	return &Service{open: open, told: told, bell: make(chan struct{}, 1), timeout: callTimeout, placed: make(map[string]*placed)}
}

// Show says what is to be shown from now on. It does not wait.
func (s *Service) Show(items ...Item) {
	s.mu.Lock()
	changed := !slices.EqualFunc(items, s.wanted, func(a, b Item) bool { return a.Until.Equal(b.Until) && a.timeless() == b.timeless() })
	s.wanted = items
	s.mu.Unlock()
	if changed {
		select {
		case s.bell <- struct{}{}:
		default: // it rings already
		}
	}
}

// timeless returns the item without its time, to be compared.
func (i Item) timeless() Item {
	i.Until = time.Time{}
	return i
}

// Run shows what is wanted until ctx is done, and takes it away then.
func (s *Service) Run(ctx context.Context) {
	for {
		err := s.onBus(ctx)
		if ctx.Err() != nil {
			return
		}
		s.told(err)
		select {
		case <-time.After(busPause):
		case <-ctx.Done():
			return
		}
	}
}

// onBus works on the session's bus until that is gone or ctx is done.
func (s *Service) onBus(ctx context.Context) error {
	// The connection lasts a little longer than ctx, to take away what is shown.
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(s.timeout, end) })()
	conn, err := dbus.SessionBusPrivateNoAutoStartup(dbus.WithContext(life))
	if err != nil {
		return fmt.Errorf("this session has no bus: %w", err)
	}
	defer conn.Close()
	signals := make(chan *dbus.Signal, 64)
	conn.Signal(signals)
	if err := join(conn); err != nil {
		return fmt.Errorf("the bus of this session cannot be used: %w", err)
	}
	s.conn = conn
	s.lost()
	s.arrange()
	for {
		select {
		case <-s.bell:
			for len(signals) > 0 { // what the person has done comes first
				if signal := <-signals; signal != nil { // nil: the bus is gone
					s.heard(signal)
				}
			}
			s.arrange()
		case signal, on := <-signals:
			if !on {
				s.lost()
				return errors.New("the bus of this session is gone")
			}
			s.heard(signal)
		case <-ctx.Done():
			s.clear()
			return nil
		}
	}
}

// join says hello to the bus, and asks for the signals of the service.
func join(conn *dbus.Conn) error {
	if err := conn.Auth(nil); err != nil {
		return err
	}
	if err := conn.Hello(); err != nil {
		return err
	}
	if err := conn.AddMatchSignal(dbus.WithMatchSender(bus), dbus.WithMatchMember("NameOwnerChanged"), dbus.WithMatchArg(0, name)); err != nil {
		return err
	}
	return conn.AddMatchSignal(dbus.WithMatchSender(name), dbus.WithMatchInterface(name), dbus.WithMatchObjectPath(path))
}

// call calls the service. A desktop may start it for that.
func (s *Service) call(method string, args ...any) *dbus.Call {
	return s.callOn(s.conn.Object(name, path), name+"."+method, args...)
}

func (s *Service) callOn(o dbus.BusObject, method string, args ...any) *dbus.Call {
	ctx, cancel := context.WithTimeout(s.conn.Context(), s.timeout)
	defer cancel()
	return o.CallWithContext(ctx, method, 0, args...)
}

// greet finds out whether there is a service, and what it can do.
func (s *Service) greet() error {
	var able []string
	if err := s.call("GetCapabilities").Store(&able); err != nil {
		return fmt.Errorf("this desktop has no service for notifications that answers: %w", err)
	}
	var owner string
	if err := s.callOn(s.conn.BusObject(), bus+".GetNameOwner", name).Store(&owner); err != nil {
		return fmt.Errorf("this desktop's service for notifications has just ended: %w", err)
	}
	s.owner, s.able = owner, able
	return nil
}

// lost forgets a service that is gone, with what it showed.
func (s *Service) lost() {
	s.owner, s.able = "", nil
	for _, p := range s.placed {
		p.id = 0
	}
}

// arrange brings what is shown in line with what is wanted.
func (s *Service) arrange() {
	if s.owner == "" {
		err := s.greet()
		s.told(err)
		if err != nil {
			return // the bus says when there is one, and what comes next tries again
		}
	}
	s.mu.Lock()
	wanted := s.wanted
	s.mu.Unlock()
	for key, p := range s.placed {
		if !slices.ContainsFunc(wanted, func(i Item) bool { return i.Key == key }) {
			s.takeAway(p)
		}
	}
	for _, item := range wanted {
		if err := s.put(item); err != nil {
			s.lost()
			s.told(fmt.Errorf("this desktop's service for notifications does not show what it was given: %w", err))
			return
		}
	}
}

// put shows an item, in the place of the one before with its key.
func (s *Service) put(item Item) error {
	p := s.placed[item.Key]
	if p == nil {
		p = &placed{}
		s.placed[item.Key] = p
	}
	switch same := p.item.Rings == item.Rings; {
	case same && p.away:
		return nil
	case same && p.id != 0 && p.item.timeless() == item.timeless() && p.item.Until.Equal(item.Until):
		return nil
	}
	var actions []string
	if s.can("actions") {
		actions = []string{"default", item.Action, "open", item.Action}
	}
	urgency := byte(1)
	if item.Urgent {
		urgency = 2
	}
	hints := map[string]dbus.Variant{
		"urgency":       dbus.MakeVariant(urgency),
		"desktop-entry": dbus.MakeVariant(item.Icon),
	}
	timeout := int32(-1) // as the service likes
	if !item.Until.IsZero() {
		timeout = int32(max(time.Until(item.Until), time.Second).Milliseconds())
	}
	var id uint32
	err := s.call("Notify", "Countersign", p.id, item.Icon, item.Title, s.plain(item.Body), actions, hints, timeout).Store(&id)
	if err != nil {
		return err
	}
	*p = placed{item: item, id: id}
	return nil
}

func (s *Service) can(what string) bool { return slices.Contains(s.able, what) }

// plain returns a body that is shown as it is. A service that knows no markup shows it
// as text.
func (s *Service) plain(body string) string {
	if !s.can("body-markup") {
		return body
	}
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(body)
}

// takeAway takes away what is shown. If that fails it goes at its time.
func (s *Service) takeAway(p *placed) {
	if p.id != 0 {
		s.call("CloseNotification", p.id)
	}
	p.id, p.away = 0, true
}

// clear takes all away.
func (s *Service) clear() {
	for _, p := range s.placed {
		s.takeAway(p)
	}
}

// heard takes what is said on the bus.
func (s *Service) heard(signal *dbus.Signal) {
	switch signal.Name {
	case bus + ".NameOwnerChanged":
		var which, before, now string
		if signal.Sender != bus || dbus.Store(signal.Body, &which, &before, &now) != nil || which != name || now == s.owner {
			return
		}
		s.lost()
		if now != "" {
			s.arrange()
		} else {
			s.told(errors.New("this desktop's service for notifications has ended"))
		}
	case name + ".ActionInvoked":
		var id uint32
		var action string
		if signal.Sender == s.owner && dbus.Store(signal.Body, &id, &action) == nil {
			if p := s.by(id); p != nil {
				s.open(p.item.Key)
			}
		}
	case name + ".NotificationClosed":
		var id, reason uint32
		if signal.Sender == s.owner && dbus.Store(signal.Body, &id, &reason) == nil {
			if p := s.by(id); p != nil {
				p.id, p.away = 0, true
			}
		}
	}
}

// by returns what is shown under a number, or nil.
func (s *Service) by(id uint32) *placed {
	for _, p := range s.placed {
		if p.id == id && id != 0 {
			return p
		}
	}
	return nil
}
