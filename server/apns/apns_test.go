package apns_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/countersignd/countersign/server/apns"
	"github.com/countersignd/countersign/server/apns/apnstest"
	"github.com/countersignd/countersign/server/approval"
)

func config(s *apnstest.Server) apns.Config {
	return apns.Config{
		Key: s.KeyPEM(), KeyID: apnstest.KeyID, Team: apnstest.Team, Topic: apnstest.Topic,
		Environment: apns.Production, Endpoint: s.URL, Roots: s.Roots(),
	}
}

func newWaker(t *testing.T, c apns.Config) *apns.Waker {
	t.Helper()
	w, err := apns.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// start returns an APNs, a waker for it, and the address of a device.
func start(t *testing.T) (*apnstest.Server, *apns.Waker, approval.PushAddress) {
	t.Helper()
	s := apnstest.Start(t)
	return s, newWaker(t, config(s)), approval.PushAddress{Token: s.Device(apnstest.Topic)}
}

func wakeup() approval.Wakeup {
	return approval.Wakeup{Topic: "kg4ujtp2krgukg4ujtp2krgu", Expires: time.Now().Add(5 * time.Minute)}
}

// refusal returns the error of a push that was not taken.
func refusal(t *testing.T, err error) *approval.WakeError {
	t.Helper()
	refused, ok := errors.AsType[*approval.WakeError](err)
	if !ok {
		t.Fatalf("Wake = %v, want a WakeError", err)
	}
	if !strings.HasPrefix(refused.Why, "APNs: ") {
		t.Errorf("Why = %q, want the service's name first", refused.Why)
	}
	return refused
}

// An alert comes at once, until its prompt ends; what takes it away disturbs nobody.
// Whoever sees all of both learns no more than this.
func TestA23WakeUpsAreContentless(t *testing.T) {
	s, w, to := start(t)
	asked := wakeup()
	over := asked
	over.Over = true
	for _, wakeup := range []approval.Wakeup{asked, over} {
		if err := w.Wake(t.Context(), to, wakeup); err != nil {
			t.Fatal(err)
		}
	}
	const alert = `{"aps":{"alert":{"loc-key":"Open Countersign to see what is asked."},"interruption-level":"time-sensitive","mutable-content":1,"sound":"default"}}`
	headers := func(kind, priority string) map[string]string {
		return map[string]string{
			"Apns-Topic":       apnstest.Topic,
			"Apns-Push-Type":   kind,
			"Apns-Priority":    priority,
			"Apns-Expiration":  strconv.FormatInt(asked.Expires.Unix(), 10),
			"Apns-Collapse-Id": asked.Topic,
			"Content-Type":     "application/json; charset=utf-8",
		}
	}
	// These are the same for every push of a server, but for the token's time.
	always := []string{"Authorization", "Content-Length", "User-Agent"}
	want := []struct {
		payload string
		headers map[string]string
	}{
		{alert, headers("alert", "10")},
		{`{"aps":{"content-available":1}}`, headers("background", "5")},
	}
	provider := regexp.MustCompile(`^{"alg":"ES256","kid":"` + apnstest.KeyID + `"} {"iat":\d+,"iss":"` + apnstest.Team + `"}$`)
	pushes := s.Taken()
	if len(pushes) != len(want) {
		t.Fatalf("%d pushes were taken, want %d", len(pushes), len(want))
	}
	for i, p := range pushes {
		if got := string(p.Payload); got != want[i].payload {
			t.Errorf("payload = %s, want %s", got, want[i].payload)
		}
		got := map[string]string{}
		for name, values := range p.Header {
			if !slices.Contains(always, name) {
				got[name] = strings.Join(values, " | ")
			}
		}
		if diff := cmp.Diff(want[i].headers, got); diff != "" {
			t.Errorf("headers (-want +got):\n%s", diff)
		}
		if got, want := p.Path, "/3/device/"+to.Token; got != want {
			t.Errorf("path = %s, want %s", got, want)
		}
		if !provider.MatchString(p.Provider) {
			t.Errorf("the provider's token says %s", p.Provider)
		}
	}
}

func TestWakeUpsThatAreNotSent(t *testing.T) {
	s, w, to := start(t)
	now := time.Now()
	for name, test := range map[string]struct {
		to   approval.PushAddress
		w    approval.Wakeup
		want approval.WakeVerdict
	}{
		"no topic":        {to, approval.Wakeup{Expires: now.Add(time.Minute)}, approval.WakeRefused},
		"a long topic":    {to, approval.Wakeup{Topic: strings.Repeat("x", 65), Expires: now.Add(time.Minute)}, approval.WakeRefused},
		"an ended prompt": {to, approval.Wakeup{Topic: "x", Expires: now.Add(-time.Second)}, approval.WakeRefused},
		"no address":      {approval.PushAddress{}, wakeup(), approval.WakeDead},
	} {
		t.Run(name, func(t *testing.T) {
			if got := refusal(t, w.Wake(t.Context(), test.to, test.w)); got.Verdict != test.want {
				t.Errorf("Wake = %v, verdict %d, want %d", got, got.Verdict, test.want)
			}
		})
	}
	if got := len(s.Pushes()); got != 0 {
		t.Errorf("%d requests were sent, want none", got)
	}
	// What takes an alert away is worth sending when its prompt has just ended.
	over := approval.Wakeup{Topic: "x", Expires: now.Add(-time.Second), Over: true}
	if err := w.Wake(t.Context(), to, over); err != nil {
		t.Errorf("Wake(over) = %v", err)
	}
}

// Apns2 leaves a header out whose time is zero, and APNs then keeps a push for
// weeks.
func TestExpirationIsNeverLeftOut(t *testing.T) {
	s, w, to := start(t)
	for _, end := range []time.Time{{}, time.Unix(0, 0), time.Unix(-1, 0)} {
		for _, over := range []bool{false, true} {
			got := refusal(t, w.Wake(t.Context(), to, approval.Wakeup{Topic: "x", Expires: end, Over: over}))
			if got.Verdict != approval.WakeRefused {
				t.Errorf("Wake until %v = %v, verdict %d", end, got, got.Verdict)
			}
		}
	}
	if got := len(s.Pushes()); got != 0 {
		t.Errorf("%d requests were sent, want none", got)
	}
}

// Apns2 writes a token into the URL as it is.
func TestDeviceTokenIsNeverAnotherPath(t *testing.T) {
	s, w, good := start(t)
	bad := []string{
		"", "../../1/x", good.Token + "/x", good.Token + "?x", good.Token + "#x", good.Token + "%2e", good.Token + "\n",
		good.Token + " ", " " + good.Token, strings.ToUpper(good.Token), good.Token[1:], "abcdef", strings.Repeat("ab", 101), "é" + good.Token,
	}
	for _, token := range bad {
		to := approval.PushAddress{Token: token}
		if w.Check(to) == nil {
			t.Errorf("Check(%q) = nil, want an error", token)
		}
		if got := refusal(t, w.Wake(t.Context(), to, wakeup())); got.Verdict != approval.WakeDead || token != "" && strings.Contains(got.Error(), token) {
			t.Errorf("Wake(%q) = %v, verdict %d", token, got, got.Verdict)
		}
	}
	if got := len(s.Pushes()); got != 0 {
		t.Errorf("%d requests were sent, want none", got)
	}
	for _, token := range []string{good.Token, "00112233", strings.Repeat("ab", 100)} {
		if err := w.Check(approval.PushAddress{Token: token}); err != nil {
			t.Errorf("Check(%q) = %v", token, err)
		}
	}
}

func pemOf(t *testing.T, kind string, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// Apns2 takes a key that cannot sign and pushes without a token.
func TestKeyThatSignsNothingIsRefused(t *testing.T) {
	s := apnstest.Start(t)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string][]byte{
		"none":            nil,
		"no PEM":          []byte("key"),
		"P-384":           pemOf(t, "PRIVATE KEY", p384),
		"RSA":             pemOf(t, "PRIVATE KEY", rsaKey),
		"another form":    pemOf(t, "EC PRIVATE KEY", s.Key()),
		"two keys":        append(s.KeyPEM(), s.KeyPEM()...),
		"a certificate":   s.RootsPEM(),
		"damaged content": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte{1, 2, 3}}),
	} {
		c := config(s)
		c.Key = key
		if _, err := apns.New(c); err == nil || !strings.Contains(err.Error(), "give the file AuthKey_….p8 as Apple handed it out") {
			t.Errorf("New with the key %s = %v, want what to do", name, err)
		}
	}
}

