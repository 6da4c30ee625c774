package main

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// lock locks f until it is closed, or the process ends in whatever way, and reports
// whether it got it.
func lock(f *os.File) (got bool, err error) {
	var whole windows.Overlapped // at offset 0
	err = windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, &whole)
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
		return false, nil
	}
	return err == nil, err
}
