package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/rpc"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"runtime/pprof"
	"syscall"
	"time"
)

// roleArg is the first argument of this program when it plays a role; the
// second one is the role's name.
const roleArg = "role"

// roles are the processes that this program is, beside itself. The methods of
// each are called over its standard input and output.
var roles = map[string]func() any{
	"agents":       func() any { return &Agents{} },
	"applications": func() any { return &Applications{} },
	"bare":         func() any { return &Bare{} },
	"store":        func() any { return &Stores{} },
	"log":          func() any { return &Log{} },
}

// playRole answers calls until standard input ends.
func playRole(name string) error {
	role := roles[name]
	if role == nil {
		return errors.New("there is no such role")
	}
	// Ctrl-C in a terminal reaches this process, too, and must not end it
	// before the one that started it has got its answers.
	signal.Ignore(os.Interrupt)
	if path := os.Getenv(profileEnv); path != "" {
		f, err := os.Create(path)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	server := rpc.NewServer()
	if err := server.RegisterName("Role", role()); err != nil {
		return err
	}
	if err := server.RegisterName("Process", &Process{}); err != nil {
		return err
	}
	server.ServeConn(standard{os.Stdin, os.Stdout})
	return nil
}

// profileEnv names the file that a role keeps its CPU profile in.
const profileEnv = "COUNTERSIGN_BENCH_PROFILE"

// standard is standard input and output as one connection.
type standard struct {
	io.Reader
	io.Writer
}

// Close ends nothing: the process ends after it.
func (standard) Close() error { return nil }

// Process is what every role can do.
type Process struct{}

// None is the argument or the answer of a call that has none.
type None struct{ Nothing bool }

// Collect frees what is not used and gives it back to the system.
func (*Process) Collect(None, *None) error {
	debug.FreeOSMemory()
	return nil
}

// A process is a role, or a server, that runs.
type process struct {
	name string
	cmd  *exec.Cmd
	rpc  *rpc.Client // nil for a server
	done chan struct{}
	err  error // how it ended; set before done is closed
}

// role starts this program in a role. env is added to its environment.
func (s *stage) role(name string, env ...string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, roleArg, name)
	cmd.Env = append(os.Environ(), env...)
	if s.options.profile != "" {
		s.profiles++
		cmd.Env = append(cmd.Env, fmt.Sprintf("%s=%s", profileEnv, filepath.Join(s.options.profile, fmt.Sprintf("%s-%d.pprof", name, s.profiles))))
	}
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p, err := s.start(name, cmd)
	if err != nil {
		return nil, err
	}
	p.rpc = rpc.NewClient(pipes{out, in})
	return p, nil
}

// pipes are the two ends of a role's standard output and input.
type pipes struct {
	io.ReadCloser
	in io.WriteCloser
}

func (p pipes) Write(b []byte) (int, error) { return p.in.Write(b) }

// Close closes the role's standard input, which ends it.
func (p pipes) Close() error { return errors.Join(p.in.Close(), p.ReadCloser.Close()) }

// start starts a process that is ended with the stage.
func (s *stage) start(name string, cmd *exec.Cmd) (*process, error) {
	tie(cmd)
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	p := &process{name: name, cmd: cmd, done: make(chan struct{})}
	s.running = append(s.running, p)
	return p, nil
}

// wait notes how the process ends. It is called once all that it writes is read.
func (p *process) wait() {
	p.err = p.cmd.Wait()
	close(p.done)
}

// call calls a method of a role, and gives up when ctx ends.
func (p *process) call(ctx context.Context, method string, args, reply any) error {
	call := p.rpc.Go(method, args, reply, make(chan *rpc.Call, 1))
	select {
	case <-call.Done:
		if call.Error != nil {
			return fmt.Errorf("%s: %w", p.name, call.Error)
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ask calls a method of a role and returns its answer.
func ask[Reply any](ctx context.Context, p *process, method string, args any) (Reply, error) {
	var reply Reply
	err := p.call(ctx, "Role."+method, args, &reply)
	return reply, err
}

// tell calls a method of a role that has no answer.
func tell(ctx context.Context, p *process, method string, args any) error {
	return p.call(ctx, "Role."+method, args, &None{})
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// How long a server and a role may take to end by themselves. A role has nothing
// to lose.
const (
	serverGrace = 10 * time.Second
	roleGrace   = time.Second
)

// end ends the process and waits for it.
func (p *process) end() {
	grace := serverGrace
	if p.rpc != nil {
		grace = roleGrace
		p.rpc.Close()
		go p.wait()
	} else {
		p.cmd.Process.Signal(syscall.SIGTERM) // an error means that it has ended
	}
	select {
	case <-p.done:
	case <-time.After(grace):
		p.cmd.Process.Kill()
		<-p.done
	}
}
