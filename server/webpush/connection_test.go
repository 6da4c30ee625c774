package webpush

import (
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/countersignd/countersign/server/approval"
)

// A connection that died without a word, as they do behind a firewall that forgets
// them, takes one push with it and not those after.
func TestDeadConnection(t *testing.T) {
	service, s := newPair(t)
	service.SetAnswer(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusCreated) })
	s.transport.HTTP2 = &http.HTTP2Config{SendPingTimeout: 50 * time.Millisecond, PingTimeout: 50 * time.Millisecond}
	s.maxTime = 500 * time.Millisecond
	wall := newFirewall(t, strings.TrimPrefix(service.Origin, "https://"))
	to := newAddress(t, "https://"+wall.address+"/x")
	if err := s.Wake(t.Context(), to, ring()); err != nil {
		t.Fatal(err)
	}
	wall.forget()
	if wake := wakeError(t, s.Wake(t.Context(), to, ring())); wake.Verdict != approval.WakeLater {
		t.Errorf("a push over a dead connection = %v, want it later", wake)
	}
	if err := s.Wake(t.Context(), to, ring()); err != nil {
		t.Errorf("the next push = %v, want it taken over another connection", err)
	}
}

// A firewall passes connections on to a server, until it forgets those there are:
// then nothing passes on them and nobody is told.
type firewall struct {
	address string
	mu      sync.Mutex
	gone    *atomic.Bool // of the connections that were opened since the last forget
}

func newFirewall(t *testing.T, behind string) *firewall {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &firewall{address: l.Addr().String(), gone: new(atomic.Bool)}
	var passing sync.WaitGroup
	passing.Go(func() {
		for {
			from, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { from.Close() })
			to, err := net.Dial("tcp", behind)
			if err != nil {
				t.Errorf("behind the firewall: %v", err)
				return
			}
			f.mu.Lock()
			gone := f.gone
			f.mu.Unlock()
			pass := func(to, from net.Conn) {
				buf := make([]byte, 4096)
				for {
					n, err := from.Read(buf)
					if err != nil {
						to.Close()
						return
					}
					if !gone.Load() {
						to.Write(buf[:n])
					}
				}
			}
			passing.Go(func() { pass(to, from) })
			passing.Go(func() { pass(from, to) })
		}
	})
	t.Cleanup(func() { l.Close(); passing.Wait() })
	return f
}

func (f *firewall) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gone.Store(true)
	f.gone = new(atomic.Bool)
}

// Connections are used again, and pushes at the same time do not disturb each other.
func TestManyAtOnce(t *testing.T) {
	service, s := newPair(t)
	var waking sync.WaitGroup
	for range 20 {
		phone := service.Subscribe(s.vapid.public)
		waking.Go(func() {
			for range 5 {
				if err := s.Wake(t.Context(), addressOf(phone), ring()); err != nil {
					t.Errorf("Wake = %v", err)
				}
			}
		})
	}
	waking.Wait()
	if got := service.Requests(); got != 100 {
		t.Errorf("%d requests came, want 100", got)
	}
}
