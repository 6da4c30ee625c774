package main

import (
	"bufio"
	"bytes"
	"encoding/json"
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
)

// patience is how long the tests wait for what must happen soon. It is long, because
// machines that run tests are slow; nothing measures it.
const patience = time.Minute

var bin string // where the three programs are

func TestMain(m *testing.M) {
	time.Local = time.UTC // sheets say when things were
	dir, err := os.MkdirTemp("", "countersign-desktop")
	if err == nil {
		err = buildAll(dir)
	}
	code := 1
	if err == nil {
		bin = dir
		code = m.Run()
	} else {
		fmt.Fprintln(os.Stderr, err)
	}
	os.RemoveAll(dir)
	os.Exit(code)
}

func buildAll(dir string) error {
	for where, packages := range map[string][]string{
		".":           {"."},
		"../../../..": {"./server/cmd/countersign-server", "./device-agent/cmd/countersign-agent"},
	} {
		build := exec.Command("go", append([]string{"build", "-o", dir + string(filepath.Separator)}, packages...)...)
		build.Dir = where
		if out, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("building %v: %w\n%s", packages, err, out)
		}
	}
	return nil
}

// An actor is a program in the background, with what it has printed.
type actor struct {
	t     *testing.T
	name  string
	cmd   *exec.Cmd
	stdin io.WriteCloser
	mu    sync.Mutex
	out   bytes.Buffer
	more  chan struct{} // has a slot, filled when there is more
	done  chan struct{} // closed when it has ended
}

func (a *actor) Write(b []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	select {
	case a.more <- struct{}{}:
	default:
	}
	return a.out.Write(b)
}

func (a *actor) text() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.out.String()
}

// await waits until the output matches, and returns what the group matched.
func (a *actor) await(expr string) string {
	a.t.Helper()
	re := regexp.MustCompile(expr)
	deadline := time.After(patience)
	for {
		if m := re.FindStringSubmatch(a.text()); m != nil {
			return m[len(m)-1]
		}
		select {
		case <-a.more:
		case <-a.done:
			if m := re.FindStringSubmatch(a.text()); m != nil {
				return m[len(m)-1]
			}
			a.t.Fatalf("%s has ended and did not print %s:\n%s", a.name, expr, a.text())
		case <-deadline:
			a.t.Fatalf("%s did not print %s:\n%s", a.name, expr, a.text())
		}
	}
}

// end ends the program as a session does. It may have ended before.
func (a *actor) end() {
	a.t.Helper()
	select {
	case <-a.done:
		return
	default:
	}
	a.cmd.Process.Signal(syscall.SIGTERM)
	a.ended()
	if a.name == "countersign-desktop" && !a.cmd.ProcessState.Success() {
		a.t.Errorf("%s ended with %v", a.name, a.cmd.ProcessState)
	}
}

// ended waits until the program has ended.
func (a *actor) ended() {
	a.t.Helper()
	select {
	case <-a.done:
	case <-time.After(patience):
		a.cmd.Process.Signal(syscall.SIGQUIT) // a Go program prints what it waits for
		select {
		case <-a.done:
		case <-time.After(5 * time.Second):
			a.cmd.Process.Kill()
			<-a.done
		}
		a.t.Errorf("%s did not end:\n%s", a.name, a.text())
	}
}

// A room is a screen of its own with a server, an account and an application.
type room struct {
	t      *testing.T
	dir    string // of the desktop's device
	data   string
	env    []string
	credit string // the application's credentials
	server *actor
	screen *os.Process
}

func newRoom(t *testing.T) *room {
	// Not in t.TempDir, whose names can be too long for a socket.
	dir, err := os.MkdirTemp("", "csd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	r := &room{t: t, dir: filepath.Join(dir, "device"), data: filepath.Join(dir, "data"), credit: filepath.Join(dir, "app.json")}
	r.env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "LANG=C", "FYNE_THEME=light", "LIBGL_ALWAYS_SOFTWARE=1",
		"COUNTERSIGN_DATA_DIR=" + r.data, "COUNTERSIGN_AGENT_DIR=" + r.dir,
	}
	r.env = append(r.env, "DISPLAY=:"+r.xvfb())
	r.server = r.start("countersign-server", "serve", "--listen", "127.0.0.1:0")
	r.server.await(`ready, listening on (\S+)`)
	r.run("countersign-server", "account", "add", "ada")
	app := r.run("countersign-server", "app", "add", "files", "--name", "Files", "--json")
	if err := os.WriteFile(r.credit, []byte(app), 0o600); err != nil {
		t.Fatal(err)
	}
	return r
}

