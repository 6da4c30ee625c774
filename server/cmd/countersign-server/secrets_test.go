package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"github.com/countersignd/countersign/internal/pin"
	"github.com/countersignd/countersign/server/approval/storetest"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// writeCertificate writes a self-signed certificate with its key, and returns
// the settings that name them.
func writeCertificate(t *testing.T, key crypto.Signer) settings {
	t.Helper()
	dir := t.TempDir()
	s := settings{TLSCertificate: filepath.Join(dir, "cert.pem"), TLSKey: filepath.Join(dir, "key.pem")}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{
		s.TLSCertificate: {Type: "CERTIFICATE", Bytes: der},
		s.TLSKey:         {Type: "PRIVATE KEY", Bytes: pkcs8},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func TestOwnCertificate(t *testing.T) {
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	load := func(s settings) (*secrets, dataDir, error) {
		d := dataDir(filepath.Join(t.TempDir(), "data"))
		if err := d.prepare(func(string) {}); err != nil {
			t.Fatal(err)
		}
		all, err := loadSecrets(d, s, func(string) {})
		return all, d, err
	}

	good := writeCertificate(t, p256)
	all, d, err := load(good)
	if err != nil {
		t.Fatalf("a certificate for a P-256 key: %v", err)
	}
	if !p256.PublicKey.Equal(all.cert.Leaf.PublicKey) {
		t.Error("the certificate is not the one that was given")
	}
	if _, err := os.Stat(d.secret("tls.key")); err == nil {
		t.Error("a TLS key was made that is not needed")
	}

	if _, _, err := load(writeCertificate(t, rsaKey)); err == nil || !strings.Contains(err.Error(), "get one for a P-256 key") {
		t.Errorf("a certificate for an RSA key: %v, want a refusal that says what to do", err)
	}
	mixed := good
	mixed.TLSKey = writeCertificate(t, rsaKey).TLSKey
	if _, _, err := load(mixed); err == nil {
		t.Error("a certificate with another key was taken")
	}
	if err := os.Chmod(good.TLSKey, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, _, err := load(good); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a key that others may read: %v, want a refusal with the chmod", err)
	}
}

// The fingerprint changes with each secret, and is the same for the same ones.
func TestFingerprint(t *testing.T) {
	key := func() crypto.Signer {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	signing := key()
	fingerprint := func(root byte, signing crypto.Signer) string {
		s := secrets{root: []byte(strings.Repeat(string(rune(root)), rootKeyLen)), signing: signing}
		f, err := s.fingerprint()
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	base := fingerprint('a', signing)
	if base != fingerprint('a', signing) {
		t.Error("the same secrets have two fingerprints")
	}
	if base == fingerprint('b', signing) || base == fingerprint('a', key()) {
		t.Error("other secrets have the same fingerprint")
	}
}

// TestAnotherTLSKeyIsRefused holds that nobody locks every device out by
// giving the server another certificate, unless he says so.
func TestAnotherTLSKeyIsRefused(t *testing.T) {
	store := storetest.NewMemory()
	d := dataDir(t.TempDir())
	signing, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	certificate := func() tls.Certificate {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := pin.Certificate(key, "test")
		if err != nil {
			t.Fatal(err)
		}
		if cert.Leaf, err = x509.ParseCertificate(cert.Certificate[0]); err != nil {
			t.Fatal(err)
		}
		return cert
	}
	start := func(cert tls.Certificate, s settings) error {
		all := secrets{root: make([]byte, rootKeyLen), signing: signing, cert: cert}
		return all.belong(t.Context(), store, d, s)
	}
	first, second := certificate(), certificate()
	for _, test := range []struct {
		name    string
		cert    tls.Certificate
		set     settings
		refused bool
	}{
		{"the first", first, settings{}, false},
		{"the same", first, settings{}, false},
		{"another", second, settings{}, true},
		{"another, still", second, settings{TLSRoots: "pin"}, true},
		{"the first again", first, settings{}, false},
		{"another, under the system's roots", second, settings{TLSRoots: "system"}, false},
		{"the first, which is another now", first, settings{}, true},
		{"the first, accepted", first, settings{NewTLSKey: true}, false},
		{"the first, afterwards", first, settings{}, false},
	} {
		if err := start(test.cert, test.set); (err != nil) != test.refused {
			t.Errorf("%s = %v, want refused %v", test.name, err, test.refused)
		} else if err != nil && !strings.Contains(err.Error(), "--accept-new-tls-key") {
			t.Errorf("%s = %v, which does not say what to do", test.name, err)
		}
	}
}

// systemd lets a service read what LoadCredential= names by an access list, which
// looks like the right of a group in the file's mode.
func TestKeysThatSystemdHandsOver(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s := writeCertificate(t, key)
	load := func(mode os.FileMode) error {
		if err := os.Chmod(s.TLSKey, mode); err != nil {
			t.Fatal(err)
		}
		_, err := ownCertificate(s.TLSCertificate, s.TLSKey)
		return err
	}
	const refusal = "so others may look into it"
	if err := load(0o440); err == nil || !strings.Contains(err.Error(), refusal) {
		t.Errorf("a key that a group may read = %v, want %q", err, refusal)
	}
	t.Setenv("CREDENTIALS_DIRECTORY", filepath.Dir(s.TLSKey))
	if err := load(0o440); err != nil {
		t.Errorf("the same from systemd = %v", err)
	}
	if err := load(0o444); err == nil || !strings.Contains(err.Error(), refusal) {
		t.Errorf("one that everybody may read = %v, want %q", err, refusal)
	}
	t.Setenv("CREDENTIALS_DIRECTORY", filepath.Dir(filepath.Dir(s.TLSKey)))
	if err := load(0o440); err == nil || !strings.Contains(err.Error(), refusal) {
		t.Errorf("one below systemd's directory = %v, want %q", err, refusal)
	}
}
