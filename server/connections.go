package server

import (
	"container/list"
	"context"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// This file decides who may hold how many connections and calls. It works
// below gRPC, on the accepted sockets, because gRPC limits nothing before the
// handshake and nothing across connections.
//
// Each connection is in one class at a time, and each class has its own room,
// so that a flood of strangers takes nothing from devices and applications:
//
//	handshake ──► device        the client certificate is a trusted device's
//	          └─► stranger ──► application   a call showed a good token
//	                       └─► device        a call enrolled the key
//
// A class that is full closes its oldest connection rather than refuse the
// newest: idle connections are what a flood is made of.

type class int

const (
	classHandshake class = iota
	classStranger
	classDevice
	classApplication
	classClosed // closed and in nobody's count
)

const (
	// agentStreams is how many calls a caller may have open on one
	// connection, and applicationStreams how many if it showed a good token.
	agentStreams       = 8
	applicationStreams = 64

	// strangerLife is how long a connection may stay a stranger's. An
	// enrolment takes less than a second, and so does the first call of an
	// application.
	strangerLife = time.Minute

	// refusedEvery is how often the log tells of refused connections.
	refusedEvery = time.Minute
)

// budget counts the connections of the public listener.
type budget struct {
	limits Limits
	log    *slog.Logger
	rates  *rates        // of connections, by source
	calls  *rates        // of strangers' calls, by source
	total  *rate.Limiter // of strangers' calls

	mu              sync.Mutex
	handshakes      list.List            // of *conn, oldest first
	strangers       list.List            // of *conn, oldest first
	bySource        map[netip.Prefix]int // how many of strangers are of a source
	strangerStreams int                  // how many calls they have open
	devices         map[string][]*conn   // of a device, oldest first
	applications    map[string][]*conn   // of an application, oldest first
	applicationN    int                  // how many these are
	closing         bool                 // no handshake may begin any more
	refused         int                  // since the log told of it
	refusedEver     uint64
	refusedTold     time.Time
}

// A conn is a connection and its place in the budget. What comes after budget is
// guarded by budget.mu.
type conn struct {
	net.Conn
	lastSeen  time.Time // when its device had been before; set by the handshake
	dismissed sync.Once

	budget  *budget
	source  netip.Prefix
	class   class
	place   *list.Element // in handshakes or strangers
	owner   string        // the device, or the application
	streams int           // calls that are open
	timer   *time.Timer   // ends a stranger's life
}

func newBudget(limits Limits, log *slog.Logger) *budget {
	return &budget{
		limits:       limits,
		log:          log,
		rates:        newRates(limits.SourceRate, limits.SourceBurst),
		calls:        newRates(limits.StrangerCallRate, limits.StrangerCallBurst),
		total:        rate.NewLimiter(rate.Limit(10*limits.StrangerCallRate), 10*limits.StrangerCallBurst),
		bySource:     map[netip.Prefix]int{},
		devices:      map[string][]*conn{},
		applications: map[string][]*conn{},
	}
}

// admit returns the connection with a place among the handshakes, or nil if it
// must be closed at once.
func (b *budget) admit(raw net.Conn, now time.Time) *conn {
	source := sourceOf(addrOf(raw.RemoteAddr()))
	if !b.rates.allow(source, now) {
		b.tellRefused(now)
		return nil
	}
	c := &conn{Conn: raw, budget: b, source: source, class: classHandshake}
	b.mu.Lock()
	if b.closing {
		b.mu.Unlock()
		return nil
	}
	var oldest *conn
	if b.handshakes.Len() >= b.limits.Handshakes {
		oldest = b.handshakes.Front().Value.(*conn)
		b.removeLocked(oldest)
	}
	c.place = b.handshakes.PushBack(c)
	b.mu.Unlock()
	cut(oldest)
	return c
}

// tellRefused counts a refused connection and logs the count now and then.
func (b *budget) tellRefused(now time.Time) {
	b.mu.Lock()
	b.refused++
	b.refusedEver++
	n := b.refused
	tell := now.Sub(b.refusedTold) >= refusedEvery
	if tell {
		b.refused, b.refusedTold = 0, now
	}
	b.mu.Unlock()
	if tell {
		b.log.Warn("connections were refused: one source opened too many too fast", "count", n)
	}
}

// promote moves the connection into another class: from the handshake to
// stranger or device, or up from stranger. Anything else changes nothing.
func (c *conn) promote(to class, owner string) {
	b := c.budget
	b.mu.Lock()
	from := c.class
	if from != classHandshake && (from != classStranger || to == classStranger) {
		b.mu.Unlock()
		return
	}
	b.removeLocked(c)
	var oldest *conn
	switch to {
	case classStranger:
		oldest = b.crowdedLocked(c.source)
		c.place = b.strangers.PushBack(c)
		b.bySource[c.source]++
		c.timer = time.AfterFunc(strangerLife, func() { c.Close() })
	case classDevice:
		if same := b.devices[owner]; len(same) >= b.limits.DeviceConnections {
			oldest = same[0]
		}
	case classApplication:
		if b.applicationN >= b.limits.ApplicationConnections {
			oldest = b.greediestLocked()
		}
	}
	if oldest != nil {
		b.removeLocked(oldest)
	}
	switch to {
	case classDevice:
		b.devices[owner] = append(b.devices[owner], c)
	case classApplication:
		b.applications[owner] = append(b.applications[owner], c)
		b.applicationN++
	}
	c.class, c.owner = to, owner
	b.mu.Unlock()
	cut(oldest)
}

// stranger reports whether the connection has shown nothing good so far.
func (c *conn) stranger() bool {
	c.budget.mu.Lock()
	defer c.budget.mu.Unlock()
	return c.class != classDevice && c.class != classApplication
}

// crowdedLocked returns the stranger that must go for one more of the source.
func (b *budget) crowdedLocked(source netip.Prefix) *conn {
	if b.bySource[source] >= b.limits.StrangersPerSource {
		for e := b.strangers.Front(); e != nil; e = e.Next() {
			if c := e.Value.(*conn); c.source == source {
				return c
			}
		}
	}
	if b.strangers.Len() >= b.limits.Strangers {
		return b.strangers.Front().Value.(*conn)
	}
	return nil
}

// removeLocked takes the connection out of its class.
func (b *budget) removeLocked(c *conn) {
	switch c.class {
	case classHandshake:
		b.handshakes.Remove(c.place)
	case classStranger:
		b.strangers.Remove(c.place)
		b.strangerStreams -= c.streams
		if b.bySource[c.source]--; b.bySource[c.source] == 0 {
			delete(b.bySource, c.source)
		}
		c.timer.Stop()
	case classDevice:
		remove(b.devices, c)
	case classApplication:
		remove(b.applications, c)
		b.applicationN--
	}
	c.class, c.place, c.timer, c.owner = classClosed, nil, nil, ""
}

// Close closes the connection and gives its place back. It may be called more
// than once.
func (c *conn) Close() error {
	c.budget.mu.Lock()
	c.budget.removeLocked(c)
	c.budget.mu.Unlock()
	return c.Conn.Close()
}

// dismiss closes the connection of a device that was revoked since it was opened,
// when the device has had time to read so: it has the room and the freedom of one
// that is trusted. What it opens then is a stranger's.
func (c *conn) dismiss() {
	c.dismissed.Do(func() { time.AfterFunc(cutAfter, func() { c.Close() }) })
}

// remove takes the connection out of its owner's.
func remove(of map[string][]*conn, c *conn) {
	rest := slices.DeleteFunc(of[c.owner], func(other *conn) bool { return other == c })
	if of[c.owner] = rest; len(rest) == 0 {
		delete(of, c.owner)
	}
}

// greediestLocked returns the oldest connection of the application that has
// most, so that none can keep the others out.
func (b *budget) greediestLocked() *conn {
	var most []*conn
	for _, same := range b.applications {
		if len(same) > len(most) {
			most = same
		}
	}
	return most[0]
}

// cut closes a connection that was removed already; c may be nil.
func cut(c *conn) {
	if c == nil {
		return
	}
	reset(c.Conn)
}

// reset closes a connection so that the system keeps nothing of it.
func reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	c.Close()
}

