package statement

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/countersignd/countersign/internal/pin"
)

// The keys of the tests are fixed, so that what the fuzzer finds is reproducible
// in its worker processes. The two of the device are known from RFCs.
var (
	approvalKey = fixedKey("jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI") // RFC 7515, A.3
	identityKey = fixedKey("870MB6gfuTJ4HtUnUvYMyJpr5eUZNP4Bk43bVdj3eAE") // RFC 7517, A.2
	serverKey   = hashedKey("server")
	otherKey    = hashedKey("other")

	device = keyID(identityKey)
	server = keyID(serverKey)
	other  = keyID(otherKey)
)

func fixedKey(d string) *ecdsa.PrivateKey {
	raw, err := base64.RawURLEncoding.DecodeString(d)
	if err != nil {
		panic(err)
	}
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), raw)
	if err != nil {
		panic(err)
	}
	return key
}

func hashedKey(seed string) *ecdsa.PrivateKey {
	sum := sha256.Sum256([]byte(seed))
	return fixedKey(base64.RawURLEncoding.EncodeToString(sum[:]))
}

func keyID(key *ecdsa.PrivateKey) string {
	id, err := pin.KeyID(&key.PublicKey)
	if err != nil {
		panic(err)
	}
	return id
}

const (
	deployment = "mzxw6ytboi2dmnrxgq3tmobzga"
	signInID   = "06bq1g7v3k5m9p2rstu40d8ehi"
	nonce      = "n4bQgYhMfWWaL-qgxVrQFaO_TxsrC4Is0V1sFbDwCgg"
	now        = 1_800_000_000
)

func signInPrompt() Prompt {
	return Prompt{
		Account:     "ada",
		Action:      ActionSignIn,
		Application: Application{ID: "wiki", Name: "Wiki der Gräfin <&>"},
		Created:     now - 10,
		Expires:     now + 290,
		Message:     "",
		Nonce:       nonce,
		Requester:   Requester{Address: "192.0.2.7", Device: `Ada's "Laptop"`, Place: "Zürich", Program: "Firefox"},
		SignIn:      signInID,
		V:           1,
	}
}

func trustPrompt() Prompt {
	p := signInPrompt()
	p.Action = ActionTrustDevice
	p.Application = Application{}
	p.Candidate = &Candidate{Fingerprint: other, Kind: "phone", Name: "Ada's phone"}
	return p
}

func decision(p Prompt) Decision {
	return Decision{
		Account:     p.Account,
		Application: p.Application.ID,
		ApprovalKey: keyID(approvalKey),
		Aud:         deployment,
		Counter:     7,
		Decision:    Allow,
		Device:      device,
		Iat:         now,
		Nonce:       p.Nonce,
		Prompt:      encode64(p.Encode()),
		ServerKey:   server,
		SignIn:      p.SignIn,
	}
}

func denial() Decision {
	d := decision(signInPrompt())
	d.Decision, d.Reason = Deny, NotMe
	return d
}

func enrollment() Enrollment {
	jwk, err := NewJWK(&approvalKey.PublicKey)
	if err != nil {
		panic(err)
	}
	return Enrollment{
		Account:     "ada@example.org",
		ApprovalKey: jwk,
		Aud:         deployment,
		Device:      device,
		Iat:         now,
		KeyStorage:  "file",
		Kind:        "terminal",
		Name:        "Ada's terminal",
		ServerKey:   server,
	}
}

func invited() Enrollment {
	e := enrollment()
	e.Account, e.Invitation = "", keyID(hashedKey("spelled like a hash"))
	return e
}

func recovering() Enrollment {
	e := enrollment()
	e.Recovery = keyID(hashedKey("spelled like a hash"))
	return e
}

func recoveryRenewal() RecoveryRenewal { return RecoveryRenewal(codeRequest()) }

func codeRequest() CodeRequest {
	return CodeRequest{
		Account:     "ada",
		ApprovalKey: keyID(approvalKey),
		Aud:         deployment,
		Counter:     1<<53 - 1,
		Device:      device,
		Iat:         now,
		ServerKey:   server,
	}
}

