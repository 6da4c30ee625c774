package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/countersignd/countersign/device-agent/keystore"
)

// ErrLost is wrapped when a directory names a device that can never answer again.
var ErrLost = errors.New("this device can never answer again")

// whole refuses a directory that names a device and lacks what the device cannot
// be without: its keys, and the counter of a trusted one. Both were durable before
// the state was, so no crash leaves that; somebody took them away.
//
// Nothing is made in their place. New keys would be another device, while the
// server goes on believing in the old one, and a counter that begins again looks
// like a copied key.
func whole(dir string, s State) error {
	if _, err := keystore.Encrypted(dir); errors.Is(err, keystore.ErrNoKeys) {
		return lost(dir, "the keys of this device are gone", err)
	} else if err != nil || s.Phase != Trusted {
		return err
	}
	_, err := readCounter(dir)
	return err
}

// openKeys opens keys that are there.
func openKeys(dir, passphrase string, vaults []keystore.Vault) (*keystore.Keys, error) {
	keys, err := keystore.Open(dir, passphrase, vaults...)
	if errors.Is(err, keystore.ErrGone) {
		return nil, lost(dir, strings.TrimPrefix(err.Error(), dir+string(filepath.Separator)), err)
	}
	return keys, err
}

// keysOf returns the keys in dir, made now if there were none: in vault, or in a file
// if that is nil. Keys that are there stay where they are.
func keysOf(dir, passphrase string, vaults []keystore.Vault, vault keystore.Vault) (*keystore.Keys, error) {
	keys, err := openKeys(dir, passphrase, vaults)
	switch {
	case !errors.Is(err, keystore.ErrNoKeys):
		return keys, err
	case vault == nil:
		return keystore.Create(dir, passphrase)
	case passphrase != "":
		return nil, errors.New("a passphrase encrypts keys in a file, and these are to be made elsewhere: leave it out")
	}
	return keystore.CreateIn(dir, vault)
}

// lost says what to do about a device that can never answer again.
func lost(dir, what string, why error) error {
	device := ""
	if s, err := LoadState(dir); err == nil {
		device = " (" + Fingerprint(s.Device) + ")"
	}
	return &explained{
		fmt.Sprintf("%s: %s, so it can never answer again: move the directory away and enrol it anew, which makes new keys; "+
			"then revoke the old device%s on another one, or have an administrator do it", dir, what, device),
		errors.Join(ErrLost, why),
	}
}

// sweep removes what a crash left of files that were being written, and what
// may be secret in them. The caller holds the lock, so nobody is writing now.
func sweep(dir string) error {
	left, err := filepath.Glob(filepath.Join(dir, "*.tmp"))
	for _, path := range left {
		err = errors.Join(err, os.Remove(path))
	}
	if err != nil {
		return fmt.Errorf("removing what an interrupted enrolment left: %w", err)
	}
	return nil
}