// xvfb starts a screen and returns its number.
func (r *room) xvfb() string {
	r.t.Helper()
	number, theirs, err := os.Pipe()
	if err != nil {
		r.t.Fatal(err)
	}
	defer number.Close()
	// Without -noreset it begins anew, and is not there for a moment, whenever the last
	// program has left.
	cmd := exec.Command("Xvfb", "-displayfd", "3", "-screen", "0", "1280x1024x24", "-nolisten", "tcp", "-noreset", "-fbdir", filepath.Dir(r.dir))
	cmd.ExtraFiles = []*os.File{theirs}
	err = cmd.Start()
	theirs.Close()
	if err != nil {
		r.t.Fatal(err)
	}
	r.screen = cmd.Process
	r.t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		cmd.Wait()
	})
	line, err := bufio.NewReader(number).ReadString('\n')
	if err != nil {
		r.t.Fatalf("Xvfb said no number: %v", err)
	}
	return strings.TrimSpace(line)
}

func (r *room) command(name string, args ...string) *exec.Cmd {
	if _, err := os.Stat(filepath.Join(bin, name)); err == nil {
		name = filepath.Join(bin, name)
	}
	cmd := exec.Command(name, args...)
	cmd.Env = r.env
	return cmd
}

// run runs a program to its end and returns its output.
func (r *room) run(name string, args ...string) string {
	r.t.Helper()
	cmd := r.command(name, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		r.t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out, stderr.Bytes())
	}
	return string(out)
}

func (r *room) start(name string, args ...string) *actor {
	r.t.Helper()
	a := &actor{t: r.t, name: name, cmd: r.command(name, args...), more: make(chan struct{}, 1), done: make(chan struct{})}
	a.cmd.Stdout, a.cmd.Stderr = a, a
	var err error
	if a.stdin, err = a.cmd.StdinPipe(); err != nil {
		r.t.Fatal(err)
	}
	if err := a.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	go func() {
		a.cmd.Wait()
		close(a.done)
	}()
	r.t.Cleanup(func() {
		a.end()
		if r.t.Failed() {
			r.t.Logf("%s printed:\n%s", name, a.text())
		}
	})
	return a
}

// invite returns an invitation for ada.
func (r *room) invite() string {
	r.t.Helper()
	var made struct{ Link string }
	if err := json.Unmarshal([]byte(r.run("countersign-server", "invite", "create", "ada", "--json")), &made); err != nil || made.Link == "" {
		r.t.Fatalf("no invitation: %v", err)
	}
	return made.Link
}

// signIn has somebody sign in.
func (r *room) signIn() *actor {
	r.t.Helper()
	return r.start("countersign-agent", "sign-in", "ada", "--credentials", r.credit, "--place", "Lisbon, Portugal", "--device", "A new laptop")
}

// find returns the window with a title, or "" if none is on the screen.
func (r *room) find(title string) string {
	out, err := r.command("xdotool", "search", "--onlyvisible", "--name", "^"+title+"$").Output()
	if _, missing := err.(*exec.Error); missing {
		r.t.Fatal(err)
	}
	id, _, _ := strings.Cut(string(out), "\n")
	return id
}

// picture returns what is on the screen.
func (r *room) picture() []byte {
	r.t.Helper()
	b, err := os.ReadFile(filepath.Join(filepath.Dir(r.dir), "Xvfb_screen0"))
	if err != nil {
		r.t.Fatal(err)
	}
	return b
}

// until waits for something.
func (r *room) until(what string, fn func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(patience); !fn(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatalf("waited in vain: %s", what)
		}
	}
}

// await waits for a window.
func (r *room) await(title string) (id string) {
	r.t.Helper()
	r.until("the window "+title, func() bool { id = r.find(title); return id != "" })
	return id
}

// A spot is a place in a window, from its upper left corner.
type spot struct{ x, y int }

// click clicks into a window, as soon as it is called. When it returns, the click has
// been made: the screen has answered what was asked after it.
func (r *room) click(id string, at spot) {
	r.t.Helper()
	r.run("xdotool", "mousemove", "--window", id, strconv.Itoa(at.x), strconv.Itoa(at.y), "click", "1", "getmouselocation")
}

// key presses a key in the window that has the keyboard.
func (r *room) key(names ...string) {
	r.t.Helper()
	r.run("xdotool", append([]string{"key", "--delay", "100"}, names...)...)
}