func revocation() Revocation {
	return Revocation{
		Account:     "ada",
		ApprovalKey: keyID(approvalKey),
		Aud:         deployment,
		Counter:     1,
		Device:      device,
		Iat:         now,
		Reason:      "left in the train",
		Revoked:     other,
		ServerKey:   server,
	}
}

func readmission() Readmission {
	return Readmission{
		Account:     "ada",
		ApprovalKey: keyID(approvalKey),
		Aud:         deployment,
		Counter:     1,
		Device:      device,
		Iat:         now,
		Readmitted:  other,
		ServerKey:   server,
	}
}

func unlock() Unlock {
	return Unlock{
		Account:     "ada",
		ApprovalKey: keyID(approvalKey),
		Aud:         deployment,
		Counter:     3,
		Device:      device,
		Iat:         now,
		ServerKey:   server,
	}
}

func grant() Grant {
	return Grant{
		Acr:      "urn:countersign:acr:code",
		Amr:      []string{"swk", "user", "otp", "mca"},
		Aud:      "wiki",
		AuthTime: now - 5,
		Exp:      now + 60,
		Iat:      now,
		Iss:      deployment,
		Jti:      "06bq1g7v3k5m9p2rstu40d8ehi",
		SignInID: signInID,
		Sub:      "ada",
	}
}

func checkpoint() Checkpoint {
	return Checkpoint{Iat: now, Iss: deployment, Root: nonce, Size: 17}
}

// A sample is a valid statement of some type, for the tests that hold for all types.
type sample struct {
	name    string
	typ     string
	key     *ecdsa.PrivateKey
	signer  string
	payload []byte
	jws     string

	// verify is Verify for the type of this sample; what it returns is encoded again.
	verify func(key *ecdsa.PublicKey, signer, jws string) ([]byte, error)
}

func newSample[P Payload](name string, key *ecdsa.PrivateKey, p P) sample {
	signer, _ := p.keys(keyID(key))
	jws, err := Sign(key, p)
	if err != nil {
		panic(name + ": " + err.Error())
	}
	verify := func(key *ecdsa.PublicKey, signer, jws string) ([]byte, error) {
		p, err := Verify[P](key, signer, jws)
		return Encode(p), err
	}
	return sample{name, p.typ(), key, signer, Encode(p), jws, verify}
}

// samples returns a statement of each type, and of each form that differs in its members.
func samples() []sample {
	quiet := revocation()
	quiet.Reason = ""
	return []sample{
		newSample("enrollment", approvalKey, enrollment()),
		newSample("enrollment by invitation", approvalKey, invited()),
		newSample("enrollment by recovery code", approvalKey, recovering()),
		newSample("decision", approvalKey, decision(signInPrompt())),
		newSample("denial", approvalKey, denial()),
		newSample("decision about a device", approvalKey, decision(trustPrompt())),
		newSample("code request", approvalKey, codeRequest()),
		newSample("recovery renewal", approvalKey, recoveryRenewal()),
		newSample("revocation", approvalKey, revocation()),
		newSample("revocation without a reason", approvalKey, quiet),
		newSample("readmission", approvalKey, readmission()),
		newSample("unlock", approvalKey, unlock()),
		newSample("grant", serverKey, grant()),
		newSample("checkpoint", serverKey, checkpoint()),
	}
}

// signBytes signs whatever payload there is, as [Sign] never would.
func signBytes(t testing.TB, key *ecdsa.PrivateKey, signer, typ string, payload []byte) string {
	t.Helper()
	jws, err := sign(key, &key.PublicKey, encodeHeader(signer, typ), payload)
	if err != nil {
		t.Fatalf("sign(%q) = %v", payload, err)
	}
	return jws
}

// swap replaces the one occurrence of old.
func swap(t testing.TB, s, old, new string) string {
	t.Helper()
	if n := strings.Count(s, old); n != 1 {
		t.Fatalf("%q occurs %d times in %q, want once", old, n, s)
	}
	return strings.Replace(s, old, new, 1)
}
