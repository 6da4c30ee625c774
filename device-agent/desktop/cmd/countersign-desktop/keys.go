package main

import (
	"errors"
	"io/fs"

	"fyne.io/fyne/v2"

	"github.com/countersignd/countersign/device-agent/desktop/keys"
	"github.com/countersignd/countersign/device-agent/desktop/window"
	"github.com/countersignd/countersign/device-agent/keystore"
)

// A place is where the keys of a new device are made.
type place struct {
	vault  keys.Vault      // nil: in a file
	whyNot []keys.Unusable // what is better cannot be used
}

// vaults are where keys may be besides in a file.
func (d *desktopAgent) vaults() []keystore.Vault {
	all := make([]keystore.Vault, len(d.keysIn))
	for i, v := range d.keysIn {
		all[i] = v
	}
	return all
}

// prepare finds out where new keys can be made before it turns to a sheet that says so.
// That is found out once, so that what was said is what is done; a keyring that is locked
// may have the person asked to unlock it meanwhile.
func (h *home) prepare(sheet func(*window.Sheet)) {
	if h.place != nil {
		h.turnTo(sheet)
		return
	}
	h.turnTo(func(s *window.Sheet) {
		s.Title("first.title")
		s.Say("first.looking")
		s.Buttons(h.quit())
	})
	// Not in d.work: a keyring may wait for the person, who may rather quit.
	go func() {
		vault, whyNot := keys.Best(h.d.keysIn)
		fyne.Do(func() {
			h.place = &place{vault, whyNot}
			h.turnTo(sheet)
		})
	}()
}

// sayPlace says where the keys will be, and returns the label for a passphrase.
func (h *home) sayPlace(s *window.Sheet) (label string) {
	if _, err := keystore.Storage(h.d.dir); err == nil {
		s.Field("home.keys", h.d.messages.Say(keysKey(h.d.dir))) // made by an attempt before
		return "first.passphrase-if"
	}
	label = "first.passphrase-instead"
	switch storage := h.storage(); storage {
	case keystore.InTPM:
		s.Say("first.keys-tpm")
	case keystore.InKeyring:
		s.Say("first.keys-keyring")
	default:
		s.Say("first.keys-file")
		label = "first.passphrase"
	}
	if h.place != nil {
		for _, why := range h.place.whyNot {
			s.Quiet(h.d.messages.Say(whyNotKey(why)))
		}
	}
	return label
}

// whyNotKey says why keys cannot be made in a better place.
func whyNotKey(why keys.Unusable) string {
	switch {
	case why.Storage != keystore.InTPM:
		return "first.no-keyring"
	case errors.Is(why.Err, fs.ErrPermission):
		return "first.no-tpm-group"
	}
	return "first.no-tpm"
}

// storage returns where new keys are made, or "" for a file.
func (h *home) storage() string {
	if h.place == nil || h.place.vault == nil {
		return ""
	}
	return h.place.vault.Storage()
}

// vault returns where new keys are made, or nil for a file: whoever chooses a
// passphrase has them in one.
func (h *home) vault(passphrase string) keystore.Vault {
	if h.storage() == "" || passphrase != "" {
		return nil
	}
	return h.place.vault
}

// keysKey says where the keys are, and whether who copies them can use them.
func keysKey(dir string) string {
	storage, err := keystore.Storage(dir)
	encrypted, _ := keystore.Encrypted(dir) // with the same error
	switch {
	case err != nil:
		return "keys.missing"
	case storage == keystore.InTPM:
		return "keys.tpm"
	case storage == keystore.InKeyring:
		return "keys.keyring"
	case encrypted:
		return "keys.encrypted"
	}
	return "keys.file"
}
