package statement

import (
	"encoding/json"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"
)

// joseVerify checks a statement as anybody would who knows RFC 7515 only.
func joseVerify(jws string, key any) (payload []byte, header jose.Header, err error) {
	parsed, err := jose.ParseSignedCompact(jws, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		return nil, jose.Header{}, err
	}
	payload, err = parsed.Verify(key)
	return payload, parsed.Signatures[0].Protected, err
}

func TestJOSEVerifiesOurs(t *testing.T) {
	for _, s := range samples() {
		payload, header, err := joseVerify(s.jws, &s.key.PublicKey)
		if err != nil {
			t.Errorf("%s: jose: %v", s.name, err)
			continue
		}
		if diff := cmp.Diff(string(s.payload), string(payload)); diff != "" {
			t.Errorf("%s: jose (-want +got):\n%s", s.name, diff)
		}
		if header.Algorithm != "ES256" || header.KeyID != s.signer || header.ExtraHeaders["typ"] != s.typ {
			t.Errorf("%s: jose: header = %+v, want ES256, %s, %s", s.name, header, s.signer, s.typ)
		}
	}
}

func TestOursVerifiesJOSE(t *testing.T) {
	for _, s := range samples() {
		options := (&jose.SignerOptions{}).WithType(jose.ContentType(s.typ)).WithHeader("kid", s.signer)
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: s.key}, options)
		if err != nil {
			t.Fatal(err)
		}
		signed, err := signer.Sign(s.payload)
		if err != nil {
			t.Fatal(err)
		}
		jws, err := signed.CompactSerialize()
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.verify(&s.key.PublicKey, s.signer, jws)
		if err != nil {
			t.Errorf("%s: Verify(jose) = %v", s.name, err)
		}
		if diff := cmp.Diff(string(s.payload), string(got)); diff != "" {
			t.Errorf("%s: Verify(jose) (-want +got):\n%s", s.name, diff)
		}
		if got, want := SigningInput(jws), SigningInput(s.jws); got != want {
			t.Errorf("%s: SigningInput(jose) = %q, want %q", s.name, got, want)
		}
	}
}

func TestJWKAgreesWithJOSE(t *testing.T) {
	ours, err := NewJWK(&approvalKey.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := jose.JSONWebKey{Key: &approvalKey.PublicKey}.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	var got JWK
	if err := json.Unmarshal(theirs, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(ours, got); diff != "" {
		t.Errorf("jose's JWK (-ours +theirs):\n%s", diff)
	}
	var back jose.JSONWebKey
	if err := back.UnmarshalJSON(Encode(ours)); err != nil || !approvalKey.PublicKey.Equal(back.Key) {
		t.Errorf("jose reads our JWK as %v, %v, want the key", back.Key, err)
	}
}

// TestRFC7515AppendixA3 checks the part that knows of signatures alone with the
// example of the standard.
func TestRFC7515AppendixA3(t *testing.T) {
	const (
		header    = "eyJhbGciOiJFUzI1NiJ9"
		payload   = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
		signature = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
	)
	got, err := verify(&approvalKey.PublicKey, header, header+"."+payload+"."+signature)
	if err != nil {
		t.Fatal(err)
	}
	want := "{\"iss\":\"joe\",\r\n \"exp\":1300819380,\r\n \"http://example.com/is_root\":true}"
	if string(got) != want {
		t.Errorf("verify = %q, want %q", got, want)
	}
	if _, err := verify(&otherKey.PublicKey, header, header+"."+payload+"."+signature); err == nil {
		t.Error("verify(other key) = nil, want an error")
	}
}
