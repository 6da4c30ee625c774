package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/countersignd/countersign/internal/pin"
	"github.com/countersignd/countersign/server/approval"
)

const rootKeyLen = 32

// secrets are what lies outside the database.
type secrets struct {
	root    []byte
	signing crypto.Signer
	cert    tls.Certificate

	webPush      *ecdsa.PrivateKey // nil without Web Push
	webPushPoint []byte            // its public key, as devices subscribe with it
}

// loadSecrets reads the secrets of a data directory and makes those that are
// missing, unless there is a database: it would hold what was made with others.
// told is called for what it made.
func loadSecrets(d dataDir, s settings, told func(string)) (*secrets, error) {
	_, err := os.Lstat(d.database())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("looking for the database: %w", err)
	}
	l := loader{dir: d, fresh: err != nil, told: told}
	var all secrets
	if all.root, err = l.root(); err != nil {
		return nil, err
	}
	if all.signing, err = l.key("signing.key"); err != nil {
		return nil, err
	}
	if s.TLSCertificate != "" {
		all.cert, err = ownCertificate(s.TLSCertificate, s.TLSKey)
		if err == nil && s.TLSRoots != "system" {
			// Who knows the server by its key wants to see one certificate.
			all.cert.Certificate = all.cert.Certificate[:1]
		}
	} else {
		all.cert, err = l.certificate()
	}
	if err != nil {
		return nil, err
	}
	if s.WebPush.Contact != "" {
		l.fresh = true // Web Push may come to a database later; belong knows a key that is lost
		if all.webPush, err = l.key("webpush.key"); err != nil {
			return nil, err
		}
		if all.webPushPoint, err = all.webPush.PublicKey.Bytes(); err != nil {
			return nil, fmt.Errorf("the Web Push key: %w", err)
		}
	}
	return &all, nil
}

// A loader reads or makes single secrets.
type loader struct {
	dir   dataDir
	fresh bool // there is no database yet
	told  func(string)
}

// load returns the content of a secret, which it takes from fresh if there is
// none and there may be a new one.
func (l loader) load(name string, fresh func() ([]byte, error)) ([]byte, error) {
	path := l.dir.secret(name)
	data, err := os.ReadFile(path)
	switch {
	case err == nil:
		return data, checkPrivate(path, 0o600)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("reading a secret: %w", err)
	case !l.fresh:
		return nil, fmt.Errorf("there is a database %s but not the secret %s that belongs to it: "+
			"put the secret back from where you keep a copy, or move the database away to begin anew with no accounts", l.dir.database(), path)
	}
	if data, err = fresh(); err != nil {
		return nil, fmt.Errorf("making %s: %w", path, err)
	}
	if err := writeSecret(path, data); err != nil {
		return nil, fmt.Errorf("writing a secret: %w", err)
	}
	l.told(path)
	return data, nil
}

func (l loader) root() ([]byte, error) {
	root, err := l.load("root.key", func() ([]byte, error) {
		key := make([]byte, rootKeyLen)
		rand.Read(key)
		return key, nil
	})
	if err == nil && len(root) != rootKeyLen {
		return nil, damagedSecret(l.dir.secret("root.key"), fmt.Sprintf("it has %d bytes instead of %d", len(root), rootKeyLen))
	}
	return root, err
}

// key loads a P-256 key in PKCS#8 and PEM.
func (l loader) key(name string) (*ecdsa.PrivateKey, error) {
	data, err := l.load(name, func() ([]byte, error) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, err
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), err
	})
	if err != nil {
		return nil, err
	}
	path := l.dir.secret(name)
	block, rest := pem.Decode(data)
	if block == nil || block.Type != "PRIVATE KEY" || len(strings.TrimSpace(string(rest))) > 0 {
		return nil, damagedSecret(path, "it is not one private key in PEM")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	key, ok := parsed.(*ecdsa.PrivateKey)
	if err != nil || !ok || key.Curve != elliptic.P256() {
		return nil, damagedSecret(path, "it is not a P-256 key in PKCS#8")
	}
	return key, nil
}

// certificate loads the server's own TLS key with its certificate. Only the
// key counts, so a certificate that is missing is made again.
func (l loader) certificate() (tls.Certificate, error) {
	key, err := l.key("tls.key")
	if err != nil {
		return tls.Certificate{}, err
	}
	l.fresh = true
	data, err := l.load("tls.crt", func() ([]byte, error) {
		cert, err := pin.Certificate(key, program)
		if err != nil {
			return nil, err
		}
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}), nil
	})
	if err != nil {
		return tls.Certificate{}, err
	}
	path := l.dir.secret("tls.crt")
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE" {
		return tls.Certificate{}, damagedSecret(path, "it is not a certificate in PEM")
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil || !key.PublicKey.Equal(leaf.PublicKey) {
		return tls.Certificate{}, fmt.Errorf("%s is not a certificate for the key beside it: remove it, and the server makes it again", path)
	}
	return tls.Certificate{Certificate: [][]byte{block.Bytes}, PrivateKey: key, Leaf: leaf}, nil
}

