//go:build unix

package main

import (
	"errors"
	"os"
	"syscall"
)

// lock locks f until it is closed, or the process ends in whatever way, and reports
// whether it got it.
func lock(f *os.File) (got bool, err error) {
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, err
}