// openStream returns why the connection may not have one more call open; or
// the call counts until done is called, which it may be more than once, or
// until ctx ends. The handler's end must call done, before the caller has its
// answer and begins the next call; the context sees to calls that reach none.
func (c *conn) openStream(ctx context.Context, now time.Time) (done func(), refused *refusal) {
	oldest, refused := c.countStream(now)
	cut(oldest)
	if refused != nil {
		return nil, refused
	}
	done = sync.OnceFunc(c.closeStream)
	context.AfterFunc(ctx, done)
	return done, nil
}

// countStream counts one more call, and returns the stranger that must go for
// it, if any.
func (c *conn) countStream(now time.Time) (oldest *conn, refused *refusal) {
	b := c.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	most := agentStreams
	if c.class == classApplication {
		most = applicationStreams
	}
	if c.class == classClosed || c.streams >= most {
		return nil, errTooManyStreams
	}
	if c.class == classStranger {
		if !b.calls.allow(c.source, now) || !b.total.AllowN(now, 1) {
			return nil, errTooManyCalls
		}
		if b.strangerStreams >= b.limits.StrangerStreams {
			if oldest = b.busyStrangerLocked(c); oldest == nil {
				return nil, errTooManyStreams
			}
			b.removeLocked(oldest)
		}
		b.strangerStreams++
	}
	c.streams++
	return oldest, nil
}