// Every setting that is wrong is refused with its value and what it should be.
func TestSettings(t *testing.T) {
	s := apnstest.Start(t)
	for want, change := range map[string]func(*apns.Config){
		`the APNs key id is "abc123defg", want the ten capital letters`: func(c *apns.Config) { c.KeyID = "abc123defg" },
		`the APNs key id is "", want`:                                   func(c *apns.Config) { c.KeyID = "" },
		`the APNs team is "Example Inc", want`:                          func(c *apns.Config) { c.Team = "Example Inc" },
		`the APNs topic is "Countersign", want the bundle ID`:           func(c *apns.Config) { c.Topic = "Countersign" },
		`the APNs topic is "a b.c", want`:                               func(c *apns.Config) { c.Topic = "a b.c" },
		`the APNs environment is "", want production`:                   func(c *apns.Config) { c.Environment = "" },
		`the APNs environment is "development", want`:                   func(c *apns.Config) { c.Environment = "development" },
		`the APNs endpoint is "http://x", want https://`:                func(c *apns.Config) { c.Endpoint = "http://x" },
		`the APNs endpoint is "https://", want`:                         func(c *apns.Config) { c.Endpoint = "https://" },
		`the APNs endpoint is "https://u@x", want`:                      func(c *apns.Config) { c.Endpoint = "https://u@x" },
		`the APNs endpoint is "https://x/y", want`:                      func(c *apns.Config) { c.Endpoint = "https://x/y" },
		`the APNs endpoint is "https://x?y", want`:                      func(c *apns.Config) { c.Endpoint = "https://x?y" },
	} {
		c := config(s)
		change(&c)
		if _, err := apns.New(c); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("New = %v, want %s", err, want)
		}
	}
	for _, environment := range []string{apns.Production, apns.Sandbox} {
		c := config(s)
		c.Environment, c.Endpoint = environment, ""
		newWaker(t, c)
	}
}

