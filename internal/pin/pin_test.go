package pin

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"math/big"
	"strings"
	"testing"
	"time"
)

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// otherKeys are keys that this system does not use.
func otherKeys(t *testing.T) map[string]crypto.Signer {
	t.Helper()
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]crypto.Signer{"P-384": p384, "Ed25519": ed, "RSA": rsaKey}
}

func mustKeyID(t *testing.T, pub crypto.PublicKey) string {
	t.Helper()
	id, err := KeyID(pub)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// The public key of RFC 7515, A.3, and its key id, which other tools give
// for it: openssl pkey -pubin -outform DER | openssl dgst -sha256 -binary | base32.
const (
	knownX  = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"
	knownY  = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"
	knownID = "fpi3wdcevcl4gct2ucmrzxry3adc7zcb3zinud2gqjjuj5qc5atq"
)

func knownKey(t *testing.T) *ecdsa.PublicKey {
	t.Helper()
	point := []byte{4}
	for _, s := range []string{knownX, knownY} {
		b, err := base64.RawURLEncoding.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		point = append(point, b...)
	}
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// rawKey makes a key of coordinates that nobody has looked at.
func rawKey(x, y *big.Int) *ecdsa.PublicKey {
	//lint:ignore SA1019 there is no other way to a key that is not on the curve
	return &ecdsa.PublicKey{Curve: elliptic.P256(), X: x, Y: y}
}

func TestKeyID(t *testing.T) {
	if got := mustKeyID(t, knownKey(t)); got != knownID {
		t.Errorf("KeyID = %q, want %q", got, knownID)
	}
	for range 100 {
		key := &newKey(t).PublicKey
		der, err := x509.MarshalPKIXPublicKey(key)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(der)
		if got, want := mustKeyID(t, key), Base32.EncodeToString(sum[:]); got != want {
			t.Errorf("KeyID = %q, want %q, the hash of %x", got, want, der)
		}
	}
	hostile := map[string]crypto.PublicKey{
		"nil":              nil,
		"nil pointer":      (*ecdsa.PublicKey)(nil),
		"zero":             &ecdsa.PublicKey{},
		"origin":           rawKey(new(big.Int), new(big.Int)),
		"not on the curve": rawKey(big.NewInt(1), big.NewInt(1)),
		"beyond the field": rawKey(new(big.Int).Lsh(big.NewInt(1), 256), big.NewInt(1)),
		"private key":      newKey(t),
		"not a pointer":    newKey(t).PublicKey,
	}
	for name, key := range otherKeys(t) {
		hostile[name] = key.Public()
	}
	for name, key := range hostile {
		if id, err := KeyID(key); err == nil || id != "" {
			t.Errorf("%s: KeyID = %q, %v, want an error", name, id, err)
		}
	}
}

func TestValidKeyID(t *testing.T) {
	for range 100 {
		if id := mustKeyID(t, &newKey(t).PublicKey); !ValidKeyID(id) {
			t.Errorf("ValidKeyID(%q) = false, want true", id)
		}
	}
	for last := range strings.SplitSeq("abcdefghijklmnopqrstuvwxyz234567", "") {
		id := knownID[:51] + last
		sum, err := Base32.DecodeString(id)
		if want := err == nil && Base32.EncodeToString(sum) == id; ValidKeyID(id) != want {
			t.Errorf("ValidKeyID(%q) = %v, want %v", id, !want, want)
		}
	}
	for _, s := range []string{
		"", "a", knownID[1:], knownID + "a", knownID + "=", knownID + "====", " " + knownID[1:],
		strings.ToUpper(knownID), strings.Replace(knownID, "f", "F", 1), strings.Replace(knownID, "f", "1", 1),
		knownID[:51] + "r",  // the spare bits are not zero
		knownID[:51] + "\n", // the decoder skips line breaks
		"\r" + knownID[1:], knownID[:20] + "\n" + knownID[21:],
		strings.Repeat("é", 26),
	} {
		if ValidKeyID(s) {
			t.Errorf("ValidKeyID(%q) = true, want false", s)
		}
	}
}

func FuzzValidKeyID(f *testing.F) {
	f.Add(knownID)
	f.Add(knownID[:51] + "r")
	f.Fuzz(func(t *testing.T, s string) {
		sum, err := Base32.DecodeString(s)
		if got, want := ValidKeyID(s), err == nil && len(sum) == 32 && Base32.EncodeToString(sum) == s; got != want {
			t.Errorf("ValidKeyID(%q) = %v, but it decodes to %x, %v", s, got, sum, err)
		}
	})
}

func TestCertificate(t *testing.T) {
	key := newKey(t)
	cert, err := Certificate(key, "Ada's phone")
	if err != nil {
		t.Fatal(err)
	}
	leaf := cert.Leaf
	if got, want := mustKeyID(t, leaf.PublicKey), mustKeyID(t, key.Public()); got != want {
		t.Errorf("key id of the certificate = %q, want %q", got, want)
	}
	if leaf.Subject.CommonName != "Ada's phone" || leaf.IsCA {
		t.Errorf("common name %q, CA %v, want Ada's phone, false", leaf.Subject.CommonName, leaf.IsCA)
	}
	// Software that does look at dates and usages must be content with either side.
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	for _, at := range []time.Time{time.Unix(1, 0), time.Now(), time.Now().AddDate(1000, 0, 0)} {
		for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth} {
			options := x509.VerifyOptions{Roots: roots, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{usage}}
			if _, err := leaf.Verify(options); err != nil {
				t.Errorf("x509 at %v for %v: %v", at, usage, err)
			}
		}
	}
	for _, name := range []string{"", strings.Repeat("a", 64)} {
		if _, err := Certificate(key, name); err != nil {
			t.Errorf("Certificate(%q) = %v, want nil", name, err)
		}
	}
	for _, name := range []string{"\xff", strings.Repeat("a", 65)} {
		if _, err := Certificate(key, name); err == nil {
			t.Errorf("Certificate(%q) = nil, want an error", name)
		}
	}
	for name, key := range otherKeys(t) {
		if _, err := Certificate(key, "x"); err == nil {
			t.Errorf("Certificate(%s key) = nil, want an error", name)
		}
	}
}

func TestPeerKeyIDNeedsOneCertificate(t *testing.T) {
	cert, err := Certificate(newKey(t), "x")
	if err != nil {
		t.Fatal(err)
	}
	one := []*x509.Certificate{cert.Leaf}
	if _, err := PeerKeyID(tls.ConnectionState{PeerCertificates: one}); err != nil {
		t.Errorf("PeerKeyID(one) = %v, want nil", err)
	}
	for name, certs := range map[string][]*x509.Certificate{
		"none": nil,
		"two":  {cert.Leaf, cert.Leaf},
	} {
		if id, err := PeerKeyID(tls.ConnectionState{PeerCertificates: certs}); err == nil || id != "" {
			t.Errorf("PeerKeyID(%s) = %q, %v, want an error", name, id, err)
		}
	}
}
