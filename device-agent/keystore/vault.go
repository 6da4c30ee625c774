package keystore

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/countersignd/countersign/internal/pin"
)

// The vaults there are, by what [Vault.Storage] returns.
const (
	InKeyring = "keyring"
	InTPM     = "tpm"
)

// ErrGone is wrapped when a vault says that it cannot make the keys of their file, and
// never will again.
var ErrGone = errors.New("the keys are gone for good")

// A Vault keeps keys better than a file does: the file then holds only what the vault
// makes them of. This package has none itself, so that a program without one needs
// none of what it is made with.
type Vault interface {
	// Storage returns [InKeyring] or [InTPM].
	Storage() string

	// Make makes two new keys and returns what their file is to hold, at most 16 KiB.
	// What it leaves in the vault is durable.
	Make() (file []byte, err error)

	// Keys returns the keys of a file. The error wraps [ErrGone] if no later call can
	// do better, and else says what to do. It may wait for the person.
	Keys(file []byte) (Kept, error)
}

// Kept is what a vault keeps of a device.
type Kept struct {
	Identity crypto.Signer
	Approval crypto.Signer
	Sealing  []byte // 32 random bytes, for [Keys.Seal]
}

// keys are the keys of a vault's file, if they are what a device's keys must be.
func (k Kept) keys(storage string) (*Keys, error) {
	identityKey, ok := k.Identity.Public().(*ecdsa.PublicKey)
	approvalKey, is := k.Approval.Public().(*ecdsa.PublicKey)
	if !ok || !is || identityKey.Curve != elliptic.P256() || approvalKey.Curve != elliptic.P256() ||
		identityKey.Equal(approvalKey) || len(k.Sealing) != sealingSize {
		return nil, errDamaged
	}
	for _, public := range []*ecdsa.PublicKey{identityKey, approvalKey} {
		if _, err := pin.KeyID(public); err != nil {
			return nil, errDamaged
		}
	}
	return &Keys{Identity: signer{k.Identity}, Approval: signer{k.Approval}, Storage: storage, sealing: k.Sealing}, nil
}

// CreateIn is [Create] for keys that a vault keeps. If it returns an error, the vault
// may be left with what is of no use to anybody.
func CreateIn(dir string, v Vault) (*Keys, error) {
	name, ok := vaultNames[v.Storage()]
	if !ok {
		return nil, fmt.Errorf("there is no vault %q", v.Storage())
	}
	return create(dir, name, func() ([]byte, *Keys, error) {
		data, err := v.Make()
		if err != nil {
			return nil, nil, err
		}
		// Keys that cannot be had again must not be enrolled.
		keys, err := openIn(v, data)
		if err != nil {
			return nil, nil, fmt.Errorf("reading back new keys: %w", err)
		}
		return data, keys, nil
	})
}

func openIn(v Vault, data []byte) (*Keys, error) {
	kept, err := v.Keys(data)
	if err != nil {
		return nil, err
	}
	return kept.keys(v.Storage())
}

// openVault reads keys that one of the vaults keeps.
func openVault(dir, name string, vaults []Vault) (*Keys, error) {
	path := filepath.Join(dir, name)
	for _, v := range vaults {
		if vaultNames[v.Storage()] != name {
			continue
		}
		data, err := read(path)
		if err != nil {
			return nil, err
		}
		keys, err := openIn(v, data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		return keys, nil
	}
	words := map[string]string{tpmName: "this machine's TPM", keyringName: "the keyring of your session"}
	return nil, fmt.Errorf("%s: the keys of this device are in %s, which %s does not use: use countersign-desktop, which does, "+
		"or enrol another device here, in a directory of its own", path, words[name], filepath.Base(os.Args[0]))
}
