package approval

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"log/slog"
	"strconv"
	"sync"

	"github.com/countersignd/countersign/internal/code"
	"github.com/countersignd/countersign/internal/pin"
	"github.com/countersignd/countersign/internal/recovery"
	"github.com/countersignd/countersign/internal/statement"
)

// Secrets are what the server knows and the store does not: a copy of the
// database yields no code, no nonce and no grant. They never change while a
// deployment lives, and show nothing of themselves when printed.
type Secrets struct {
	codes      *macKey // MAC key of the codes after Allow
	requested  *macKey // MAC key of the codes that are asked for
	nonces     *macKey // MAC key of the nonces in prompts
	requesters *macKey // MAC key of the tokens of known requesters
	recovery   *macKey // MAC key of the recovery codes
	recoveries *macKey // MAC key of what is stored of these
	offline    *macKey // MAC key of the devices' secrets for offline codes
	signing    crypto.Signer
	signingID  string
	signingJWK statement.JWK
}

// NewSecrets derives the keys from root, which is 32 random bytes, by HKDF
// (RFC 5869), and takes the P-256 key that signs grants.
func NewSecrets(root []byte, signing crypto.Signer) (*Secrets, error) {
	if len(root) != 32 {
		return nil, fmt.Errorf("the root key has %d bytes, want 32", len(root))
	}
	pub, ok := signing.Public().(*ecdsa.PublicKey)
	if !ok {
		return nil, errors.New("the signing key is no ECDSA key")
	}
	id, err := pin.KeyID(pub)
	if err != nil {
		return nil, fmt.Errorf("signing key: %w", err)
	}
	jwk, err := statement.NewJWK(pub)
	if err != nil {
		return nil, fmt.Errorf("signing key: %w", err)
	}
	s := &Secrets{signing: signing, signingID: id, signingJWK: jwk}
	for info, key := range map[string]**macKey{
		"countersign v1 code after allow": &s.codes,
		"countersign v1 requested code":   &s.requested,
		"countersign v1 prompt nonce":     &s.nonces,
		"countersign v1 requester token":  &s.requesters,
		"countersign v1 recovery code":    &s.recovery,
		"countersign v1 stored recovery":  &s.recoveries,
		"countersign v1 offline secret":   &s.offline,
	} {
		derived, err := hkdf.Key(sha256.New, root, nil, info, 32)
		if err != nil {
			return nil, fmt.Errorf("deriving keys: %w", err)
		}
		*key = newMACKey(derived)
	}
	return s, nil
}

// A macKey is a key of HMAC-SHA-256 (RFC 2104).
type macKey struct {
	idle sync.Pool // of *macer
}

// A macer has the key worked in, and room for a message.
type macer struct {
	hash.Hash
	message []byte
}

func newMACKey(key []byte) *macKey {
	return &macKey{sync.Pool{New: func() any { return &macer{Hash: hmac.New(sha256.New, key)} }}}
}

// mac returns the MAC of some parts, which are ids of fixed form without NUL, so
// that it is of no others.
func (k *macKey) mac(parts ...string) []byte {
	m := k.idle.Get().(*macer)
	defer k.idle.Put(m)
	m.message = m.message[:0]
	for _, p := range parts {
		m.message = append(append(m.message, p...), 0)
	}
	m.Reset()
	m.Write(m.message)
	return m.Sum(nil)
}

// allowCode returns the code of a sign-in on the device that allowed it. It is
// the same each time, so a retry shows the same digits and nothing is stored.
func (s *Secrets) allowCode(signIn, device string) string {
	return code.FromMAC(func(counter byte) []byte {
		return s.codes.mac(signIn, device, string([]byte{'0' + counter}))
	})
}

// requestedCode returns the code that a device asked for without a prompt.
func (s *Secrets) requestedCode(account, id string) string {
	return code.FromMAC(func(counter byte) []byte {
		return s.requested.mac(account, id, string([]byte{'0' + counter}))
	})
}

// nonce returns the nonce in the prompt of a sign-in on one device.
func (s *Secrets) nonce(signIn, device string) string {
	return base64.RawURLEncoding.EncodeToString(s.nonces.mac(signIn, device))
}

// requesterToken returns what a known requester shows.
func (s *Secrets) requesterToken(account, application, id string) string {
	return pin.Base32.EncodeToString(s.requesters.mac(account, application, id))[:requesterTokenLength]
}

// recoveryCodes returns all codes of a set, used or not.
func (s *Secrets) recoveryCodes(account, set string) []string {
	codes := make([]string, recovery.Codes)
	for i := range codes {
		codes[i] = recovery.FromMAC(s.recovery.mac(account, set, strconv.Itoa(i)))
	}
	return codes
}

// recoveryHash returns what is stored of a recovery code with this hash.
func (s *Secrets) recoveryHash(account, set, hash string) string {
	return pin.Base32.EncodeToString(s.recoveries.mac(account, set, hash))
}

// offlineSecret returns the 32 bytes from which a device makes its offline codes.
// They are another device's never, and another deployment's neither, should
// somebody use one root key for two.
func (s *Secrets) offlineSecret(deployment string, d *Device) []byte {
	return s.offline.mac(deployment, d.ID, d.ApprovalID)
}

// String and the others below keep the keys out of logs.
func (s *Secrets) String() string       { return "Secrets(redacted)" }
func (s *Secrets) GoString() string     { return s.String() }
func (s *Secrets) LogValue() slog.Value { return slog.StringValue(s.String()) }
