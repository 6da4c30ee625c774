//go:build unix

package agent

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// shared reports whether others than its owner can use a directory.
func shared(info fs.FileInfo) bool { return info.Mode().Perm()&0o077 != 0 }

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// lock locks f until it is closed, or the process ends in whatever way. If another
// has it, it waits, or reports that it has not got it.
func lock(f *os.File, wait bool) (got bool, err error) {
	how := syscall.LOCK_EX
	if !wait {
		how |= syscall.LOCK_NB
	}
	for {
		err := syscall.Flock(int(f.Fd()), how)
		switch {
		case err == nil:
			return true, nil
		case errors.Is(err, syscall.EINTR):
			continue
		case !wait && errors.Is(err, syscall.EWOULDBLOCK):
			return false, nil
		}
		return false, err
	}
}
