package webpush

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"testing"
)

func decode64(t *testing.T, s string) []byte {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The example of RFC 8291, 5 and appendix A, byte for byte.
func TestExampleOfRFC8291(t *testing.T) {
	sender, err := ecdh.P256().NewPrivateKey(decode64(t, "yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw"))
	if err != nil {
		t.Fatal(err)
	}
	receiver, err := ecdh.P256().NewPublicKey(decode64(t, "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"))
	if err != nil {
		t.Fatal(err)
	}
	const text = "When I grow up, I want to be a watermelon"
	body, err := sealPush([]byte(text), len(text)+1, receiver, decode64(t, "BTBZMqHH6r4Tts7J_aSIgg"), sender, decode64(t, "DGv6ra1nlYgDCS1FRnbzlw"))
	const want = "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8w" +
		"EqKK6PBru3jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN"
	if got := encode64(body); err != nil || got != want {
		t.Errorf("sealPush of the example = %s, %v, want %s", got, err, want)
	}
}

// The example of RFC 8188, 3.1, byte for byte. That of 3.2 has two records, which
// nothing here makes; package webpushtest reads it.
func TestExampleOfRFC8188(t *testing.T) {
	const text = "I am the walrus"
	body, err := seal([]byte(text), len(text)+1, decode64(t, "yqdlZ-tYemfogSmv7Ws5PQ"), nil, decode64(t, "I1BsxtFttlv3u_Oo94xnmw"))
	const want = "I1BsxtFttlv3u_Oo94xnmwAAEAAA-NAVub2qFgBEuQKRapoZu-IxkIva3MEB1PD-ly8Thjg"
	if got := encode64(body); err != nil || got != want {
		t.Errorf("seal of the example = %s, %v, want %s", got, err, want)
	}
}

func TestSealRefusesWhatDoesNotFit(t *testing.T) {
	key, salt := make([]byte, 32), make([]byte, saltLen)
	for _, test := range []struct {
		payload, padded int
		ok              bool
	}{
		{0, 1, true}, {127, 128, true}, {128, 128, false}, {1, recordSize - tagLen, true}, {1, recordSize - tagLen + 1, false},
	} {
		_, err := seal(make([]byte, test.payload), test.padded, key, nil, salt)
		if (err == nil) != test.ok {
			t.Errorf("seal of %d bytes in %d = %v, want ok %v", test.payload, test.padded, err, test.ok)
		}
	}
}

// All messages have one size, and none has anything in common with another but the
// record size and the length of a key.
func TestMessagesLookAlike(t *testing.T) {
	device, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	auth := make([]byte, authLen)
	const want = saltLen + 4 + 1 + pointLen + paddedLen + tagLen
	var bodies [][]byte
	for _, k := range []kind{asked, over, asked, over} {
		body, err := k.sealFor(device.PublicKey(), auth)
		if err != nil || len(body) != want {
			t.Fatalf("a message has %d bytes, %v, want %d", len(body), err, want)
		}
		bodies = append(bodies, body)
	}
	for i, a := range bodies {
		for _, b := range bodies[:i] {
			if bytes.Equal(a[:saltLen], b[:saltLen]) || bytes.Equal(a[saltLen+5:], b[saltLen+5:]) {
				t.Errorf("two messages have a salt or a key in common")
			}
		}
	}
}
