// Package keystore keeps the two P-256 keys of a device on disk: the identity
// key, which names the device in TLS, and the approval key, which signs
// statements and nothing else.
//
// Both are in one file, in a directory of their own:
//
//	keys.pem    two PKCS#8 keys in PEM, mode 0600
//	keys.age    the same, encrypted with a passphrase (age, scrypt)
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
// agent can. A copied key shows, though, by the counters of its statements.
//
// The package relies on the owners and permissions of Unix.
package keystore

import (
	"crypto"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
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
)

// Keys are the two keys of a device. They show nothing of themselves when they
// are printed or logged.
type Keys struct {
	Identity crypto.Signer // for TLS
	Approval crypto.Signer // for statements
	Storage  string        // "file": where the keys are kept, as an enrollment says it

	sealing []byte // derived from Approval, see Seal
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
	if err := makeDir(dir); err != nil {
		return nil, fmt.Errorf("creating the directory for the keys: %w", err)
	}
	if err := checkDir(dir); err != nil {
		return nil, err
	}
	if err := vacant(dir, plainName, encryptedName); err != nil {
		return nil, err
	}
	data, err := generate()
	if err != nil {
		return nil, err
	}
	keys, err := parse(data)
	if err != nil {
		return nil, fmt.Errorf("reading back new keys: %w", err)
	}
	name, other := plainName, encryptedName
	if passphrase != "" {
		name, other = encryptedName, plainName
		if data, err = encrypt(data, passphrase); err != nil {
			return nil, err
		}
	}
	if err := writeNew(dir, name, data); err != nil {
		return nil, err
	}
	// Another Create may have run at the same time and made the other file.
	// Each of the two looks for the other's after its own is there, so at
	// least one sees it and gives way.
	if err := vacant(dir, other); err != nil {
		return nil, errors.Join(err, os.Remove(filepath.Join(dir, name)))
	}
	return keys, nil
}

// Open reads the keys in dir. The error wraps [ErrNoKeys] if there are none,
// [ErrPassphraseNeeded] if they are encrypted and passphrase is empty, and
// [ErrWrongPassphrase]. A passphrase for keys that are not encrypted is refused as well:
// whoever gives it believes that they are.
func Open(dir, passphrase string) (*Keys, error) {
	path, encrypted, err := locate(dir)
	if err != nil {
		return nil, err
	}
	switch {
	case encrypted && passphrase == "":
		return nil, fmt.Errorf("%s: %w", path, ErrPassphraseNeeded)
	case !encrypted && passphrase != "":
		return nil, fmt.Errorf("%s: the keys are not encrypted, but a passphrase was given: leave it out, or enrol this device anew with it", path)
	}
	if err := checkDir(dir); err != nil {
		return nil, err
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
	_, encrypted, err := locate(dir)
	return encrypted, err
}

// locate finds the one file with keys in dir.
func locate(dir string) (path string, encrypted bool, err error) {
	plain, err := exists(filepath.Join(dir, plainName))
	if err != nil {
		return "", false, err
	}
	encrypted, err = exists(filepath.Join(dir, encryptedName))
	if err != nil {
		return "", false, err
	}
	switch {
	case plain && encrypted:
		return "", false, fmt.Errorf("%s: there is both %s and %s: move away the one that is not this device's", dir, plainName, encryptedName)
	case encrypted:
		return filepath.Join(dir, encryptedName), true, nil
	case plain:
		return filepath.Join(dir, plainName), false, nil
	}
	return "", false, fmt.Errorf("%s: %w", dir, ErrNoKeys)
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
