package stories

import (
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// A victim is a program that is killed with SIGKILL right before its nth step,
// unless it ends before that. A step is a system call after which something is
// durable, or somebody else knows something. This process traces the program to
// see them (ptrace(2), PTRACE_SYSCALL), so the programs need no hooks for it, and
// what is killed is what people run.
//
// Where tracing is forbidden the victim is killed after n times a pace instead:
// then the moments are many, but not all.
type victim struct {
	*actor
	pid    int
	killed bool        // by the tracer; once done
	status int         // exit code, or -1; once done
	armed  atomic.Bool // steps are counted
}

// A step says of a system call whether it is one. Only its own numbers and plain
// arguments can be looked at.
type step func(call int, args [6]uint64) bool

// agentSteps are the steps of an agent: each change of a file, and each message.
func agentSteps(call int, args [6]uint64) bool {
	switch call {
	case syscall.SYS_OPENAT:
		return args[2]&syscall.O_CREAT != 0
	case syscall.SYS_MKDIRAT, syscall.SYS_LINKAT, syscall.SYS_RENAMEAT, syscall.SYS_UNLINKAT:
		return true
	}
	return speaks(call, args)
}

// serverSteps are those of a server: before its database's pages are durable,
// before the page that makes them count is, and each message.
func serverSteps(call int, args [6]uint64) bool {
	return call == syscall.SYS_FDATASYNC || speaks(call, args)
}

// speaks reports whether something is written to a file or connection. It leaves
// out the standard files, and the 8 bytes with which Go's runtime wakes itself up.
func speaks(call int, args [6]uint64) bool {
	return call == syscall.SYS_WRITE && args[0] > 2 && args[2] != 8
}

// doom starts a program that dies right before its nth step after it was armed.
func doom(t *testing.T, nth int, counts step, program string, args ...string) *victim {
	t.Helper()
	v := &victim{actor: &actor{out: &output{more: make(chan struct{})}, done: make(chan struct{})}}
	in, stdin, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	v.stdin = stdin
	started := make(chan error)
	go func() {
		// All that ptrace does is for one thread only.
		runtime.LockOSThread()
		trace := nth > 0 && canTrace()
		v.pid, err = syscall.ForkExec(filepath.Join(bin, program), append([]string{program}, args...), &syscall.ProcAttr{
			Env:   os.Environ(),
			Files: []uintptr{in.Fd(), out.Fd(), out.Fd()},
			Sys:   &syscall.SysProcAttr{Ptrace: trace, Setpgid: true},
		})
		in.Close()
		out.Close()
		if err != nil {
			started <- err
			return
		}
		var copying sync.WaitGroup
		copying.Go(func() { io.Copy(v.out, stdout) })
		started <- nil
		var status syscall.WaitStatus
		if trace {
			status = v.trace(nth, counts)
		} else {
			status = v.pace(nth)
		}
		copying.Wait()
		stdout.Close()
		v.status = status.ExitStatus()
		close(v.done)
		// The thread is not unlocked, so it ends here.
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		v.kill()
		stdin.Close()
	})
	return v
}

// kill ends it now, as a step that never comes.
func (v *victim) kill() {
	select {
	case <-v.done:
	default:
		syscall.Kill(v.pid, syscall.SIGKILL)
		<-v.done
	}
}

// pacing is what one step is counted as where steps cannot be seen.
const pacing = time.Millisecond

// pace kills the victim after its time, which begins when it is armed.
func (v *victim) pace(nth int) syscall.WaitStatus {
	ended := make(chan struct{})
	var killing sync.WaitGroup
	killing.Go(func() {
		for left := nth; nth > 0; {
			select {
			case <-ended:
				return
			case <-time.After(pacing):
			}
			if !v.armed.Load() {
				continue
			}
			if left--; left == 0 {
				v.killed = syscall.Kill(v.pid, syscall.SIGKILL) == nil
				return
			}
		}
	})
	var status syscall.WaitStatus
	for {
		if _, err := syscall.Wait4(v.pid, &status, 0, nil); err != syscall.EINTR {
			break
		}
	}
	close(ended)
	killing.Wait()
	return status
}

// What package syscall lacks of ptrace(2).
const (
	ptraceExitKill       = 0x100000
	ptraceGetSyscallInfo = 0x420e
	syscallEntry         = 1
	syscallStop          = syscall.SIGTRAP | 0x80
)

// trace lets the victim run from one system call to the next until it has ended.
func (v *victim) trace(nth int, counts step) syscall.WaitStatus {
	var status syscall.WaitStatus
	syscall.Wait4(v.pid, &status, 0, nil) // it stops when it begins
	syscall.PtraceSetOptions(v.pid, syscall.PTRACE_O_TRACESYSGOOD|syscall.PTRACE_O_TRACECLONE|ptraceExitKill)
	syscall.PtraceSyscall(v.pid, 0)
	threads := map[int]bool{v.pid: true}
	steps := 0
	for {
		// Of its group only: this process has other children, which others wait for.
		thread, err := syscall.Wait4(-v.pid, &status, syscall.WALL|syscall.WNOTHREAD, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || thread == v.pid && !status.Stopped() {
			return status
		}
		deliver := 0
		switch signal := status.StopSignal(); {
		case !status.Stopped(), status.TrapCause() > 0: // a thread ended, or begot one
		case signal == syscallStop:
			if call, args, entry := enters(thread); entry && v.armed.Load() && counts(call, args) {
				if steps++; steps == nth {
					v.killed = syscall.Kill(v.pid, syscall.SIGKILL) == nil
				}
			}
		case signal == syscall.SIGSTOP && !threads[thread]: // how a thread begins
		default:
			deliver = int(signal)
		}
		threads[thread] = true
		syscall.PtraceSyscall(thread, deliver)
	}
}

// enters returns the system call that a stopped thread is about to make.
func enters(thread int) (call int, args [6]uint64, entry bool) {
	var info [88]byte // struct ptrace_syscall_info
	n, _, errno := syscall.Syscall6(syscall.SYS_PTRACE, ptraceGetSyscallInfo, uintptr(thread),
		unsafe.Sizeof(info), uintptr(unsafe.Pointer(&info)), 0, 0)
	if errno != 0 || n < 80 || info[0] != syscallEntry {
		return 0, args, false
	}
	for i := range args {
		args[i] = binary.NativeEndian.Uint64(info[32+8*i:])
	}
	return int(binary.NativeEndian.Uint64(info[24:])), args, true
}

// canTrace finds out whether this system lets a process look at the steps of a child.
var canTrace = sync.OnceValue(func() bool {
	pid, err := syscall.ForkExec("/proc/self/exe", []string{"stories", "-test.list=^$"}, &syscall.ProcAttr{
		Files: []uintptr{0, 1, 2}, Sys: &syscall.SysProcAttr{Ptrace: true},
	})
	if err != nil {
		return false
	}
	var status syscall.WaitStatus
	syscall.Wait4(pid, &status, 0, nil)
	syscall.PtraceSetOptions(pid, syscall.PTRACE_O_TRACESYSGOOD|ptraceExitKill)
	syscall.PtraceSyscall(pid, 0)
	syscall.Wait4(pid, &status, 0, nil)
	_, _, entry := enters(pid)
	syscall.Kill(pid, syscall.SIGKILL)
	for {
		if _, err := syscall.Wait4(pid, &status, 0, nil); err != syscall.EINTR && !status.Stopped() {
			return entry
		}
	}
})
