package statement

import (
	"crypto"
	"encoding/json"
	"flag"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the worked example in testdata anew")

// deterministicKey signs with the nonces of RFC 6979, which crypto/ecdsa uses when
// it is given no randomness, so that the worked example is the same each time.
type deterministicKey struct{ crypto.Signer }

func (k deterministicKey) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return k.Signer.Sign(nil, digest, opts)
}

// TestWorkedExample checks the example that docs/protocol.md shows: a decision, the
// approval key that signed it, and the prompt inside. The example is fixed: if
// this test fails, statements that were signed before do not verify any more.
func TestWorkedExample(t *testing.T) {
	d := denial()
	d.Reason = Mistake
	jws, err := Sign(deterministicKey{approvalKey}, d)
	if err != nil {
		t.Fatal(err)
	}
	jwk, err := NewJWK(&approvalKey.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"decision.jws":         jws,
		"decision.key.json":    string(Encode(jwk)),
		"decision.prompt.json": string(signInPrompt().Encode()),
	}
	if *update {
		for name, content := range want {
			if err := os.WriteFile(filepath.Join("testdata", name), []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	files := make(map[string]string)
	for name := range want {
		b, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		files[name] = string(b)
	}
	if diff := cmp.Diff(want, files); diff != "" {
		t.Errorf("worked example (-signed now +in testdata):\n%s", diff)
	}

	// As a reader would check it who has nothing but the three files.
	var k JWK
	if err := json.Unmarshal([]byte(files["decision.key.json"]), &k); err != nil {
		t.Fatal(err)
	}
	key, err := k.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	got, err := Verify[Decision](key, device, files["decision.jws"])
	if err != nil {
		t.Fatal(err)
	}
	if got.Decision != Deny || string(got.PromptBytes()) != files["decision.prompt.json"] {
		t.Errorf("Verify = %s on %s, want deny on %s", got.Decision, got.PromptBytes(), files["decision.prompt.json"])
	}
	if payload, _, err := joseVerify(files["decision.jws"], key); err != nil || string(payload) != string(Encode(d)) {
		t.Errorf("jose = %s, %v, want %s", payload, err, Encode(d))
	}
}
