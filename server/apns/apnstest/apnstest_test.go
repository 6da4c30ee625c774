package apnstest_test

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/countersignd/countersign/server/apns/apnstest"
)

func clientTLS(s *apnstest.Server) *tls.Config { return &tls.Config{RootCAs: s.Roots()} }

// sign returns a provider's token that is made by hand.
func sign(t *testing.T, key *ecdsa.PrivateKey, header, claims string) string {
	t.Helper()
	encode := base64.RawURLEncoding.EncodeToString
	text := encode([]byte(header)) + "." + encode([]byte(claims))
	sum := sha256.Sum256([]byte(text))
	r, v, err := ecdsa.Sign(rand.Reader, key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return text + "." + encode(append(r.FillBytes(make([]byte, 32)), v.FillBytes(make([]byte, 32))...))
}

const goodHeader = `{"alg":"ES256","kid":"` + apnstest.KeyID + `"}`

func claimsAt(at time.Time) string {
	return fmt.Sprintf(`{"iss":%q,"iat":%d}`, apnstest.Team, at.Unix())
}

func goodBearer(t *testing.T, s *apnstest.Server) string {
	return "bearer " + sign(t, s.Key(), goodHeader, claimsAt(time.Now()))
}

// send sends a request over HTTP/2 and returns the status and the reason.
func send(t *testing.T, client *http.Client, r *http.Request) (int, string) {
	t.Helper()
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var said struct{ Reason string }
	if err := json.NewDecoder(resp.Body).Decode(&said); err != nil && err != io.EOF {
		t.Fatal(err)
	}
	return resp.StatusCode, said.Reason
}

// newConnection returns a client with a connection of its own.
func newConnection(s *apnstest.Server) *http.Client {
	return &http.Client{Transport: &http.Transport{TLSClientConfig: clientTLS(s), ForceAttemptHTTP2: true}}
}

const goodPayload = `{"aps":{"alert":"Hello"}}`

func goodRequest(t *testing.T, s *apnstest.Server, device string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+"/3/device/"+device, strings.NewReader(goodPayload))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("authorization", goodBearer(t, s))
	r.Header.Set("apns-topic", apnstest.Topic)
	r.Header.Set("apns-push-type", "alert")
	return r
}

