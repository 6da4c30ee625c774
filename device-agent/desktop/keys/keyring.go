package keys

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/zalando/go-keyring"

	"github.com/countersignd/countersign/device-agent/keystore"
)

const (
	service   = "countersign" // what our entries in a keyring are filed under
	sealedPEM = "COUNTERSIGN KEYS SEALED BY A KEYRING"
)

// A Keyring is that of the person's session: the Secret Service of a Linux desktop, the
// Keychain of macOS, the Credential Manager of Windows. It keeps one random key for each
// file of keys, under the name that the file says.
type Keyring struct{}

// Storage implements [keystore.Vault].
func (Keyring) Storage() string { return keystore.InKeyring }

// Check implements [Vault]. It leaves nothing in the keyring.
func (Keyring) Check() error {
	if _, err := keyring.Get(service, "nothing"); err != nil && !errors.Is(err, keyring.ErrNotFound) {
		return fmt.Errorf("this session has no keyring that can be used (%w)", err)
	}
	return nil
}

// sealed is what is encrypted in the file.
type sealed struct {
	Identity []byte `json:"identity"` // PKCS#8
	Approval []byte `json:"approval"` // PKCS#8
	Sealing  []byte `json:"sealing"`
}

// Make implements [keystore.Vault].
func (Keyring) Make() ([]byte, error) {
	secrets := sealed{Sealing: make([]byte, 32)}
	rand.Read(secrets.Sealing)
	for _, to := range []*[]byte{&secrets.Identity, &secrets.Approval} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, fmt.Errorf("making a key: %w", err)
		}
		if *to, err = x509.MarshalPKCS8PrivateKey(key); err != nil {
			return nil, fmt.Errorf("encoding a key: %w", err)
		}
	}
	plain, err := json.Marshal(secrets)
	if err != nil {
		return nil, fmt.Errorf("encoding keys: %w", err)
	}
	entry, wrapping := "device keys "+rand.Text(), make([]byte, 32)
	rand.Read(wrapping)
	gcm, err := newGCM(wrapping)
	if err != nil {
		return nil, err
	}
	if err := keyring.Set(service, entry, base64.StdEncoding.EncodeToString(wrapping)); err != nil {
		return nil, fmt.Errorf("the keyring of your session takes no key: unlock it and try again, or give a passphrase to keep the keys in a file: %w", err)
	}
	return encodeSealed(entry, gcm.Seal(nil, nil, plain, []byte(entry))), nil
}

// Keys implements [keystore.Vault].
func (Keyring) Keys(file []byte) (keystore.Kept, error) {
	block, _ := pem.Decode(file)
	if block == nil || !bytes.Equal(encodeSealed(block.Headers[header], block.Bytes), file) {
		return keystore.Kept{}, errDamaged
	}
	entry := block.Headers[header]
	text, err := keyring.Get(service, entry)
	switch {
	case errors.Is(err, keyring.ErrNotFound):
		// Not gone for good: another session's keyring may have it.
		return keystore.Kept{}, errors.New("the keyring of this session does not have what opens the keys of this device: " +
			"sign in to the session, or restore the keyring, that this device was enrolled with. If that is gone, this device can never answer again: " +
			"move its directory away and enrol it anew; then revoke the old device on another one, or have an administrator do it")
	case err != nil:
		return keystore.Kept{}, fmt.Errorf("the keys of this device are in the keyring of your session, which cannot be used now: unlock it, or start its service, and try again: %w", err)
	}
	wrapping, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return keystore.Kept{}, errDamaged
	}
	gcm, err := newGCM(wrapping)
	if err != nil {
		return keystore.Kept{}, errDamaged
	}
	plain, err := gcm.Open(nil, nil, block.Bytes, []byte(entry))
	if err != nil {
		return keystore.Kept{}, errDamaged
	}
	// Only who had the key of the keyring has written what follows.
	var secrets sealed
	if err := json.Unmarshal(plain, &secrets); err != nil {
		return keystore.Kept{}, errDamaged
	}
	identity, err := parseKey(secrets.Identity)
	if err != nil {
		return keystore.Kept{}, err
	}
	approval, err := parseKey(secrets.Approval)
	if err != nil {
		return keystore.Kept{}, err
	}
	return keystore.Kept{Identity: identity, Approval: approval, Sealing: secrets.Sealing}, nil
}

func encodeSealed(entry string, data []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: sealedPEM, Headers: map[string]string{header: entry}, Bytes: data})
}

func parseKey(der []byte) (crypto.Signer, error) {
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	key, ok := parsed.(*ecdsa.PrivateKey)
	if err != nil || !ok {
		return nil, errDamaged
	}
	return key, nil
}

// newGCM is AES-256-GCM with a random nonce, which is in what it seals.
func newGCM(key []byte) (cipher.AEAD, error) {
	if len(key) != 32 {
		return nil, errDamaged
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("preparing to encrypt: %w", err)
	}
	return cipher.NewGCMWithRandomNonce(block)
}
