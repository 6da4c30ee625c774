package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// pipe is one end of a connection from an address.
type pipe struct {
	net.Conn
	from string
}

func (p pipe) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(p.from))
}

// open admits a connection from an address; gone tells whether it was closed.
func open(t *testing.T, b *budget, from string) (c *conn, gone func() bool) {
	t.Helper()
	server, client := net.Pipe()
	t.Cleanup(func() { server.Close(); client.Close() })
	if c = b.admit(pipe{server, from}, time.Now()); c == nil {
		t.Fatalf("a connection from %s was refused", from)
	}
	return c, func() bool {
		client.SetReadDeadline(time.Now().Add(time.Millisecond))
		_, err := client.Read(make([]byte, 1))
		return errors.Is(err, io.EOF)
	}
}

func newTestBudget(t *testing.T, l Limits) *budget {
	t.Helper()
	l, err := l.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	return newBudget(l, slog.New(slog.DiscardHandler))
}

// empty fails unless the budget has forgotten every connection.
func empty(t *testing.T, b *budget) {
	t.Helper()
	if n := b.handshakes.Len() + b.strangers.Len() + len(b.bySource) + b.strangerStreams + len(b.devices) + len(b.applications); n != 0 {
		t.Errorf("with every connection closed the budget still counts: %d handshakes, %d strangers of %d sources with %d calls, %d devices, %d applications",
			b.handshakes.Len(), b.strangers.Len(), len(b.bySource), b.strangerStreams, len(b.devices), len(b.applications))
	}
}

func TestHandshakesMakeRoom(t *testing.T) {
	b := newTestBudget(t, Limits{Handshakes: 2})
	first, gone := open(t, b, "192.0.2.1:1")
	second, secondGone := open(t, b, "192.0.2.2:1")
	third, _ := open(t, b, "192.0.2.3:1")
	if !gone() || secondGone() {
		t.Error("want the oldest handshake closed, and no other")
	}
	if first.promote(classStranger, ""); b.strangers.Len() != 0 {
		t.Error("a connection that was closed became a stranger's")
	}
	first.Close()
	second.Close()
	third.Close()
	third.Close()
	empty(t, b)
}

func TestStrangersMakeRoom(t *testing.T) {
	b := newTestBudget(t, Limits{Strangers: 3, StrangersPerSource: 2})
	stranger := func(from string) (*conn, func() bool) {
		c, gone := open(t, b, from)
		c.promote(classStranger, "")
		return c, gone
	}
	x1, x1Gone := stranger("192.0.2.1:1")
	y1, y1Gone := stranger("192.0.2.2:1")
	x2, x2Gone := stranger("192.0.2.1:2")
	x3, _ := stranger("192.0.2.1:3")
	if !x1Gone() || y1Gone() || x2Gone() {
		t.Error("a third stranger of one source: want that source's oldest closed, and no other")
	}
	z1, _ := stranger("192.0.2.3:1")
	if !y1Gone() || x2Gone() {
		t.Error("a fourth stranger: want the oldest of all closed, and no other")
	}
	for _, c := range []*conn{x1, y1, x2, x3, z1} {
		c.Close()
	}
	empty(t, b)
}

func TestAStrangersLifeIsShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTestBudget(t, Limits{})
		stranger, gone := open(t, b, "192.0.2.1:1")
		stranger.promote(classStranger, "")
		app, appGone := open(t, b, "192.0.2.1:2")
		app.promote(classStranger, "")
		app.promote(classApplication, "")
		time.Sleep(strangerLife - time.Second)
		if gone() {
			t.Error("a stranger was cut before its time")
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if !gone() || appGone() {
			t.Error("after a minute: want the stranger closed and the application not")
		}
		app.Close()
		empty(t, b)
	})
}

func TestDevicesMakeRoom(t *testing.T) {
	b := newTestBudget(t, Limits{DeviceConnections: 2})
	device := func(id string) (*conn, func() bool) {
		c, gone := open(t, b, "192.0.2.1:1")
		c.promote(classDevice, id)
		return c, gone
	}
	a1, a1Gone := device("a")
	b1, b1Gone := device("b")
	a2, a2Gone := device("a")
	a3, _ := device("a")
	if !a1Gone() || a2Gone() || b1Gone() {
		t.Error("a third connection of a device: want its oldest closed, and no other")
	}
	// A device is no stranger again, and no application.
	if a3.promote(classStranger, ""); a3.class != classDevice {
		t.Errorf("class = %d, want a device's", a3.class)
	}
	for _, c := range []*conn{a1, b1, a2, a3} {
		c.Close()
	}
	empty(t, b)
}

