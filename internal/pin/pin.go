// Package pin names the two ends of a TLS connection by their public keys.
//
// There is no certificate authority to run. A device and a server each hold a
// P-256 key and show it in a certificate they signed themselves; what counts is
// the key alone, named by its key id: the SHA-256 of the DER-encoded
// SubjectPublicKeyInfo, as 52 characters of lower-case base32 (RFC 4648, 6)
// without padding. Syncthing and SSH know their peers in the same way. P-256
// because TPMs, the Secure Enclave, Android and WebCrypto all hold it.
//
// What is checked: TLS 1.3, one certificate and no more, a P-256 key, and (on
// the client) that its key id is the expected one. TLS itself checks that the
// peer holds the private key. All of it happens inside the handshake's
// VerifyConnection, so no application byte is read or written before, and it
// happens for resumed sessions too, of which there are none: tickets are off.
//
// What is deliberately not checked of a pinned certificate: its dates, names,
// usages and its own signature. The key was handed over out of band, and a wrong
// clock must not lock its owner out. Whether a key is trusted still, the server
// asks its store at each call; a certificate never expires here and is never
// proof of anything but possession of its key.
package pin

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base32"
	"errors"
	"fmt"
)

// keyIDLen is how long 256 bits are in base32 without padding.
const keyIDLen = 52

// Base32 is how key ids, and hashes beside them, are spelled: lower-case base32
// (RFC 4648, 6) without padding.
var Base32 = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// keyInfo is how the SubjectPublicKeyInfo of every P-256 key begins in DER (RFC 5480, 2):
// what kind of key it is, up to the uncompressed point of 65 bytes.
const keyInfo = "\x30\x59\x30\x13" +
	"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01" + // id-ecPublicKey
	"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07" + // secp256r1
	"\x03\x42\x00"

// KeyID returns the key id of pub, which must be a *[ecdsa.PublicKey] on P-256.
func KeyID(pub crypto.PublicKey) (string, error) {
	key, ok := pub.(*ecdsa.PublicKey)
	if !ok || key == nil || key.Curve != elliptic.P256() {
		return "", errors.New("the key is not an ECDSA key on P-256")
	}
	point, err := key.Bytes()
	if err != nil {
		return "", fmt.Errorf("encoding public key: %w", err)
	}
	sum := sha256.Sum256(append([]byte(keyInfo), point...))
	return Base32.EncodeToString(sum[:]), nil
}

// ValidKeyID reports whether s has the form of a key id. Each key id has one
// spelling only: of the last character one bit counts, and the spare four are
// zero in a and q alone.
func ValidKeyID(s string) bool {
	if len(s) != keyIDLen {
		return false
	}
	for i := range keyIDLen {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '2' || c > '7') {
			return false
		}
	}
	return s[keyIDLen-1] == 'a' || s[keyIDLen-1] == 'q'
}

// PeerKeyID returns the key id of the peer of a finished handshake. It is an
// error if the peer showed no certificate, more than one, or another kind of key.
func PeerKeyID(cs tls.ConnectionState) (string, error) {
	switch n := len(cs.PeerCertificates); n {
	case 0:
		return "", errors.New("the peer showed no certificate")
	case 1:
		return KeyID(cs.PeerCertificates[0].PublicKey)
	default:
		return "", fmt.Errorf("the peer showed %d certificates instead of one", n)
	}
}
