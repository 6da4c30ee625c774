package webpush

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/mail"
	"net/url"
	"strings"
	"sync"
	"time"
)

const (
	// tokenLife is how long a token is good: RFC 8292, 2 allows 24 hours. Half of
	// it is left for clocks that differ.
	tokenLife = 12 * time.Hour

	// tokenUse is how long a token is used. The same one again spares the service
	// a verification (RFC 8292, 5).
	tokenUse = 6 * time.Hour

	// maxTokens bounds the memory that devices with ever new origins can fill.
	maxTokens = 256

	maxContact = 254
)

// CheckContact refuses what is no contact in the sense of RFC 8292, 2.1: it must be
// a mailto: URL with one address, or an https: URL. Push services refuse others, and
// some of them one that is made up.
func CheckContact(contact string) error {
	wrong := fmt.Errorf(`the Web Push contact is %q, want the mail address or the page of whoever runs this server, such as "mailto:admin@countersign.example" or "https://countersign.example/contact"`, contact)
	if len(contact) > maxContact || !printable(contact) {
		return wrong
	}
	if address, ok := strings.CutPrefix(contact, "mailto:"); ok {
		parsed, err := mail.ParseAddress(address)
		_, domain, _ := strings.Cut(address, "@")
		if err != nil || parsed.Address != address || !validName(strings.ToLower(domain)) {
			return wrong
		}
		return nil
	}
	u, err := url.Parse(contact)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil {
		return wrong
	}
	return nil
}

// A vapid tells push services who sends (RFC 8292).
type vapid struct {
	key     *ecdsa.PrivateKey
	public  []byte // uncompressed point
	contact string

	mu     sync.Mutex
	tokens map[string]token // by origin; at most maxTokens
}

type token struct {
	text string
	made time.Time
}

func newVAPID(key *ecdsa.PrivateKey, contact string) (*vapid, error) {
	public, err := key.PublicKey.Bytes()
	if err != nil {
		return nil, fmt.Errorf("the Web Push key: %w", err)
	}
	return &vapid{key: key, public: public, contact: contact, tokens: map[string]token{}}, nil
}

// authorization returns the Authorization header for a service (RFC 8292, 3).
func (v *vapid) authorization(origin string, now time.Time) (string, error) {
	text, err := v.token(origin, now)
	if err != nil {
		return "", err
	}
	return "vapid t=" + text + ", k=" + encode64(v.public), nil
}

func (v *vapid) token(origin string, now time.Time) (string, error) {
	v.mu.Lock()
	kept, ok := v.tokens[origin]
	v.mu.Unlock()
	// A clock that was set back makes a token as useless as one that is old.
	if age := now.Sub(kept.made); ok && age >= 0 && age < tokenUse {
		return kept.text, nil
	}
	text, err := v.sign(origin, now.Add(tokenLife))
	if err != nil {
		return "", err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, ok := v.tokens[origin]; !ok && len(v.tokens) >= maxTokens {
		for other := range v.tokens {
			delete(v.tokens, other) // any: to sign again costs little
			break
		}
	}
	v.tokens[origin] = token{text: text, made: now}
	return text, nil
}

// sign makes a JSON Web Token (RFC 7519), signed with ES256 (RFC 7518, 3.4).
func (v *vapid) sign(origin string, expires time.Time) (string, error) {
	claims, err := json.Marshal(struct {
		Audience string `json:"aud"`
		Expires  int64  `json:"exp"`
		Subject  string `json:"sub"`
	}{origin, expires.Unix(), v.contact})
	if err != nil {
		return "", fmt.Errorf("making a Web Push token: %w", err)
	}
	input := encode64([]byte(`{"typ":"JWT","alg":"ES256"}`)) + "." + encode64(claims)
	digest := sha256.Sum256([]byte(input))
	r, s, err := ecdsa.Sign(rand.Reader, v.key, digest[:])
	if err != nil {
		return "", errors.New("signing a Web Push token failed")
	}
	signature := make([]byte, 64)
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return input + "." + encode64(signature), nil
}

func encode64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
