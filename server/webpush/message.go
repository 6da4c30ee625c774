package webpush

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

// A kind is one of the two messages.
type kind struct {
	payload string // docs/protocol.md
	urgency string // RFC 8030, 5.3
}

// The messages. An end may wait until the device is awake anyway, and services
// that count what a device shows nothing for forgive it at this urgency.
var (
	asked = kind{`{"countersign":"asked"}`, "high"}
	over  = kind{`{"countersign":"over"}`, "normal"}
)

const (
	pointLen = 65 // an uncompressed P-256 point
	authLen  = 16 // RFC 8291, 3.2
	saltLen  = 16 // RFC 8188, 2.1
	tagLen   = 16 // AES-GCM

	// recordSize is the record size that is announced. There is one record.
	recordSize = 4096

	// paddedLen is how many bytes are encrypted: the payload, a delimiter and
	// zeros, so that all messages have one size.
	paddedLen = 128
)

// sealFor returns the body of the request that brings the message to who holds the
// subscription with these keys: RFC 8291, with a new key and a new salt.
func (k kind) sealFor(receiver *ecdh.PublicKey, auth []byte) ([]byte, error) {
	sender, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making a key for one message: %w", err)
	}
	salt := make([]byte, saltLen)
	rand.Read(salt)
	return sealPush([]byte(k.payload), paddedLen, receiver, auth, sender, salt)
}

// sealPush encrypts one message by RFC 8291, 3.4.
func sealPush(payload []byte, padded int, receiver *ecdh.PublicKey, auth []byte, sender *ecdh.PrivateKey, salt []byte) ([]byte, error) {
	secret, err := sender.ECDH(receiver)
	if err != nil {
		return nil, fmt.Errorf("agreeing on a key with the device: %w", err)
	}
	public := sender.PublicKey().Bytes()
	info := "WebPush: info\x00" + string(receiver.Bytes()) + string(public)
	ikm, err := hkdf.Key(sha256.New, secret, auth, info, 32)
	if err != nil {
		return nil, fmt.Errorf("deriving the message's key: %w", err)
	}
	return seal(payload, padded, ikm, public, salt)
}

// seal encrypts by the content encoding aes128gcm (RFC 8188, 2), in one record of
// which padded bytes are encrypted.
func seal(payload []byte, padded int, ikm, keyID, salt []byte) ([]byte, error) {
	if len(payload) >= padded || padded+tagLen > recordSize {
		return nil, fmt.Errorf("a payload of %d bytes does not fit into %d", len(payload), padded)
	}
	key, err := hkdf.Key(sha256.New, ikm, salt, "Content-Encoding: aes128gcm\x00", 16)
	if err != nil {
		return nil, fmt.Errorf("deriving the content encryption key: %w", err)
	}
	nonce, err := hkdf.Key(sha256.New, ikm, salt, "Content-Encoding: nonce\x00", 12)
	if err != nil {
		return nil, fmt.Errorf("deriving the nonce: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("preparing the cipher: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("preparing the cipher: %w", err)
	}
	header := bytes.Clone(salt)
	header = binary.BigEndian.AppendUint32(header, recordSize)
	header = append(header, byte(len(keyID)))
	header = append(header, keyID...)
	record := make([]byte, padded)
	copy(record, payload)
	record[len(payload)] = 2 // the last record; zeros follow
	return aead.Seal(header, nonce, record, nil), nil
}
