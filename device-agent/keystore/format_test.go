package keystore

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// pair returns the two keys of a new file.
func pair(t testing.TB) (identityKey, approvalKey *ecdsa.PrivateKey, data []byte) {
	t.Helper()
	data, err := generate()
	if err != nil {
		t.Fatal(err)
	}
	identityKey, rest, err := parseKey(data)
	if err != nil {
		t.Fatal(err)
	}
	approvalKey, _, err = parseKey(rest)
	if err != nil {
		t.Fatal(err)
	}
	return identityKey, approvalKey, data
}

// damagedFiles are files that are nearly right.
func damagedFiles(t testing.TB) map[string][]byte {
	t.Helper()
	a, b, data := pair(t)
	block := func(blockType, role string, key crypto.Signer) []byte {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: blockType, Headers: map[string]string{pemHeader: role}, Bytes: der})
	}
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	first, second := block(pemType, identity, a), block(pemType, approval, b)
	if !bytes.Equal(join(first, second), data) {
		t.Fatal("the parts are not the file")
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	bare, err := x509.MarshalPKCS8PrivateKey(a)
	if err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{
		"empty":               {},
		"one key":             first,
		"the other key":       second,
		"cut off":             data[:len(data)-1],
		"half":                data[:len(data)/2],
		"exchanged":           join(second, first),
		"roles exchanged":     join(block(pemType, approval, a), block(pemType, identity, b)),
		"one role twice":      join(first, block(pemType, identity, b)),
		"one key in both":     join(first, block(pemType, approval, a)),
		"three keys":          join(first, second, second),
		"text before":         join([]byte("# my keys\n"), data),
		"text between":        join(first, []byte("\n"), second),
		"text behind":         join(data, []byte("\n")),
		"zero byte":           join(data, []byte{0}),
		"no role":             join(pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: bare}), second),
		"other role":          join(block(pemType, "spare", a), second),
		"one header more":     bytes.Replace(data, []byte("Countersign-Key: identity\n"), []byte("Countersign-Key: identity\nX: y\n"), 1),
		"other type":          join(block("EC PRIVATE KEY", identity, a), second),
		"other line ends":     bytes.ReplaceAll(data, []byte("\n"), []byte("\r\n")),
		"P-384 identity":      join(block(pemType, identity, p384), second),
		"Ed25519 approval":    join(first, block(pemType, approval, ed)),
		"no PKCS#8":           join(pem.EncodeToMemory(&pem.Block{Type: pemType, Headers: map[string]string{pemHeader: identity}, Bytes: bare[1:]}), second),
		"bytes behind PKCS#8": join(pem.EncodeToMemory(&pem.Block{Type: pemType, Headers: map[string]string{pemHeader: identity}, Bytes: append(bare, 0)}), second),
		"random":              bytes.Repeat([]byte{0xa5}, 500),
		"too long":            bytes.Repeat([]byte("a"), maxFile+1),
	}
}

func TestDamagedFilesAreRefused(t *testing.T) {
	for name, data := range damagedFiles(t) {
		if keys, err := parse(data); !errors.Is(err, errDamaged) || keys != nil {
			t.Errorf("%s: parse = %v, %v, want errDamaged", name, keys, err)
		}
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, plainName), data, 0o600); err != nil {
			t.Fatal(err)
		}
		mustRefuseOpen(t, name, dir, "", "enrol this device anew")
		if len(data) > maxFile {
			continue
		}

		encrypted, err := encrypt(data, passphrase)
		if err != nil {
			t.Fatal(err)
		}
		dir = t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, encryptedName), encrypted, 0o600); err != nil {
			t.Fatal(err)
		}
		mustRefuseOpen(t, name+", encrypted", dir, passphrase, "enrol this device anew")
	}
}

func TestDamagedEncryptionIsRefused(t *testing.T) {
	_, _, data := pair(t)
	file, err := encrypt(data, passphrase)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := decrypt(file, passphrase); err != nil || !bytes.Equal(got, data) {
		t.Fatalf("decrypt = %q, %v, want the keys", got, err)
	}
	if bytes.Contains(file, []byte("PRIVATE")) {
		t.Error("the encrypted file shows what is in it")
	}
	// The work factor, which comes from the file, must not be able to exhaust the machine.
	heavy := strings.Replace(string(file), " 8\n", fmt.Sprintf(" %d\n", maxScrypt+1), 1)
	if heavy == string(file) {
		t.Fatalf("no work factor of 8 in %.100q", file)
	}
	if _, err := decrypt([]byte(heavy), passphrase); !errors.Is(err, errDamaged) {
		t.Errorf("decrypt(work factor too large) = %v, want errDamaged", err)
	}
	for at := 0; at < len(file); at += 7 {
		changed := bytes.Clone(file)
		changed[at] ^= 1
		// A change of the wrapped key looks like a wrong passphrase.
		if got, err := decrypt(changed, passphrase); !errors.Is(err, errDamaged) && !errors.Is(err, ErrWrongPassphrase) || got != nil {
			t.Errorf("decrypt with byte %d changed = %q, %v, want a refusal", at, got, err)
		}
		if got, err := decrypt(file[:at], passphrase); !errors.Is(err, errDamaged) || got != nil {
			t.Errorf("decrypt(%d bytes) = %q, %v, want errDamaged", at, got, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	_, _, data := pair(f)
	f.Add(data)
	for name, data := range damagedFiles(f) {
		if name != "too long" {
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		keys, err := parse(data)
		if err != nil {
			if !errors.Is(err, errDamaged) || keys != nil {
				t.Errorf("parse = %v, %v, want errDamaged", keys, err)
			}
			return
		}
		again, err := encode(keys.Identity.(signer).private.(*ecdsa.PrivateKey), keys.Approval.(signer).private.(*ecdsa.PrivateKey))
		if err != nil || !bytes.Equal(again, data) {
			t.Errorf("parse accepts %q, which is spelled %q", data, again)
		}
		both := ids(t, keys)
		if both[0] == both[1] {
			t.Error("parse accepts one key for both")
		}
	})
}
