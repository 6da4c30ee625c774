package main

import (
	"fmt"
	"runtime"
	"time"
)

// machine says what the figures were measured on.
func machine(dir string) string {
	return fmt.Sprintf("%s, %d cores, %s, %s, store on %s, %s",
		processor(), runtime.NumCPU(), kernel(), runtime.Version(), fileSystem(dir), time.Now().UTC().Format("2006-01-02 15:04 UTC"))
}

// clockTick is the unit of the times in /proc: USER_HZ, which is 100 on all that
// Linux runs Go programs on (proc(5)).
const clockTick = 10 * time.Millisecond
