package statement

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestValidIDs(t *testing.T) {
	a := strings.Repeat
	for _, tc := range []struct {
		name    string
		valid   func(string) bool
		good    []string
		hostile []string
	}{
		{"ValidAccount", ValidAccount,
			[]string{"a", "0", "ada", "ada@example.org", "ada+test", "a.b_c-d", a("a", 64)},
			[]string{"", a("a", 65), "Ada", ".ada", "_ada", "@ada", "+ada", "-ada", "ada ", "ada/x", "ädä", "ada\n", "ada\x00", "ａｄａ"}},
		{"ValidApplication", ValidApplication,
			[]string{"a", "wiki", "wiki-2", "a-", a("a", 32)},
			[]string{"", a("a", 33), "2wiki", "-wiki", "Wiki", "wiki_2", "wiki.x", "wiki\n", "wïki"}},
		{"ValidSignIn", ValidSignIn,
			[]string{signInID, a("0", 26), a("v", 26)},
			[]string{"", a("0", 25), a("0", 27), a("w", 26), a("V", 26), a("0", 25) + "\n", a("0", 25) + "="}},
		{"ValidDeployment", ValidDeployment,
			[]string{deployment, a("a", 26), a("7", 26)},
			[]string{"", a("a", 25), a("a", 27), a("A", 26), a("1", 26), a("8", 26), a("a", 25) + "\n", a("a", 25) + "="}},
	} {
		for _, s := range tc.good {
			if !tc.valid(s) {
				t.Errorf("%s(%q) = false, want true", tc.name, s)
			}
		}
		for _, s := range tc.hostile {
			if tc.valid(s) {
				t.Errorf("%s(%q) = true, want false", tc.name, s)
			}
		}
	}
}

func TestJWK(t *testing.T) {
	// RFC 7515, A.3.
	want := JWK{
		Crv: "P-256",
		Kty: "EC",
		X:   "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
		Y:   "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
	}
	got, err := NewJWK(&approvalKey.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("NewJWK (-want +got):\n%s", diff)
	}
	key, err := got.PublicKey()
	if err != nil || !key.Equal(&approvalKey.PublicKey) {
		t.Errorf("PublicKey() = %v, %v, want the key", key, err)
	}

	zero := encode64(make([]byte, 32))
	prime := encode64(elliptic.P256().Params().P.Bytes())
	for what, change := range map[string]func(*JWK){
		"empty":                 func(k *JWK) { *k = JWK{} },
		"other type":            func(k *JWK) { k.Kty = "ec" },
		"other curve":           func(k *JWK) { k.Crv = "P-384" },
		"not on the curve":      func(k *JWK) { k.Y = k.X },
		"origin":                func(k *JWK) { k.X, k.Y = zero, zero },
		"beyond the field":      func(k *JWK) { k.X = prime },
		"31 bytes":              func(k *JWK) { k.X = encode64(make([]byte, 31)) },
		"33 bytes":              func(k *JWK) { k.X = encode64(make([]byte, 33)) },
		"padded":                func(k *JWK) { k.X += "=" },
		"line break":            func(k *JWK) { k.X = k.X[:20] + "\n" + k.X[20:] },
		"spare bits":            func(k *JWK) { k.X = k.X[:42] + nextChar(k.X[42]) },
		"standard alphabet":     func(k *JWK) { k.Y = strings.ReplaceAll(k.Y, "_", "/") },
		"not base64":            func(k *JWK) { k.Y = strings.Repeat("!", 43) },
		"nothing in coordinate": func(k *JWK) { k.Y = "" },
	} {
		k := want
		change(&k)
		if key, err := k.PublicKey(); !errors.Is(err, ErrInvalid) || key != nil {
			t.Errorf("%s: PublicKey() = %v, %v, want ErrInvalid", what, key, err)
		}
		if id := k.keyID(); id != "" {
			t.Errorf("%s: keyID() = %q, want none", what, id)
		}
	}

	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []*ecdsa.PublicKey{nil, {}, &p384.PublicKey} {
		if k, err := NewJWK(key); !errors.Is(err, ErrInvalid) || k != (JWK{}) {
			t.Errorf("NewJWK(%v) = %v, %v, want ErrInvalid", key, k, err)
		}
	}
}
