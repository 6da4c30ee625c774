package keystore

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// A shelf is a vault in memory. A file holds the number of its keys.
type shelf struct {
	storage string
	err     error // of Keys

	mu   sync.Mutex
	kept []Kept
}

func (s *shelf) Storage() string { return s.storage }

func (s *shelf) Make() ([]byte, error) {
	k := Kept{Identity: newKey(elliptic.P256()), Approval: newKey(elliptic.P256()), Sealing: make([]byte, sealingSize)}
	rand.Read(k.Sealing)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept = append(s.kept, k)
	return []byte{byte(len(s.kept) - 1)}, nil
}

func (s *shelf) Keys(file []byte) (Kept, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return Kept{}, s.err
	}
	return s.kept[file[0]], nil
}

func newKey(curve elliptic.Curve) *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
}

// TestKeysInAVault: keys in a vault are had again from that vault alone, say where they
// are, seal as others do, and show nothing of themselves.
func TestKeysInAVault(t *testing.T) {
	for _, storage := range []string{InKeyring, InTPM} {
		dir := filepath.Join(t.TempDir(), "keys")
		v := &shelf{storage: storage}
		made, err := CreateIn(dir, v)
		if err != nil {
			t.Fatal(err)
		}
		sealed, err := made.Seal("test", []byte("secret"))
		if err != nil {
			t.Fatal(err)
		}
		other := &shelf{storage: map[string]string{InKeyring: InTPM, InTPM: InKeyring}[storage]}
		keys, err := Open(dir, "", other, v)
		if err != nil {
			t.Fatal(err)
		}
		if ids(t, keys) != ids(t, made) || keys.Storage != storage {
			t.Errorf("Open = %q in %s, want %q in %s", ids(t, keys), keys.Storage, ids(t, made), storage)
		}
		if secret, err := keys.Unseal("test", sealed); err != nil || string(secret) != "secret" {
			t.Errorf("Unseal = %q, %v, want what was sealed", secret, err)
		}
		scalar, err := v.kept[0].Identity.(*ecdsa.PrivateKey).Bytes()
		if err != nil {
			t.Fatal(err)
		}
		if shown := fmt.Sprintf("%v %#v %v", keys, keys.Identity, keys.Approval); bytes.Contains([]byte(shown), []byte(fmt.Sprint(scalar))) {
			t.Errorf("keys print as %s, which shows them", shown)
		}
		if got, err := Storage(dir); err != nil || got != storage {
			t.Errorf("Storage = %q, %v, want %q", got, err, storage)
		}
		if encrypted, err := Encrypted(dir); err != nil || encrypted {
			t.Errorf("Encrypted = %v, %v, want false: no passphrase helps", encrypted, err)
		}
		for _, vaults := range [][]Vault{nil, {other}} {
			if _, err := Open(dir, "", vaults...); err == nil || !strings.Contains(err.Error(), "use countersign-desktop") {
				t.Errorf("Open without the vault = %v, want to be told what has it", err)
			}
		}
		if _, err := Open(dir, "passphrase", v); err == nil || !strings.Contains(err.Error(), "leave it out") {
			t.Errorf("Open with a passphrase = %v, want to be told to leave it out", err)
		}
	}
}

// TestVaultsReplaceNothing: keys that are there stay where they are, whatever holds them.
func TestVaultsReplaceNothing(t *testing.T) {
	vaults := []*shelf{{storage: InKeyring}, {storage: InTPM}}
	creates := map[string]func(dir string) (*Keys, error){
		"a file":           func(dir string) (*Keys, error) { return Create(dir, "") },
		"an encrypted one": func(dir string) (*Keys, error) { return Create(dir, "passphrase") },
		"a keyring":        func(dir string) (*Keys, error) { return CreateIn(dir, vaults[0]) },
		"a TPM":            func(dir string) (*Keys, error) { return CreateIn(dir, vaults[1]) },
	}
	for first, create := range creates {
		for second, again := range creates {
			dir := t.TempDir()
			if _, err := create(dir); err != nil {
				t.Fatal(err)
			}
			before, err := locate(dir)
			if err != nil {
				t.Fatal(err)
			}
			if keys, err := again(dir); !errors.Is(err, ErrExists) || keys != nil {
				t.Errorf("creating keys in %s over those in %s = %v, %v, want ErrExists", second, first, keys, err)
			}
			if after, err := locate(dir); err != nil || after != before {
				t.Errorf("after that keys are in %q, %v, want %q", after, err, before)
			}
		}
	}
}

// TestVaultsRace: of a file and the vaults that are filled at once, at most one is.
func TestVaultsRace(t *testing.T) {
	for range 20 {
		dir := t.TempDir()
		v, w := &shelf{storage: InKeyring}, &shelf{storage: InTPM}
		made := make([]*Keys, 3)
		var wg sync.WaitGroup
		for i, create := range []func() (*Keys, error){
			func() (*Keys, error) { return Create(dir, "") },
			func() (*Keys, error) { return CreateIn(dir, v) },
			func() (*Keys, error) { return CreateIn(dir, w) },
		} {
			wg.Go(func() { made[i], _ = create() })
		}
		wg.Wait()
		keys, err := Open(dir, "", v, w)
		if err != nil && !errors.Is(err, ErrNoKeys) {
			t.Fatal(err)
		}
		for _, m := range made {
			if m != nil && (keys == nil || ids(t, m) != ids(t, keys)) {
				t.Errorf("one got keys that are not those on disk")
			}
		}
	}
}

// TestAVaultThatFails: its error comes through, and what it gives is looked at.
func TestAVaultThatFails(t *testing.T) {
	dir := t.TempDir()
	v := &shelf{storage: InTPM}
	if _, err := CreateIn(dir, v); err != nil {
		t.Fatal(err)
	}
	good := v.kept[0]
	for what, bad := range map[string]Kept{
		"one key for both":   {good.Identity, good.Identity, good.Sealing},
		"a key of P-384":     {good.Identity, newKey(elliptic.P384()), good.Sealing},
		"no key for sealing": {good.Identity, good.Approval, nil},
	} {
		v.kept[0] = bad
		if keys, err := Open(dir, "", v); !errors.Is(err, errDamaged) {
			t.Errorf("Open with %s = %v, %v, want errDamaged", what, keys, err)
		}
	}
	v.err = fmt.Errorf("the machine was sold: %w", ErrGone)
	if keys, err := Open(dir, "", v); !errors.Is(err, ErrGone) || !strings.Contains(err.Error(), "sold") {
		t.Errorf("Open = %v, %v, want ErrGone with what the vault said", keys, err)
	}
	// What cannot be read back is not written.
	dir = t.TempDir()
	if keys, err := CreateIn(dir, v); !errors.Is(err, ErrGone) {
		t.Errorf("CreateIn = %v, %v, want what the vault said", keys, err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("after that there are %v, %v, want nothing", left, err)
	}
	if keys, err := CreateIn(dir, &shelf{storage: "cloud"}); err == nil {
		t.Errorf("CreateIn an unknown vault = %v, want an error", keys)
	}
}