// The probe finds out what only APNs knows, and takes nothing for a mistake of the
// administrator that is none.
func TestProbe(t *testing.T) {
	s := apnstest.Start(t)
	if err := newWaker(t, config(s)).Probe(t.Context()); err != nil {
		t.Errorf("Probe = %v, want nil", err)
	}
	if got := s.Taken(); len(got) != 0 {
		t.Errorf("the probe woke somebody: %v", got)
	}
	for reason, change := range map[string]func(*apns.Config){
		"InvalidProviderToken": func(c *apns.Config) { c.KeyID = "XXXXXXXXXX" },
		"TopicDisallowed":      func(c *apns.Config) { c.Topic = "org.example.stranger" },
	} {
		c := config(s)
		change(&c)
		got := refusal(t, newWaker(t, c).Probe(t.Context()))
		if got.Verdict != approval.WakeBroken || got.Why != "APNs: "+reason || got.Advice == "" {
			t.Errorf("Probe = %v, verdict %d, want %s and what to do", got, got.Verdict, reason)
		}
	}
	c := config(s)
	c.Endpoint = "https://127.0.0.1:1"
	if got := refusal(t, newWaker(t, c).Probe(t.Context())); got.Verdict != approval.WakeLater {
		t.Errorf("Probe of nobody = %v, verdict %d", got, got.Verdict)
	}
}

func TestRetryAfter(t *testing.T) {
	for value, want := range map[string]time.Duration{
		"": 0, "0": 0, "7": 7 * time.Second, "-7": 0, "soon": 0, "99999999": 24 * time.Hour, "7.5": 0,
		"Mon, 02 Jan 2006 15:04:05 GMT": 0, "Fri, 31 Dec 9999 23:59:59 GMT": 24 * time.Hour,
	} {
		if got := apns.RetryAfter(value); got != want {
			t.Errorf("retryAfter(%q) = %v, want %v", value, got, want)
		}
	}
	date := time.Now().Add(time.Minute).UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT")
	if got := apns.RetryAfter(date); got < 50*time.Second || got > time.Minute {
		t.Errorf("retryAfter(in a minute) = %v", got)
	}
}

// sortedKeys is for messages.
func sortedKeys(m map[string]int) string { return fmt.Sprint(slices.Sorted(maps.Keys(m))) }
