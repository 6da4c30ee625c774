//go:build !linux

package main

import (
	"errors"
	"os/exec"
	"time"
)

// errLinux is why nothing is measured elsewhere: what a process uses is read
// from /proc.
var errLinux = errors.New("the benches run on Linux only")

func raiseOpenFiles(int) error { return errLinux }

func tie(*exec.Cmd) {}

func residentMemory(int) (float64, error) { return 0, errLinux }

func processorTime(int) (time.Duration, error) { return 0, errLinux }

func kernel() string { return "" }

func processor() string { return "" }

func fileSystem(string) string { return "" }
