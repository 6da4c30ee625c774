package apns_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/countersignd/countersign/server/apns"
	"github.com/countersignd/countersign/server/apns/apnstest"
	"github.com/countersignd/countersign/server/approval"
)

// A redirection is an answer like any other, and leads nowhere.
func TestRedirectionsAreNotFollowed(t *testing.T) {
	s, w, to := start(t)
	elsewhere := apnstest.Start(t)
	s.Next(apnstest.Answer{Status: 307, Body: "moved", Header: http.Header{"Location": {elsewhere.URL + "/3/device/" + to.Token}}})
	if got := refusal(t, w.Wake(t.Context(), to, wakeup())); got.Verdict != approval.WakeRefused {
		t.Errorf("Wake = %v, verdict %d", got, got.Verdict)
	}
	if got := elsewhere.Connections(); got != 0 {
		t.Errorf("%d connections to where it led", got)
	}
}

func bearers(s *apnstest.Server) map[string]int {
	seen := map[string]int{}
	for _, p := range s.Pushes() {
		seen[p.Header.Get("Authorization")]++
	}
	return seen
}

// A token that is called stale is made anew and the push tried again, once for all
// pushes that it concerns.
func TestExpiredProviderTokenIsRenewedOnce(t *testing.T) {
	s, w, to := start(t)
	s.Next(apnstest.Answer{Status: 403, Reason: "ExpiredProviderToken"})
	if err := w.Wake(t.Context(), to, wakeup()); err != nil {
		t.Fatalf("Wake = %v, want another try", err)
	}
	if got := bearers(s); len(got) != 2 {
		t.Errorf("%d tokens, want 2: %s", len(got), sortedKeys(got))
	}
	if err := w.Wake(t.Context(), to, wakeup()); err != nil {
		t.Fatal(err)
	}
	if got := bearers(s); len(got) != 2 {
		t.Errorf("%d tokens after the next push, want 2", len(got))
	}
}

// Nor does each of many pushes that are under way with a stale token make one.
func TestExpiredProviderTokenIsRenewedOnceForAll(t *testing.T) {
	s, w, to := start(t)
	if err := w.Wake(t.Context(), to, wakeup()); err != nil {
		t.Fatal(err)
	}
	answer := make(chan struct{})
	stale := apnstest.Answer{Status: 403, Reason: "ExpiredProviderToken", When: answer}
	s.Next(stale, stale, stale)
	var pushing sync.WaitGroup
	for range 3 {
		pushing.Go(func() {
			if err := w.Wake(t.Context(), to, wakeup()); err != nil {
				t.Error(err)
			}
		})
	}
	for look := time.Tick(time.Millisecond); len(s.Pushes()) < 4; {
		<-look
	}
	close(answer)
	pushing.Wait()
	if got := bearers(s); len(got) != 2 || len(s.Taken()) != 4 {
		t.Errorf("%d tokens for %d pushes that were taken, want 2 for 4", len(got), len(s.Taken()))
	}
}

// If the new one is stale too, it is the clock, and further tokens would only be too
// many.
func TestExpiredProviderTokenTwiceIsTheClock(t *testing.T) {
	s, w, to := start(t)
	ahead := time.Now().Add(2 * time.Hour)
	s.Now = func() time.Time { return ahead }
	for i := range 3 {
		got := refusal(t, w.Wake(t.Context(), to, wakeup()))
		if got.Verdict != approval.WakeBroken || !strings.Contains(got.Error(), "clock") {
			t.Errorf("Wake %d = %v, verdict %d", i, got, got.Verdict)
		}
	}
	if got := len(s.Pushes()); got != 4 {
		t.Errorf("%d requests, want 4: two and one and one", got)
	}
	if got := bearers(s); len(got) != 2 {
		t.Errorf("%d tokens, want 2", len(got))
	}
}

// A token made while the clock was ahead is not kept until its time has come.
func TestProviderTokenFromTheFutureIsReplaced(t *testing.T) {
	s, w, to := start(t)
	if err := w.Wake(t.Context(), to, wakeup()); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	s.Now = func() time.Time { return now.Add(21 * time.Minute) }
	w.SetIssued(now.Add(time.Hour))
	if err := w.Wake(t.Context(), to, wakeup()); err != nil {
		t.Fatal(err)
	}
	if got := bearers(s); len(got) != 2 {
		t.Errorf("%d tokens, want 2", len(got))
	}
}

