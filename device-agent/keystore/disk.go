package keystore

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// maxFile is far more than a file with keys has.
const maxFile = 64 << 10

// checkDir refuses a directory in which others could put their keys in the place
// of ours, or take ours away.
func checkDir(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("looking for keys: %w", err)
	}
	if !info.IsDir() {
		return fmt.Errorf("%s: this is not a directory: give the keys a directory of their own", dir)
	}
	if !own(info) {
		return fmt.Errorf("%s: the directory belongs to another user: run this program as that user", dir)
	}
	if allows(info, 0o022) {
		return fmt.Errorf("%s: others may write to the directory of the keys: run chmod 700 on it, and enrol this device anew if it is not yours alone", dir)
	}
	return nil
}

// read returns the contents of the file at path if it is ours alone.
func read(path string) ([]byte, error) {
	// Looking before opening keeps us from a named pipe, which would make us wait.
	before, err := os.Lstat(path)
	if err != nil {
		return nil, fmt.Errorf("reading keys: %w", err)
	}
	if !before.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: this is not a regular file: put the file with the keys itself there", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading keys: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("reading keys: %w", err)
	}
	switch {
	case !os.SameFile(before, info):
		return nil, fmt.Errorf("%s: the file changed while it was opened: try again", path)
	case !own(info):
		return nil, fmt.Errorf("%s: the file belongs to another user: run this program as that user", path)
	case allows(info, 0o177):
		return nil, fmt.Errorf("%s: others than its owner may use the file (mode %04o): run chmod 600 on it, and enrol this device anew if somebody else may have read it", path, info.Mode().Perm())
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("reading keys: %w", err)
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("%s: %w", path, errDamaged)
	}
	return data, nil
}

// writeNew makes the file name in dir, durably, with all of data or not at all.
// It never replaces a file. A crash may leave a file *.tmp, which nothing reads.
func writeNew(dir, name string, data []byte) (err error) {
	f, err := os.CreateTemp(dir, name+".*.tmp") // mode 0600
	if err != nil {
		return fmt.Errorf("writing keys: %w", err)
	}
	defer func() { err = errors.Join(err, os.Remove(f.Name())) }()
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return fmt.Errorf("writing keys: %w", err)
	}
	// Not a rename, which would replace keys that were made in the meantime.
	path := filepath.Join(dir, name)
	if err := os.Link(f.Name(), path); errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s: %w", path, ErrExists)
	} else if err != nil {
		return fmt.Errorf("writing keys: %w", err)
	}
	// Keys that a power cut may take away again must not be enrolled.
	if err := syncDir(dir); err != nil {
		return fmt.Errorf("writing keys: %w", errors.Join(err, os.Remove(path)))
	}
	return nil
}

// makeDir makes dir and what is missing above it, durably.
func makeDir(dir string) error {
	err := os.Mkdir(dir, 0o700)
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeDir(filepath.Dir(dir)); err != nil {
			return err
		}
		err = os.Mkdir(dir, 0o700)
	}
	if errors.Is(err, fs.ErrExist) {
		return nil // whether it will do, checkDir decides
	}
	if err != nil {
		return err
	}
	return syncDir(filepath.Dir(dir))
}