// ownCertificate loads a certificate that the administrator brings.
func ownCertificate(certFile, keyFile string) (tls.Certificate, error) {
	if err := checkKeyFile(keyFile); err != nil {
		return tls.Certificate{}, err
	}
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("loading the certificate %s with the key %s: %w", certFile, keyFile, err)
	}
	if _, err := pin.KeyID(cert.Leaf.PublicKey); err != nil {
		return tls.Certificate{}, fmt.Errorf("the certificate %s cannot be used: %w; get one for a P-256 key", certFile, err)
	}
	return cert, nil
}

func damagedSecret(path, why string) error {
	return fmt.Errorf("the secret %s is damaged: %s; put it back from where you keep a copy", path, why)
}

// fingerprint names the secrets and gives nothing of them away.
func (s *secrets) fingerprint() (string, error) {
	derived, err := hkdf.Key(sha256.New, s.root, nil, "countersign v1 fingerprint of the root key", 32)
	if err != nil {
		return "", fmt.Errorf("deriving the fingerprint of the secrets: %w", err)
	}
	signing, err := pin.KeyID(s.signing.Public())
	if err != nil {
		return "", fmt.Errorf("signing key: %w", err)
	}
	sum := sha256.Sum256(append(derived, signing...))
	return pin.Base32.EncodeToString(sum[:]), nil
}

// Where the database keeps what it belongs to. The bucket is this program's;
// those of package approval have other names.
const (
	serverBucket   = "server"
	fingerprintKey = "secrets"      // fingerprint of the secrets
	tlsKeyKey      = "tls_key"      // key id by which devices know the server
	webPushKeyKey  = "web_push_key" // key id of the key that devices subscribed with
)

// belong refuses a database that was made with other secrets: its codes would
// not work and its grants would be signed by another key. It also refuses a
// TLS key that no enrolled device would connect to. A new database is told
// both before anything else is written to it.
func (s *secrets) belong(ctx context.Context, store approval.Store, d dataDir, set settings) error {
	mine, err := s.fingerprint()
	if err != nil {
		return err
	}
	tlsKey, err := pin.KeyID(s.cert.Leaf.PublicKey)
	if err != nil {
		return fmt.Errorf("the server's certificate: %w", err)
	}
	pinned := set.TLSRoots != "system" && !set.NewTLSKey
	var theirs, known string
	err = store.Update(ctx, func(tx approval.Tx) error {
		if theirs, err = told(tx, fingerprintKey, mine); err != nil || theirs != mine {
			return err
		}
		if known, err = told(tx, tlsKeyKey, tlsKey); err != nil || known == tlsKey || pinned {
			return err
		}
		known = tlsKey
		return tx.Put(serverBucket, tlsKeyKey, []byte(tlsKey))
	})
	if err != nil {
		return fmt.Errorf("comparing the secrets with the database: %w", err)
	}
	if theirs != mine {
		return fmt.Errorf("the database %s was made with other secrets than those in %s: put the database and the secrets back together that belong together",
			d.database(), d.secret(""))
	}
	if known != tlsKey {
		return fmt.Errorf("the TLS key is another than before, and no enrolled device would connect to it (it was %s, and is %s): "+
			"put the old key or certificate back; or, to enrol every device again, start once with --accept-new-tls-key", known, tlsKey)
	}
	return s.belongWebPush(ctx, store, d, set)
}

// belongWebPush refuses a Web Push key that is another than the one devices
// subscribed with: their push services would refuse every push.
func (s *secrets) belongWebPush(ctx context.Context, store approval.Store, d dataDir, set settings) error {
	if s.webPush == nil {
		return nil
	}
	mine, err := pin.KeyID(s.webPush.Public())
	if err != nil {
		return fmt.Errorf("the Web Push key: %w", err)
	}
	var known string
	err = store.Update(ctx, func(tx approval.Tx) error {
		if known, err = told(tx, webPushKeyKey, mine); err != nil || known == mine || !set.NewWebPushKey {
			return err
		}
		known = mine
		return tx.Put(serverBucket, webPushKeyKey, []byte(mine))
	})
	if err != nil {
		return fmt.Errorf("comparing the Web Push key with the database: %w", err)
	}
	if known != mine {
		return fmt.Errorf("the Web Push key is another than before, and push services would refuse what is for a device that subscribed with that one (it was %s, and is %s): "+
			"put the old %s back; or, if it is lost, start once with --accept-new-web-push-key, and devices subscribe anew when they next connect", known, mine, d.secret("webpush.key"))
	}
	return nil
}

// told returns what the database was told under a key, after telling it value
// if it was told nothing yet.
func told(tx approval.Tx, key, value string) (string, error) {
	old, err := tx.Get(serverBucket, key)
	if err != nil {
		return "", err
	}
	if old == nil {
		return value, tx.Put(serverBucket, key, []byte(value))
	}
	return string(old), nil
}
