package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"
)

// patience is how long one step may take on a slow machine.
const patience = 20 * time.Second

// A process is one of the two programs, running. It has a process group of its
// own: Ctrl-C in the terminal ends the demo, and the demo ends its processes.
type process struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	done  chan struct{} // closed when it has ended and all it wrote was read

	mu    sync.Mutex
	lines []string      // what it wrote and await has not returned yet
	last  string        // what it wrote last, to say why it ended
	more  chan struct{} // closed, and made anew, when a line comes
}

// start starts a program in dir. What it writes, standard error too, is for await.
func start(dir, program string, args ...string) (*process, error) {
	p := &process{cmd: exec.Command(program, args...), more: make(chan struct{}), done: make(chan struct{})}
	p.cmd.Dir = dir
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var err error
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	p.cmd.Stdout, p.cmd.Stderr = w, w
	err = p.cmd.Start()
	w.Close()
	if err != nil {
		r.Close()
		return nil, err
	}
	go p.listen(r)
	return p, nil
}

func (p *process) listen(r io.ReadCloser) {
	defer close(p.done)
	defer p.cmd.Wait() // await tells of an end that comes too early
	defer r.Close()
	for scan := bufio.NewScanner(r); scan.Scan(); {
		p.mu.Lock()
		p.lines = append(p.lines, scan.Text())
		p.last = scan.Text()
		close(p.more)
		p.more = make(chan struct{})
		p.mu.Unlock()
	}
}

// await waits for a line that matches. It returns the lines up to it, and its
// submatches.
func (p *process) await(ctx context.Context, pattern *regexp.Regexp) (lines, match []string, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errors.New("it takes too long"))
	defer cancel()
	for ended := false; ; {
		p.mu.Lock()
		for len(p.lines) > 0 {
			line := p.lines[0]
			p.lines = p.lines[1:]
			lines = append(lines, line)
			if match := pattern.FindStringSubmatch(line); match != nil {
				p.mu.Unlock()
				return lines, match, nil
			}
		}
		more, last := p.more, p.last
		p.mu.Unlock()
		if ended {
			return lines, nil, fmt.Errorf("%s ended: %s", p.name(), last)
		}
		select {
		case <-more:
		case <-p.done:
			ended = true // after one more look at what it wrote
		case <-ctx.Done():
			return lines, nil, fmt.Errorf("waiting for %s to say %q: %w", p.name(), pattern, context.Cause(ctx))
		}
	}
}

func (p *process) name() string { return filepath.Base(p.cmd.Path) }

// stop asks the process to end, and kills it if it does not.
func (p *process) stop() {
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(5 * time.Second):
		p.cmd.Process.Kill()
		<-p.done
	}
}

// output runs a program to its end and returns what it wrote to standard output.
func output(ctx context.Context, dir, program string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = dir
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", filepath.Base(program), strings.Join(args, " "), err, stderr.String())
	}
	return string(out), nil
}