// Each request is a good one but for one thing.
func TestRefusals(t *testing.T) {
	s := apnstest.Start(t)
	device, other := s.Device(apnstest.Topic), s.Device(apnstest.Other)
	lost := s.Device(apnstest.Topic)
	s.Lose(lost, "Unregistered", time.Now())
	set := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	remove := func(name string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Del(name) }
	}
	path := func(p string) func(*http.Request) { return func(r *http.Request) { r.URL.Path = p } }
	body := func(text string, headers ...string) func(*http.Request) {
		return func(r *http.Request) {
			r.Body, r.ContentLength, r.GetBody = io.NopCloser(strings.NewReader(text)), int64(len(text)), nil
			for i := 0; i+1 < len(headers); i += 2 {
				r.Header.Set(headers[i], headers[i+1])
			}
		}
	}
	bearer := func(header, claims string) func(*http.Request) {
		return set("authorization", "bearer "+sign(t, s.Key(), header, claims))
	}
	now := time.Now()
	tests := []struct {
		name   string
		change func(*http.Request)
		status int
		reason string
	}{
		{"nothing", func(*http.Request) {}, 200, ""},
		{"capital token", path("/3/device/" + strings.ToUpper(device)), 200, ""},
		{"get", func(r *http.Request) { r.Method = "GET" }, 405, "MethodNotAllowed"},
		{"put", func(r *http.Request) { r.Method = "PUT" }, 405, "MethodNotAllowed"},
		{"no token", path("/3/device/"), 400, "MissingDeviceToken"},
		{"no slash", path("/3/device"), 400, "MissingDeviceToken"},
		{"another path", path("/3/devices/" + device), 404, "BadPath"},
		{"another version", path("/4/device/" + device), 404, "BadPath"},
		{"a longer path", path("/3/device/" + device + "/x"), 404, "BadPath"},
		{"a query", func(r *http.Request) { r.URL.RawQuery = "x" }, 404, "BadPath"},
		{"no hexadecimal", path("/3/device/xyz"), 400, "BadDeviceToken"},
		{"half a byte", path("/3/device/" + device[1:]), 400, "BadDeviceToken"},
		{"unknown device", path("/3/device/" + strings.Repeat("a", 64)), 400, "BadDeviceToken"},
		{"device of another program", path("/3/device/" + other), 400, "DeviceTokenNotForTopic"},
		{"lost device", path("/3/device/" + lost), 410, "Unregistered"},

		{"no provider token", remove("authorization"), 403, "MissingProviderToken"},
		{"no bearer", set("authorization", "basic eDp5"), 403, "MissingProviderToken"},
		{"empty bearer", set("authorization", "bearer "), 403, "MissingProviderToken"},
		{"two parts", set("authorization", "bearer a.b"), 403, "InvalidProviderToken"},
		{"no base64", set("authorization", "bearer $.$.$"), 403, "InvalidProviderToken"},
		{"no JSON", bearer("x", "y"), 403, "InvalidProviderToken"},
		{"algorithm none", bearer(`{"alg":"none","kid":"`+apnstest.KeyID+`"}`, claimsAt(now)), 403, "InvalidProviderToken"},
		{"algorithm HS256", bearer(`{"alg":"HS256","kid":"`+apnstest.KeyID+`"}`, claimsAt(now)), 403, "InvalidProviderToken"},
		{"another key id", bearer(`{"alg":"ES256","kid":"XXXXXXXXXX"}`, claimsAt(now)), 403, "InvalidProviderToken"},
		{"no key id", bearer(`{"alg":"ES256"}`, claimsAt(now)), 403, "InvalidProviderToken"},
		{"another team", bearer(goodHeader, fmt.Sprintf(`{"iss":"XXXXXXXXXX","iat":%d}`, now.Unix())), 403, "InvalidProviderToken"},
		{"no time", bearer(goodHeader, `{"iss":"`+apnstest.Team+`"}`), 403, "InvalidProviderToken"},
		{"the future", bearer(goodHeader, claimsAt(now.Add(10*time.Minute))), 403, "InvalidProviderToken"},
		{"too old", bearer(goodHeader, claimsAt(now.Add(-61*time.Minute))), 403, "ExpiredProviderToken"},
		{"almost too old", bearer(goodHeader, claimsAt(now.Add(-59*time.Minute))), 200, ""},
		{"another's signature", set("authorization", "bearer "+sign(t, apnstest.Start(t).Key(), goodHeader, claimsAt(now))), 403, "InvalidProviderToken"},
		{"cut signature", func(r *http.Request) {
			r.Header.Set("authorization", r.Header.Get("authorization")[:150])
		}, 403, "InvalidProviderToken"},

		{"no topic", remove("apns-topic"), 400, "MissingTopic"},
		{"bad topic", set("apns-topic", "a topic"), 400, "BadTopic"},
		{"another's topic", set("apns-topic", "org.example.stranger"), 400, "TopicDisallowed"},
		{"topic of calls", set("apns-topic", apnstest.Topic+".voip"), 400, "TopicDisallowed"},
		{"two topics", func(r *http.Request) { r.Header.Add("apns-topic", apnstest.Topic) }, 400, "DuplicateHeaders"},
		{"two of any header", func(r *http.Request) { r.Header["X-Any"] = []string{"a", "b"} }, 400, "DuplicateHeaders"},
		{"bad id", set("apns-id", "123"), 400, "BadMessageId"},
		{"capital id", set("apns-id", "123E4567-E89B-12D3-A456-426655440000"), 400, "BadMessageId"},
		{"good id", set("apns-id", "123e4567-e89b-12d3-a456-426655440000"), 200, ""},
		{"collapse id of 64", set("apns-collapse-id", strings.Repeat("x", 64)), 200, ""},
		{"collapse id of 65", set("apns-collapse-id", strings.Repeat("x", 65)), 400, "BadCollapseId"},
		{"expiration 0", set("apns-expiration", "0"), 200, ""},
		{"expiration in words", set("apns-expiration", "tomorrow"), 400, "BadExpirationDate"},
		{"negative expiration", set("apns-expiration", "-1"), 400, "BadExpirationDate"},
		{"endless expiration", set("apns-expiration", strings.Repeat("9", 30)), 400, "BadExpirationDate"},
		{"priority 1", set("apns-priority", "1"), 200, ""},
		{"priority 9", set("apns-priority", "9"), 400, "BadPriority"},
		{"priority 010", set("apns-priority", "010"), 400, "BadPriority"},
		{"no type", remove("apns-push-type"), 400, "InvalidPushType"},
		{"unknown type", set("apns-push-type", "nudge"), 400, "InvalidPushType"},

		{"no payload", body(""), 400, "PayloadEmpty"},
		{"payload in words", body("hello"), 400, "PayloadEmpty"},
		{"payload without aps", body(`{"x":1}`), 400, "PayloadEmpty"},
		{"alert that shows nothing", body(`{"aps":{"content-available":1}}`), 400, "InvalidPushType"},
		{"alert of null", body(`{"aps":{"alert":null}}`), 400, "InvalidPushType"},
		{"payload of 4096", body(`{"aps":{"alert":"` + strings.Repeat("x", 4096-20) + `"}}`), 200, ""},
		{"payload of 4097", body(`{"aps":{"alert":"` + strings.Repeat("x", 4097-20) + `"}}`), 413, "PayloadTooLarge"},
		{"background", body(`{"aps":{"content-available":1}}`, "apns-push-type", "background", "apns-priority", "5"), 200, ""},
		{"background at once", body(`{"aps":{"content-available":1}}`, "apns-push-type", "background", "apns-priority", "10"), 400, "BadPriority"},
		{"background without priority", body(`{"aps":{"content-available":1}}`, "apns-push-type", "background"), 400, "BadPriority"},
		{"background with sound", body(`{"aps":{"content-available":1,"sound":"x"}}`, "apns-push-type", "background", "apns-priority", "5"), 400, "InvalidPushType"},
		{"background for nothing", body(`{"aps":{"content-available":0}}`, "apns-push-type", "background", "apns-priority", "5"), 400, "InvalidPushType"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := goodRequest(t, s, device)
			test.change(r)
			status, reason := send(t, newConnection(s), r)
			if status != test.status || reason != test.reason {
				t.Errorf("the answer is %d %s, want %d %s", status, reason, test.status, test.reason)
			}
			pushes := s.Pushes()
			if last := pushes[len(pushes)-1]; last.Status != test.status || last.Reason != test.reason {
				t.Errorf("what was kept is %d %s", last.Status, last.Reason)
			}
		})
	}
}

