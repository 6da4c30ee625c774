package agent

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// maxFile is far more than any of the files here has.
const maxFile = 16 << 10

// makeDir makes the directory of a device, or refuses one that others can use:
// it holds keys and, for a while, an invitation.
func makeDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("making the agent's directory: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("looking at the agent's directory: %w", err)
	}
	if shared(info) {
		return fmt.Errorf("%s: others than its owner can use the agent's directory (mode %04o): run chmod 700 on it", dir, info.Mode().Perm())
	}
	return nil
}

// readFile returns the contents of a file, at most maxFile bytes.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("%s: the file is too large to be the agent's: restore it, or move its directory away and enrol this device anew", path)
	}
	return data, nil
}

// writeFile replaces a file in dir, durably: after a crash there is the old
// content or the new one, and after writeFile returned nil, the new one. A
// crash may leave a file *.tmp, which nothing reads and [sweep] removes.
func writeFile(dir, name string, data []byte) error {
	f, err := os.CreateTemp(dir, name+".*.tmp") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, name))
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return syncDir(dir)
}

// removeFile removes a file in dir, durably. It is no error if there is none.
func removeFile(dir, name string) error {
	if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return syncDir(dir)
}

// lockName is the file whose lock excludes other processes, and other callers
// in this one. It is empty and never replaced, unlike the files it guards.
const lockName = "lock"

// tryLock takes the lock of a file in dir, or returns no unlock if somebody
// else, in this process or another, has it.
func tryLock(dir, name string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	got, err := lock(f, false)
	if !got {
		return nil, errors.Join(err, f.Close())
	}
	return func() { f.Close() }, nil
}

// lockDir waits for the lock of dir. It is released by unlock, and by the
// kernel when the process ends in whatever way.
func lockDir(dir string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking the agent's directory: %w", err)
	}
	if _, err := lock(f, true); err != nil {
		return nil, fmt.Errorf("locking the agent's directory: %w", errors.Join(err, f.Close()))
	}
	return func() { f.Close() }, nil
}

// keepFile gives a file in dir a name under which nothing reads it, durably, and
// returns that name, or "" if there is no such file.
func keepFile(dir, name string, now time.Time) (string, error) {
	kept := filepath.Join(dir, name+now.UTC().Format("-20060102T150405.000Z"))
	err := os.Rename(filepath.Join(dir, name), kept)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return kept, syncDir(dir)
}
