package statement

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/asn1"
	"errors"
	"io"
	"math/big"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestEveryTypeRoundTrips(t *testing.T) {
	for _, s := range samples() {
		got, err := s.verify(&s.key.PublicKey, s.signer, s.jws)
		if err != nil {
			t.Errorf("%s: Verify = %v", s.name, err)
		}
		if diff := cmp.Diff(string(s.payload), string(got)); diff != "" {
			t.Errorf("%s: Verify (-want +got):\n%s", s.name, diff)
		}
		if len(s.jws) > MaxLen/2 {
			t.Errorf("%s: %d bytes, more than half of MaxLen", s.name, len(s.jws))
		}
	}
}

func TestVerifyReturnsTheDecision(t *testing.T) {
	want := denial()
	jws, err := Sign(approvalKey, want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Verify[Decision](&approvalKey.PublicKey, device, jws)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Verify (-want +got):\n%s", diff)
	}
	if got, want := got.PromptBytes(), signInPrompt().Encode(); !bytes.Equal(got, want) {
		t.Errorf("PromptBytes() = %q, want %q", got, want)
	}
}

func TestVerifyEnrollmentTakesTheKeyFromInside(t *testing.T) {
	want := invited()
	jws, err := Sign(approvalKey, want)
	if err != nil {
		t.Fatal(err)
	}
	got, key, err := VerifyEnrollment(device, jws)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("VerifyEnrollment (-want +got):\n%s", diff)
	}
	if !key.Equal(&approvalKey.PublicKey) {
		t.Errorf("VerifyEnrollment returned another key")
	}

	// Who sees an enrollment can announce neither its key for a device of his
	// own, nor his own key for that device.
	stolen := want
	stolen.Device = other
	foreign := want
	foreign.ApprovalKey, _ = NewJWK(&otherKey.PublicKey)
	attacks := map[string]struct{ signer, jws string }{
		"other device expected":           {other, jws},
		"other device signed by other":    {other, signBytes(t, otherKey, other, want.typ(), Encode(stolen))},
		"other device in the payload":     {device, signBytes(t, approvalKey, device, want.typ(), Encode(stolen))},
		"foreign key announced":           {device, signBytes(t, approvalKey, device, want.typ(), Encode(foreign))},
		"two keys, the last one signs":    {device, signBytes(t, otherKey, device, want.typ(), twoKeys(t, want, foreign))},
		"two keys, the first one signs":   {device, signBytes(t, approvalKey, device, want.typ(), twoKeys(t, want, foreign))},
		"key under a name in other case":  {device, signBytes(t, approvalKey, device, want.typ(), bytes.Replace(Encode(want), []byte("approval_key"), []byte("Approval_key"), 1))},
		"a type that holds no key":        {device, newSample("decision", approvalKey, decision(signInPrompt())).jws},
		"empty":                           {device, ""},
		"payload of another type of JSON": {device, signBytes(t, approvalKey, device, want.typ(), []byte(`[]`))},
	}
	for name, a := range attacks {
		e, key, err := VerifyEnrollment(a.signer, a.jws)
		if !errors.Is(err, ErrInvalid) || key != nil || e != (Enrollment{}) {
			t.Errorf("%s: VerifyEnrollment = %v, %v, %v, want nothing and ErrInvalid", name, e, key, err)
		}
	}
}

// twoKeys returns the payload of first with the key of second behind its own.
func twoKeys(t *testing.T, first, second Enrollment) []byte {
	return []byte(swap(t, string(Encode(first)), `"aud"`, `"approval_key":`+string(Encode(second.ApprovalKey))+`,"aud"`))
}

func TestIdentityKeyIsNoApprovalKey(t *testing.T) {
	e := enrollment()
	e.ApprovalKey, _ = NewJWK(&identityKey.PublicKey)
	if _, err := Sign(identityKey, e); !errors.Is(err, ErrInvalid) {
		t.Errorf("Sign = %v, want ErrInvalid", err)
	}
	jws := signBytes(t, identityKey, device, e.typ(), Encode(e))
	if _, _, err := VerifyEnrollment(device, jws); !errors.Is(err, ErrInvalid) {
		t.Errorf("VerifyEnrollment = %v, want ErrInvalid", err)
	}
}

// TestA6SignedDenyIsNoAllow: nobody without the key can turn an answer round, nor
// pass a statement off as one of another type.
func TestA6SignedDenyIsNoAllow(t *testing.T) {
	jws, err := Sign(approvalKey, denial())
	if err != nil {
		t.Fatal(err)
	}
	parts, err := split(jws)
	if err != nil {
		t.Fatal(err)
	}
	forged := parts.header + "." + encode64(Encode(decision(signInPrompt()))) + "." + parts.signature
	if _, err := Verify[Decision](&approvalKey.PublicKey, device, forged); !errors.Is(err, ErrInvalid) {
		t.Errorf("Verify(deny made allow) = %v, want ErrInvalid", err)
	}
	all := samples()
	for _, from := range all {
		for _, to := range all {
			_, err := to.verify(&from.key.PublicKey, from.signer, from.jws)
			if same := from.typ == to.typ; same != (err == nil) {
				t.Errorf("%s verified as %s: %v", from.name, to.name, err)
			}
		}
	}
}

