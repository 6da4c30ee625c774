package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strconv"
	"strings"

	"github.com/countersignd/countersign/server/approval"
)

// maxGeneration is more than any server reaches: one more has as many digits.
// A file that says more is damaged.
const maxGeneration = 999_999_999_999_999

// outside keeps the generation number in a file beside the secrets, by which
// an old copy of the database is known. It must not be saved and restored
// together with the database.
func (d dataDir) outside(log *slog.Logger, told func(string)) *approval.Outside {
	path := d.secret("generation")
	return &approval.Outside{
		Load: func() (uint64, error) {
			text, err := os.ReadFile(path)
			if errors.Is(err, fs.ErrNotExist) {
				return 0, nil
			}
			if err != nil {
				return 0, err
			}
			if err := checkPrivate(path, 0o600); err != nil {
				return 0, err
			}
			n, err := parseGeneration(string(text))
			if err != nil {
				log.Warn("the generation number cannot be read, so the database counts as an old one", "path", path, "error", err)
			}
			return n, nil
		},
		Save: func(n uint64) error {
			text := []byte(formatGeneration(n))
			_, err := os.Lstat(path)
			if errors.Is(err, fs.ErrNotExist) {
				told(path)
				return writeSecret(path, text)
			}
			return overwrite(path, text)
		},
	}
}

// overwrite writes a file in place, which needs no room: it must go on a full
// disk, too. All of it lies in one sector, so after a power cut it is the old
// or the new; were it neither, the number would count as lost.
func overwrite(path string, text []byte) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.WriteAt(text, 0); err != nil {
		return err
	}
	return f.Sync()
}

// formatGeneration always returns as many bytes.
func formatGeneration(n uint64) string { return fmt.Sprintf("%016d\n", n) }

// parseGeneration returns 0 for what is no number.
func parseGeneration(text string) (uint64, error) {
	n, err := strconv.ParseUint(strings.TrimSuffix(text, "\n"), 10, 64)
	if err != nil || n > maxGeneration || formatGeneration(n) != text {
		return 0, errors.New("it is not a number as this program writes it")
	}
	return n, nil
}
