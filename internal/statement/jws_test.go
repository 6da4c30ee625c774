package statement

import (
	"bytes"
	"crypto/elliptic"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"math/big"
	"strings"
	"testing"
)

func TestHeaderMustBeExact(t *testing.T) {
	payload := Encode(codeRequest())
	exact := `{"alg":"ES256","kid":"` + device + `","typ":"countersign-code-request+jws"}`
	headers := []string{
		``, `{}`, `null`,
		strings.Replace(exact, "ES256", "none", 1),
		strings.Replace(exact, "ES256", "HS256", 1),
		strings.Replace(exact, "ES256", "ES384", 1),
		strings.Replace(exact, "ES256", "es256", 1),
		strings.Replace(exact, "code-request", "decision", 1),
		strings.Replace(exact, "code-request+jws", "code-request", 1),
		strings.Replace(exact, "code-request", "Code-Request", 1),
		strings.Replace(exact, "countersign-code-request+jws", "JWT", 1),
		strings.Replace(exact, device, other, 1),
		strings.Replace(exact, device, strings.ToUpper(device), 1),
		strings.Replace(exact, device, "", 1),
		strings.Replace(exact, ",", ", ", 1),
		exact + " ", " " + exact, exact + "\n",
		strings.Replace(exact, `"typ"`, `"jwk":{},"typ"`, 1),
		strings.Replace(exact, `"typ"`, `"crit":["b64"],"b64":false,"typ"`, 1),
		strings.Replace(exact, `{`, `{"b64":true,`, 1),
		strings.Replace(exact, `{`, `{"alg":"none",`, 1),
		strings.Replace(exact, `}`, `,"zip":"DEF"}`, 1),
		strings.Replace(exact, `}`, `,"x5c":[]}`, 1),
		strings.Replace(exact, `"alg"`, `"\u0061lg"`, 1),
		`{"kid":"` + device + `","alg":"ES256","typ":"countersign-code-request+jws"}`,
		`{"alg":"ES256","typ":"countersign-code-request+jws"}`,
	}
	for _, header := range headers {
		if header == exact {
			t.Fatalf("header %q is the exact one", header)
		}
		jws, err := sign(approvalKey, &approvalKey.PublicKey, encode64([]byte(header)), payload)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Verify[CodeRequest](&approvalKey.PublicKey, device, jws); !errors.Is(err, ErrInvalid) {
			t.Errorf("Verify(header %s) = %v, want ErrInvalid", header, err)
		}
	}
	jws := signBytes(t, approvalKey, device, codeRequest().typ(), payload)
	if got, _, _ := strings.Cut(jws, "."); got != encode64([]byte(exact)) {
		t.Errorf("header = %s, want %s", got, encode64([]byte(exact)))
	}
}

