// Package statement makes and checks the exact bytes that devices and the server
// sign. It needs the standard library only, so that it can be read in full and
// taken over by others.
//
// # Form
//
// A statement is a JWS in compact form (RFC 7515) with ES256, so anybody can
// check one with a JOSE library:
//
//	base64url(header) "." base64url(payload) "." base64url(r || s)
//
// The header is, byte for byte,
//
//	{"alg":"ES256","kid":"<signer>","typ":"<type>"}
//
// where signer is a device id, or the key id of the server's signing key for a
// [Grant] and a [Checkpoint]. The type (RFC 8725, 3.11) keeps the kinds of statements apart:
//
//	Enrollment       countersign-enrollment+jws
//	Decision         countersign-decision+jws
//	CodeRequest      countersign-code-request+jws
//	RecoveryRenewal  countersign-recovery-renewal+jws
//	Revocation       countersign-revocation+jws
//	Readmission      countersign-readmission+jws
//	Unlock           countersign-unlock+jws
//	Grant            countersign-grant+jwt
//	Checkpoint       countersign-checkpoint+jws
//
// base64url has no padding and its spare bits are zero. The whole has at most
// [MaxLen] bytes. The payload is JSON in the canonical form of RFC 8785: members
// sorted by name, no white space, integers only, nothing escaped that need not be. A
// member with the value "" is left out where its type says so. Any other
// spelling, an unknown member and a member that occurs twice are refused, so each
// statement has one spelling only. Texts contain no control characters and no
// U+2028 and U+2029 (which Go's encoder and RFC 8785 spell differently).
//
// # Checking
//
// [Verify] compares the header with the expected one as bytes, then checks the
// signature over the bytes as they came, and only then looks into the payload;
// nothing is decoded and encoded again on the way to the signature. The caller
// says what type of statement it wants from whom; the statement never chooses.
//
// # What a signature is not
//
// ES256 signatures are not unique: who has a statement with signature (r, s)
// can make another one with (r, n-s) without the key, and both are accepted, as
// by every JOSE library (hardware signs with either). So a signature, or a whole
// JWS, is never an identity, a key of a table or a protection from replay. What
// identifies a statement is its [SigningInput]; against replay there are the
// audience, the nonce, the counter and the sign-in id, and the caller checks them.
package statement

import (
	"crypto"
	"crypto/ecdsa"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/countersignd/countersign/internal/pin"
)

// MaxLen is the largest length of a statement in bytes. The longest possible
// decision, with a full prompt inside, needs less than half of it.
const MaxLen = 16 << 10

// ErrInvalid is wrapped by every refusal of this package. The message says which
// rule was broken and repeats nothing of what was received.
var ErrInvalid = errors.New("invalid statement")

// refuse returns an ErrInvalid that says why. No argument may be unverified text.
func refuse(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
}

// A Payload is what a statement says. The set of its types is closed.
type Payload interface {
	Enrollment | Decision | CodeRequest | RecoveryRenewal | Revocation | Readmission | Unlock | Grant | Checkpoint

	// typ returns the type in the header.
	typ() string

	// check refuses a payload that breaks a rule of its own.
	check() error

	// keys returns the kid that a statement with this payload must have and
	// the key id of the key that must have signed it, given the key id of the
	// key that did sign it.
	keys(keyID string) (kid, signedBy string)
}

// Sign returns p signed by key, which must be a P-256 key. It may be in
// hardware: key gets a SHA-256 digest and returns a signature in ASN.1, as
// [crypto.Signer] demands of ECDSA keys.
//
// Sign refuses what [Verify] would refuse, before the key is used: a payload that
// is not valid, or that names another key as the one it is signed by.
func Sign[P Payload](key crypto.Signer, p P) (string, error) {
	public, ok := key.Public().(*ecdsa.PublicKey)
	if !ok {
		return "", refuse("the key is not an ECDSA key on P-256")
	}
	keyID, err := pin.KeyID(public)
	if err != nil {
		return "", refuse("%v", err)
	}
	kid, _ := p.keys(keyID)
	payload := Encode(p)
	if _, err := parse[P](payload, kid, keyID); err != nil {
		return "", err
	}
	return sign(key, public, encodeHeader(kid, p.typ()), payload)
}

// Verify returns the payload of jws if it is a statement of type P, signed by
// key, from signer: the device id (for a [Grant] or
// [Checkpoint], the key id of key) that the caller expects, which is the kid of the header and the device in the payload.
// A payload that names its key must name this one.
//
// Whether key and signer belong together and are trusted, whether audience, server key,
// account, counter, times and nonce are right, only the caller can know.
func Verify[P Payload](key *ecdsa.PublicKey, signer, jws string) (P, error) {
	var none P
	keyID, err := pin.KeyID(key)
	if err != nil {
		return none, refuse("%v", err)
	}
	if !pin.ValidKeyID(signer) {
		return none, refuse("the expected signer is not an id")
	}
	payload, err := verify(key, encodeHeader(signer, none.typ()), jws)
	if err != nil {
		return none, err
	}
	return parse[P](payload, signer, keyID)
}

// VerifyEnrollment is [Verify] for the statement that announces its own key: it
// shows that the sender holds the approval key and bound it to the device id
// signer, which must be the one of the TLS certificate of the connection.
func VerifyEnrollment(signer, jws string) (Enrollment, *ecdsa.PublicKey, error) {
	// Only the key is read from the unverified payload, and leniently. That
	// is safe since Verify reads the payload again, strictly, after it checked the
	// signature, and requires the approval key in it to be the one used.
	unverified, err := unverifiedPayload(jws)
	if err != nil {
		return Enrollment{}, nil, err
	}
	var peek struct {
		ApprovalKey JWK `json:"approval_key"`
	}
	if err := json.Unmarshal(unverified, &peek); err != nil {
		return Enrollment{}, nil, refuse("the payload is not JSON with an approval key")
	}
	key, err := peek.ApprovalKey.PublicKey()
	if err != nil {
		return Enrollment{}, nil, err
	}
	e, err := Verify[Enrollment](key, signer, jws)
	if err != nil {
		return Enrollment{}, nil, err
	}
	return e, key, nil
}

// parse reads a payload whose signature was checked, or is about to be made.
func parse[P Payload](payload []byte, kid, keyID string) (P, error) {
	var none P
	p, err := Decode[P](payload)
	if err != nil {
		return none, err
	}
	if err := p.check(); err != nil {
		return none, err
	}
	wantKid, wantKey := p.keys(keyID)
	if kid != wantKid {
		return none, refuse("the payload names another device than the header")
	}
	if keyID != wantKey {
		return none, refuse("the payload names another key than the one that signed it")
	}
	return p, nil
}

// SigningInput returns the part of a statement that its signature covers, the
// header and the payload as they are encoded. It identifies a statement that was
// verified, which the signature does not. It returns "" if jws has not three parts.
func SigningInput(jws string) string {
	if strings.Count(jws, ".") != 2 {
		return ""
	}
	return jws[:strings.LastIndexByte(jws, '.')]
}
