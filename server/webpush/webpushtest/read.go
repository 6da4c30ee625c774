package webpushtest

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
)

var (
	wholeNumber = regexp.MustCompile(`^[0-9]{1,10}$`)
	topicForm   = regexp.MustCompile(`^[A-Za-z0-9_-]{1,32}$`)
	urgencyForm = regexp.MustCompile(`^(very-low|low|normal|high)$`)
)

// readHeader reads what RFC 8030, 5 defines.
func readHeader(h http.Header) (Message, *refusal) {
	if encoding := h.Get("Content-Encoding"); encoding != "aes128gcm" {
		return Message{}, refuse(http.StatusUnsupportedMediaType, "the content encoding is %q, want aes128gcm", encoding)
	}
	ttl := h.Get("TTL")
	if !wholeNumber.MatchString(ttl) {
		return Message{}, refuse(http.StatusBadRequest, "the TTL is %q, want seconds", ttl)
	}
	seconds, err := strconv.ParseInt(ttl, 10, 64)
	if err != nil {
		return Message{}, refuse(http.StatusBadRequest, "the TTL is %q: %v", ttl, err)
	}
	m := Message{TTL: time.Duration(seconds) * time.Second, Urgency: h.Get("Urgency"), Topic: h.Get("Topic")}
	if _, given := h["Urgency"]; given && !urgencyForm.MatchString(m.Urgency) {
		return Message{}, refuse(http.StatusBadRequest, "the urgency is %q", m.Urgency)
	}
	if _, given := h["Topic"]; given && !topicForm.MatchString(m.Topic) {
		return Message{}, refuse(http.StatusBadRequest, "the topic is %q, want at most 32 characters of base64url", m.Topic)
	}
	return m, nil
}

// verifyVAPID checks an Authorization header by RFC 8292. key is what the
// subscription is restricted to (4.2), origin the service's own.
func verifyVAPID(header, origin string, key []byte, now time.Time) *refusal {
	bad := func(format string, args ...any) *refusal { return refuse(http.StatusUnauthorized, format, args...) }
	scheme, rest, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "vapid") {
		return bad("the authorization is %q, want vapid", scheme)
	}
	values := map[string]string{}
	for part := range strings.SplitSeq(rest, ",") {
		name, value, ok := strings.Cut(strings.TrimSpace(part), "=")
		if _, twice := values[name]; !ok || twice {
			return bad("the parameters of the authorization cannot be read")
		}
		values[name] = value
	}
	public, err := base64.RawURLEncoding.Strict().DecodeString(values["k"])
	if err != nil || len(public) != 65 {
		return bad("k is no key")
	}
	// Compared first, as services do: with another key the token does not matter.
	if !bytes.Equal(public, key) {
		return refuse(http.StatusForbidden, "the subscription is for another key")
	}
	claims, err := verifyToken(values["t"], public)
	if err != nil {
		return bad("t: %v", err)
	}
	expires := time.Unix(claims.Expires, 0)
	switch {
	case claims.Audience != origin:
		return bad("the token's audience is %q, want %q", claims.Audience, origin)
	case !now.Before(expires):
		return bad("the token has expired at %v", expires)
	case expires.Sub(now) > 24*time.Hour:
		return bad("the token lives until %v, more than 24 hours", expires)
	case !strings.HasPrefix(claims.Subject, "mailto:") && !strings.HasPrefix(claims.Subject, "https:"):
		return bad("the token's subject is %q, want mailto: or https:", claims.Subject)
	}
	return nil
}

type claims struct {
	Audience string `json:"aud"`
	Expires  int64  `json:"exp"`
	Subject  string `json:"sub"`
}

// verifyToken verifies a JSON Web Token that is signed with ES256 by the key.
func verifyToken(token string, public []byte) (claims, error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return claims{}, errors.New("the token has not three parts")
	}
	var decoded [3][]byte
	for i, part := range parts {
		var err error
		if decoded[i], err = base64.RawURLEncoding.Strict().DecodeString(part); err != nil {
			return claims{}, fmt.Errorf("part %d of the token is not base64url", i)
		}
	}
	var header struct {
		Algorithm string `json:"alg"`
		Type      string `json:"typ"`
	}
	if err := json.Unmarshal(decoded[0], &header); err != nil || header.Algorithm != "ES256" || header.Type != "JWT" {
		return claims{}, fmt.Errorf("the token's header is %q", decoded[0])
	}
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), public)
	if err != nil {
		return claims{}, err
	}
	digest := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	signature := decoded[2]
	if len(signature) != 64 || !ecdsa.Verify(key, digest[:], new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])) {
		return claims{}, errors.New("the token's signature is wrong")
	}
	var c claims
	if err := json.Unmarshal(decoded[1], &c); err != nil {
		return claims{}, fmt.Errorf("the token's claims: %w", err)
	}
	return c, nil
}

// decryptPush decrypts a message by RFC 8291 with what the device holds.
func decryptPush(body []byte, device *ecdh.PrivateKey, auth []byte) ([]byte, error) {
	return decode(body, func(keyID []byte) ([]byte, error) {
		sender, err := ecdh.P256().NewPublicKey(keyID)
		if err != nil {
			return nil, fmt.Errorf("the sender's key: %w", err)
		}
		secret, err := device.ECDH(sender)
		if err != nil {
			return nil, fmt.Errorf("agreeing on a key: %w", err)
		}
		// HKDF by hand, as RFC 8291, 3.4 has it: not by what the sender uses.
		prk := mac(auth, secret)
		info := bytes.Join([][]byte{[]byte("WebPush: info\x00"), device.PublicKey().Bytes(), keyID, {1}}, nil)
		return mac(prk, info), nil
	})
}

// decode decrypts the content encoding aes128gcm (RFC 8188, 2).
func decode(body []byte, key func(keyID []byte) ([]byte, error)) ([]byte, error) {
	const fixed = 16 + 4 + 1
	if len(body) < fixed || len(body) < fixed+int(body[fixed-1]) {
		return nil, errors.New("the header is cut off")
	}
	salt, size := body[:16], int64(binary.BigEndian.Uint32(body[16:20]))
	keyID, rest := body[fixed:fixed+int(body[fixed-1])], body[fixed+int(body[fixed-1]):]
	if size < 18 {
		return nil, fmt.Errorf("the record size is %d, at least 18", size)
	}
	ikm, err := key(keyID)
	if err != nil {
		return nil, err
	}
	prk := mac(salt, ikm)
	block, err := aes.NewCipher(mac(prk, []byte("Content-Encoding: aes128gcm\x00\x01"))[:16])
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	base := mac(prk, []byte("Content-Encoding: nonce\x00\x01"))[:12]
	var plain []byte
	for sequence := uint64(0); ; sequence++ {
		record := rest[:min(size, int64(len(rest)))]
		rest = rest[len(record):]
		nonce := bytes.Clone(base)
		binary.BigEndian.PutUint64(nonce[4:], binary.BigEndian.Uint64(nonce[4:])^sequence)
		opened, err := aead.Open(nil, nonce, record, nil)
		if err != nil {
			return nil, errors.New("the record was not made for this key")
		}
		opened = bytes.TrimRight(opened, "\x00")
		delimiter := byte(1)
		if len(rest) == 0 {
			delimiter = 2
		}
		if len(opened) == 0 || opened[len(opened)-1] != delimiter {
			return nil, errors.New("the record does not end as it should")
		}
		plain = append(plain, opened[:len(opened)-1]...)
		if len(rest) == 0 {
			return plain, nil
		}
	}
}

func mac(key, data []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(data)
	return h.Sum(nil)
}
