package keystore

import (
	"bytes"
	"fmt"
	"testing"
)

func TestSeal(t *testing.T) {
	dir := t.TempDir()
	keys, err := Create(dir, "a passphrase")
	if err != nil {
		t.Fatal(err)
	}
	secret := []byte("the secret of this device")
	sealed, err := keys.Seal("offline", secret)
	if err != nil {
		t.Fatal(err)
	}
	again, err := keys.Seal("offline", secret)
	if err != nil || bytes.Equal(sealed, again) || bytes.Contains(sealed, secret) {
		t.Errorf("Seal twice = %x and %x, %v, want two that do not show the secret", sealed, again, err)
	}
	opened, err := Open(dir, "a passphrase")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := opened.Unseal("offline", sealed); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("Unseal = %q, %v", got, err)
	}
	other, err := Create(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	for name, unseal := range map[string]func() ([]byte, error){
		"other keys":    func() ([]byte, error) { return other.Unseal("offline", sealed) },
		"other purpose": func() ([]byte, error) { return keys.Unseal("else", sealed) },
		"cut off":       func() ([]byte, error) { return keys.Unseal("offline", sealed[:len(sealed)-1]) },
		"nothing":       func() ([]byte, error) { return keys.Unseal("offline", nil) },
		"no keys":       func() ([]byte, error) { return (&Keys{}).Unseal("offline", sealed) },
	} {
		if got, err := unseal(); err == nil || got != nil {
			t.Errorf("%s: Unseal = %q, %v, want an error", name, got, err)
		}
	}
	for i := range sealed {
		bent := bytes.Clone(sealed)
		bent[i] ^= 1
		if _, err := keys.Unseal("offline", bent); err == nil {
			t.Errorf("byte %d changed: Unseal succeeds", i)
		}
	}
	if shown := fmt.Sprintf("%v %+v %#v %s", keys, keys, *keys, keys); bytes.Contains([]byte(shown), keys.sealing) || bytes.Contains([]byte(shown), []byte(fmt.Sprint(keys.sealing))) {
		t.Errorf("printed keys = %s", shown)
	}
}
