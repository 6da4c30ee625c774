package agent

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/countersignd/countersign/device-agent/keystore"
	"github.com/countersignd/countersign/internal/pin"
)

// A desk is a Prompter that keeps what it was shown.
type desk struct {
	mu      sync.Mutex
	screens []Screen
	shown   chan struct{}
}

func (d *desk) Show(s Screen) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.screens = append(d.screens, s)
	select {
	case d.shown <- struct{}{}:
	default:
	}
}

func (d *desk) all() []Screen {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]Screen(nil), d.screens...)
}

// waitFor returns the newest screen as soon as ok says so of it.
func (d *desk) waitFor(t *testing.T, what string, ok func(Screen) bool) Screen {
	t.Helper()
	timeout := time.After(time.Minute)
	for {
		if all := d.all(); len(all) > 0 && ok(all[len(all)-1]) {
			return all[len(all)-1]
		}
		select {
		case <-d.shown:
		case <-timeout:
			t.Fatalf("never shown: %s; last: %+v", what, d.all())
		}
	}
}

func prompts(n int) func(Screen) bool { return func(s Screen) bool { return len(s.Prompts) == n } }

// trustedAgent returns an agent that the fake trusts, without the enrolment,
// which has tests of its own.
func trustedAgent(t *testing.T, f *fakeServer, account string) *Agent {
	t.Helper()
	dir := t.TempDir() + "/device"
	keys, err := keystore.Create(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	device, err := pin.KeyID(keys.Identity.Public())
	if err != nil {
		t.Fatal(err)
	}
	state := State{Account: account, Deployment: deployment, Device: device, Kind: "terminal", Name: "test", Phase: Trusted, Pin: f.keyID, Server: "countersign.test:8443", Version: 1}
	if err := state.save(dir); err != nil {
		t.Fatal(err)
	}
	if err := startCounter(dir); err != nil {
		t.Fatal(err)
	}
	a, err := Open(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	a.dialer = f.dial
	f.trust(a)
	return a
}

// running runs a until the test ends or stop is called, and returns what Run
// returned.
func running(t *testing.T, a *Agent) (d *desk, stop func() error) {
	t.Helper()
	d = &desk{shown: make(chan struct{}, 1)}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var err error
	wg.Go(func() { err = a.Run(ctx, d) })
	stop = func() error {
		cancel()
		wg.Wait()
		return err
	}
	t.Cleanup(func() { stop() })
	return d, stop
}
