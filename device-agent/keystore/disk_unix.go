//go:build unix

package keystore

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// own reports whether the file belongs to the user this process acts as.
func own(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == os.Geteuid()
}

// allows reports whether the file's mode has one of the bits.
func allows(info fs.FileInfo, bits fs.FileMode) bool { return info.Mode().Perm()&bits != 0 }

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
