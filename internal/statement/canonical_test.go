package statement

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

// A note has all that the quick reader knows, in few words for the fuzzer.
type note struct {
	A string    `json:"a,omitempty"`
	B inner     `json:"b"`
	C int64     `json:"c"`
	D uint64    `json:"d,omitempty"`
	E int       `json:"e"`
	F time.Time `json:"f"`
	G *inner    `json:"g,omitempty"` // and two that it does not know
	H []string  `json:"h,omitempty"`
}

type inner struct {
	X string `json:"x"`
	Y string `json:"y,omitempty"`
}

func plainNote() note {
	return note{A: "a", B: inner{X: "x", Y: "é<&>\U0001f600"}, C: -1, D: 1<<64 - 1, E: 7, F: time.Date(2026, 11, 22, 18, 0, 0, 120e6, time.UTC)}
}

// strictly is Decode without the quick reader: the decoder of the standard library,
// and the spelling again. It is what Decode has to agree with.
func strictly[T any](b []byte) (T, bool) {
	var v, none T
	decoder := json.NewDecoder(bytes.NewReader(b))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&v); err != nil || !bytes.Equal(Encode(v), b) {
		return none, false
	}
	return v, true
}

// agree checks that Decode takes b if and only if it is the canonical spelling of what
// a decoder reads in it, and reads the same.
func agree[T any](t *testing.T, b []byte) {
	t.Helper()
	want, ok := strictly[T](b)
	got, err := Decode[T](b)
	if (err == nil) != ok || !reflect.DeepEqual(got, want) {
		t.Errorf("Decode[%T](%q) = %+v, %v, want %+v, accepted: %v", want, b, got, err, want, ok)
	}
	if err != nil && !errors.Is(err, ErrInvalid) {
		t.Errorf("Decode[%T](%q) = %v, want ErrInvalid", want, b, err)
	}
}

// decodings are Decode, compared with strictly, for all that is decoded.
var decodings = []func(*testing.T, []byte){
	agree[note], agree[Prompt],
	agree[Enrollment], agree[Decision], agree[CodeRequest], agree[RecoveryRenewal], agree[Revocation], agree[Readmission],
	agree[Unlock], agree[Grant], agree[Checkpoint],
}

