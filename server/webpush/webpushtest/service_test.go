package webpushtest

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/countersignd/countersign/server/approval"
	"github.com/countersignd/countersign/server/webpush"
)

func decode64(t *testing.T, s string) []byte {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The examples of the RFCs are read.
func TestExamples(t *testing.T) {
	device, err := ecdh.P256().NewPrivateKey(decode64(t, "q1dXpw3UpT5VOmu_cf_v6ih07Aems3njxI-JWgLcM94"))
	if err != nil {
		t.Fatal(err)
	}
	const of8291 = "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8w" +
		"EqKK6PBru3jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN"
	got, err := decryptPush(decode64(t, of8291), device, decode64(t, "BTBZMqHH6r4Tts7J_aSIgg"))
	if string(got) != "When I grow up, I want to be a watermelon" {
		t.Errorf("the example of RFC 8291 = %q, %v", got, err)
	}
	for _, test := range []struct{ section, body, key, keyID string }{
		{"3.1", "I1BsxtFttlv3u_Oo94xnmwAAEAAA-NAVub2qFgBEuQKRapoZu-IxkIva3MEB1PD-ly8Thjg", "yqdlZ-tYemfogSmv7Ws5PQ", ""},
		{"3.2", "uNCkWiNYzKTnBN9ji3-qWAAAABkCYTHOG8chz_gnvgOqdGYovxyjuqRyJFjEDyoF1Fvkj6hQPdPHI51OEUKEpgz3SsLWIqS_uA", "BO3ZVPxUlnLORbVGMpbT1Q", "a1"},
	} {
		got, err := decode(decode64(t, test.body), func(keyID []byte) ([]byte, error) {
			if string(keyID) != test.keyID {
				t.Errorf("the example of RFC 8188, %s has the key %q, want %q", test.section, keyID, test.keyID)
			}
			return decode64(t, test.key), nil
		})
		if string(got) != "I am the walrus" {
			t.Errorf("the example of RFC 8188, %s = %q, %v", test.section, got, err)
		}
	}
	const of8292 = "vapid t=eyJ0eXAiOiJKV1QiLCJhbGciOiJFUzI1NiJ9.eyJhdWQiOiJodHRwczovL3B1c2guZXhhbXBsZS5uZXQiLCJleHAiOjE0NTM1MjM3NjgsInN1YiI6Im1haWx0bzpwdXNoQGV4YW1wbGUuY29tIn0.i3CYb7t4xfxCDquptFOepC9GAu_HLGkMlMuCGSK2rpiUfnK9ojFwDXb1JrErtmysazNjjvW2L9OkSSHzvoD1oA, " +
		"k=BA1Hxzyi1RUM1b5wjxsn7nGxAszw2u61m164i3MrAIxHF6YK5h4SDYic-dRuU_RCPCfA5aq9ojSwk5Y2EmClBPs"
	key := decode64(t, "BA1Hxzyi1RUM1b5wjxsn7nGxAszw2u61m164i3MrAIxHF6YK5h4SDYic-dRuU_RCPCfA5aq9ojSwk5Y2EmClBPs")
	expires := time.Unix(1453523768, 0)
	for _, test := range []struct {
		origin string
		now    time.Time
		want   string
	}{
		{"https://push.example.net", expires.Add(-time.Second), ""},
		{"https://push.example.net", expires.Add(-24 * time.Hour), ""},
		{"https://push.example.net", expires.Add(-24*time.Hour - time.Second), "more than 24 hours"},
		{"https://push.example.net", expires, "has expired"},
		{"https://push.example.net:8443", expires.Add(-time.Hour), "audience"},
	} {
		r := verifyVAPID(of8292, test.origin, key, test.now)
		if (r == nil) != (test.want == "") || r != nil && !strings.Contains(r.why, test.want) {
			t.Errorf("the example of RFC 8292 for %s at %v = %v, want %q", test.origin, test.now, r, test.want)
		}
	}
}

// fixture has one good request, and sends it with one thing changed.
type fixture struct {
	t       *testing.T
	service *Service
	sub     *Subscription
	key     *ecdsa.PrivateKey
	header  http.Header
	body    []byte
	client  *http.Client
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s := New(t, nil)
	allowed, err := webpush.ParseAllowed([]string{"127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	waker, err := webpush.New(webpush.Config{Key: key, Contact: "mailto:admin@countersign.example", Allowed: allowed, Roots: s.Roots()})
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{t: t, service: s, sub: s.Subscribe(mustPublic(t, key)), key: key}
	f.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.Roots()}, DisableKeepAlives: true}}
	s.SetAnswer(func(w http.ResponseWriter, r *http.Request) {
		f.header = r.Header.Clone()
		f.body, _ = io.ReadAll(r.Body)
		w.WriteHeader(http.StatusCreated)
	})
	to := approval.PushAddress{Endpoint: f.sub.Endpoint, P256DH: f.sub.P256DH, Auth: f.sub.Auth}
	if err := waker.Wake(t.Context(), to, approval.Wakeup{Topic: "t", Expires: time.Now().Add(time.Minute)}); err != nil {
		t.Fatal(err)
	}
	s.SetAnswer(nil)
	f.header.Del("Content-Length")
	f.header.Del("Accept-Encoding")
	return f
}

