package webpush

import (
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/countersignd/countersign/server/approval"
	"github.com/countersignd/countersign/server/webpush/webpushtest"
)

// TestMain names a proxy, which net/http looks for once in a process. No push may go
// through it; those of the tests with names of their own would fail.
func TestMain(m *testing.M) {
	for _, name := range []string{"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"} {
		os.Setenv(name, "http://192.0.2.1:3128")
	}
	os.Exit(m.Run())
}

// newTestService returns a Service with what c leaves out. names may be nil.
func newTestService(t testing.TB, c Config, names *net.Resolver) *Service {
	t.Helper()
	c.Key, c.Contact = newKey(t), contact
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	s.guard.resolver = names
	t.Cleanup(s.transport.CloseIdleConnections)
	return s
}

// newPair returns a push service, and a Service that may push to it.
func newPair(t testing.TB) (*webpushtest.Service, *Service) {
	t.Helper()
	service := webpushtest.New(t, nil)
	return service, newTestService(t, Config{Allowed: mustAllow(t, "127.0.0.1"), Roots: service.Roots()}, nil)
}

func addressOf(sub *webpushtest.Subscription) approval.PushAddress {
	return approval.PushAddress{Endpoint: sub.Endpoint, P256DH: sub.P256DH, Auth: sub.Auth}
}

// newAddress returns an address whose keys are good.
func newAddress(t testing.TB, endpoint string) approval.PushAddress {
	t.Helper()
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return approval.PushAddress{Endpoint: endpoint, P256DH: key.PublicKey().Bytes(), Auth: make([]byte, authLen)}
}

const prompt = "0123456789abcdefghijklmnop"

func ring() approval.Wakeup {
	return approval.Wakeup{Topic: prompt, Expires: time.Now().Add(5 * time.Minute)}
}

// wakeError returns the error of a push that must have failed.
func wakeError(t *testing.T, err error) *approval.WakeError {
	t.Helper()
	wake, ok := errors.AsType[*approval.WakeError](err)
	if !ok {
		t.Fatalf("the push = %v, want a WakeError", err)
	}
	return wake
}

func TestWake(t *testing.T) {
	service, s := newPair(t)
	phone, mac := service.Subscribe(s.vapid.public), service.Subscribe(s.vapid.public)
	wake := func(sub *webpushtest.Subscription, w approval.Wakeup) webpushtest.Message {
		t.Helper()
		if err := s.Wake(t.Context(), addressOf(sub), w); err != nil {
			t.Fatalf("Wake(%+v) = %v; refused were %q", w, err, service.Refusals())
		}
		return sub.MustNext()
	}
	first := wake(phone, ring())
	if got := string(first.Payload); got != `{"countersign":"asked"}` {
		t.Errorf("the payload is %s", got)
	}
	if first.Urgency != "high" || first.TTL > 5*time.Minute || first.TTL < 5*time.Minute-10*time.Second {
		t.Errorf("the message is %+v, want a high urgency and the prompt's time to live", first)
	}
	over := ring()
	over.Over = true
	last := wake(phone, over)
	if got := string(last.Payload); got != `{"countersign":"over"}` || last.Urgency != "normal" {
		t.Errorf("the end is %+v with %s", last, got)
	}
	if last.Topic != first.Topic || last.Size != first.Size {
		t.Errorf("the end has topic %s and %d bytes, want those of the ring: %s and %d", last.Topic, last.Size, first.Topic, first.Size)
	}
	other := ring()
	other.Topic = "other" + prompt[5:]
	if m := wake(phone, other); m.Topic == first.Topic {
		t.Error("two prompts have one topic")
	}
	if m := wake(mac, ring()); m.Topic == first.Topic {
		t.Error("a prompt has one topic on two devices, which links them")
	}
	if strings.Contains(first.Topic, prompt) || len(first.Topic) > 32 {
		t.Errorf("the topic is %s", first.Topic)
	}
}

// What a push service sees has nothing of the prompt in it (A23).
func TestA23WakeUpsTellNothing(t *testing.T) {
	service, s := newPair(t)
	var seen strings.Builder
	service.SetAnswer(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(&seen, "%s %s %s\n%v\n", r.Method, r.URL, r.Proto, r.Header)
		io.Copy(&seen, r.Body)
		w.WriteHeader(http.StatusCreated)
	})
	if err := s.Wake(t.Context(), addressOf(service.Subscribe(s.vapid.public)), ring()); err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{prompt, "asked", "sign"} {
		if text := strings.ReplaceAll(strings.ToLower(seen.String()), "user-agent:[countersign]", ""); strings.Contains(text, word) {
			t.Errorf("the service sees %q in %q", word, text)
		}
	}
}