func FuzzDecode(f *testing.F) {
	for _, s := range samples() {
		f.Add(s.payload)
	}
	f.Add(signInPrompt().Encode())
	f.Add(trustPrompt().Encode())
	f.Add(Encode(plainNote()))
	f.Add(Encode(note{}))
	f.Add(Encode(note{A: "\"\\\n\u2028\ufffd", G: &inner{}, H: []string{"h"}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, agrees := range decodings {
			agrees(t, b)
		}
	})
}

// TestDecodeTakesOneSpelling: each change is one that the quick reader might not see.
func TestDecodeTakesOneSpelling(t *testing.T) {
	valid := string(Encode(plainNote()))
	if got, err := Decode[note]([]byte(valid)); err != nil || !reflect.DeepEqual(got, plainNote()) {
		t.Fatalf("Decode(%s) = %+v, %v, want what was encoded", valid, got, err)
	}
	for what, b := range map[string]string{
		"comma at the end":         strings.TrimSuffix(valid, "}") + ",}",
		"comma at the end, inside": swap(t, valid, `},"c"`, `,},"c"`),
		"no comma":                 swap(t, valid, `,"c"`, `"c"`),
		"byte after":               valid + " ",
		"line feed after":          valid + "\n",
		"twice":                    valid + valid,
		"cut off":                  valid[:len(valid)-1],
		"cut off in a text":        valid[:4],
		"member twice":             swap(t, valid, `"c":-1`, `"c":-1,"c":-1`),
		"members swapped":          swap(t, valid, `"c":-1,"d":18446744073709551615`, `"d":18446744073709551615,"c":-1`),
		"member unknown":           swap(t, valid, `"c"`, `"bb":"","c"`),
		"member in upper case":     swap(t, valid, `"a":`, `"A":`),
		"member missing":           swap(t, valid, `"c":-1,`, ""),
		"member null":              swap(t, valid, `"a":"a"`, `"a":null`),
		"object null":              swap(t, valid, `"b":{"x":"x","y":"é<&>`+"\U0001f600"+`"}`, `"b":null`),
		"empty member":             swap(t, valid, `"a":"a"`, `"a":""`),
		"empty number":             swap(t, valid, `"c":-1`, `"c":`),
		"zero in front":            swap(t, valid, `"e":7`, `"e":07`),
		"minus zero":               swap(t, valid, `"e":7`, `"e":-0`),
		"fraction":                 swap(t, valid, `"e":7`, `"e":7.0`),
		"too large":                swap(t, valid, `"d":18446744073709551615`, `"d":18446744073709551616`),
		"escape for nothing":       swap(t, valid, `"a":"a"`, `"a":"\u0061"`),
		"line feed in a text":      swap(t, valid, `"a":"a"`, "\"a\":\"\n\""),
		"separator in a text":      swap(t, valid, `"a":"a"`, "\"a\":\"\u2028\""),
		"invalid UTF-8":            swap(t, valid, `"a":"a"`, "\"a\":\"\xff\""),
		"invalid UTF-8, escaped":   swap(t, valid, `"a":"a"`, `"a":"\ufffd"`),
		"time with zeros":          swap(t, valid, ".12Z", ".120Z"),
		"time with a comma":        swap(t, valid, ".12Z", ",12Z"),
		"time with another zone":   swap(t, valid, ".12Z", ".12+00:00"),
		"time in lower case":       swap(t, valid, "T18", "t18"),
		"time escaped":             swap(t, valid, "2026", `\u0032026`),
		"time null":                swap(t, valid, `"2026-11-22T18:00:00.12Z"`, "null"),
	} {
		if got, err := Decode[note]([]byte(b)); !errors.Is(err, ErrInvalid) || !reflect.DeepEqual(got, note{}) {
			t.Errorf("%s: Decode(%q) = %+v, %v, want ErrInvalid", what, b, got, err)
		}
		agree[note](t, []byte(b))
	}
}

// TestPlainIsReadQuickly: that the quick reader gives up would show in nothing but time.
func TestPlainIsReadQuickly(t *testing.T) {
	quickly[note](t, Encode(plainNote()))
	p := signInPrompt()
	p.Requester.Device = "Ada's laptop" // its quotation marks are not plain
	quickly[Prompt](t, p.Encode())
	quickly[Decision](t, Encode(decision(signInPrompt())))
	quickly[Enrollment](t, Encode(enrollment()))
	quickly[Revocation](t, Encode(revocation()))
	quickly[Checkpoint](t, Encode(checkpoint()))
}

func quickly[T any](t *testing.T, b []byte) {
	t.Helper()
	want, _ := strictly[T](b)
	var got T
	r := reader{b}
	if !r.value(reflect.ValueOf(&got).Elem()) || !reflect.DeepEqual(got, want) {
		t.Errorf("the quick reader read %+v in %s, want %+v", got, b, want)
	}
}

func TestErrorsOfDecodeSayWhatIsWrong(t *testing.T) {
	for b, words := range map[string]string{
		"":                  "cut off",
		`{"b":{"x":""`:      "cut off",
		`{"b":["x"}`:        "not JSON, at byte",
		`{"z":1}`:           "unknown or of the wrong type",
		`{"a":1}`:           "unknown or of the wrong type",
		`{"a":"a" ,"b":{}}`: "not in canonical form",
	} {
		_, err := Decode[note]([]byte(b))
		if err == nil || !strings.Contains(err.Error(), words) || errors.Is(err, ErrNotCanonical) != strings.Contains(words, "canonical") {
			t.Errorf("Decode(%s) = %v, want words like %q", b, err, words)
		}
	}
}
