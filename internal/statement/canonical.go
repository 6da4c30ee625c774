package statement

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"strconv"
	"strings"
	"sync"
)

// ErrNotCanonical is the [ErrInvalid] of [Decode] for JSON that has the right members,
// but another spelling than the one that it may have.
var ErrNotCanonical = refuse("not in canonical form")

// Encode returns v in the canonical form of RFC 8785. It relies on v to be a
// struct that declares its fields in the order of their JSON names and holds nothing
// but valid strings, integers, times, lists and such structs: a payload, a [Prompt],
// or a document of package audit.
func Encode(v any) []byte {
	var s spelling
	encoder := json.NewEncoder(&s)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		panic("statement: " + err.Error()) // no such type has a value that fails
	}
	return s
}

// A spelling is a writer that keeps what is written. An encoder writes a value at
// once, so no more memory is taken than that needs.
type spelling []byte

func (s *spelling) Write(b []byte) (int, error) {
	*s = append(*s, withoutEnd(b)...)
	return len(b), nil
}

// withoutEnd returns what an encoder writes without the line feed that ends a
// value. There is none within it.
func withoutEnd(b []byte) []byte { return bytes.TrimSuffix(b, []byte("\n")) }

// Decode is the inverse of [Encode] and accepts nothing but its results. That the
// value is spelled again and compared refuses at one stroke what a decoder
// lets pass: members that occur twice, that are null or in other case or order, white
// space, needless escapes, invalid UTF-8, and whatever follows the value.
//
// Nearly all values are plain, and a quick reader reads them. Nobody has to believe it:
// what it has read counts only if just that is spelled so, and whatever it does not know,
// or gets wrong, is left to the decoder of the standard library, which alone refuses.
func Decode[T any](b []byte) (T, error) {
	var v, none T
	plain := reader{b}
	if plain.value(reflect.ValueOf(&v).Elem()) && spells(&v, b) {
		return v, nil
	}
	v = none
	decoder := json.NewDecoder(bytes.NewReader(b))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&v); err != nil {
		// The decoder's own words may contain parts of the input.
		var syntax *json.SyntaxError
		switch {
		case errors.As(err, &syntax):
			return none, refuse("not JSON, at byte %d", syntax.Offset)
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return none, refuse("JSON that is cut off")
		}
		return none, refuse("a member is unknown or of the wrong type")
	}
	if !spells(&v, b) {
		return none, ErrNotCanonical
	}
	return v, nil
}

// spells reports whether b is Encode(v), without a copy of it.
func spells(v any, b []byte) bool {
	c := comparison{rest: b, same: true}
	encoder := json.NewEncoder(&c)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(v) == nil && c.same && len(c.rest) == 0
}

// A comparison is a writer that compares what is written with what is expected.
type comparison struct {
	rest []byte // expected still
	same bool   // so far
}

func (c *comparison) Write(b []byte) (int, error) {
	value := withoutEnd(b)
	c.same = c.same && bytes.HasPrefix(c.rest, value)
	c.rest = c.rest[min(len(value), len(c.rest)):]
	return len(b), nil
}

// A reader reads plain values: structs whose members come in their order, texts
// without escapes, and integers. It checks only what it needs to go on, and [Decode]
// the rest; a mistake in it can cost time, and nothing else.
type reader struct{ rest []byte }

// value reads a value into v and reports whether it could.
func (r *reader) value(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.String:
		s, ok := r.text()
		v.SetString(string(s))
		return ok
	case reflect.Int, reflect.Int64:
		n, err := strconv.ParseInt(string(r.number()), 10, 64)
		v.SetInt(n)
		return err == nil
	case reflect.Uint64:
		n, err := strconv.ParseUint(string(r.number()), 10, 64)
		v.SetUint(n)
		return err == nil
	case reflect.Struct:
		if special, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
			s, ok := r.text()
			return ok && special.UnmarshalText(s) == nil
		}
		return r.object(v)
	}
	return false
}

// object reads the members that are there. Between them are commas.
func (r *reader) object(v reflect.Value) bool {
	if !r.skip("{") {
		return false
	}
	for _, m := range members(v.Type()) {
		if !r.skip(m.name) {
			continue
		}
		if !r.value(v.Field(m.field)) {
			return false
		}
		if !r.skip(",") {
			break
		}
	}
	return r.skip("}")
}

// skip reads s, if it is what comes next.
func (r *reader) skip(s string) bool {
	if len(r.rest) < len(s) || string(r.rest[:len(s)]) != s {
		return false
	}
	r.rest = r.rest[len(s):]
	return true
}

// text reads what stands between two quotation marks.
func (r *reader) text() ([]byte, bool) {
	if !r.skip(`"`) {
		return nil, false
	}
	s, rest, ok := bytes.Cut(r.rest, []byte(`"`))
	r.rest = rest
	return s, ok
}

// number reads digits and signs.
func (r *reader) number() []byte {
	n := 0
	for n < len(r.rest) && (r.rest[n] == '-' || '0' <= r.rest[n] && r.rest[n] <= '9') {
		n++
	}
	digits := r.rest[:n]
	r.rest = r.rest[n:]
	return digits
}

// A member is a field as it is spelled: "name":
type member struct {
	name  string
	field int
}

var membersOf sync.Map // reflect.Type → []member

func members(t reflect.Type) []member {
	if known, ok := membersOf.Load(t); ok {
		return known.([]member)
	}
	var all []member
	for i := range t.NumField() {
		f := t.Field(i)
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" && f.IsExported() {
			all = append(all, member{`"` + name + `":`, i})
		}
	}
	membersOf.Store(t, all)
	return all
}
