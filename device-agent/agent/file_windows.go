package agent

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
	"unsafe"
)

// On Windows the mode of a file says nothing of who can use it: its access list does,
// which it has from the directory above and which nothing here looks at.
func shared(fs.FileInfo) bool { return false }

// syncDir does nothing: Windows cannot sync directories. NTFS keeps a log of their
// changes, of which a power cut may take away the newest.
func syncDir(string) error { return nil }

const (
	lockfileFailImmediately = 1
	lockfileExclusiveLock   = 2

	errorLockViolation syscall.Errno = 33
)

var lockFileEx = syscall.NewLazyDLL("kernel32.dll").NewProc("LockFileEx")

// lock locks f until it is closed, or the process ends in whatever way. If another
// has it, it waits, or reports that it has not got it.
func lock(f *os.File, wait bool) (got bool, err error) {
	how := uintptr(lockfileExclusiveLock)
	if !wait {
		how |= lockfileFailImmediately
	}
	var whole syscall.Overlapped // at offset 0
	ok, _, err := lockFileEx.Call(f.Fd(), how, 0, 1, 0, uintptr(unsafe.Pointer(&whole)))
	switch {
	case ok != 0:
		return true, nil
	case !wait && errors.Is(err, errorLockViolation):
		return false, nil
	}
	return false, err
}
