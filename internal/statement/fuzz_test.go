package statement

import (
	"bytes"
	"errors"
	"testing"
)

// fuzzPayload feeds payloads to Verify under really valid signatures, so that the
// fuzzer works on what lies behind them. Whatever verifies is spelled in one way.
func fuzzPayload(f *testing.F, typ string) {
	var s sample
	for _, candidate := range samples() {
		if candidate.typ == typ {
			s = candidate
			f.Add(candidate.payload)
		}
	}
	f.Add([]byte(`{"approval_key":null}`))
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, payload []byte) {
		got, err := s.verify(&s.key.PublicKey, s.signer, rawJWS(t, s, payload))
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Errorf("Verify(%q) = %v, want ErrInvalid", payload, err)
			}
			return
		}
		if !bytes.Equal(got, payload) {
			t.Errorf("Verify(%q) is spelled %q", payload, got)
		}
	})
}

// rawJWS signs without the check of the length, which sign does on its result.
func rawJWS(t *testing.T, s sample, payload []byte) string {
	header := encodeHeader(s.signer, s.typ)
	if len(payload) > MaxLen/2 {
		return header + "." + encode64(payload) + "."
	}
	// Deterministic, since chance in the signature looks like news to the fuzzer.
	jws, err := sign(deterministicKey{s.key}, &s.key.PublicKey, header, payload)
	if err != nil {
		t.Fatal(err)
	}
	return jws
}

func FuzzVerifyEnrollment(f *testing.F)      { fuzzPayload(f, Enrollment{}.typ()) }
func FuzzVerifyDecision(f *testing.F)        { fuzzPayload(f, Decision{}.typ()) }
func FuzzVerifyCodeRequest(f *testing.F)     { fuzzPayload(f, CodeRequest{}.typ()) }
func FuzzVerifyRecoveryRenewal(f *testing.F) { fuzzPayload(f, RecoveryRenewal{}.typ()) }
func FuzzVerifyRevocation(f *testing.F)      { fuzzPayload(f, Revocation{}.typ()) }
func FuzzVerifyReadmission(f *testing.F)     { fuzzPayload(f, Readmission{}.typ()) }
func FuzzVerifyUnlock(f *testing.F)          { fuzzPayload(f, Unlock{}.typ()) }
func FuzzVerifyGrant(f *testing.F)           { fuzzPayload(f, Grant{}.typ()) }
func FuzzVerifyCheckpoint(f *testing.F)      { fuzzPayload(f, Checkpoint{}.typ()) }

// FuzzVerifyCompact looks for a statement that verifies though nobody signed it.
func FuzzVerifyCompact(f *testing.F) {
	all := samples()
	signed := make(map[string]bool)
	for _, s := range all {
		f.Add(s.jws)
		signed[SigningInput(s.jws)] = true
	}
	f.Add("..")
	f.Fuzz(func(t *testing.T, jws string) {
		for _, s := range all {
			if _, err := s.verify(&s.key.PublicKey, s.signer, jws); err == nil && !signed[SigningInput(jws)] {
				t.Errorf("%q verified as %s", jws, s.name)
			}
		}
		if e, key, err := VerifyEnrollment(device, jws); err == nil {
			// Anybody can sign with a key of his own; then it is that key.
			if jwk, err := NewJWK(key); err != nil || jwk != e.ApprovalKey || e.Device != device {
				t.Errorf("VerifyEnrollment(%q) = %+v with the key %+v", jws, e, jwk)
			}
		}
	})
}

// FuzzParsePrompt checks that a prompt has one spelling, and that this is all a
// decision needs of it.
func FuzzParsePrompt(f *testing.F) {
	f.Add(signInPrompt().Encode())
	f.Add(trustPrompt().Encode())
	f.Add([]byte(`{"account":"ada"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParsePrompt(b)
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Errorf("ParsePrompt(%q) = %v, want ErrInvalid", b, err)
			}
			return
		}
		if !bytes.Equal(p.Encode(), b) {
			t.Errorf("ParsePrompt(%q) is spelled %q", b, p.Encode())
		}
		if _, err := Sign(approvalKey, decision(p)); err != nil {
			t.Errorf("Sign(decision on %q) = %v, want nil", b, err)
		}
	})
}
