// Package keystore keeps the two P-256 keys of a device on disk: the identity
// key, which names the device in TLS, and the approval key, which signs
// statements and nothing else.
//
// Both are in one file, in a directory of their own:
//
//	keys.pem      two PKCS#8 keys in PEM, mode 0600
//	keys.age      the same, encrypted with a passphrase (age, scrypt)
//	keys.keyring  what a [Vault] makes them of: the keys, encrypted with a key that the
//	              keyring of the person's session keeps
//	keys.tpm      likewise: what this machine's TPM, and no other, loads them from
//
// There is one of them, never both, and it is never changed: a device whose keys
// are lost or were seen by others is enrolled anew. The file is written under
// another name, synced, and given its name only if nothing has it, so after a
// power cut there are both keys or none, and keys that exist are never replaced.
//
// What is checked before a key is used: that the file is a regular file of the
// user's own which nobody else may read, in a directory that nobody else may
// write to, and that it is byte for byte what this package would write. What is
// not defended against: programs that run as the same user, who can read what the
// agent can, and use what it can use. A copied key shows, though, by the counters of
// its statements.
//
// The checks are of the owners and permissions of Unix. On Windows nothing is checked:
// what protects the file there is the access list of the directory it is in.
package keystore

import (
	"crypto"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
)

// The errors that a caller acts on. Each is a sentence for a person, and comes
// wrapped with the path it is about.
var (
	ErrExists           = errors.New("there are keys already: this device is enrolled, or another one's keys were copied here")
	ErrNoKeys           = errors.New("there are no keys: enrol this device first")
	ErrPassphraseNeeded = errors.New("the keys are encrypted: their passphrase is needed")
	ErrWrongPassphrase  = errors.New("the passphrase is wrong")
)

const (
	plainName     = "keys.pem"
	encryptedName = "keys.age"
	keyringName   = "keys.keyring"
	tpmName       = "keys.tpm"
)

// keyFiles are the files that hold keys. A directory has one of them at most.
var keyFiles = []string{plainName, encryptedName, keyringName, tpmName}

var vaultNames = map[string]string{InKeyring: keyringName, InTPM: tpmName}

// Keys are the two keys of a device. They show nothing of themselves when they
// are printed or logged.
type Keys struct {
	Identity crypto.Signer // for TLS
	Approval crypto.Signer // for statements
	Storage  string        // file, [InKeyring] or [InTPM]: where the keys are kept, as an enrollment says it

	sealing []byte // see Seal
}

// String says where the keys are kept, and nothing else.
func (k Keys) String() string { return "keys kept in a " + k.Storage }

// Format prints String, whatever the verb.
func (k Keys) Format(f fmt.State, verb rune) { fmt.Fprint(f, k.String()) }

// LogValue returns String.
func (k Keys) LogValue() slog.Value { return slog.StringValue(k.String()) }

// Create makes two new keys and writes them into dir, encrypted if passphrase is
// not empty. It makes dir if there is none. When Create returns keys, they are
// durable. If dir holds keys already, Create changes nothing and the error wraps
// [ErrExists].
func Create(dir, passphrase string) (*Keys, error) {
	name := plainName
	if passphrase != "" {
		name = encryptedName
	}
	return create(dir, name, func() ([]byte, *Keys, error) {
		data, err := generate()
		if err != nil {
			return nil, nil, err
		}
		keys, err := parse(data)
		if err != nil {
			return nil, nil, fmt.Errorf("reading back new keys: %w", err)
		}
		if passphrase != "" {
			data, err = encrypt(data, passphrase)
		}
		return data, keys, err
	})
}

// create writes what is made into the file name in dir.
func create(dir, name string, make func() ([]byte, *Keys, error)) (*Keys, error) {
	if err := makeDir(dir); err != nil {
		return nil, fmt.Errorf("creating the directory for the keys: %w", err)
	}
	if err := checkDir(dir); err != nil {
		return nil, err
	}
	if err := vacant(dir, keyFiles...); err != nil {
		return nil, err
	}
	data, keys, err := make()
	if err != nil {
		return nil, err
	}
	if err := writeNew(dir, name, data); err != nil {
		return nil, err
	}
	// Another create may have run at the same time and made another file.
	// Each of the two looks for the other's after its own is there, so at
	// least one sees it and gives way.
	others := slices.DeleteFunc(slices.Clone(keyFiles), func(n string) bool { return n == name })
	if err := vacant(dir, others...); err != nil {
		return nil, errors.Join(err, os.Remove(filepath.Join(dir, name)))
	}
	return keys, nil
}

// Open reads the keys in dir, from one of the vaults if it keeps them. The error wraps
// [ErrNoKeys] if there are none, [ErrPassphraseNeeded] if they are encrypted and
// passphrase is empty, [ErrWrongPassphrase], and [ErrGone] if their vault has lost them.
// A passphrase for keys that are not encrypted is refused as well: whoever gives it
// believes that they are.
func Open(dir, passphrase string, vaults ...Vault) (*Keys, error) {
	name, err := locate(dir)
	if err != nil {
		return nil, err
	}
	path, encrypted := filepath.Join(dir, name), name == encryptedName
	switch {
	case encrypted && passphrase == "":
		return nil, fmt.Errorf("%s: %w", path, ErrPassphraseNeeded)
	case !encrypted && passphrase != "":
		return nil, fmt.Errorf("%s: the keys are not encrypted with a passphrase, but one was given: leave it out, or enrol this device anew with it", path)
	}
	if err := checkDir(dir); err != nil {
		return nil, err
	}
	if name == keyringName || name == tpmName {
		return openVault(dir, name, vaults)
	}
	data, err := read(path)
	if err != nil {
		return nil, err
	}
	if encrypted {
		if data, err = decrypt(data, passphrase); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	keys, err := parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return keys, nil
}

// Encrypted reports whether the keys in dir need a passphrase. The error wraps
// [ErrNoKeys] if there are none.
func Encrypted(dir string) (bool, error) {
	name, err := locate(dir)
	return name == encryptedName, err
}

// Storage returns where the keys in dir are kept, as [Keys] has it. The error wraps
// [ErrNoKeys] if there are none.
func Storage(dir string) (string, error) {
	switch name, err := locate(dir); name {
	case keyringName:
		return InKeyring, nil
	case tpmName:
		return InTPM, nil
	default:
		return inFile, err
	}
}

// locate finds the one file with keys in dir.
func locate(dir string) (name string, err error) {
	for _, n := range keyFiles {
		there, err := exists(filepath.Join(dir, n))
		if err != nil {
			return "", err
		}
		switch {
		case there && name != "":
			return "", fmt.Errorf("%s: there is both %s and %s: move away the one that is not this device's", dir, name, n)
		case there:
			name = n
		}
	}
	if name == "" {
		return "", fmt.Errorf("%s: %w", dir, ErrNoKeys)
	}
	return name, nil
}

// vacant returns an ErrExists if one of the names is taken in dir.
func vacant(dir string, names ...string) error {
	for _, name := range names {
		path := filepath.Join(dir, name)
		taken, err := exists(path)
		if err != nil {
			return err
		}
		if taken {
			return fmt.Errorf("%s: %w", path, ErrExists)
		}
	}
	return nil
}

// exists reports whether path is taken, by whatever it may be.
func exists(path string) (bool, error) {
	_, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("looking for keys: %w", err)
	}
	return true, nil
}
