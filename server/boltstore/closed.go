package boltstore

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// This file lets a store that was closed well be opened again without reading
// all of it. Beside the store, under its name with closedSuffix behind, stands a
// note of how the file was left. Opening the store removes it for good before
// anything is written, so a store whose process was killed has none.

const closedSuffix = ".closed"

// metaBytes is more than the two meta pages of bbolt have, which change with
// each commit.
const metaBytes = 64 << 10

// a closing is how a file was when it was closed well.
type closing struct {
	size     int64
	modified int64 // nanoseconds since 1970
	meta     [sha256.Size]byte
	checked  int64 // when all of it was read last; seconds since 1970
}

// closedForm is how a note spells a closing.
const closedForm = "countersign store closed\nsize %d\nmodified %d\nmeta %x\nchecked %d\n"

// Undisturbed reports whether the file at path is as a [Store] left it that was
// closed well, and when all of it was last checked then. It reads little of it:
// what a disk has forgotten meanwhile it does not find.
func Undisturbed(path string) (checked time.Time, ok bool) {
	note, err := os.ReadFile(path + closedSuffix)
	if err != nil {
		return time.Time{}, false
	}
	var noted closing
	var meta []byte
	if _, err := fmt.Sscanf(string(note), closedForm, &noted.size, &noted.modified, &meta, &noted.checked); err != nil || len(meta) != sha256.Size {
		return time.Time{}, false
	}
	copy(noted.meta[:], meta)
	now, err := lookClosed(path, noted.checked)
	if err != nil || now != noted {
		return time.Time{}, false
	}
	return time.Unix(noted.checked, 0), true
}

// lookClosed returns how a closed file is.
func lookClosed(path string, checked int64) (closing, error) {
	f, err := os.Open(path)
	if err != nil {
		return closing{}, err
	}
	defer f.Close() // It was only read.
	info, err := f.Stat()
	if err != nil {
		return closing{}, err
	}
	hash := sha256.New()
	if _, err := io.Copy(hash, io.LimitReader(f, metaBytes)); err != nil {
		return closing{}, err
	}
	c := closing{size: info.Size(), modified: info.ModTime().UnixNano(), checked: checked}
	hash.Sum(c.meta[:0])
	return c, nil
}

// noteClosed writes the note. What was never checked as a whole gets none.
func noteClosed(path string, checked time.Time) error {
	if checked.IsZero() {
		return nil
	}
	c, err := lookClosed(path, checked.Unix())
	if err != nil {
		return err
	}
	// The file itself is on the disk. If the note is not, it is read anew.
	return os.WriteFile(path+closedSuffix, fmt.Appendf(nil, closedForm, c.size, c.modified, c.meta, c.checked), 0o600)
}

// forgetClosed removes the note so that it is gone after a power cut, too.
func forgetClosed(path string) error {
	err := os.Remove(path + closedSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}
