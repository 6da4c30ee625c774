//go:build !linux

package main

import (
	"fmt"
	"syscall"
)

// harden keeps the process's memory, which holds keys, out of core dumps. New
// files are the owner's alone.
func harden() error {
	syscall.Umask(0o077)
	if err := syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}); err != nil {
		return fmt.Errorf("turning off core dumps: %w", err)
	}
	return nil
}
