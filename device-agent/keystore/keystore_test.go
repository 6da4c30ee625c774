package keystore

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"filippo.io/age"

	"github.com/countersignd/countersign/internal/pin"
)

const passphrase = "correct horse battery staple"

// realWork is the work factor that the tests lower.
var realWork = scryptWork

func TestMain(m *testing.M) {
	scryptWork = 8
	if dir := os.Getenv(fullDiskDir); dir != "" {
		createOnFullDisk(dir)
		return
	}
	os.Exit(m.Run())
}

func mustCreate(t *testing.T, dir, passphrase string) *Keys {
	t.Helper()
	keys, err := Create(dir, passphrase)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// ids returns the key ids of the identity and the approval key.
func ids(t *testing.T, keys *Keys) [2]string {
	t.Helper()
	var both [2]string
	for i, key := range []crypto.Signer{keys.Identity, keys.Approval} {
		id, err := pin.KeyID(key.Public())
		if err != nil {
			t.Fatal(err)
		}
		both[i] = id
	}
	return both
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

func TestCreateAndOpen(t *testing.T) {
	for _, tc := range []struct{ passphrase, file string }{
		{"", "keys.pem"},
		{passphrase, "keys.age"},
	} {
		dir := filepath.Join(t.TempDir(), "a", "b")
		created := mustCreate(t, dir, tc.passphrase)
		opened, err := Open(dir, tc.passphrase)
		if err != nil {
			t.Fatalf("Open(%s) = %v", tc.file, err)
		}
		if got, want := ids(t, opened), ids(t, created); got != want || got[0] == got[1] {
			t.Errorf("Open(%s) has the keys %q, want %q, which differ", tc.file, got, want)
		}
		if created.Storage != "file" || opened.Storage != "file" {
			t.Errorf("%s: storage %q and %q, want file", tc.file, created.Storage, opened.Storage)
		}
		if got, err := Encrypted(dir); err != nil || got != (tc.passphrase != "") {
			t.Errorf("%s: Encrypted = %v, %v", tc.file, got, err)
		}
		if got := names(t, dir); len(got) != 1 || got[0] != tc.file {
			t.Errorf("the directory holds %q, want %s alone", got, tc.file)
		}
		for path, want := range map[string]os.FileMode{dir: 0o700, filepath.Dir(dir): 0o700, filepath.Join(dir, tc.file): 0o600} {
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if got := info.Mode().Perm(); got != want {
				t.Errorf("mode of %s = %o, want %o", path, got, want)
			}
		}
		for _, keys := range []*Keys{created, opened} {
			for _, key := range []crypto.Signer{keys.Identity, keys.Approval} {
				digest := sha256.Sum256([]byte("message"))
				signature, err := key.Sign(rand.Reader, digest[:], crypto.SHA256)
				if err != nil {
					t.Fatal(err)
				}
				if !ecdsa.VerifyASN1(key.Public().(*ecdsa.PublicKey), digest[:], signature) {
					t.Errorf("%s: a signature does not verify", tc.file)
				}
			}
		}
	}
}

func TestNewKeysEachTime(t *testing.T) {
	seen := make(map[string]bool)
	for range 5 {
		for _, id := range ids(t, mustCreate(t, t.TempDir(), "")) {
			if seen[id] {
				t.Errorf("the key %s was made twice", id)
			}
			seen[id] = true
		}
	}
}

func TestCreateNeverReplacesKeys(t *testing.T) {
	for _, first := range []string{"", passphrase} {
		for _, second := range []string{"", passphrase} {
			dir := t.TempDir()
			want := ids(t, mustCreate(t, dir, first))
			if keys, err := Create(dir, second); !errors.Is(err, ErrExists) || keys != nil {
				t.Errorf("Create over keys = %v, %v, want ErrExists", keys, err)
			}
			opened, err := Open(dir, first)
			if err != nil {
				t.Fatal(err)
			}
			if got := ids(t, opened); got != want {
				t.Errorf("keys after a second Create = %q, want %q", got, want)
			}
		}
	}
	// Whatever has the name counts, even if it is no key.
	for _, name := range keyFiles {
		dir := t.TempDir()
		if err := os.Symlink("nowhere", filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		if _, err := Create(dir, ""); !errors.Is(err, ErrExists) {
			t.Errorf("Create over a link %s = %v, want ErrExists", name, err)
		}
	}
}

// TestRacingCreates: of many that create at once, in either form, at most one gets
// keys, and what it got is what lies on disk.
func TestRacingCreates(t *testing.T) {
	succeeded := 0
	for range 30 {
		dir := t.TempDir()
		results := make([]*Keys, 8)
		var wg sync.WaitGroup
		for i := range results {
			wg.Go(func() {
				keys, err := Create(dir, passphrases[i%2])
				if err != nil && !errors.Is(err, ErrExists) {
					t.Errorf("Create = %v, want nil or ErrExists", err)
				}
				results[i] = keys
			})
		}
		wg.Wait()
		var winners int
		for i, keys := range results {
			if keys == nil {
				continue
			}
			winners++
			opened, err := Open(dir, passphrases[i%2])
			if err != nil {
				t.Errorf("Open after a race = %v", err)
				continue
			}
			if got, want := ids(t, opened), ids(t, keys); got != want {
				t.Errorf("keys on disk are %q, but Create returned %q", got, want)
			}
		}
		if winners > 1 {
			t.Errorf("%d racing Creates returned keys, want at most one", winners)
		}
		succeeded += winners
		if got := names(t, dir); len(got) != winners {
			t.Errorf("the directory holds %q after %d Creates that succeeded", got, winners)
		}
	}
	if succeeded == 0 {
		t.Error("no Create succeeded in 30 races")
	}
}

var passphrases = []string{"", passphrase}

func TestLeftOverFilesAreNoKeys(t *testing.T) {
	// What a power cut leaves if it comes before the file has its name.
	dir := t.TempDir()
	data, err := generate()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, plainName+".123.tmp"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, ""); !errors.Is(err, ErrNoKeys) {
		t.Errorf("Open = %v, want ErrNoKeys", err)
	}
	mustCreate(t, dir, "")
}

func TestOpenWithoutKeys(t *testing.T) {
	for _, dir := range []string{t.TempDir(), filepath.Join(t.TempDir(), "none")} {
		if _, err := Open(dir, ""); !errors.Is(err, ErrNoKeys) {
			t.Errorf("Open = %v, want ErrNoKeys", err)
		}
		if _, err := Open(dir, passphrase); !errors.Is(err, ErrNoKeys) {
			t.Errorf("Open with passphrase = %v, want ErrNoKeys", err)
		}
		if _, err := Encrypted(dir); !errors.Is(err, ErrNoKeys) {
			t.Errorf("Encrypted = %v, want ErrNoKeys", err)
		}
	}
}

func TestPassphrases(t *testing.T) {
	dir := t.TempDir()
	mustCreate(t, dir, passphrase)
	if _, err := Open(dir, ""); !errors.Is(err, ErrPassphraseNeeded) {
		t.Errorf("Open without passphrase = %v, want ErrPassphraseNeeded", err)
	}
	for _, wrong := range []string{"x", passphrase + " ", strings.ToUpper(passphrase), passphrase[1:]} {
		keys, err := Open(dir, wrong)
		if !errors.Is(err, ErrWrongPassphrase) || keys != nil {
			t.Errorf("Open(%q) = %v, %v, want ErrWrongPassphrase", wrong, keys, err)
		}
		if strings.Contains(err.Error(), wrong) && wrong != "x" {
			t.Errorf("Open(%q) = %q, which repeats the passphrase", wrong, err)
		}
	}
	plain := t.TempDir()
	mustCreate(t, plain, "")
	if _, err := Open(plain, passphrase); err == nil || !strings.Contains(err.Error(), "not encrypted") {
		t.Errorf("Open(passphrase for plain keys) = %v, want a refusal", err)
	}
}

func TestBothFilesAreRefused(t *testing.T) {
	dir := t.TempDir()
	mustCreate(t, dir, "")
	if err := os.WriteFile(filepath.Join(dir, encryptedName), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, p := range passphrases {
		if _, err := Open(dir, p); err == nil || !strings.Contains(err.Error(), "move away") {
			t.Errorf("Open(both, %q) = %v, want a refusal that says what to do", p, err)
		}
	}
	if _, err := Encrypted(dir); err == nil {
		t.Error("Encrypted(both) = nil, want an error")
	}
}

// TestAgeToolReadsTheKeys: the encrypted file is one that the age tool decrypts,
// and what is inside are two keys in PEM that say which is which.
func TestAgeToolReadsTheKeys(t *testing.T) {
	dir := t.TempDir()
	want := ids(t, mustCreate(t, dir, passphrase))
	file, err := os.ReadFile(filepath.Join(dir, encryptedName))
	if err != nil {
		t.Fatal(err)
	}
	id, err := age.NewScryptIdentity(passphrase)
	if err != nil {
		t.Fatal(err)
	}
	r, err := age.Decrypt(bytes.NewReader(file), id)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	for i, role := range []string{"identity", "approval"} {
		block, rest := pem.Decode(data)
		if block == nil || block.Type != "PRIVATE KEY" || block.Headers["Countersign-Key"] != role {
			t.Fatalf("block %d is %+v, want the %s key", i, block, role)
		}
		key, _, err := parseKey(data)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := pin.KeyID(&key.PublicKey); err != nil || got != want[i] {
			t.Errorf("the %s key is %q, %v, want %q", role, got, err, want[i])
		}
		data = rest
	}
	if len(data) > 0 {
		t.Errorf("%q follows the keys", data)
	}
	if realWork < 16 || realWork > maxScrypt {
		t.Errorf("work factor = %d, want at least 16 and at most %d", realWork, maxScrypt)
	}
}

func TestKeysHideThemselves(t *testing.T) {
	dir := t.TempDir()
	keys := mustCreate(t, dir, "")
	data, err := os.ReadFile(filepath.Join(dir, plainName))
	if err != nil {
		t.Fatal(err)
	}
	var secrets []string
	for range 2 {
		key, rest, err := parseKey(data)
		if err != nil {
			t.Fatal(err)
		}
		d, err := key.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		for _, form := range []string{"%x", "%X", "%d", "%v", "%s", "%q"} {
			secrets = append(secrets, fmt.Sprintf(form, d), strings.Trim(fmt.Sprintf(form, d), "[]"))
		}
		secrets = append(secrets, new(big.Int).SetBytes(d).String()) // as fmt shows the key itself
		data = rest
	}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "keys", keys, "value", *keys, "key", keys.Identity)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "keys", keys, "value", *keys, "key", keys.Approval, "list", []*Keys{keys})
	shown := []string{log.String()}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		for _, v := range []any{keys, *keys, keys.Identity, keys.Approval, []any{keys}, struct{ K *Keys }{keys}, struct{ K Keys }{*keys}} {
			shown = append(shown, fmt.Sprintf(verb, v))
		}
	}
	for _, s := range shown {
		for _, secret := range secrets {
			if strings.Contains(s, secret) {
				t.Errorf("%q shows a private key", s)
			}
		}
	}
	if got, want := fmt.Sprint(keys.Identity), ids(t, keys)[0]; !strings.Contains(got, want) {
		t.Errorf("Sprint(key) = %q, want it to name %q", got, want)
	}
}
