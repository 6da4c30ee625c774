package statement

import (
	"crypto/ecdsa"
	"crypto/elliptic"

	"github.com/countersignd/countersign/internal/pin"
)

// A JWK is a public P-256 key as a JSON Web Key (RFC 7518, 6.2.1), with no
// members but these.
type JWK struct {
	Crv string `json:"crv"` // "P-256"
	Kty string `json:"kty"` // "EC"
	X   string `json:"x"`   // base64url of 32 bytes
	Y   string `json:"y"`   // base64url of 32 bytes
}

// uncompressed is the first byte of an uncompressed point (SEC 1, 2.3.3).
const uncompressed = 4

// NewJWK returns key as a JWK. It must be on P-256.
func NewJWK(key *ecdsa.PublicKey) (JWK, error) {
	if _, err := pin.KeyID(key); err != nil {
		return JWK{}, refuse("%v", err)
	}
	point, err := key.Bytes()
	if err != nil {
		return JWK{}, refuse("the key is not a point on P-256")
	}
	return JWK{Crv: "P-256", Kty: "EC", X: encode64(point[1:33]), Y: encode64(point[33:])}, nil
}

// PublicKey returns the key that the JWK holds. Coordinates have exactly 32
// bytes, and the point must lie on the curve.
func (k JWK) PublicKey() (*ecdsa.PublicKey, error) {
	if k.Kty != "EC" || k.Crv != "P-256" {
		return nil, refuse("the key is not an EC key on P-256")
	}
	x, errX := decode64(k.X)
	y, errY := decode64(k.Y)
	if errX != nil || errY != nil || len(x) != 32 || len(y) != 32 {
		return nil, refuse("a coordinate of the key is not base64url of 32 bytes")
	}
	point := append(append([]byte{uncompressed}, x...), y...)
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		return nil, refuse("the key is not a point on P-256")
	}
	return key, nil
}

// keyID returns the key id of the key that the JWK holds, or "".
func (k JWK) keyID() string {
	key, err := k.PublicKey()
	if err != nil {
		return ""
	}
	id, err := pin.KeyID(key)
	if err != nil {
		return ""
	}
	return id
}