// A connection whose provider changes its token more often than every 20 minutes is
// refused; so is nothing else.
func TestProviderTokenChangesTooOften(t *testing.T) {
	s := apnstest.Start(t)
	now := time.Now()
	s.Now = func() time.Time { return now }
	device := s.Device(apnstest.Topic)
	client := newConnection(s)
	push := func(client *http.Client, bearer string) string {
		r := goodRequest(t, s, device)
		r.Header.Set("authorization", bearer)
		_, reason := send(t, client, r)
		return reason
	}
	first, second := goodBearer(t, s), goodBearer(t, s)
	for _, step := range []struct {
		after  time.Duration
		bearer string
		want   string
	}{
		{0, first, ""},
		{0, first, ""},
		{19 * time.Minute, second, "TooManyProviderTokenUpdates"},
		{0, first, ""},
		{time.Minute, second, ""},
		{0, first, "TooManyProviderTokenUpdates"},
	} {
		now = now.Add(step.after)
		if got := push(client, step.bearer); got != step.want {
			t.Fatalf("after %v the answer is %q, want %q", step.after, got, step.want)
		}
	}
	if got := push(newConnection(s), first); got != "" {
		t.Errorf("on another connection the answer is %q", got)
	}
}

// HTTP/1 and old TLS never get as far as a push that counts.
func TestOnlyHTTP2(t *testing.T) {
	s := apnstest.Start(t)
	device := s.Device(apnstest.Topic)
	for name, transport := range map[string]*http.Transport{
		"without ALPN":     {TLSClientConfig: clientTLS(s), TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{}},
		"with http/1.1":    {TLSClientConfig: &tls.Config{RootCAs: s.Roots(), NextProtos: []string{"http/1.1"}}},
		"HTTP/2 in TLS1.1": {TLSClientConfig: &tls.Config{RootCAs: s.Roots(), MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, ForceAttemptHTTP2: true},
	} {
		resp, err := (&http.Client{Transport: transport}).Do(goodRequest(t, s, device))
		if err == nil {
			resp.Body.Close()
			t.Errorf("%s: the answer is %s, want none", name, resp.Status)
		}
	}
	if got := s.Taken(); len(got) != 0 {
		t.Errorf("%d pushes were taken, want none", len(got))
	}
}