// busyStrangerLocked returns the oldest stranger other than c with an open call.
func (b *budget) busyStrangerLocked(c *conn) *conn {
	for e := b.strangers.Front(); e != nil; e = e.Next() {
		if other := e.Value.(*conn); other != c && other.streams > 0 {
			return other
		}
	}
	return nil
}

func (c *conn) closeStream() {
	b := c.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	c.streams--
	if c.class == classStranger {
		b.strangerStreams--
	}
}

// limitedListener accepts no faster than the limits allow and hands out
// connections of type *conn.
type limitedListener struct {
	net.Listener
	budget *budget
	total  *rate.Limiter
	ctx    context.Context // ended by Close
	cancel context.CancelFunc
}

func newLimitedListener(l net.Listener, b *budget) *limitedListener {
	ctx, cancel := context.WithCancel(context.Background())
	total := rate.NewLimiter(rate.Limit(b.limits.AcceptRate), b.limits.AcceptBurst)
	return &limitedListener{l, b, total, ctx, cancel}
}

// Accept implements [net.Listener]. What one source has too many of is closed
// without a pause, since it must not slow down the others; for the sum of all
// sources the pause is taken here, and the operating system's queue holds
// what comes meanwhile.
func (l *limitedListener) Accept() (net.Conn, error) {
	for {
		raw, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c := l.budget.admit(raw, time.Now())
		if c == nil {
			reset(raw)
			continue
		}
		if err := l.total.Wait(l.ctx); err != nil {
			c.Close()
			return nil, net.ErrClosed
		}
		return c, nil
	}
}

// Close implements [net.Listener]. It also closes the connections that are in
// their handshake: gRPC waits for those before it stops anything, and they may
// take ten seconds.
func (l *limitedListener) Close() error {
	err := l.Listener.Close()
	l.cancel()
	b := l.budget
	b.mu.Lock()
	b.closing = true
	waiting := appendAll(nil, &b.handshakes)
	b.mu.Unlock()
	for _, c := range waiting {
		c.Close()
	}
	return err
}

// load counts the connections.
func (b *budget) load() Load {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := Load{Handshakes: b.handshakes.Len(), Strangers: b.strangers.Len(), Applications: b.applicationN, RefusedConnections: b.refusedEver}
	for _, same := range b.devices {
		l.Devices += len(same)
	}
	return l
}

// closeAll closes every connection.
func (b *budget) closeAll() {
	b.mu.Lock()
	all := appendAll(nil, &b.handshakes)
	all = appendAll(all, &b.strangers)
	for _, same := range b.devices {
		all = append(all, same...)
	}
	for _, same := range b.applications {
		all = append(all, same...)
	}
	b.mu.Unlock()
	for _, c := range all {
		c.Close()
	}
}

func appendAll(to []*conn, l *list.List) []*conn {
	for e := l.Front(); e != nil; e = e.Next() {
		to = append(to, e.Value.(*conn))
	}
	return to
}