// A wake-up lives no longer than its prompt, and one that has ended is not sent.
func TestTimeToLive(t *testing.T) {
	service, s := newPair(t)
	phone := service.Subscribe(s.vapid.public)
	for _, test := range []struct{ left, most, least time.Duration }{
		{500 * time.Millisecond, 0, 0},
		{90*time.Second + 900*time.Millisecond, 90 * time.Second, 80 * time.Second},
		{48 * time.Hour, 10 * time.Minute, 10 * time.Minute},
	} {
		if err := s.Wake(t.Context(), addressOf(phone), approval.Wakeup{Topic: prompt, Expires: time.Now().Add(test.left)}); err != nil {
			t.Fatalf("a wake-up that ends in %v = %v", test.left, err)
		}
		if m := phone.MustNext(); m.TTL > test.most || m.TTL < test.least {
			t.Errorf("a wake-up that ends in %v has a TTL of %v, want %v to %v", test.left, m.TTL, test.least, test.most)
		}
	}
	before := service.Requests()
	wake := wakeError(t, s.Wake(t.Context(), addressOf(phone), approval.Wakeup{Topic: prompt, Expires: time.Now()}))
	if wake.Verdict != approval.WakeRefused || service.Requests() != before {
		t.Errorf("a wake-up that has ended = %v after %d requests, want it refused and not sent", wake, service.Requests()-before)
	}
}

// What a service refuses is told with its host and without the endpoint.
func TestRefusals(t *testing.T) {
	service, s := newPair(t)
	gone, lost, foreign := service.Subscribe(s.vapid.public), service.Subscribe(s.vapid.public), service.Subscribe(newTestVAPID(t).public)
	gone.Expire()
	lost.Forget()
	for _, test := range []struct {
		sub     *webpushtest.Subscription
		verdict approval.WakeVerdict
		why     string
	}{
		{gone, approval.WakeDead, "Web Push: 410 from 127.0.0.1: the subscription is no more"},
		{lost, approval.WakeDead, "Web Push: 404 from 127.0.0.1: the subscription is no more"},
		{foreign, approval.WakeRefused, "Web Push: 403 from 127.0.0.1: it does not accept this server's key or contact; the device may have to subscribe anew"},
	} {
		wake := wakeError(t, s.Wake(t.Context(), addressOf(test.sub), ring()))
		if wake.Verdict != test.verdict || wake.Error() != test.why {
			t.Errorf("the push = %v, %s, want %v, %s", wake.Verdict, wake, test.verdict, test.why)
		}
	}
}

// What does not answer is tried again later, and told in this package's own words.
func TestUnreachable(t *testing.T) {
	service := webpushtest.New(t, nil)
	allowed := mustAllow(t, "127.0.0.1", "localhost")
	s := newTestService(t, Config{Allowed: allowed, Roots: service.Roots()}, nil)
	stranger := newTestService(t, Config{Allowed: allowed}, nil)
	sub := service.Subscribe(s.vapid.public)
	named := addressOf(sub)
	named.Endpoint = strings.Replace(named.Endpoint, "127.0.0.1", "localhost", 1)
	for _, test := range []struct {
		name string
		s    *Service
		to   approval.PushAddress
		why  string
	}{
		{"a closed port", s, newAddress(t, "https://127.0.0.1:"+closedPort(t)+"/secret"), "Web Push: 127.0.0.1 could not be reached"},
		{"an unknown authority", stranger, addressOf(sub), "Web Push: 127.0.0.1 has a certificate of an authority that this server does not know"},
		{"another name", s, named, "Web Push: localhost has a certificate for another name"},
		{"a peer that hangs up", s, newAddress(t, speak(t, "")+"/secret"), "Web Push: 127.0.0.1 did not answer as a push service does"},
		{"a peer without TLS", s, newAddress(t, speak(t, "HTTP/1.1 201 Created\r\n\r\n")+"/secret"), "Web Push: 127.0.0.1 did not answer as a push service does"},
	} {
		wake := wakeError(t, test.s.Wake(t.Context(), test.to, ring()))
		if wake.Verdict != approval.WakeLater || wake.Error() != test.why {
			t.Errorf("%s = %v, %s, want %s later", test.name, wake.Verdict, wake, test.why)
		}
	}
}

func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// speak returns the origin of a server that says words to everybody and hangs up.
func speak(t *testing.T, words string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var speaking sync.WaitGroup
	speaking.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			io.ReadAtLeast(conn, make([]byte, 4096), 1)
			io.WriteString(conn, words)
			conn.Close()
		}
	})
	t.Cleanup(func() { l.Close(); speaking.Wait() })
	return "https://" + l.Addr().String()
}

