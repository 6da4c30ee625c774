package webpush

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

const contact = "mailto:admin@countersign.example"

func newTestVAPID(t *testing.T) *vapid {
	t.Helper()
	v, err := newVAPID(newKey(t), contact)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// What is signed in the example of RFC 8292, 2.4 is made byte for byte. Its signature
// cannot be made again, since ES256 is randomized; package webpushtest verifies it.
func TestExampleOfRFC8292(t *testing.T) {
	v, err := newVAPID(newKey(t), "mailto:push@example.com")
	if err != nil {
		t.Fatal(err)
	}
	got, err := v.sign("https://push.example.net", time.Unix(1453523768, 0))
	const want = "eyJ0eXAiOiJKV1QiLCJhbGciOiJFUzI1NiJ9.eyJhdWQiOiJodHRwczovL3B1c2guZXhhbXBsZS5uZXQiLCJleHAiOjE0NTM1MjM3NjgsInN1YiI6Im1haWx0bzpwdXNoQGV4YW1wbGUuY29tIn0."
	if err != nil || !strings.HasPrefix(got, want) {
		t.Errorf("sign of the example = %s, %v, want a beginning %s", got, err, want)
	}
}

// An independent library verifies what is sent.
func TestAuthorization(t *testing.T) {
	v := newTestVAPID(t)
	now := time.Unix(1_800_000_000, 0)
	header, err := v.authorization("https://push.example.net", now)
	if err != nil {
		t.Fatal(err)
	}
	rest, ok := strings.CutPrefix(header, "vapid t=")
	text, key, found := strings.Cut(rest, ", k=")
	if !ok || !found || key != encode64(v.public) || len(v.public) != pointLen {
		t.Fatalf("the header is %s", header)
	}
	signed, err := jose.ParseSignedCompact(text, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		t.Fatal(err)
	}
	payload, err := signed.Verify(&v.key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	var claims map[string]any
	if err := json.Unmarshal(payload, &claims); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprint(map[string]any{"aud": "https://push.example.net", "exp": float64(1_800_000_000 + 12*60*60), "sub": contact})
	if got := fmt.Sprint(claims); got != want {
		t.Errorf("the claims are %s, want %s", got, want)
	}
}

// A token is used for six hours, by its origin only, and not after the clock was set
// back; so no service ever sees one that lives for more than 24 hours or has expired.
func TestTokensAreKept(t *testing.T) {
	v := newTestVAPID(t)
	start := time.Unix(1_800_000_000, 0)
	token := func(origin string, at time.Duration) string {
		t.Helper()
		text, err := v.token(origin, start.Add(at))
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	first := token("https://a.example", 0)
	if token("https://a.example", tokenUse-time.Second) != first {
		t.Error("a token that is young is made again")
	}
	if token("https://b.example", 0) == first {
		t.Error("two origins have one token")
	}
	second := token("https://a.example", tokenUse)
	if second == first {
		t.Error("a token that is old is used")
	}
	if token("https://a.example", tokenUse-time.Second) == second {
		t.Error("a token of the future is used after the clock was set back")
	}
}

func TestTokensAreBounded(t *testing.T) {
	v := newTestVAPID(t)
	now := time.Unix(1_800_000_000, 0)
	for i := range 2 * maxTokens {
		if _, err := v.token(fmt.Sprintf("https://%d.example", i), now); err != nil {
			t.Fatal(err)
		}
	}
	if got := len(v.tokens); got != maxTokens {
		t.Errorf("%d tokens are kept, want %d", got, maxTokens)
	}
	if _, ok := v.tokens[fmt.Sprintf("https://%d.example", 2*maxTokens-1)]; !ok {
		t.Error("the newest token is not kept")
	}
}

func TestCheckContact(t *testing.T) {
	for contact, ok := range map[string]bool{
		"mailto:admin@countersign.example":           true,
		"https://countersign.example/contact":        true,
		"https://countersign.example":                true,
		"":                                           false,
		"admin@countersign.example":                  false,
		"mailto:":                                    false,
		"mailto:admin":                               false,
		"mailto:Ada <ada@countersign.example>":       false,
		"mailto:ada@a.example,ada@b.example":         false,
		"mailto:ada@a.example?subject=x":             false,
		"http://countersign.example":                 false,
		"https:":                                     false,
		"https:///contact":                           false,
		"https://ada@countersign.example/":           false,
		"https://countersign.example/\n":             false,
		"https://countersign.example/ü":              false,
		"https://" + strings.Repeat("a", maxContact): false,
	} {
		err := CheckContact(contact)
		if (err == nil) != ok {
			t.Errorf("CheckContact(%q) = %v, want ok %v", contact, err, ok)
		}
		if err != nil && !strings.Contains(err.Error(), `"mailto:admin@countersign.example"`) {
			t.Errorf("CheckContact(%q) = %v, which shows no good one", contact, err)
		}
	}
}
