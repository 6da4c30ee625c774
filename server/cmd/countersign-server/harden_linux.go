package main

import (
	"fmt"
	"syscall"
)

// harden keeps the process's memory, which holds keys, out of files and other
// processes: no core dumps, no attaching without privileges. New files are the
// owner's alone. (Go raises the number of open files to its hard limit by
// itself.)
func harden() error {
	syscall.Umask(0o077)
	if err := syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}); err != nil {
		return fmt.Errorf("turning off core dumps: %w", err)
	}
	if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, syscall.PR_SET_DUMPABLE, 0, 0); errno != 0 {
		return fmt.Errorf("turning off core dumps: %w", errno)
	}
	return nil
}
