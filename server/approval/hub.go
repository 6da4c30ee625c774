package approval

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// hub is a doorbell and holds no news: after a commit it rings whoever watches
// a device or a sign-in, and the one who was rung reads the store again.
type hub struct {
	read func(account string) (*reading, error) // [Broker.read]

	mu      sync.Mutex
	devices map[string]*Watch
	signIns map[string]map[*Watch]struct{}
}

// A Watch waits for changes of one device's screen or of one sign-in. Open it
// before reading what it watches, so that no change falls between; close it
// when done.
type Watch struct {
	hub      *hub
	bell     chan struct{} // one slot: rings that nobody heard yet are one ring
	replaced atomic.Bool   // a newer Watch of the device took over; the bell is rung after it is set

	device, signIn string // one of them is set

	timer *time.Timer // of WaitFor; nil before the first

	// Guarded by hub.mu:

	account string // of the device; empty until it was read

	// reading is what the store said after the newest ring, read by the first who
	// asks of the devices that were rung with it; nil if there was no ring since
	// it was taken.
	reading func() (*reading, error)
}

var errReplaced = refuse(ReasonStreamReplaced, "This device's key is in use in another program. If you started a second agent, stop one of them. If not, somebody has a copy of the key: revoke the device.")

func newHub() *hub {
	return &hub{devices: map[string]*Watch{}, signIns: map[string]map[*Watch]struct{}{}}
}

// watchDevice opens a Watch; one that is open for the device already is ended.
func (h *hub) watchDevice(device string) *Watch {
	w := &Watch{hub: h, bell: make(chan struct{}, 1), device: device}
	h.mu.Lock()
	defer h.mu.Unlock()
	if old := h.devices[device]; old != nil {
		old.replaced.Store(true)
		old.ring()
	}
	h.devices[device] = w
	return w
}

func (h *hub) watchSignIn(id string) *Watch {
	w := &Watch{hub: h, bell: make(chan struct{}, 1), signIn: id}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.signIns[id] == nil {
		h.signIns[id] = map[*Watch]struct{}{}
	}
	h.signIns[id][w] = struct{}{}
	return w
}

// Wait returns nil when something may have changed since the Watch was opened
// or Wait last returned nil. It returns an [Error] with ReasonStreamReplaced
// when a newer Watch of the same device was opened, and ctx.Err() when ctx
// ends.
func (w *Watch) Wait(ctx context.Context) error { return w.wait(ctx, nil) }

// WaitFor is Wait for no longer than d: after that it returns nil, too. One
// goroutine calls it.
func (w *Watch) WaitFor(ctx context.Context, d time.Duration) error {
	if w.timer == nil {
		w.timer = time.NewTimer(d)
	} else {
		w.timer.Reset(d)
	}
	defer w.timer.Stop()
	return w.wait(ctx, w.timer.C)
}

func (w *Watch) wait(ctx context.Context, over <-chan time.Time) error {
	if w.replaced.Load() {
		return errReplaced
	}
	select {
	case <-w.bell:
	case <-over:
	case <-ctx.Done():
		return ctx.Err()
	}
	if w.replaced.Load() {
		return errReplaced
	}
	return nil
}

// Close ends the Watch.
func (w *Watch) Close() {
	h := w.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	if w.device != "" && h.devices[w.device] == w {
		delete(h.devices, w.device)
	}
	if set := h.signIns[w.signIn]; set != nil {
		delete(set, w)
		if len(set) == 0 {
			delete(h.signIns, w.signIn)
		}
	}
}

func (w *Watch) ring() {
	select {
	case w.bell <- struct{}{}:
	default:
	}
}

// ring rings the devices and everybody who watches the sign-in. It never
// waits, and is called only after the change is durable.
func (h *hub) ring(devices []string, signIns ...string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var account string
	var read func() (*reading, error)
	for _, d := range devices {
		w := h.devices[d]
		if w == nil {
			continue
		}
		if w.account != account || read == nil {
			account = w.account
			read = h.readOnce(account)
		}
		w.reading = read
		w.ring()
	}
	for _, id := range signIns {
		for w := range h.signIns[id] {
			w.ring()
		}
	}
}

// ringDevices rings every device.
func (h *hub) ringDevices() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, w := range h.devices {
		w.reading = nil
		w.ring()
	}
}

// readOnce returns what reads an account when it is first called, and says the same
// to all who call it. What there was to ring for is committed by then.
func (h *hub) readOnce(account string) func() (*reading, error) {
	if account == "" {
		return nil
	}
	return sync.OnceValues(func() (*reading, error) { return h.read(account) })
}

// take returns the account of a watched device, empty if it is not known yet, and
// how to read it with the others that were rung, nil if it was not.
func (w *Watch) take() (account string, read func() (*reading, error)) {
	w.hub.mu.Lock()
	defer w.hub.mu.Unlock()
	account, read = w.account, w.reading
	w.reading = nil
	return account, read
}

func (w *Watch) setAccount(account string) {
	w.hub.mu.Lock()
	defer w.hub.mu.Unlock()
	w.account = account
}

func (h *hub) connected(device string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.devices[device] != nil
}

func (h *hub) connectedDevices() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.devices)
}
