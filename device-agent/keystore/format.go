package keystore

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"

	"filippo.io/age"

	"github.com/countersignd/countersign/internal/pin"
)

var errDamaged = errors.New("the file with the keys is damaged: restore it, or move its directory away and enrol this device anew")

const (
	pemType   = "PRIVATE KEY"     // PKCS#8 (RFC 7468, 10)
	pemHeader = "Countersign-Key" // says which key it is
	identity  = "identity"
	approval  = "approval"
	inFile    = "file"
	maxScrypt = 18 // 256 MiB, the default of the age tool
)

// scryptWork is the work factor of new files, as a power of two: 2¹⁷ with 8 blocks
// takes 128 MiB and less than a second (OWASP Password Storage Cheat Sheet). Tests lower it.
var scryptWork = 17

// A signer is a private key that does not show itself when it is printed.
type signer struct{ private crypto.Signer }

func (s signer) Public() crypto.PublicKey { return s.private.Public() }

func (s signer) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return s.private.Sign(random, digest, opts)
}

// Format prints the key id of the public key, whatever the verb.
func (s signer) Format(f fmt.State, verb rune) {
	id, _ := pin.KeyID(s.Public()) // no key is let in that has none
	fmt.Fprint(f, "private key of "+id)
}

// generate returns two new keys in the form that parse reads.
func generate() ([]byte, error) {
	var pair [2]*ecdsa.PrivateKey
	for i := range pair {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, fmt.Errorf("making a key: %w", err)
		}
		pair[i] = key
	}
	return encode(pair[0], pair[1])
}

func encode(identityKey, approvalKey *ecdsa.PrivateKey) ([]byte, error) {
	first, err := encodeKey(identity, identityKey)
	if err != nil {
		return nil, err
	}
	second, err := encodeKey(approval, approvalKey)
	if err != nil {
		return nil, err
	}
	return append(first, second...), nil
}

func encodeKey(role string, key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encoding a key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemType, Headers: map[string]string{pemHeader: role}, Bytes: der}), nil
}

// parse is the inverse of encode. It accepts nothing but what encode returns:
// the identity key, then the approval key, and no byte else.
func parse(data []byte) (*Keys, error) {
	identityKey, rest, err := parseKey(data)
	if err != nil {
		return nil, err
	}
	approvalKey, _, err := parseKey(rest)
	if err != nil {
		return nil, err
	}
	again, err := encode(identityKey, approvalKey)
	if err != nil || !bytes.Equal(again, data) {
		return nil, errDamaged
	}
	// One key for both would let any TLS server have statements signed.
	if identityKey.Equal(approvalKey) {
		return nil, errDamaged
	}
	sealing, err := sealingKey(approvalKey)
	if err != nil {
		return nil, err
	}
	return &Keys{Identity: signer{identityKey}, Approval: signer{approvalKey}, Storage: inFile, sealing: sealing}, nil
}

// parseKey reads the first key in data; what is around it and which key it is,
// parse sees when it encodes the keys again.
func parseKey(data []byte) (key *ecdsa.PrivateKey, rest []byte, err error) {
	block, rest := pem.Decode(data)
	if block == nil {
		return nil, nil, errDamaged
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, nil, errDamaged
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, nil, errDamaged
	}
	return key, rest, nil
}

func encrypt(data []byte, passphrase string) ([]byte, error) {
	recipient, err := age.NewScryptRecipient(passphrase)
	if err != nil {
		return nil, fmt.Errorf("encrypting keys: %w", err)
	}
	recipient.SetWorkFactor(scryptWork)
	var b bytes.Buffer
	w, err := age.Encrypt(&b, recipient)
	if err != nil {
		return nil, fmt.Errorf("encrypting keys: %w", err)
	}
	if _, err := w.Write(data); err != nil {
		return nil, fmt.Errorf("encrypting keys: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("encrypting keys: %w", err)
	}
	return b.Bytes(), nil
}

func decrypt(data []byte, passphrase string) ([]byte, error) {
	id, err := age.NewScryptIdentity(passphrase)
	if err != nil {
		return nil, fmt.Errorf("decrypting keys: %w", err)
	}
	id.SetMaxWorkFactor(maxScrypt)
	r, err := age.Decrypt(bytes.NewReader(data), id)
	if errors.Is(err, age.ErrIncorrectIdentity) {
		return nil, ErrWrongPassphrase
	}
	if err != nil {
		return nil, errDamaged
	}
	plain, err := io.ReadAll(io.LimitReader(r, maxFile))
	if err != nil {
		return nil, errDamaged
	}
	return plain, nil
}