// A thousand agents behind one address are no flood.
func TestDevicesOfOneSourceAreNotLimited(t *testing.T) {
	b := newTestBudget(t, Limits{})
	conns := make([]*conn, 1000)
	for i := range conns {
		conns[i], _ = open(t, b, "192.0.2.1:1")
	}
	for i, c := range conns {
		c.promote(classDevice, fmt.Sprint(i))
	}
	for i, c := range conns {
		if c.class != classDevice {
			t.Fatalf("connection %d of 1000 is of class %d, want a device's", i, c.class)
		}
		c.Close()
	}
	empty(t, b)
}

func openCall(c *conn, ctx context.Context, now time.Time) *refusal {
	_, refused := c.openStream(ctx, now)
	return refused
}

func TestCallsOfAConnection(t *testing.T) {
	for _, test := range []struct {
		class class
		want  int
	}{{classStranger, 8}, {classDevice, 8}, {classApplication, 64}} {
		b := newTestBudget(t, Limits{})
		c, _ := open(t, b, "192.0.2.1:1")
		if test.class == classApplication {
			c.promote(classStranger, "")
		}
		c.promote(test.class, "x")
		ctx, cancel := context.WithCancel(t.Context())
		n := 0
		for openCall(c, ctx, time.Now()) == nil {
			n++
		}
		if n != test.want {
			t.Errorf("class %d: %d calls, want %d", test.class, n, test.want)
		}
		cancel()
		for range 1000 {
			b.mu.Lock()
			left := c.streams
			b.mu.Unlock()
			if left == 0 {
				break
			}
			time.Sleep(time.Millisecond)
		}
		if refused := openCall(c, t.Context(), time.Now()); refused != nil {
			t.Errorf("class %d: a call after all have ended is refused: %v", test.class, refused)
		}
		c.Close()
		if refused := openCall(c, t.Context(), time.Now()); refused != errTooManyStreams {
			t.Errorf("class %d: a call on a closed connection: %v, want a refusal", test.class, refused)
		}
	}
}

// TestNoApplicationKeepsTheOthersOut fills the room of applications from one.
func TestNoApplicationKeepsTheOthersOut(t *testing.T) {
	b := newTestBudget(t, Limits{ApplicationConnections: 3})
	var gone []func() bool
	for i := range 3 {
		c, g := open(t, b, fmt.Sprintf("192.0.2.1:%d", i+1))
		c.promote(classStranger, "")
		c.promote(classApplication, "greedy")
		gone = append(gone, g)
	}
	for i := range 2 {
		c, g := open(t, b, fmt.Sprintf("192.0.2.2:%d", i+1))
		c.promote(classStranger, "")
		c.promote(classApplication, "modest")
		if c.class != classApplication || g() || !gone[i]() {
			t.Errorf("the modest application's connection %d is of class %d, gone %v; the greedy one's oldest gone %v", i, c.class, g(), gone[i]())
		}
	}
	if gone[2]() {
		t.Error("the greedy application has none left")
	}
}

func TestStrangersCallsMakeRoom(t *testing.T) {
	b := newTestBudget(t, Limits{StrangerStreams: 2})
	busy, busyGone := open(t, b, "192.0.2.1:1")
	busy.promote(classStranger, "")
	newcomer, _ := open(t, b, "192.0.2.2:1")
	newcomer.promote(classStranger, "")
	for range 2 {
		if refused := openCall(busy, t.Context(), time.Now()); refused != nil {
			t.Fatal(refused)
		}
	}
	if refused := openCall(newcomer, t.Context(), time.Now()); refused != nil || !busyGone() {
		t.Errorf("a newcomer's call: %v, the busy stranger gone: %v, want nil, true", refused, busyGone())
	}
	// Nobody else is left to make room for the newcomer's own third call.
	openCall(newcomer, t.Context(), time.Now())
	if refused := openCall(newcomer, t.Context(), time.Now()); refused != errTooManyStreams {
		t.Errorf("a third call = %v, want a refusal", refused)
	}
}