func TestPartsMustBeExact(t *testing.T) {
	jws, err := Sign(approvalKey, codeRequest())
	if err != nil {
		t.Fatal(err)
	}
	p, err := split(jws)
	if err != nil {
		t.Fatal(err)
	}
	join := func(parts ...string) string { return strings.Join(parts, ".") }
	signature, err := decode64(p.signature)
	if err != nil {
		t.Fatal(err)
	}
	order := elliptic.P256().Params().N
	der, err := asn1.Marshal(struct{ R, S *big.Int }{
		new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:]),
	})
	if err != nil {
		t.Fatal(err)
	}
	hostile := map[string]string{
		"empty":                 "",
		"dots":                  "..",
		"no signature":          join(p.header, p.payload, ""),
		"signature missing":     join(p.header, p.payload),
		"four parts":            join(p.header, p.payload, p.signature, ""),
		"five parts (JWE)":      join(p.header, "", p.payload, p.signature, ""),
		"detached payload":      join(p.header, "", p.signature),
		"payload twice":         join(p.header, p.payload+p.payload, p.signature),
		"padded":                join(p.header, p.payload, p.signature+"=="),
		"line break at the end": jws + "\n",
		"line break inside":     jws[:len(jws)-5] + "\r\n" + jws[len(jws)-5:],
		"line break in header":  "\n" + jws,
		"space":                 " " + jws,
		"zero bytes":            jws + "\x00",
		"spare bits":            jws[:len(jws)-1] + nextChar(jws[len(jws)-1]),
		"standard alphabet":     join(p.header, p.payload, base64.RawStdEncoding.EncodeToString(withSlash(signature))),
		"r = s = 0":             join(p.header, p.payload, encode64(make([]byte, 64))),
		"r = 0":                 join(p.header, p.payload, encode64(append(make([]byte, 32), signature[32:]...))),
		"r = order":             join(p.header, p.payload, encode64(append(order.Bytes(), signature[32:]...))),
		"s = order":             join(p.header, p.payload, encode64(append(bytes.Clone(signature[:32]), order.Bytes()...))),
		"63 bytes":              join(p.header, p.payload, encode64(signature[:63])),
		"65 bytes":              join(p.header, p.payload, encode64(append(bytes.Clone(signature), 0))),
		"ASN.1":                 join(p.header, p.payload, encode64(der)),
		"JSON serialization":    `{"protected":"` + p.header + `","payload":"` + p.payload + `","signature":"` + p.signature + `"}`,
		"too long":              join(p.header, p.payload, p.signature+strings.Repeat("A", MaxLen)),
	}
	for name, jws := range hostile {
		if _, err := Verify[CodeRequest](&approvalKey.PublicKey, device, jws); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: Verify = %v, want ErrInvalid", name, err)
		}
	}
}

// nextChar returns the character of the base64url alphabet whose value is one
// higher, so that only the last bit differs.
func nextChar(c byte) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return string(alphabet[strings.IndexByte(alphabet, c)+1])
}

// withSlash returns a copy that the two alphabets spell in different ways.
func withSlash(b []byte) []byte { return append([]byte{0xff, 0xff, 0xff}, b[3:]...) }

func TestLengthLimitComesFirst(t *testing.T) {
	// Signed and as such in order, but too long.
	jws := signBytes(t, approvalKey, device, codeRequest().typ(), bytes.Repeat([]byte(" "), 1))
	if _, err := split(jws + strings.Repeat("A", MaxLen-len(jws))); err != nil {
		t.Errorf("split(%d bytes) = %v, want nil", MaxLen, err)
	}
	if _, err := split(jws + strings.Repeat("A", MaxLen+1-len(jws))); !errors.Is(err, ErrInvalid) {
		t.Errorf("split(%d bytes) = %v, want ErrInvalid", MaxLen+1, err)
	}
}

// TestMirroredSignatureIsAccepted documents that a signature is no identity:
// anybody can make a second one, and SigningInput stays the same.
func TestMirroredSignatureIsAccepted(t *testing.T) {
	for _, s := range samples() {
		p, err := split(s.jws)
		if err != nil {
			t.Fatal(err)
		}
		signature, err := decode64(p.signature)
		if err != nil {
			t.Fatal(err)
		}
		mirrored := new(big.Int).Sub(elliptic.P256().Params().N, new(big.Int).SetBytes(signature[32:]))
		mirrored.FillBytes(signature[32:])
		jws := SigningInput(s.jws) + "." + encode64(signature)
		if jws == s.jws {
			t.Fatalf("%s: the mirrored statement is the same", s.name)
		}
		if _, err := s.verify(&s.key.PublicKey, s.signer, jws); err != nil {
			t.Errorf("%s: Verify(mirrored) = %v, want nil", s.name, err)
		}
		if got, want := SigningInput(jws), SigningInput(s.jws); got != want || got == "" {
			t.Errorf("%s: SigningInput(mirrored) = %q, want %q", s.name, got, want)
		}
	}
}

func TestSigningInput(t *testing.T) {
	for jws, want := range map[string]string{
		"a.b.c": "a.b", "..": ".", "": "", "a": "", "a.b": "", "a.b.c.d": "",
	} {
		if got := SigningInput(jws); got != want {
			t.Errorf("SigningInput(%q) = %q, want %q", jws, got, want)
		}
	}
}