// A service that says nothing, or never stops, holds up nobody beyond ctx.
func TestSlowServices(t *testing.T) {
	service, s := newPair(t)
	phone := addressOf(service.Subscribe(s.vapid.public))
	release := make(chan struct{})
	service.SetAnswer(func(w http.ResponseWriter, r *http.Request) { <-release })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := s.Wake(ctx, phone, ring()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Wake of a silent service = %v, want the error of ctx", err)
	}
	s.maxTime = 50 * time.Millisecond
	if wake := wakeError(t, s.Wake(t.Context(), phone, ring())); wake.Verdict != approval.WakeLater || wake.Why != "Web Push: 127.0.0.1 did not answer in time" {
		t.Errorf("Wake of a silent service = %v, %s, want it later", wake.Verdict, wake)
	}
	s.maxTime = maxTime
	close(release)

	// Whoever sends more than a KiB is cut off: the answer has said it all.
	sent := make(chan int, 1)
	service.SetAnswer(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusCreated)
		n := 0
		for ; n < 1<<30; n += 1 << 10 {
			if _, err := w.Write(make([]byte, 1<<10)); err != nil {
				break
			}
		}
		sent <- n
	})
	if err := s.Wake(t.Context(), phone, ring()); err != nil {
		t.Errorf("Wake of a service that never stops = %v, want it taken", err)
	}
	if n := <-sent; n >= 1<<30 {
		t.Error("a service could send a GiB")
	}

	service.SetAnswer(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Long", strings.Repeat("x", 64<<10))
		w.WriteHeader(http.StatusCreated)
	})
	if wake := wakeError(t, s.Wake(t.Context(), phone, ring())); wake.Verdict != approval.WakeLater {
		t.Errorf("Wake of a service with a header of 64 KiB = %v, want it later", wake)
	}
}

// TLS below 1.2 is refused before anything is sent.
func TestOldTLS(t *testing.T) {
	for version, want := range map[uint16]string{
		tls.VersionTLS12: "",
		tls.VersionTLS11: "Web Push: 127.0.0.1 could not be reached",
	} {
		var requests atomic.Int64
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			requests.Add(1)
			w.WriteHeader(http.StatusCreated)
		}))
		server.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: version}
		server.Config.ErrorLog = log.New(io.Discard, "", 0)
		server.StartTLS()
		t.Cleanup(server.Close)
		roots := x509.NewCertPool()
		roots.AddCert(server.Certificate())
		s := newTestService(t, Config{Allowed: mustAllow(t, "127.0.0.1"), Roots: roots}, nil)
		err := s.Wake(t.Context(), newAddress(t, server.URL+"/x"), ring())
		if want == "" && (err != nil || requests.Load() != 1) {
			t.Errorf("a push with %s = %v, want it taken", tls.VersionName(version), err)
		}
		if want != "" && (err == nil || err.Error() != want || requests.Load() != 0) {
			t.Errorf("a push with %s = %v after %d requests, want %s", tls.VersionName(version), err, requests.Load(), want)
		}
	}
}

func TestCheck(t *testing.T) {
	s := newTestService(t, Config{}, nil)
	good := newAddress(t, "https://push.example.net/x")
	offCurve := append([]byte{4}, make([]byte, 64)...)
	offCurve[64] = 1
	for _, test := range []struct {
		name   string
		change func(*approval.PushAddress)
		want   string
	}{
		{"good", func(*approval.PushAddress) {}, ""},
		{"a token", func(a *approval.PushAddress) { a.Token = "00" }, "a Web Push subscription has no token"},
		{"no endpoint", func(a *approval.PushAddress) { a.Endpoint = "" }, "the endpoint is empty"},
		{"no https", func(a *approval.PushAddress) { a.Endpoint = "http://push.example.net/x" }, "the endpoint does not begin with https://"},
		{"1024 bytes", func(a *approval.PushAddress) { a.Endpoint += strings.Repeat("x", 1024-len(a.Endpoint)) }, ""},
		{"1025 bytes", func(a *approval.PushAddress) { a.Endpoint += strings.Repeat("x", 1025-len(a.Endpoint)) }, "the endpoint has 1025 bytes, at most 1024"},
		{"no key", func(a *approval.PushAddress) { a.P256DH = nil }, "p256dh is no uncompressed point"},
		{"a compressed key", func(a *approval.PushAddress) { a.P256DH = append([]byte{2}, a.P256DH[1:33]...) }, "p256dh is no uncompressed point"},
		{"a point off the curve", func(a *approval.PushAddress) { a.P256DH = offCurve }, "p256dh is no uncompressed point"},
		{"the point at infinity", func(a *approval.PushAddress) { a.P256DH = []byte{0} }, "p256dh is no uncompressed point"},
		{"a long key", func(a *approval.PushAddress) { a.P256DH = append(a.P256DH[:65:65], 0) }, "p256dh is no uncompressed point"},
		{"a short secret", func(a *approval.PushAddress) { a.Auth = a.Auth[:15] }, "auth has 15 bytes, want 16"},
		{"a long secret", func(a *approval.PushAddress) { a.Auth = make([]byte, 17) }, "auth has 17 bytes, want 16"},
	} {
		to := good
		test.change(&to)
		err := s.Check(to)
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.HasPrefix(err.Error(), test.want)) {
			t.Errorf("Check of %s = %v, want %q", test.name, err, test.want)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]Config{
		"no key":          {Contact: contact},
		"a key of P-384":  {Key: p384, Contact: contact},
		"no contact":      {Key: newKey(t)},
		"a wrong contact": {Key: newKey(t), Contact: "admin"},
	} {
		if _, err := New(c); err == nil {
			t.Errorf("New with %s = nil, want an error", name)
		}
	}
}
