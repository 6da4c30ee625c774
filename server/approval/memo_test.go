package approval

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"iter"
	"os"
	"reflect"
	"testing"
)

// TestMain looks, after all tests, whether anybody has changed what is remembered:
// what was given to many to be looked at.
func TestMain(m *testing.M) {
	code := m.Run()
	memories.mu.Lock()
	defer memories.mu.Unlock()
	for at, x := range memories.of {
		if encoded, err := json.Marshal(x.value); err != nil || sha256.Sum256(encoded) != x.hash {
			fmt.Printf("FAIL: what is remembered of %s/%s was changed to %s (%v)\n", at.bucket, at.key, encoded, err)
			code = 1
		}
	}
	os.Exit(code)
}

// What is remembered is never changed through a copy of it: a field that holds
// a pointer, a slice or a map must be copied, too, also one that is new.
func TestClonesShareNothing(t *testing.T) {
	t.Run("Device", func(t *testing.T) { testClone[Device](t) })
	t.Run("SignIn", func(t *testing.T) { testClone[SignIn](t) })
	t.Run("Account", func(t *testing.T) { testClone[Account](t) })
	t.Run("Application", func(t *testing.T) { testClone[Application](t) })
	t.Run("notices", func(t *testing.T) { testClone[notices](t) })
	t.Run("activity", func(t *testing.T) { testClone[activity](t) })
}

func testClone[T any](t *testing.T) {
	v := new(T)
	fill(reflect.ValueOf(v).Elem())
	c := any(v).(cloner[T]).clone()
	if !reflect.DeepEqual(v, c) {
		t.Errorf("clone() = %+v, want %+v", c, v)
	}
	for _, path := range shared(reflect.ValueOf(v).Elem(), reflect.ValueOf(c).Elem(), reflect.TypeFor[T]().Name()) {
		t.Errorf("a copy has %s in common with what it was made of", path)
	}
}

// stored leaves out what is not stored, and so is empty in what is remembered;
// and what is inside of a time, which nobody can change.
func stored(f reflect.StructField) bool { return f.IsExported() && f.Tag.Get("json") != "-" }

// fill puts something into everything.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if stored(v.Type().Field(i)) {
				fill(v.Field(i))
			}
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
	case reflect.String:
		v.SetString("x")
	}
}

// shared returns what two values have in common.
func shared(a, b reflect.Value, path string) (found []string) {
	switch a.Kind() {
	case reflect.Slice, reflect.Pointer, reflect.Map:
		if a.UnsafePointer() == b.UnsafePointer() {
			return []string{path}
		}
		if a.Kind() == reflect.Pointer {
			return shared(a.Elem(), b.Elem(), path)
		}
	case reflect.Struct:
		for i := range a.NumField() {
			if f := a.Type().Field(i); stored(f) {
				found = append(found, shared(a.Field(i), b.Field(i), path+"."+f.Name)...)
			}
		}
	}
	return found
}

// A value is taken for what it says, not for what was there before, and the
// memo stays within its bounds.
func TestMemo(t *testing.T) {
	m := memo{of: map[memoKey]memory{}}
	remember(&m, "b", "k", []byte("one"), &Account{Name: "one"})
	got := recall[Account](&m, "b", "k", []byte("one"))
	if got == nil || got.Name != "one" {
		t.Fatalf("recall = %+v, want what was remembered", got)
	}
	for name, got := range map[string]any{
		"other bytes":  recall[Account](&m, "b", "k", []byte("two")),
		"another key":  recall[Account](&m, "b", "l", []byte("one")),
		"another type": recall[Device](&m, "b", "k", []byte("one")),
		"not a cloner": recall[knownRequester](&m, "b", "k", []byte("one")),
	} {
		if !reflect.ValueOf(got).IsNil() {
			t.Errorf("%s: recall = %+v, want nil", name, got)
		}
	}
	large := make([]byte, memoBytes/10)
	for i := range 30 {
		remember(&m, "b", fmt.Sprint(i), large, &Account{})
	}
	sum := 0
	for _, x := range m.of {
		sum += x.size
	}
	if sum != m.bytes || sum > memoBytes || sum < memoBytes/2 {
		t.Errorf("the memo holds %d bytes and counts %d, want at most %d, and most of that", sum, m.bytes, memoBytes)
	}
}

// What is loaded is the caller's own, also if it was remembered.
func TestLoadReturnsACopy(t *testing.T) {
	tx := oneValue{[]byte(`{"Name":"ada"}`)}
	for range 2 {
		got, err := load[Account](tx, "load", "copy")
		if err != nil || got.Name != "ada" {
			t.Fatalf("load = %+v, %v, want ada", got, err)
		}
		got.Name = "changed"
	}
	if got, err := look[Account](tx, "load", "copy"); err != nil || got.Name != "ada" {
		t.Errorf("look after a copy was changed = %+v, %v, want ada", got, err)
	}
	memories.mu.Lock()
	defer memories.mu.Unlock()
	delete(memories.of, memoKey{"load", "copy"}) // it is not as it would be stored
}

// oneValue is a transaction on a store that holds one value.
type oneValue struct{ value []byte }

func (v oneValue) Get(_, _ string) ([]byte, error)            { return v.value, nil }
func (oneValue) Put(_, _ string, _ []byte) error              { return nil }
func (oneValue) Delete(_, _ string) error                     { return nil }
func (oneValue) Ascend(_, _ string) iter.Seq2[string, []byte] { return nil }
