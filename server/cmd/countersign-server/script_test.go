package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/countersignd/countersign/server/apns/apnstest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){program: main})
}

// TestScripts plays the scripts in testdata, in which
//
//	start [ARGS]    runs serve and waits until it is ready; then $ADDRESS is
//	                where it listens, and what it printed is in the file out
//	stop-server     stops it with SIGTERM, which must end it with exit code 0;
//	                then its log is in the file log
//	kill-server     ends it with SIGKILL
//	code N ARGS     runs countersign-server, which must exit with code N
//	mode FILE MODE  compares the permissions of a file
//	size FILE N     compares the size of a file
//
// They must not be called stop and kill: package testscript has commands of these
// names, which win, and its stop ends the script there and then, as passed.
//
// $APNS is an APNs, apns.p8 the key it knows, and $SSL_CERT_FILE what its certificate
// is checked with.
func TestScripts(t *testing.T) {
	scripts, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("there are no scripts: %v", err)
	}
	for _, name := range scripts {
		script, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if wrong := notOurs.Find(script); wrong != nil {
			t.Errorf("%s has the command %s, which is not the one that is meant", name, wrong)
		}
	}
	push := apnstest.Start(t)
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			// Short, since a socket's path must be.
			dir, err := os.MkdirTemp("", "csd")
			if err != nil {
				return err
			}
			env.Defer(func() { os.RemoveAll(dir) })
			env.Setenv("DIR", filepath.Join(dir, "data"))
			env.Setenv("COUNTERSIGN_DATA_DIR", filepath.Join(dir, "data"))
			env.Setenv("TZ", "UTC")
			env.Setenv("GORACE", noPause)
			env.Values["server"] = &process{}
			env.Setenv("APNS", push.URL)
			env.Setenv("SSL_CERT_FILE", filepath.Join(dir, "roots.pem"))
			return errors.Join(
				os.WriteFile(env.Getenv("SSL_CERT_FILE"), push.RootsPEM(), 0o600),
				os.WriteFile(filepath.Join(env.WorkDir, "apns.p8"), push.KeyPEM(), 0o600),
			)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"start":       start,
			"stop-server": func(ts *testscript.TestScript, _ bool, _ []string) { ts.Check(end(ts, syscall.SIGTERM)) },
			"kill-server": func(ts *testscript.TestScript, _ bool, _ []string) {
				if end(ts, syscall.SIGKILL) == nil {
					ts.Fatalf("the server was killed, but exited with 0")
				}
			},
			"code": code,
			"mode": mode,
			"size": size,
		},
	})
}

// notOurs matches commands of package testscript in the place of ours.
var notOurs = regexp.MustCompile(`(?m)^(stop|kill)( .*)?$`)

// noPause keeps a process that is built with the race detector from sleeping a
// second before it exits.
const noPause = "atexit_sleep_ms=0"

// A process is the server of a script.
type process struct {
	cmd *exec.Cmd
	log bytes.Buffer
}

var readyLine = regexp.MustCompile(`^countersign-server: ready, listening on (\S+)$`)

func start(ts *testscript.TestScript, _ bool, args []string) {
	p := ts.Value("server").(*process)
	p.log.Reset()
	p.cmd = exec.Command(program, append([]string{"serve", "--listen", "127.0.0.1:0"}, args...)...)
	p.cmd.Env = append(os.Environ(), "COUNTERSIGN_DATA_DIR="+ts.Getenv("DIR"), "GORACE="+noPause, "SSL_CERT_FILE="+ts.Getenv("SSL_CERT_FILE"))
	p.cmd.Dir = ts.Getenv("WORK")
	p.cmd.Stderr = &p.log
	out, err := p.cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(p.cmd.Start())
	cmd := p.cmd
	ts.Defer(func() {
		if cmd.ProcessState == nil {
			cmd.Process.Kill()
			cmd.Wait()
		}
	})
	var said bytes.Buffer
	for lines := bufio.NewScanner(out); lines.Scan(); {
		fmt.Fprintln(&said, lines.Text())
		if m := readyLine.FindStringSubmatch(lines.Text()); m != nil {
			ts.Setenv("ADDRESS", m[1])
			ts.Check(os.WriteFile(ts.MkAbs("out"), said.Bytes(), 0o600))
			return
		}
	}
	p.cmd.Wait()
	ts.Fatalf("the server ended before it was ready: %s", &p.log)
}

func end(ts *testscript.TestScript, signal os.Signal) error {
	p := ts.Value("server").(*process)
	ts.Check(p.cmd.Process.Signal(signal))
	err := p.cmd.Wait()
	ts.Check(os.WriteFile(ts.MkAbs("log"), p.log.Bytes(), 0o600))
	return err
}

func code(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(program, args[1:]...)
	got := 0
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("%s exited with %d, want %d", program, got, want)
	}
}

func mode(ts *testscript.TestScript, _ bool, args []string) {
	info, err := os.Lstat(ts.MkAbs(args[0]))
	ts.Check(err)
	if got := fmt.Sprintf("%04o", info.Mode()&fs.ModePerm); got != args[1] {
		ts.Fatalf("%s has mode %s, want %s", args[0], got, args[1])
	}
}

func size(ts *testscript.TestScript, _ bool, args []string) {
	info, err := os.Lstat(ts.MkAbs(args[0]))
	ts.Check(err)
	if got := strconv.FormatInt(info.Size(), 10); got != args[1] {
		ts.Fatalf("%s has %s bytes, want %s", args[0], got, args[1])
	}
}
