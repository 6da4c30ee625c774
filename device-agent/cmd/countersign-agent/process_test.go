package main

import (
	"bufio"
	"context"
	"io"
	"strings"
	"sync"
	"testing"
	"time"
)

// A process is one run of the program, without the process.
type process struct {
	t    *testing.T
	in   *io.PipeWriter
	stop context.CancelFunc
	done chan struct{}
	code int

	mu      sync.Mutex
	out     strings.Builder // standard output and error
	written chan struct{}
}

func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.out.Write(b)
	select {
	case p.written <- struct{}{}:
	default:
	}
	return len(b), nil
}

func (p *process) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

// begin starts the program; env is NAME=VALUE.
func begin(t *testing.T, args []string, env ...string) *process {
	t.Helper()
	in, out := io.Pipe()
	ctx, stop := context.WithCancel(t.Context())
	p := &process{t: t, in: out, stop: stop, done: make(chan struct{}), written: make(chan struct{}, 1)}
	getenv := func(name string) string {
		for _, e := range env {
			if value, ok := strings.CutPrefix(e, name+"="); ok {
				return value
			}
		}
		return ""
	}
	go func() {
		defer close(p.done)
		p.code = run(ctx, args, &environment{in: in, out: p, err: p, getenv: getenv, lines: bufio.NewReaderSize(in, maxLine)})
	}()
	t.Cleanup(func() { stop(); out.Close(); <-p.done })
	return p
}

// waitFor waits until the program has printed want, and returns all that it has printed.
func (p *process) waitFor(want string) string {
	p.t.Helper()
	return p.waitForCount(want, 1)
}

// waitForCount waits until the program has printed want n times.
func (p *process) waitForCount(want string, n int) string {
	p.t.Helper()
	timeout := time.After(time.Minute)
	for {
		if out := p.output(); strings.Count(out, want) >= n {
			return out
		}
		select {
		case <-p.written:
		case <-timeout:
			p.t.Fatalf("never printed %q, but:\n%s", want, p.output())
		}
	}
}

func (p *process) line(s string) {
	p.t.Helper()
	if _, err := io.WriteString(p.in, s+"\n"); err != nil {
		p.t.Fatal(err)
	}
}

// exits waits for the end, and returns what was printed.
func (p *process) exits(want int) string {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(time.Minute):
		p.t.Fatalf("does not end; printed:\n%s", p.output())
	}
	if p.code != want {
		p.t.Fatalf("exit code %d, want %d; printed:\n%s", p.code, want, p.output())
	}
	return p.output()
}

// call runs the program to its end.
func call(t *testing.T, want int, args ...string) string {
	t.Helper()
	p := begin(t, args)
	p.in.Close()
	return p.exits(want)
}
