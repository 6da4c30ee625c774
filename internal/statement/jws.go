package statement

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/base64"
	"fmt"
	"math/big"
	"strings"
)

// This file knows about signatures over bytes, and nothing about what they say.

// signatureLen is the length of an ES256 signature: r and s, 32 bytes each
// (RFC 7518, 3.4).
const signatureLen = 64

// encodeHeader returns the first part of a statement. signer and typ must
// consist of characters that need no escaping in JSON, which ids and types do.
func encodeHeader(signer, typ string) string {
	return encode64([]byte(`{"alg":"ES256","kid":"` + signer + `","typ":"` + typ + `"}`))
}

// sign makes a statement of an encoded header and a payload. It checks the
// signature before it lets it out, since hardware and its drivers err; what the
// standard library computed itself it takes as it is, because the check takes
// four times as long as the signature.
func sign(key crypto.Signer, public *ecdsa.PublicKey, header string, payload []byte) (string, error) {
	input := header + "." + encode64(payload)
	digest := sha256.Sum256([]byte(input))
	der, err := key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		return "", fmt.Errorf("signing statement: %w", err)
	}
	signature, err := rawSignature(der)
	if err != nil {
		return "", err
	}
	jws := input + "." + encode64(signature)
	if _, ours := key.(*ecdsa.PrivateKey); ours {
		return jws, nil
	}
	if _, err := verify(public, header, jws); err != nil {
		return "", fmt.Errorf("checking the new signature: %w", err)
	}
	return jws, nil
}

// rawSignature turns an ECDSA signature from ASN.1 into the form of JWS.
func rawSignature(der []byte) ([]byte, error) {
	var sig struct{ R, S *big.Int }
	rest, err := asn1.Unmarshal(der, &sig)
	if err != nil || len(rest) > 0 {
		return nil, refuse("the key returned a signature that is not ASN.1")
	}
	for _, n := range []*big.Int{sig.R, sig.S} {
		if n.Sign() <= 0 || n.BitLen() > signatureLen/2*8 {
			return nil, refuse("the key returned a signature out of range")
		}
	}
	raw := make([]byte, signatureLen)
	sig.R.FillBytes(raw[:signatureLen/2])
	sig.S.FillBytes(raw[signatureLen/2:])
	return raw, nil
}

// verify returns the payload of jws if its first part is header and its signature
// is one of key over the first two parts. Comparing the encoded header is as
// good as comparing its bytes, since encode64 is the only spelling.
func verify(key *ecdsa.PublicKey, header, jws string) ([]byte, error) {
	parts, err := split(jws)
	if err != nil {
		return nil, err
	}
	if parts.header != header {
		return nil, refuse("the header is not the expected one: another algorithm, signer or type of statement")
	}
	signature, err := decode64(parts.signature)
	if err != nil || len(signature) != signatureLen {
		return nil, refuse("the signature is not base64url of 64 bytes")
	}
	r := new(big.Int).SetBytes(signature[:signatureLen/2])
	s := new(big.Int).SetBytes(signature[signatureLen/2:])
	digest := sha256.Sum256([]byte(parts.input))
	if !ecdsa.Verify(key, digest[:], r, s) {
		return nil, refuse("the signature is wrong")
	}
	return decode64(parts.payload)
}

// unverifiedPayload returns the payload of jws without checking anything else.
func unverifiedPayload(jws string) ([]byte, error) {
	parts, err := split(jws)
	if err != nil {
		return nil, err
	}
	return decode64(parts.payload)
}

// parts are the three parts of a statement, still encoded, and the first two as
// they are signed.
type parts struct{ header, payload, signature, input string }

func split(jws string) (parts, error) {
	if len(jws) > MaxLen {
		return parts{}, refuse("it has %d bytes, more than %d", len(jws), MaxLen)
	}
	if n := strings.Count(jws, ".") + 1; n != 3 {
		return parts{}, refuse("it has %d parts instead of three", n)
	}
	header, rest, _ := strings.Cut(jws, ".")
	payload, signature, _ := strings.Cut(rest, ".")
	return parts{header, payload, signature, jws[:len(header)+1+len(payload)]}, nil
}

// strict64 refuses spare bits that are not zero.
var strict64 = base64.RawURLEncoding.Strict()

func encode64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// decode64 is the inverse of encode64 and accepts nothing but its results. The
// decoder skips line breaks, so a text that has some is longer than its bytes need.
func decode64(s string) ([]byte, error) {
	b, err := strict64.DecodeString(s)
	if err != nil {
		return nil, refuse("not base64url")
	}
	if len(s) != strict64.EncodedLen(len(b)) {
		return nil, refuse("base64url with line breaks")
	}
	return b, nil
}