func TestStrangersCallsAreSlowedDown(t *testing.T) {
	b := newTestBudget(t, Limits{StrangerCallRate: 1, StrangerCallBurst: 3})
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	now := time.Now()
	calls := func(from string) int {
		c, _ := open(t, b, from)
		c.promote(classStranger, "")
		n := 0
		for ; n < 100; n++ {
			if openCall(c, ended, now) == errTooManyCalls {
				break
			}
			for range 1000 {
				b.mu.Lock()
				left := c.streams
				b.mu.Unlock()
				if left == 0 {
					break
				}
				time.Sleep(time.Millisecond)
			}
		}
		return n
	}
	if got := calls("[2001:db8:1:2::1]:1"); got != 3 {
		t.Errorf("%d calls at once of one source, want 3", got)
	}
	if got := calls("[2001:db8:1:2:ffff::1]:1"); got != 0 {
		t.Errorf("%d calls at once of another address of its network, want 0", got)
	}
	if got := calls("[2001:db8:1:3::1]:1"); got != 3 {
		t.Errorf("%d calls at once of another network, want 3", got)
	}
}

func TestSourceOf(t *testing.T) {
	for from, want := range map[string]string{
		"192.0.2.1:1":              "192.0.2.1/32",
		"[::ffff:192.0.2.1]:1":     "192.0.2.1/32",
		"[2001:db8:1:2:3:4:5:6]:1": "2001:db8:1:2::/64",
		"[fe80::1%eth0]:1":         "fe80::/64",
	} {
		addr := addrOf(net.TCPAddrFromAddrPort(netip.MustParseAddrPort(from)))
		if got := sourceOf(addr); got.String() != want {
			t.Errorf("sourceOf(%s) = %v, want %s", from, got, want)
		}
	}
	if got := sourceOf(addrOf(&net.UnixAddr{Name: "@"})); got.IsValid() {
		t.Errorf("sourceOf(a Unix address) = %v, want none", got)
	}
}

func TestRatesForgetTheQuietest(t *testing.T) {
	r := newRates(1, 1)
	now := time.Now()
	source := func(i int) netip.Prefix {
		return netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 1, 13: byte(i >> 16), 14: byte(i >> 8), 15: byte(i)}), 128)
	}
	if !r.allow(source(0), now) || r.allow(source(0), now) {
		t.Fatal("want the first connection of a source let in and the second not")
	}
	for i := range 3 * maxSources {
		r.allow(source(0), now) // stays known, since it is not quiet
		r.allow(source(i+1), now)
	}
	if len(r.sources) != maxSources || r.recent.Len() != maxSources {
		t.Errorf("%d and %d sources are remembered, want %d", len(r.sources), r.recent.Len(), maxSources)
	}
	if r.allow(source(0), now) {
		t.Error("a source that never was quiet was forgotten")
	}
}

// fakeListener hands out connections of one source.
type fakeListener struct {
	net.Listener
	conns chan net.Conn
}

func (l fakeListener) Accept() (net.Conn, error) {
	c, ok := <-l.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}

func (l fakeListener) Close() error { return nil }

func TestTheListenerIsNoFasterThanItsLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		limits, err := Limits{AcceptRate: 10, AcceptBurst: 5, SourceRate: 1, SourceBurst: 8}.withDefaults()
		if err != nil {
			t.Fatal(err)
		}
		b := newBudget(limits, slog.New(slog.NewTextHandler(&log, nil)))
		fake := fakeListener{conns: make(chan net.Conn, 100)}
		l := newLimitedListener(fake, b)
		for range 20 {
			server, client := net.Pipe()
			defer client.Close()
			fake.conns <- pipe{server, "192.0.2.1:1"}
		}
		close(fake.conns)
		began := time.Now()
		n := 0
		for {
			c, err := l.Accept()
			if err != nil {
				break
			}
			defer c.Close()
			n++
		}
		// 8 at once for the source, of which 5 at once for all and 3 at 10 a second.
		if took := time.Since(began); n != 8 || took != 300*time.Millisecond {
			t.Errorf("accepted %d of 20 in %v, want 8 in 300ms", n, took)
		}
		if got := strings.Count(log.String(), "connections were refused"); got != 1 {
			t.Errorf("the log has %d lines about refused connections, want 1: %s", got, &log)
		}
		l.Close()
		empty(t, b)
	})
}
