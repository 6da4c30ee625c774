package stories

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/countersignd/countersign/internal/audit"
	"github.com/countersignd/countersign/internal/countersigntest"
	"github.com/countersignd/countersign/server/boltstore"
)

// patience is how long a script waits for what must happen soon. It is long,
// because machines that run tests are slow; nothing measures it.
const patience = time.Minute

var bin string // where the two binaries are

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (int, error) {
	dir, err := os.MkdirTemp("", "countersign-stories")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	build := exec.Command("go", "build", "-o", dir+string(filepath.Separator),
		"github.com/countersignd/countersign/server/cmd/countersign-server",
		"github.com/countersignd/countersign/device-agent/cmd/countersign-agent")
	if out, err := build.CombinedOutput(); err != nil {
		return 1, fmt.Errorf("building the binaries: %w\n%s", err, out)
	}
	bin = dir
	return m.Run(), nil
}

func TestStories(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			e.Setenv("PATH", bin+string(filepath.ListSeparator)+e.Getenv("PATH"))
			e.Setenv("HOME", e.WorkDir)
			e.Setenv("COUNTERSIGN_DATA_DIR", filepath.Join(e.WorkDir, "data"))
			e.Values[stageKey{}] = newStage(e)
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"start":    only("start NAME PROGRAM [ARGUMENT …]", 2, -1, (*stage).start),
			"await":    only("await NAME REGEXP", 2, 2, (*stage).await),
			"never":    only("never NAME REGEXP", 2, 2, (*stage).never),
			"type":     only("type NAME [WORD …]", 1, -1, (*stage).typeLine),
			"ended":    only("ended NAME CODE", 2, 2, (*stage).ended),
			"signal":   only("signal NAME kill|term|stop|cont", 2, 2, (*stage).signal),
			"capture":  only("capture VAR NAME REGEXP", 3, 3, (*stage).capture),
			"forge":    only("forge OLD NEW", 2, 2, (*stage).forge),
			"remember": only("remember VAR", 1, 1, (*stage).remember),
			"within":   only("within VAR MILLISECONDS", 2, 2, (*stage).within),

			"web-push":      only("web-push", 0, 0, (*stage).webPush),
			"subscribe":     only("subscribe NAME KEY", 2, 2, (*stage).subscribe),
			"pushed":        only("pushed NAME asked|over", 2, 2, (*stage).pushed),
			"requests":      only("requests NUMBER", 1, 1, (*stage).requests),
			"expire":        only("expire NAME", 1, 1, (*stage).expire),
			"answer":        only("answer STATUS|nothing|itself", 1, 1, (*stage).answer),
			"apns":          only("apns", 0, 0, (*stage).startAPNs),
			"register-apns": only("register-apns NAME DIR", 2, 2, (*stage).registerAPNs),
			"apns-pushed":   only("apns-pushed NAME alert|background|REASON", 2, 2, (*stage).apnsPushed),
			"lose":          only("lose NAME SECONDS-AGO", 2, 2, (*stage).lose),
			"apns-answer":   only("apns-answer STATUS REASON", 2, 2, (*stage).apnsAnswer),
		},
	})
}

func only(usage string, least, most int, f func(*stage, *testscript.TestScript, []string)) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if neg || len(args) < least || most >= 0 && len(args) > most {
			ts.Fatalf("usage: %s", usage)
		}
		f(ts.Value(stageKey{}).(*stage), ts, args)
	}
}

type stageKey struct{}

// stage is where one script's programs run.
type stage struct {
	env   *testscript.Env
	actor map[string]*actor
	pushes
}

func newStage(e *testscript.Env) *stage {
	s := &stage{env: e, actor: map[string]*actor{}}
	e.Defer(func() {
		for _, a := range s.actor {
			a.cmd.Process.Kill()
			<-a.done
		}
	})
	return s
}

// actor is a program in the background.
type actor struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	out   *output
	done  chan struct{} // closed when it has ended
	err   error         // of Wait, once done
	read  int           // how much of the output was awaited
}

// output is what a program has printed.
type output struct {
	mu    sync.Mutex
	bytes bytes.Buffer
	more  chan struct{} // closed, and replaced, when there is more
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	close(o.more)
	o.more = make(chan struct{})
	return o.bytes.Write(b)
}

func (o *output) text() (string, <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.bytes.String(), o.more
}

func (s *stage) start(ts *testscript.TestScript, args []string) {
	program, err := exec.LookPath(filepath.Join(bin, args[1]))
	if err != nil {
		program = args[1]
	}
	cmd := exec.Command(program, args[2:]...)
	cmd.Dir = ts.MkAbs(".")
	cmd.Env = environment(ts)
	a := &actor{cmd: cmd, out: &output{more: make(chan struct{})}, done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = a.out, a.out
	a.stdin, err = cmd.StdinPipe()
	ts.Check(err)
	if old := s.actor[args[0]]; old != nil {
		select {
		case <-old.done:
		default:
			ts.Fatalf("%s is still running", args[0])
		}
	}
	ts.Check(cmd.Start())
	s.actor[args[0]] = a
	go func() {
		a.err = cmd.Wait()
		close(a.done)
	}()
}

// environment returns the script's variables. testscript keeps them to itself,
// but shows each.
func environment(ts *testscript.TestScript) []string {
	var env []string
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "WORK", "COUNTERSIGN_DATA_DIR", "COUNTERSIGN_AGENT_DIR", "COUNTERSIGN_PASSPHRASE", "SSL_CERT_FILE"} {
		if v := ts.Getenv(name); v != "" {
			env = append(env, name+"="+v)
		}
	}
	return env
}