// send returns the status of the answer and the reason for a refusal.
func (f *fixture) send(change func(*http.Request)) (int, string) {
	f.t.Helper()
	req, err := http.NewRequestWithContext(f.t.Context(), http.MethodPost, f.sub.Endpoint, bytes.NewReader(f.body))
	if err != nil {
		f.t.Fatal(err)
	}
	req.Header = f.header.Clone()
	change(req)
	resp, err := f.client.Do(req)
	if err != nil {
		f.t.Fatal(err)
	}
	defer resp.Body.Close()
	why, err := io.ReadAll(resp.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	return resp.StatusCode, string(why)
}

// sign makes an authorization with a token of another maker's library.
func (f *fixture) sign(key *ecdsa.PrivateKey, typ, claims string) string {
	f.t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, (&jose.SignerOptions{}).WithType(jose.ContentType(typ)))
	if err != nil {
		f.t.Fatal(err)
	}
	signed, err := signer.Sign([]byte(claims))
	if err != nil {
		f.t.Fatal(err)
	}
	token, err := signed.CompactSerialize()
	if err != nil {
		f.t.Fatal(err)
	}
	return "vapid t=" + token + ", k=" + base64.RawURLEncoding.EncodeToString(mustPublic(f.t, f.key))
}

// What a push service refuses is refused, and what it takes is taken.
func TestRefuses(t *testing.T) {
	f := newFixture(t)
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	origin := f.service.Origin
	claims := func(aud string, life time.Duration, sub string) string {
		return `{"aud":"` + aud + `","exp":` + strconv.FormatInt(time.Now().Add(life).Unix(), 10) + `,"sub":"` + sub + `"}`
	}
	set := func(name string, values ...string) func(*http.Request) {
		return func(r *http.Request) {
			r.Header[http.CanonicalHeaderKey(name)] = values
			if len(values) == 0 {
				delete(r.Header, http.CanonicalHeaderKey(name))
			}
		}
	}
	token := func(typ, claims string) func(*http.Request) {
		return set("Authorization", f.sign(f.key, typ, claims))
	}
	body := func(b []byte) func(*http.Request) {
		return func(r *http.Request) { r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(b)), int64(len(b)) }
	}
	broken := bytes.Clone(f.body)
	broken[len(broken)-1] ^= 1
	for _, test := range []struct {
		name   string
		change func(*http.Request)
		status int
		why    string
	}{
		{"nothing", func(*http.Request) {}, 201, ""},
		{"no topic", set("Topic"), 201, ""},
		{"no urgency", set("Urgency"), 201, ""},
		{"a token of another maker", token("JWT", claims(origin, 23*time.Hour, "https://countersign.example")), 201, ""},
		{"another method", func(r *http.Request) { r.Method = http.MethodPut }, 405, "the method"},
		{"another path", func(r *http.Request) { r.URL.Path += "x" }, 404, "no such subscription"},
		{"two TTLs", set("TTL", "1", "1"), 400, "2 headers"},
		{"no TTL", set("TTL"), 400, "the TTL"},
		{"a negative TTL", set("TTL", "-1"), 400, "the TTL"},
		{"a TTL that is no number", set("TTL", "1.5"), 400, "the TTL"},
		{"an urgency of its own", set("Urgency", "highest"), 400, "the urgency"},
		{"an empty urgency", set("Urgency", ""), 400, "the urgency"},
		{"a long topic", set("Topic", strings.Repeat("x", 33)), 400, "the topic"},
		{"a topic with a dot", set("Topic", "a.b"), 400, "the topic"},
		{"an old encoding", set("Content-Encoding", "aesgcm"), 415, "the content encoding"},
		{"no encoding", set("Content-Encoding"), 415, "the content encoding"},
		{"no authorization", set("Authorization"), 401, "want vapid"},
		{"another scheme", set("Authorization", "WebPush x"), 401, "want vapid"},
		{"no key", set("Authorization", "vapid t=x"), 401, "k is no key"},
		{"two keys", set("Authorization", f.header.Get("Authorization")+", k=x"), 401, "cannot be read"},
		{"no token", set("Authorization", "vapid "+f.header.Get("Authorization")[strings.Index(f.header.Get("Authorization"), "k="):]), 401, "three parts"},
		{"a token of another key", set("Authorization", f.sign(other, "JWT", claims(origin, time.Hour, "mailto:a@b.example"))), 401, "signature"},
		{"another type", token("at+jwt", claims(origin, time.Hour, "mailto:a@b.example")), 401, "the token's header"},
		{"another audience", token("JWT", claims("https://push.example.net", time.Hour, "mailto:a@b.example")), 401, "audience"},
		{"a token of yesterday", token("JWT", claims(origin, -time.Second, "mailto:a@b.example")), 401, "has expired"},
		{"a token for 25 hours", token("JWT", claims(origin, 25*time.Hour, "mailto:a@b.example")), 401, "more than 24 hours"},
		{"a token without a contact", token("JWT", claims(origin, time.Hour, "")), 401, "subject"},
		{"a body of 4096 bytes", body(make([]byte, 4096)), 400, "cannot read it"},
		{"a body of 4097 bytes", body(make([]byte, 4097)), 413, "more than 4096"},
		{"no body", body(nil), 400, "the header is cut off"},
		{"a body that was changed", body(broken), 400, "not made for this key"},
		{"a body that was cut", body(f.body[:len(f.body)-20]), 400, "not made for this key"},
	} {
		status, why := f.send(test.change)
		if status != test.status || !strings.Contains(why, test.why) {
			t.Errorf("a request with %s = %d, %q, want %d, %q", test.name, status, why, test.status, test.why)
		}
		if refusals := f.service.Refusals(); test.status != 201 && !slices.ContainsFunc(refusals, func(r string) bool { return strings.Contains(r, test.why) }) {
			t.Errorf("Refusals after %s = %q, want %q among them", test.name, refusals, test.why)
		}
	}
	for range 4 {
		if m := f.sub.MustNext(); string(m.Payload) != `{"countersign":"asked"}` || m.Size != len(f.body) {
			t.Errorf("a message that was taken is %+v", m)
		}
	}

	stranger := f.service.Subscribe(mustPublic(t, other))
	f.sub.Endpoint, stranger.Endpoint = stranger.Endpoint, f.sub.Endpoint
	if status, why := f.send(func(*http.Request) {}); status != 403 || !strings.Contains(why, "another key") {
		t.Errorf("a request to a subscription for another key = %d, %q, want 403", status, why)
	}
	f.sub.Endpoint, stranger.Endpoint = stranger.Endpoint, f.sub.Endpoint
	f.sub.Expire()
	if status, _ := f.send(func(*http.Request) {}); status != 410 {
		t.Errorf("a request to an expired subscription = %d, want 410", status)
	}
	f.sub.Forget()
	if status, _ := f.send(func(*http.Request) {}); status != 404 {
		t.Errorf("a request to a subscription that was removed = %d, want 404", status)
	}
}

func mustPublic(t *testing.T, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	public, err := key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return public
}

// FuzzDecrypt holds that no body makes a device fail in another way than by an error.
func FuzzDecrypt(f *testing.F) {
	device, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte{}, []byte{})
	f.Add(append(make([]byte, 16), 0, 0, 16, 0, 0, 1, 2, 3), make([]byte, 16))
	f.Add(append(append(make([]byte, 16), 0, 0, 0, 18, 65), device.PublicKey().Bytes()...), make([]byte, 16))
	f.Fuzz(func(t *testing.T, body, auth []byte) {
		if got, err := decryptPush(body, device, auth); err == nil {
			t.Errorf("decryptPush(%x) = %x, want an error", body, got)
		}
	})
}