// All pushes have one token, until it is 50 minutes old: APNs refuses a provider
// that changes its own more often than every 20.
func TestOneProviderTokenForAllPushes(t *testing.T) {
	s, w, to := start(t)
	var pushing sync.WaitGroup
	for range 20 {
		pushing.Go(func() {
			if err := w.Wake(t.Context(), to, wakeup()); err != nil {
				t.Error(err)
			}
		})
	}
	pushing.Wait()
	if got := bearers(s); len(got) != 1 {
		t.Errorf("%d tokens, want 1", len(got))
	}
	now := time.Now()
	s.Now = func() time.Time { return now.Add(51 * time.Minute) }
	w.SetIssued(now.Add(-51 * time.Minute))
	if err := w.Wake(t.Context(), to, wakeup()); err != nil {
		t.Fatal(err)
	}
	if got := bearers(s); len(got) != 2 {
		t.Errorf("%d tokens after 51 minutes, want 2", len(got))
	}
}

// Until a provider is known on a connection, APNs takes one push at a time there, and
// it takes many connections for an attack.
func TestOneConnectionForManyPushes(t *testing.T) {
	s, w, to := start(t)
	pushAll := func(what string, connections int) {
		t.Helper()
		before := len(s.Taken())
		// Whoever does not wait for the first answer has time to be seen.
		answer := make(chan struct{})
		time.AfterFunc(100*time.Millisecond, func() { close(answer) })
		s.Next(apnstest.Answer{When: answer})
		var pushing sync.WaitGroup
		for range 100 {
			pushing.Go(func() {
				if err := w.Wake(t.Context(), to, wakeup()); err != nil {
					t.Error(err)
				}
			})
		}
		pushing.Wait()
		if got := s.Connections(); got != connections {
			t.Errorf("%d connections %s, want %d", got, what, connections)
		}
		if got := len(s.Taken()) - before; got != 100 {
			t.Errorf("%d pushes were taken %s, want 100", got, what)
		}
	}
	pushAll("at first", 1)
	s.Next(apnstest.Answer{GoAway: apnstest.GoAwayPerhaps})
	refusal(t, w.Wake(t.Context(), to, wakeup()))
	pushAll("after one was lost", 2)
	s.Next(apnstest.Answer{GoAway: apnstest.GoAwayAfterwards})
	if err := w.Wake(t.Context(), to, wakeup()); err != nil {
		t.Fatal(err)
	}
	for look := time.Tick(time.Millisecond); w.Known(); {
		<-look
	}
	pushAll("after one was ended", 3)
}

// A provider that APNs refuses stays unknown to it.
func TestRefusedProviderGoesOneByOne(t *testing.T) {
	s := apnstest.Start(t)
	c := config(s)
	c.KeyID = "XXXXXXXXXX"
	w := newWaker(t, c)
	var pushing sync.WaitGroup
	for range 100 {
		pushing.Go(func() {
			err := w.Wake(t.Context(), approval.PushAddress{Token: s.Device(apnstest.Topic)}, wakeup())
			if refused, ok := errors.AsType[*approval.WakeError](err); !ok || refused.Verdict != approval.WakeBroken {
				t.Errorf("Wake = %v, want it refused for good", err)
			}
		})
	}
	pushing.Wait()
	if got := s.Connections(); got != 1 {
		t.Errorf("%d connections, want 1", got)
	}
}

// Pushes that all find the connection gone do not each open another.
func TestBurstOpensOneConnection(t *testing.T) {
	s, w, to := start(t)
	w.SetKnown()
	var pushing sync.WaitGroup
	for range 16 {
		// The fake takes one at first; what becomes of the others does not matter.
		pushing.Go(func() { w.Wake(t.Context(), to, wakeup()) })
	}
	pushing.Wait()
	if got := s.Connections(); got != 1 {
		t.Errorf("%d connections, want 1", got)
	}
}

// A GOAWAY frame costs no push that was not looked at, and no later one.
func TestGoAway(t *testing.T) {
	s, w, to := start(t)
	s.Next(apnstest.Answer{GoAway: apnstest.GoAwayNotTaken})
	if err := w.Wake(t.Context(), to, wakeup()); err != nil {
		t.Errorf("Wake that was not looked at = %v, want it sent again", err)
	}
	s.Next(apnstest.Answer{GoAway: apnstest.GoAwayPerhaps})
	if got := refusal(t, w.Wake(t.Context(), to, wakeup())); got.Verdict != approval.WakeLater || strings.Contains(got.Error(), to.Token) {
		t.Errorf("Wake that may have been taken = %v, verdict %d", got, got.Verdict)
	}
	s.Next(apnstest.Answer{GoAway: apnstest.GoAwayAfterwards})
	for range 3 {
		if err := w.Wake(t.Context(), to, wakeup()); err != nil {
			t.Errorf("Wake = %v", err)
		}
	}
	if got := s.Connections(); got != 4 {
		t.Errorf("%d connections, want 4: one after each GOAWAY", got)
	}
}

