package statement

import (
	"bytes"
	"crypto/ecdsa"
	"encoding/json"
	"errors"
	"maps"
	"math/big"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestNoStatementPassesForAnother: a statement verifies as its own type, from its
// own signer, with its own key and unchanged, and in no other way.
func TestNoStatementPassesForAnother(t *testing.T) {
	all := samples()
	signers := []string{device, server, other, keyID(approvalKey), ""}
	keys := []*ecdsa.PrivateKey{approvalKey, identityKey, serverKey, otherKey}
	rapid.Check(t, func(t *rapid.T) {
		from := rapid.SampledFrom(all).Draw(t, "statement")
		to := rapid.SampledFrom(all).Draw(t, "type")
		signer := rapid.SampledFrom(signers).Draw(t, "signer")
		key := rapid.SampledFrom(keys).Draw(t, "key")
		jws := []byte(from.jws)
		if rapid.Bool().Draw(t, "changed") {
			at := rapid.IntRange(0, len(jws)-1).Draw(t, "at")
			jws[at] ^= rapid.ByteRange(1, 255).Draw(t, "difference")
		}
		same := from.typ == to.typ && signer == from.signer && key == from.key && string(jws) == from.jws
		_, err := to.verify(&key.PublicKey, signer, string(jws))
		if same != (err == nil) {
			t.Fatalf("%s verified as %s from %q: %v", from.name, to.name, signer, err)
		}
	})
}

// TestEveryBitCounts changes each bit of each statement. The one change of a
// signature that is accepted is no change of a bit: TestMirroredSignatureIsAccepted.
func TestEveryBitCounts(t *testing.T) {
	one := make(map[string]sample) // of each type
	for _, s := range samples() {
		one[s.typ] = s
	}
	for _, s := range one {
		jws := []byte(s.jws)
		for at := range jws {
			for bit := range 8 {
				jws[at] ^= 1 << bit
				if _, err := s.verify(&s.key.PublicKey, s.signer, string(jws)); !errors.Is(err, ErrInvalid) {
					t.Errorf("%s: Verify with bit %d of byte %d changed = %v, want ErrInvalid", s.name, bit, at, err)
				}
				jws[at] ^= 1 << bit
			}
		}
		for at := range jws {
			short := string(jws[:at]) + string(jws[at+1:])
			if _, err := s.verify(&s.key.PublicKey, s.signer, short); !errors.Is(err, ErrInvalid) {
				t.Errorf("%s: Verify without byte %d = %v, want ErrInvalid", s.name, at, err)
			}
		}
	}
}

// hostileText yields texts that are often close to the edge of what is allowed.
func hostileText() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.SampledFrom([]string{"", `"`, `\`, "</script>", "&amp;", "\u2027", "\u2028", "\u202a", "\u0000", "\n", "\ufffd", "\ufeff", "\xff", "\U0001f600", "\u007f", "\u0080"}),
		rapid.StringN(0, 64, 300),
		rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 260), func(b []byte) string { return string(b) }),
	)
}

// TestPromptParsesIfItsTextsAreValid: ParsePrompt accepts what Encode returns
// exactly if all texts obey, gives the same prompt back, and the bytes are the
// ones that RFC 8785 asks for.
func TestPromptParsesIfItsTextsAreValid(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := signInPrompt()
		if rapid.Bool().Draw(t, "trust") {
			p = trustPrompt()
		}
		p.Message = hostileText().Draw(t, "message")
		p.Requester = Requester{
			Address: hostileText().Draw(t, "address"),
			Device:  hostileText().Draw(t, "device"),
			Place:   hostileText().Draw(t, "place"),
			Program: hostileText().Draw(t, "program"),
		}
		valid := true
		for _, s := range []string{p.Message, p.Requester.Address, p.Requester.Device, p.Requester.Place, p.Requester.Program} {
			valid = valid && validText(s)
		}
		b := p.Encode()
		got, err := ParsePrompt(b)
		if valid != (err == nil) {
			t.Fatalf("ParsePrompt(%q) = %v, want success: %v", b, err, valid)
		}
		if err != nil {
			return
		}
		if !bytes.Equal(got.Encode(), b) || got.Requester != p.Requester || got.Message != p.Message {
			t.Fatalf("ParsePrompt(%q) = %+v, want %+v", b, got, p)
		}
		if want := canonical(t, b); want != string(b) {
			t.Fatalf("Encode() = %s, want %s", b, want)
		}
	})
}

// TestPayloadsAreCanonical compares the payloads with a second writer of RFC 8785.
func TestPayloadsAreCanonical(t *testing.T) {
	for _, s := range samples() {
		if want := canonical(t, s.payload); want != string(s.payload) {
			t.Errorf("%s: payload %s, want %s", s.name, s.payload, want)
		}
	}
}

// canonical spells JSON as RFC 8785 asks for, by reading it without any type and
// writing it without encoding/json. It knows integers only.
func canonical(t interface{ Fatalf(string, ...any) }, b []byte) string {
	decoder := json.NewDecoder(bytes.NewReader(b))
	decoder.UseNumber()
	var v any
	if err := decoder.Decode(&v); err != nil {
		t.Fatalf("decoding %q: %v", b, err)
	}
	var out strings.Builder
	var write func(any)
	write = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for i, name := range slices.Sorted(maps.Keys(v)) { // all names are ASCII
				out.WriteString(map[bool]string{true: "{", false: ","}[i == 0])
				write(name)
				out.WriteByte(':')
				write(v[name])
			}
			out.WriteByte('}')
		case []any:
			for i, element := range v {
				out.WriteString(map[bool]string{true: "[", false: ","}[i == 0])
				write(element)
			}
			out.WriteByte(']')
		case json.Number:
			n, ok := new(big.Int).SetString(v.String(), 10)
			if !ok {
				t.Fatalf("%s is no integer", v)
			}
			out.WriteString(n.String())
		case string:
			out.WriteByte('"')
			for _, r := range v {
				switch {
				case r == '"' || r == '\\':
					out.WriteString(`\` + string(r))
				case r < ' ':
					t.Fatalf("the control character %U in a payload", r)
				default:
					out.WriteRune(r)
				}
			}
			out.WriteByte('"')
		default:
			t.Fatalf("%T in a payload", v)
		}
	}
	write(v)
	return out.String()
}
