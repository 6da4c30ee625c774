package keystore

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
)

const sealingSize = 32 // bytes, for AES-256

// sealingKey derives what Seal encrypts with from the approval key: whoever can
// read that can let people in anyway, and under a passphrase it is as safe as
// the keys are, without the passphrase being kept in memory or asked for again. A vault,
// whose keys may show nothing of themselves, keeps a key for it beside them.
func sealingKey(approval *ecdsa.PrivateKey) ([]byte, error) {
	scalar, err := approval.Bytes()
	if err != nil {
		return nil, fmt.Errorf("deriving a key: %w", err)
	}
	return hkdf.Key(sha256.New, scalar, nil, "countersign v1 sealed by the approval key", sealingSize)
}

// Seal encrypts a secret of the device, so that it can be written beside the keys
// and only who has them can read it. A secret that was sealed for one purpose is
// unsealed for no other.
func (k *Keys) Seal(purpose string, secret []byte) ([]byte, error) {
	gcm, err := k.gcm()
	if err != nil {
		return nil, err
	}
	return gcm.Seal(nil, nil, secret, []byte(purpose)), nil
}

// Unseal returns the secret that these keys have sealed for the purpose, and an
// error for everything else.
func (k *Keys) Unseal(purpose string, sealed []byte) ([]byte, error) {
	gcm, err := k.gcm()
	if err != nil {
		return nil, err
	}
	secret, err := gcm.Open(nil, nil, sealed, []byte(purpose))
	if err != nil {
		return nil, errors.New("it is damaged, or of another device")
	}
	return secret, nil
}

// gcm is AES-256-GCM with a random nonce, which is in what it seals.
func (k *Keys) gcm() (cipher.AEAD, error) {
	block, err := aes.NewCipher(k.sealing)
	if err != nil {
		return nil, fmt.Errorf("preparing to encrypt: %w", err)
	}
	return cipher.NewGCMWithRandomNonce(block)
}
