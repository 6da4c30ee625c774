package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// An instance is the one process for a directory. Others hand over what they were
// started with and end.
type instance struct {
	// opened has what others were started with: an invitation, or "" to be
	// brought to the front.
	opened chan string

	lock     *os.File
	listener net.Listener
	serving  sync.WaitGroup
}

const (
	lockName   = "desktop.lock"
	maxLine    = 1 << 10         // more than an invitation has
	handOver   = 5 * time.Second // to hand over and be answered
	handedOver = "ok\n"
)

// enter makes this process the one for dir. If there is one already, it is told
// what this one was started with, and enter returns nil.
func enter(dir, link string) (*instance, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	held, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if got, err := lock(held); !got {
		held.Close()
		if err != nil {
			return nil, err
		}
		return nil, tell(dir, link)
	}
	path := socketPath(dir)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, errors.Join(err, held.Close())
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, errors.Join(err, held.Close())
	}
	in := &instance{opened: make(chan string), lock: held, listener: listener}
	in.serving.Go(in.serve)
	return in, nil
}

// socketPath is in the session's own directory, because a path to a socket must be
// short.
func socketPath(dir string) string {
	if runtime := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(runtime) {
		sum := sha256.Sum256([]byte(dir))
		return filepath.Join(runtime, "countersign-desktop-"+hex.EncodeToString(sum[:8])+".sock")
	}
	return filepath.Join(dir, "desktop.sock")
}

// tell hands over to the process that runs.
func tell(dir, link string) error {
	if len(link) >= maxLine || strings.ContainsAny(link, "\r\n") {
		return errors.New("what it was started with is no invitation")
	}
	deadline := time.Now().Add(handOver)
	for {
		err := tellOnce(dir, link, deadline)
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(50 * time.Millisecond) // it has the lock and does not listen yet
	}
}

func tellOnce(dir, link string, deadline time.Time) error {
	conn, err := net.Dial("unix", socketPath(dir))
	if err != nil {
		return fmt.Errorf("it runs already, and cannot be reached: %w", err)
	}
	defer conn.Close()
	conn.SetDeadline(deadline)
	if _, err := io.WriteString(conn, link+"\n"); err != nil {
		return err
	}
	answer, err := io.ReadAll(io.LimitReader(conn, int64(len(handedOver))))
	if err == nil && string(answer) != handedOver {
		err = errors.New("it runs already, and gave no answer")
	}
	return err
}

func (in *instance) serve() {
	for {
		conn, err := in.listener.Accept()
		if err != nil {
			close(in.opened)
			return
		}
		in.take(conn)
	}
}

// take takes what one process was started with. They come one after the other.
func (in *instance) take(conn net.Conn) {
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(handOver))
	line, err := bufio.NewReader(io.LimitReader(conn, maxLine)).ReadString('\n')
	if err != nil {
		return
	}
	in.opened <- strings.TrimSuffix(line, "\n")
	io.WriteString(conn, handedOver)
}

// leave lets another process be the one. opened must be read until it is closed.
func (in *instance) leave() {
	in.listener.Close() // removes the socket
	go func() {
		for range in.opened {
		}
	}()
	in.serving.Wait()
	in.lock.Close()
}