func (s *stage) find(ts *testscript.TestScript, name string) *actor {
	a := s.actor[name]
	if a == nil {
		ts.Fatalf("there is no %s", name)
	}
	return a
}

func compile(ts *testscript.TestScript, expr string) *regexp.Regexp {
	re, err := regexp.Compile("(?m)" + expr)
	ts.Check(err)
	return re
}

// match waits until the output from an offset on matches, and returns the
// match's positions in the whole output.
func (a *actor) match(re *regexp.Regexp, from int) (string, []int, error) {
	deadline := time.After(patience)
	for {
		text, more := a.out.text()
		if m := re.FindStringSubmatchIndex(text[from:]); m != nil {
			for i := range m {
				if m[i] >= 0 {
					m[i] += from
				}
			}
			return text, m, nil
		}
		select {
		case <-more:
		case <-a.done:
			if again, _ := a.out.text(); again == text {
				return text, nil, errors.New("it has ended")
			}
		case <-deadline:
			return text, nil, fmt.Errorf("not within %v", patience)
		}
	}
}

func (s *stage) await(ts *testscript.TestScript, args []string) {
	a := s.find(ts, args[0])
	text, m, err := a.match(compile(ts, args[1]), a.read)
	if err != nil {
		s.fatal(ts, "await %s %q: %v", args[0], args[1], err)
	}
	ts.Logf("%s: %s", args[0], text[m[0]:m[1]])
	a.read = m[1]
}

func (s *stage) never(ts *testscript.TestScript, args []string) {
	text, _ := s.find(ts, args[0]).out.text()
	if m := compile(ts, args[1]).FindString(text); m != "" {
		s.fatal(ts, "%s printed %q", args[0], m)
	}
}

func (s *stage) typeLine(ts *testscript.TestScript, args []string) {
	_, err := io.WriteString(s.find(ts, args[0]).stdin, strings.Join(args[1:], " ")+"\n")
	if err != nil {
		s.fatal(ts, "typing to %s: %v", args[0], err)
	}
}

func (s *stage) ended(ts *testscript.TestScript, args []string) {
	want, err := strconv.Atoi(args[1])
	ts.Check(err)
	a := s.find(ts, args[0])
	select {
	case <-a.done:
	case <-time.After(patience):
		s.fatal(ts, "%s has not ended within %v", args[0], patience)
	}
	if got := a.cmd.ProcessState.ExitCode(); got != want {
		s.fatal(ts, "%s ended with code %d, want %d", args[0], got, want)
	}
}

func (s *stage) signal(ts *testscript.TestScript, args []string) {
	sig, ok := map[string]syscall.Signal{"kill": syscall.SIGKILL, "term": syscall.SIGTERM, "stop": syscall.SIGSTOP, "cont": syscall.SIGCONT}[args[1]]
	if !ok {
		ts.Fatalf("there is no signal %s", args[1])
	}
	ts.Check(s.find(ts, args[0]).cmd.Process.Signal(sig))
}

func (s *stage) capture(ts *testscript.TestScript, args []string) {
	re := compile(ts, args[2])
	var text string
	var m []int
	if args[1] == "stdout" {
		text = ts.ReadFile("stdout")
		m = re.FindStringSubmatchIndex(text)
	} else {
		a := s.find(ts, args[1])
		var err error
		if text, m, err = a.match(re, a.read); err != nil {
			s.fatal(ts, "capture from %s: %v", args[1], err)
		}
		a.read = m[1]
	}
	if len(m) < 4 {
		ts.Fatalf("%q does not match, or has no group, in:\n%s", args[2], text)
	}
	ts.Setenv(args[0], text[m[2]:m[3]])
}

// forge makes the record in the data directory anew, with another address in it
// and all hashes right. No server may run.
func (s *stage) forge(ts *testscript.TestScript, args []string) {
	store, err := boltstore.Open(filepath.Join(ts.Getenv("COUNTERSIGN_DATA_DIR"), "countersign.db"), boltstore.Options{})
	ts.Check(err)
	changed := false
	err = countersigntest.Forge(context.Background(), store, func(records []audit.Record) []audit.Record {
		for i := range records {
			if records[i].Address == args[0] {
				records[i].Address, changed = args[1], true
			}
		}
		return records
	})
	ts.Check(errors.Join(err, store.Close()))
	if !changed {
		ts.Fatalf("nothing came from %s", args[0])
	}
}

func (s *stage) remember(ts *testscript.TestScript, args []string) {
	ts.Setenv(args[0], strconv.FormatInt(time.Now().UnixMilli(), 10))
}

func (s *stage) within(ts *testscript.TestScript, args []string) {
	since, err := strconv.ParseInt(ts.Getenv(args[0]), 10, 64)
	ts.Check(err)
	most, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	if took := time.Now().UnixMilli() - since; took > most {
		s.fatal(ts, "%d ms have passed, want at most %d", took, most)
	}
}

// fatal ends the script and shows what every program has printed.
func (s *stage) fatal(ts *testscript.TestScript, format string, args ...any) {
	for name, a := range s.actor {
		text, _ := a.out.text()
		ts.Logf("--- output of %s:\n%s", name, text)
	}
	ts.Fatalf(format, args...)
}
