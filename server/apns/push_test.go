package apns_test

import (
	"context"
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

// What follows from each of Apple's answers.
func TestReactions(t *testing.T) {
	s, w, to := start(t)
	since := time.UnixMilli(1_763_000_000_123)
	minute := http.Header{"Retry-After": {"60"}}
	for _, test := range []struct {
		answer apnstest.Answer
		want   approval.WakeVerdict
		after  time.Duration
	}{
		{apnstest.Answer{Status: 410, Reason: "Unregistered", Timestamp: since}, approval.WakeDead, 0},
		{apnstest.Answer{Status: 410, Reason: "ExpiredToken", Timestamp: since}, approval.WakeDead, 0},
		{apnstest.Answer{Status: 410, Reason: "Unregistered"}, approval.WakeDead, 0},
		{apnstest.Answer{Status: 410, Reason: "SomethingNew", Timestamp: since}, approval.WakeDead, 0},
		{apnstest.Answer{Status: 400, Reason: "BadDeviceToken"}, approval.WakeDead, 0},
		{apnstest.Answer{Status: 400, Reason: "DeviceTokenNotForTopic"}, approval.WakeRefused, 0},

		{apnstest.Answer{Status: 403, Reason: "InvalidProviderToken"}, approval.WakeBroken, 0},
		{apnstest.Answer{Status: 403, Reason: "MissingProviderToken"}, approval.WakeBroken, 0},
		{apnstest.Answer{Status: 403, Reason: "BadCertificate"}, approval.WakeBroken, 0},
		{apnstest.Answer{Status: 403, Reason: "BadCertificateEnvironment"}, approval.WakeBroken, 0},
		{apnstest.Answer{Status: 403, Reason: "UnrelatedKeyIdInToken"}, approval.WakeBroken, 0},
		{apnstest.Answer{Status: 403, Reason: "BadEnvironmentKeyIdInToken"}, approval.WakeBroken, 0},
		{apnstest.Answer{Status: 403, Reason: "BadEnvironmentKeyInToken"}, approval.WakeBroken, 0},
		{apnstest.Answer{Status: 403, Reason: "Forbidden"}, approval.WakeBroken, 0},
		{apnstest.Answer{Status: 403, Reason: "SomethingNew"}, approval.WakeBroken, 0},
		{apnstest.Answer{Status: 400, Reason: "TopicDisallowed"}, approval.WakeBroken, 0},
		{apnstest.Answer{Status: 400, Reason: "BadTopic"}, approval.WakeBroken, 0},
		{apnstest.Answer{Status: 400, Reason: "MissingTopic"}, approval.WakeBroken, 0},

		{apnstest.Answer{Status: 429, Reason: "TooManyRequests"}, approval.WakeLater, 0},
		{apnstest.Answer{Status: 429, Reason: "TooManyRequests", Header: minute}, approval.WakeLater, time.Minute},
		{apnstest.Answer{Status: 429, Reason: "TooManyProviderTokenUpdates"}, approval.WakeLater, 0},
		{apnstest.Answer{Status: 429, Reason: "SomethingNew"}, approval.WakeLater, 0},
		{apnstest.Answer{Status: 400, Reason: "IdleTimeout"}, approval.WakeLater, 0},
		{apnstest.Answer{Status: 500, Reason: "InternalServerError"}, approval.WakeLater, 0},
		{apnstest.Answer{Status: 503, Reason: "ServiceUnavailable", Header: minute}, approval.WakeLater, time.Minute},
		{apnstest.Answer{Status: 503, Reason: "Shutdown"}, approval.WakeLater, 0},

		{apnstest.Answer{Status: 400, Reason: "BadCollapseId", Header: minute}, approval.WakeRefused, 0},
		{apnstest.Answer{Status: 400, Reason: "BadExpirationDate"}, approval.WakeRefused, 0},
		{apnstest.Answer{Status: 400, Reason: "BadMessageId"}, approval.WakeRefused, 0},
		{apnstest.Answer{Status: 400, Reason: "BadPriority"}, approval.WakeRefused, 0},
		{apnstest.Answer{Status: 400, Reason: "DuplicateHeaders"}, approval.WakeRefused, 0},
		{apnstest.Answer{Status: 400, Reason: "InvalidPushType"}, approval.WakeRefused, 0},
		{apnstest.Answer{Status: 400, Reason: "PayloadEmpty"}, approval.WakeRefused, 0},
		{apnstest.Answer{Status: 400, Reason: "SomethingNew"}, approval.WakeRefused, 0},
		{apnstest.Answer{Status: 404, Reason: "BadPath"}, approval.WakeRefused, 0},
		{apnstest.Answer{Status: 405, Reason: "MethodNotAllowed"}, approval.WakeRefused, 0},
		{apnstest.Answer{Status: 413, Reason: "PayloadTooLarge"}, approval.WakeRefused, 0},
	} {
		t.Run(test.answer.Reason, func(t *testing.T) {
			s.Next(test.answer)
			before := len(s.Pushes())
			got := refusal(t, w.Wake(t.Context(), to, wakeup()))
			if got.Verdict != test.want || got.Why != "APNs: "+test.answer.Reason || got.After != test.after {
				t.Errorf("Wake = %v, verdict %d after %v, want %d after %v", got, got.Verdict, got.After, test.want, test.after)
			}
			if !got.Since.Equal(test.answer.Timestamp) {
				t.Errorf("since %v, want %v", got.Since, test.answer.Timestamp)
			}
			if got.Verdict == approval.WakeBroken && got.Err == nil && !strings.HasSuffix(got.Why, "SomethingNew") {
				t.Errorf("Wake = %v, which does not say what to do", got)
			}
			if got := len(s.Pushes()) - before; got != 1 {
				t.Errorf("%d tries, want one", got)
			}
		})
	}
	if err := w.Wake(t.Context(), to, wakeup()); err != nil {
		t.Errorf("Wake after all that = %v", err)
	}
}

// What the fake itself says of devices, and not by script.
func TestLostDevices(t *testing.T) {
	s, w, to := start(t)
	since := time.UnixMilli(1_763_000_000_123)
	s.Lose(to.Token, "Unregistered", since)
	if got := refusal(t, w.Wake(t.Context(), to, wakeup())); got.Verdict != approval.WakeDead || !got.Since.Equal(since) {
		t.Errorf("Wake = %v, verdict %d since %v", got, got.Verdict, got.Since)
	}
	other := approval.PushAddress{Token: s.Device(apnstest.Other)}
	if got := refusal(t, w.Wake(t.Context(), other, wakeup())); got.Verdict != approval.WakeRefused || got.Err == nil {
		t.Errorf("Wake of another program's device = %v, verdict %d", got, got.Verdict)
	}
	nobody := approval.PushAddress{Token: strings.Repeat("ab", 32)}
	if got := refusal(t, w.Wake(t.Context(), nobody, wakeup())); got.Verdict != approval.WakeDead {
		t.Errorf("Wake of nobody = %v, verdict %d", got, got.Verdict)
	}
}

// Apns2 forgets the status of an answer that is not JSON as it expects it.
func TestAnswerThatIsNoJSONKeepsItsStatus(t *testing.T) {
	s, w, to := start(t)
	hostile := strings.Repeat("x", 65)
	for _, test := range []struct {
		status int
		body   string
		want   approval.WakeVerdict
		why    string
	}{
		{500, "<html>oops</html>", approval.WakeLater, "APNs: status 500 without a reason"},
		{502, "", approval.WakeLater, "APNs: status 502 without a reason"},
		{503, strings.Repeat("long ", 1<<20), approval.WakeLater, "APNs: status 503 without a reason"},
		{429, "slow down", approval.WakeLater, "APNs: status 429 without a reason"},
		{403, "no", approval.WakeBroken, "APNs: status 403 without a reason"},
		{410, `{"reason":"Unregistered","timestamp":"yesterday"}`, approval.WakeDead, "APNs: status 410 without a reason"},
		{410, `{"reason":"Unregistered","timestamp":-1}`, approval.WakeDead, "APNs: Unregistered"},
		{400, `{"reason":"BadDevice`, approval.WakeRefused, "APNs: status 400 without a reason"},
		{400, `{"reason":"` + hostile + `"}`, approval.WakeRefused, "APNs: status 400 without a reason"},
		{400, `{"reason":"<b>\u202e"}`, approval.WakeRefused, "APNs: status 400 without a reason"},
		{400, `[]`, approval.WakeRefused, "APNs: status 400 without a reason"},
	} {
		if test.body == "" {
			test.body = " "
		}
		s.Next(apnstest.Answer{Status: test.status, Body: test.body})
		got := refusal(t, w.Wake(t.Context(), to, wakeup()))
		if got.Verdict != test.want || got.Why != test.why || !got.Since.IsZero() {
			t.Errorf("Wake(%d %.40s) = %v, verdict %d, want %s, %d", test.status, test.body, got, got.Verdict, test.why, test.want)
		}
	}
	s.Next(apnstest.Answer{Status: 200, Body: "taken"})
	if err := w.Wake(t.Context(), to, wakeup()); err != nil {
		t.Errorf("Wake = %v", err)
	}
}

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

// Until a provider is known, APNs takes one push at a time, and many connections for
// an attack.
func TestOneConnectionForManyPushes(t *testing.T) {
	s, w, to := start(t)
	// Whoever does not wait for the first answer has time to be seen.
	answer := make(chan struct{})
	time.AfterFunc(100*time.Millisecond, func() { close(answer) })
	s.Next(apnstest.Answer{When: answer})
	pushAll := func() {
		var pushing sync.WaitGroup
		for range 100 {
			pushing.Go(func() {
				if err := w.Wake(t.Context(), to, wakeup()); err != nil {
					t.Error(err)
				}
			})
		}
		pushing.Wait()
	}
	pushAll()
	if got := s.Connections(); got != 1 {
		t.Errorf("%d connections, want 1", got)
	}
	s.Next(apnstest.Answer{GoAway: apnstest.GoAwayPerhaps})
	refusal(t, w.Wake(t.Context(), to, wakeup()))
	pushAll()
	if got := s.Connections(); got != 2 {
		t.Errorf("%d connections after one was lost, want 2", got)
	}
	if got := len(s.Taken()); got != 200 {
		t.Errorf("%d pushes were taken, want 200", got)
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
	for name, change := range map[string]func(*apns.Config){
		"nobody":              func(c *apns.Config) { c.Endpoint = "https://127.0.0.1:1" },
		"unknown certificate": func(c *apns.Config) { c.Roots = nil },
		"HTTP/1.1": func(c *apns.Config) {
			c.Endpoint = plain.URL
			c.Roots = plain.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
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
	}
	if got := s.Pushes(); len(got) != 0 {
		t.Errorf("%d pushes arrived", len(got))
	}
}
