package boltstore

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// allocate has the file system set aside the blocks of the first size bytes
// of a file, which it makes that long. What the file holds stays as it is, also
// if it is being written to.
func allocate(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("reserving room for %s: %w", path, err)
	}
	defer f.Close() // Nothing was written through it.
	err = syscall.Fallocate(int(f.Fd()), 0, 0, size)
	if err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return fmt.Errorf("reserving room for %s: %w", path, err)
	}
	return nil
}
