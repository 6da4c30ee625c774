package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/countersignd/countersign/server"
	"github.com/countersignd/countersign/server/approval"
	"github.com/countersignd/countersign/server/metrics"
)

// Why a server is not ready, besides that its store is silent.
const (
	starting    = "starting"
	stopping    = "stopping"
	storeFailed = "the store failed"
)

// maxSilence is how long the store may be silent before callers should go
// elsewhere, or wait. Housekeeping asks it every second.
const maxSilence = 10 * time.Second

// A health is whether callers should be sent here, and how large the store is. It
// is kept up by housekeeping, so that whoever asks does not wait for a store that
// hangs.
type health struct {
	disk *disk

	mu      sync.Mutex
	not     string    // why it is not ready; empty if nothing is known against it
	passed  time.Time // when the time was last kept and the store read
	size    int64     // of the store, in bytes
	records uint64
}

func newHealth(room *disk) *health { return &health{disk: room, not: starting} }

// pass notes that the time was kept and the store has answered.
func (h *health) pass(size int64, records uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.passed, h.size, h.records = time.Now(), size, records
}

// begin says that the server serves.
func (h *health) begin() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.not, h.passed = "", time.Now()
}

// end says that it does not any more, and why. The first reason stays.
func (h *health) end(why string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.not == "" || h.not == starting {
		h.not = why
	}
}

func (h *health) storeSize() (size int64, records uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.size, h.records
}

// readiness is the answer of /readyz. On a disk that is nearly full the server is
// ready: nothing new can be begun there, but nobody else could take a denial or a
// revocation.
func (h *health) readiness() metrics.Readiness {
	h.mu.Lock()
	not, silent := h.not, time.Since(h.passed)
	h.mu.Unlock()
	switch {
	case not != "":
		return metrics.Readiness{Words: "not ready: " + not}
	case silent > maxSilence:
		return metrics.Readiness{Words: fmt.Sprintf("not ready: the store has not answered for %d s", int(silent.Seconds()))}
	case h.disk.full():
		return metrics.Readiness{Ready: true, Words: "ready, but the disk is nearly full: nothing new can be begun"}
	}
	return metrics.Readiness{Ready: true, Words: "ready"}
}

// An observer tells others how the server is: whoever asks by HTTP, if the settings
// say so, and the service manager.
type observer struct {
	metrics *metrics.Metrics
	health  *health
	notify  notifier
	log     *slog.Logger
	stop    func() // ends what newObserver began
}

// newObserver answers from now on that the server is starting.
func newObserver(s settings, room *disk, log *slog.Logger) (*observer, error) {
	o := &observer{metrics: metrics.New(version()), health: newHealth(room), notify: newNotifier(), log: log, stop: func() {}}
	if s.ObserveListen == "" {
		return o, nil
	}
	l, err := net.Listen("tcp", s.ObserveListen)
	if err != nil {
		return nil, fmt.Errorf("listening for who asks for metrics: %w", err)
	}
	log.Info("serving metrics", "address", l.Addr().String())
	if a, err := netip.ParseAddrPort(l.Addr().String()); err != nil || !a.Addr().Unmap().IsLoopback() {
		log.Warn("metrics are served in plain HTTP to whoever reaches this address: make sure that only a private network does", "address", l.Addr().String())
	}
	o.stop = o.metrics.Serve(l, o.health.readiness, log)
	return o, nil
}

// begin says that the server serves.
func (o *observer) begin(broker *approval.Broker, srv *server.Server, all *secrets) {
	o.metrics.Watch(broker.Now, func() metrics.State { return o.state(broker, srv, all) })
	o.health.begin()
	o.tell(notifyReady)
}

// end says when ctx ends that it stops.
func (o *observer) end(ctx context.Context) {
	<-ctx.Done()
	o.health.end(stopping)
	o.tell(notifyStopping)
}

func (o *observer) tell(what string) {
	if err := o.notify.tell(what); err != nil {
		o.log.Warn("the service manager does not know how the server is", "error", err)
	}
}

// state is what is measured when somebody asks for metrics.
func (o *observer) state(broker *approval.Broker, srv *server.Server, all *secrets) metrics.State {
	size, records := o.health.storeSize()
	return metrics.State{
		ConnectedDevices:   broker.ConnectedDevices(),
		Load:               srv.Load(),
		PushServices:       broker.PushServices(),
		Disk:               o.health.disk.state(),
		StoreSize:          size,
		RecordSize:         records,
		ClockAhead:         broker.ClockAhead(),
		Restored:           broker.Restored(),
		CertificateExpires: all.cert.Leaf.NotAfter,
	}
}