func TestWrongExpectationsAreRefused(t *testing.T) {
	jws, err := Sign(approvalKey, codeRequest())
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		key    *ecdsa.PublicKey
		signer string
	}{
		"no key":                    {nil, device},
		"zero key":                  {new(ecdsa.PublicKey), device},
		"other curve":               {&p384.PublicKey, device},
		"other key":                 {&otherKey.PublicKey, device},
		"identity key":              {&identityKey.PublicKey, device},
		"no signer":                 {&approvalKey.PublicKey, ""},
		"other signer":              {&approvalKey.PublicKey, other},
		"signer that is no id":      {&approvalKey.PublicKey, `x","typ":"y`},
		"signer that is an account": {&approvalKey.PublicKey, "ada"},
	} {
		if got, err := Verify[CodeRequest](tc.key, tc.signer, jws); !errors.Is(err, ErrInvalid) || got != (CodeRequest{}) {
			t.Errorf("%s: Verify = %v, %v, want ErrInvalid", name, got, err)
		}
	}
}

func TestGrantIsSignedByItsKid(t *testing.T) {
	jws, err := Sign(serverKey, grant())
	if err != nil {
		t.Fatal(err)
	}
	got, err := Verify[Grant](&serverKey.PublicKey, server, jws)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(grant(), got); diff != "" {
		t.Errorf("Verify (-want +got):\n%s", diff)
	}
	// A signature of the right key under the name of another one.
	jws = signBytes(t, serverKey, other, grant().typ(), Encode(grant()))
	for _, signer := range []string{server, other} {
		if _, err := Verify[Grant](&serverKey.PublicKey, signer, jws); !errors.Is(err, ErrInvalid) {
			t.Errorf("Verify(signer %s) = %v, want ErrInvalid", signer, err)
		}
	}
}

// brokenKey is hardware that misbehaves.
type brokenKey struct {
	*ecdsa.PrivateKey
	sign func(digest []byte) ([]byte, error)
	used bool
}

func (k *brokenKey) Sign(_ io.Reader, digest []byte, _ crypto.SignerOpts) ([]byte, error) {
	k.used = true
	return k.sign(digest)
}

func TestSignDoesNotTrustTheKey(t *testing.T) {
	errUnplugged := errors.New("unplugged")
	honest := func(digest []byte) []byte {
		der, err := ecdsa.SignASN1(rand.Reader, approvalKey, digest)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	der := func(r, s *big.Int) []byte {
		b, err := asn1.Marshal(struct{ R, S *big.Int }{r, s})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	one, huge := big.NewInt(1), new(big.Int).Lsh(big.NewInt(1), 256)
	for name, tc := range map[string]struct {
		sign func([]byte) ([]byte, error)
		want error
	}{
		"error":          {func([]byte) ([]byte, error) { return nil, errUnplugged }, errUnplugged},
		"nothing":        {func([]byte) ([]byte, error) { return nil, nil }, ErrInvalid},
		"raw signature":  {func([]byte) ([]byte, error) { return make([]byte, 64), nil }, ErrInvalid},
		"trailing bytes": {func(d []byte) ([]byte, error) { return append(honest(d), 0), nil }, ErrInvalid},
		"other digest":   {func(d []byte) ([]byte, error) { return honest(make([]byte, 32)), nil }, ErrInvalid},
		"zero":           {func([]byte) ([]byte, error) { return der(new(big.Int), one), nil }, ErrInvalid},
		"negative":       {func([]byte) ([]byte, error) { return der(one, big.NewInt(-1)), nil }, ErrInvalid},
		"huge":           {func([]byte) ([]byte, error) { return der(huge, one), nil }, ErrInvalid},
	} {
		jws, err := Sign(&brokenKey{PrivateKey: approvalKey, sign: tc.sign}, codeRequest())
		if jws != "" || !errors.Is(err, tc.want) {
			t.Errorf("%s: Sign = %q, %v, want %v", name, jws, err, tc.want)
		}
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []crypto.Signer{ed, p384} {
		if _, err := Sign(key, grant()); !errors.Is(err, ErrInvalid) {
			t.Errorf("Sign(%T) = %v, want ErrInvalid", key, err)
		}
	}
}

func TestSignRefusesBeforeTheKeyIsUsed(t *testing.T) {
	key := &brokenKey{PrivateKey: approvalKey, sign: func([]byte) ([]byte, error) { return nil, errors.New("used") }}
	wrongKey := codeRequest()
	wrongKey.ApprovalKey = other
	wrongTime := codeRequest()
	wrongTime.Iat = 0
	for _, p := range []CodeRequest{{}, wrongKey, wrongTime} {
		if _, err := Sign(key, p); !errors.Is(err, ErrInvalid) || key.used {
			t.Errorf("Sign(%+v) = %v, key used: %v, want ErrInvalid, unused", p, err, key.used)
		}
	}
	if _, err := Sign(key, Decision{}); !errors.Is(err, ErrInvalid) || key.used {
		t.Errorf("Sign(Decision{}) = %v, want ErrInvalid", err)
	}
	if _, err := Sign(key, Enrollment{}); !errors.Is(err, ErrInvalid) || key.used {
		t.Errorf("Sign(Enrollment{}) = %v, want ErrInvalid", err)
	}
	if _, err := Sign(key, Revocation{}); !errors.Is(err, ErrInvalid) || key.used {
		t.Errorf("Sign(Revocation{}) = %v, want ErrInvalid", err)
	}
	if _, err := Sign(key, Readmission{}); !errors.Is(err, ErrInvalid) || key.used {
		t.Errorf("Sign(Readmission{}) = %v, want ErrInvalid", err)
	}
	if _, err := Sign(key, Grant{}); !errors.Is(err, ErrInvalid) || key.used {
		t.Errorf("Sign(Grant{}) = %v, want ErrInvalid", err)
	}
}
