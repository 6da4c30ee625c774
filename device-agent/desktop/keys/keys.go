// Package keys keeps the keys of a device where they are safer than in a file of
// their own: in this machine's TPM, or encrypted with a key that the keyring of the
// person's session keeps. Both are vaults of package keystore, whose file holds what the
// keys are made of again:
//
//	TPM      two P-256 keys that were made in the TPM and do not leave it, loaded
//	         from what it encrypted for itself. Neither a copy of the disk nor a
//	         program of the same user gets them; such a program can use them,
//	         for as long as it runs here.
//	keyring  two P-256 keys, encrypted with AES-256-GCM. A copy of the disk does not
//	         get them, if the keyring has a password. A program of the same user does.
//
// Nothing here moves keys: those of a device that is trusted already stay where they
// are, until the device is enrolled anew.
package keys

import (
	"errors"

	"github.com/countersignd/countersign/device-agent/keystore"
)

// A Vault is one of those here.
type Vault interface {
	keystore.Vault

	// Check returns nil if new keys can be made in the vault now, or a sentence
	// that says why not. It may wait for the person to unlock a keyring.
	Check() error
}

// Vaults are those that a machine may have, the best one first.
func Vaults() []Vault { return []Vault{NewTPM(), Keyring{}} }

// An Unusable is a vault that cannot be used.
type Unusable struct {
	Storage string // as [keystore.Vault] has it
	Err     error  // why not: it wraps [fs.ErrPermission] if the person merely may not
}

// Best returns the first of the vaults that can be used, or nil if none can, and says of
// those before it why not.
func Best(vaults []Vault) (best Vault, whyNot []Unusable) {
	for _, v := range vaults {
		err := v.Check()
		if err == nil {
			return v, whyNot
		}
		whyNot = append(whyNot, Unusable{v.Storage(), err})
	}
	return nil, whyNot
}

var errDamaged = errors.New("the file with the keys is damaged: restore it, or move its directory away and enrol this device anew")

// header says in PEM which of the parts of a file one is.
const header = "Countersign-Key"