// An APNs that says nothing holds nobody longer than the caller's context, or the
// limit on one push; and the next push is not behind it.
func TestStall(t *testing.T) {
	s, w, to := start(t)
	stall := apnstest.Answer{Stall: true}
	s.Next(stall)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	if err := w.Wake(ctx, to, wakeup()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Wake = %v, want the context's error", err)
	}
	s.Next(stall)
	canceled, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	if err := w.Wake(canceled, to, wakeup()); !errors.Is(err, context.Canceled) {
		t.Errorf("Wake = %v, want the context's error", err)
	}
	s.Next(stall)
	w.SetTimeout(50 * time.Millisecond)
	got := refusal(t, w.Wake(t.Context(), to, wakeup()))
	if got.Verdict != approval.WakeLater || errors.Is(got, context.DeadlineExceeded) {
		t.Errorf("Wake = %v, verdict %d", got, got.Verdict)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("three pushes took %v", took)
	}
	w.SetTimeout(time.Minute)
	if err := w.Wake(t.Context(), to, wakeup()); err != nil {
		t.Errorf("Wake afterwards = %v", err)
	}
}

// Nor does it when as many pushes are under way as may be.
func TestStalledPushesHoldNobody(t *testing.T) {
	s, w, to := start(t)
	if err := w.Wake(t.Context(), to, wakeup()); err != nil {
		t.Fatal(err)
	}
	const most = 16
	for range most {
		s.Next(apnstest.Answer{Stall: true})
	}
	stalled, cancel := context.WithCancel(t.Context())
	var pushing sync.WaitGroup
	for range most {
		pushing.Go(func() {
			if err := w.Wake(stalled, to, wakeup()); !errors.Is(err, context.Canceled) {
				t.Errorf("Wake = %v, want the context's error", err)
			}
		})
	}
	for look := time.Tick(time.Millisecond); len(s.Pushes()) < 1+most; {
		<-look
	}
	ctx, end := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer end()
	if err := w.Wake(ctx, to, wakeup()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Wake = %v, want the context's error", err)
	}
	if got := len(s.Pushes()); got != 1+most {
		t.Errorf("%d pushes are under way, want %d", got-1, most)
	}
	cancel()
	pushing.Wait()
	if err := w.Wake(t.Context(), to, wakeup()); err != nil {
		t.Errorf("Wake afterwards = %v", err)
	}
}

// Nor does one that takes a connection and never speaks.
func TestSilentListener(t *testing.T) {
	s := apnstest.Start(t)
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	c := config(s)
	c.Endpoint = "https://" + silent.Addr().String()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	err = newWaker(t, c).Wake(ctx, approval.PushAddress{Token: strings.Repeat("ab", 32)}, wakeup())
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > 5*time.Second {
		t.Errorf("Wake = %v after %v, want the context's error", err, time.Since(began))
	}
}

// What is not APNs over HTTP/2 with a certificate that is known gets no push, and the
// error does not give the device's token away.
func TestStrangers(t *testing.T) {
	s := apnstest.Start(t)
	plain := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {}))
	plain.Config.ErrorLog = log.New(io.Discard, "", 0)
	plain.StartTLS() // speaks HTTP/1.1 alone
	defer plain.Close()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: plain.TLS.Certificates})
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() { http.Serve(listener, plain.Config.Handler) })
	defer serving.Wait()
	defer listener.Close()
	known := plain.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	for name, change := range map[string]func(*apns.Config){
		"nobody":              func(c *apns.Config) { c.Endpoint = "https://127.0.0.1:1" },
		"unknown certificate": func(c *apns.Config) { c.Roots = nil },
		"HTTP/1.1":            func(c *apns.Config) { c.Endpoint, c.Roots = plain.URL, known },
		"HTTP/1.1 without ALPN": func(c *apns.Config) {
			c.Endpoint, c.Roots = "https://"+listener.Addr().String(), known
		},
	} {
		c := config(s)
		change(&c)
		token := strings.Repeat("ab", 32)
		got := refusal(t, newWaker(t, c).Wake(t.Context(), approval.PushAddress{Token: token}, wakeup()))
		if got.Verdict != approval.WakeLater || got.Why != "APNs: no answer" || got.Err == nil {
			t.Errorf("Wake through %s = %v, verdict %d", name, got, got.Verdict)
		}
		if strings.Contains(got.Error(), token) || strings.Contains(got.Error(), "/3/device") {
			t.Errorf("the error gives the token away: %v", got)
		}
		if errors.Unwrap(got.Err) != nil {
			t.Errorf("Wake through %s = %#v, which a caller may take for an error of its own", name, got.Err)
		}
	}
	if got := s.Pushes(); len(got) != 0 {
		t.Errorf("%d pushes arrived", len(got))
	}
}
