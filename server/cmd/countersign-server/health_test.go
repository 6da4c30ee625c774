package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/countersignd/countersign/server"
	"github.com/countersignd/countersign/server/boltstore"
)

// patience is how long a test waits for what must happen soon.
const patience = time.Minute

// From the first moment to the last: a server that is starting, that serves, whose
// disk fills up, whose store is silent, and that stops.
func TestReadiness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		room := &disk{}
		h := newHealth(room)
		want := func(what string, ready bool, words string) {
			t.Helper()
			if got := h.readiness(); got.Ready != ready || got.Words != words {
				t.Errorf("%s: %v, %q, want %v, %q", what, got.Ready, got.Words, ready, words)
			}
		}
		want("at first", false, "not ready: starting")
		h.begin()
		want("when it serves", true, "ready")
		for range 100 {
			time.Sleep(time.Second)
			h.pass(1<<20, 7)
		}
		want("after a while", true, "ready")
		if size, records := h.storeSize(); size != 1<<20 || records != 7 {
			t.Errorf("storeSize = %d, %d", size, records)
		}
		room.known = server.Disk{Low: true}
		want("on a full disk", true, "ready, but the disk is nearly full: nothing new can be begun")
		room.known = server.Disk{}
		want("when there is room", true, "ready")
		time.Sleep(maxSilence + time.Second)
		want("when the store is silent", false, "not ready: the store has not answered for 11 s")
		h.pass(1<<20, 7)
		want("when it has answered", true, "ready")
		h.end(storeFailed)
		want("when the store has failed", false, "not ready: the store failed")
		h.end(stopping)
		want("when it stops for that", false, "not ready: the store failed")

		h = newHealth(room)
		h.begin()
		h.end(stopping)
		h.end(storeFailed)
		want("when it stops", false, "not ready: stopping")
	})
}

// A store that answers nothing any more makes housekeeping no sign of life.
func TestAFailedStoreIsNoSignOfLife(t *testing.T) {
	d := dataDir(t.TempDir())
	s := settings{DataDir: string(d)}.over(builtIn())
	log, quiet := slog.New(slog.DiscardHandler), func(string) {}
	if err := os.Chmod(string(d), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := d.prepare(quiet); err != nil {
		t.Fatal(err)
	}
	all, err := loadSecrets(d, s, quiet)
	if err != nil {
		t.Fatal(err)
	}
	store, err := boltstore.Open(d.database(), boltstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	room := newDisk(d, s, log)
	o, err := newObserver(s, room, log)
	if err != nil {
		t.Fatal(err)
	}
	broker, err := openBroker(t.Context(), s, d, all, store, room, o.metrics, log, quiet)
	if err != nil {
		t.Fatal(err)
	}
	h := &housekeeping{broker: broker, store: store, disk: room, health: o.health, log: log}
	h.moved = time.Now()
	if err := h.once(t.Context()); err != nil {
		t.Fatal(err)
	}
	passed := o.health.passed
	if size, records := o.health.storeSize(); passed.IsZero() || size == 0 || records == 0 {
		t.Errorf("after housekeeping the store has %d bytes and %d records, at %v", size, records, passed)
	}
	store.Close()
	if err := h.once(t.Context()); err == nil || o.health.passed != passed {
		t.Errorf("housekeeping on a closed store = %v, and it is a sign of life: %v", err, o.health.passed != passed)
	}
}

// A watched is a server that runs as a process of its own, with what it says to the
// service manager and by HTTP.
type watched struct {
	t      *testing.T
	cmd    *exec.Cmd
	dir    string
	notify *net.UnixConn
	url    string
	ended  chan error
}

// watch starts a server that tells the socket of this name how it is, in an
// environment with more.
func watch(t *testing.T, socket string, args []string, more ...string) *watched {
	t.Helper()
	dir, err := os.MkdirTemp("", "csw") // short, since a socket's path must be
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if socket == "" {
		socket = filepath.Join(dir, "notify")
	}
	w := &watched{t: t, dir: filepath.Join(dir, "data"), ended: make(chan error, 1)}
	if w.notify, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.notify.Close() })
	w.cmd = exec.Command(program, append([]string{"--data-dir", w.dir, "serve", "--listen", "127.0.0.1:0", "--observe-listen", "127.0.0.1:0"}, args...)...)
	w.cmd.Env = append(append(os.Environ(), "NOTIFY_SOCKET="+socket, "GORACE="+noPause), more...)
	log, err := w.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		if m := servingMetrics.FindStringSubmatch(lines.Text()); m != nil {
			w.url = "http://" + m[1]
			break
		}
	}
	go func() {
		io.Copy(io.Discard, log)
		w.ended <- w.cmd.Wait()
	}()
	t.Cleanup(func() { w.cmd.Process.Kill() })
	if w.url == "" {
		t.Fatal("the server does not say where it serves metrics")
	}
	return w
}

var servingMetrics = regexp.MustCompile(`msg="serving metrics" address=(\S+)`)

// wantTold waits for the service manager to be told something.
func (w *watched) wantTold(want string) {
	w.t.Helper()
	w.notify.SetReadDeadline(time.Now().Add(patience))
	buffer := make([]byte, 4096)
	n, err := w.notify.Read(buffer)
	if got := string(buffer[:n]); err != nil || got != want {
		w.t.Fatalf("the service manager is told %q, %v, want %q", got, err, want)
	}
}

func (w *watched) get(path string) (status int, body string) {
	w.t.Helper()
	resp, err := http.Get(w.url + path)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	all, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return resp.StatusCode, string(all)
}

// beginCall begins a call of an administrator whose message never comes, so that
// the server has something to wait for when it stops.
func (w *watched) beginCall() net.Conn {
	w.t.Helper()
	conn, err := net.Dial("unix", dataDir(w.dir).socket())
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { conn.Close() })
	var headers bytes.Buffer
	encoder := hpack.NewEncoder(&headers)
	for _, h := range [][2]string{
		{":method", "POST"}, {":scheme", "http"}, {":path", "/countersign.v1.AdminService/GetServer"}, {":authority", "x"},
		{"content-type", "application/grpc"}, {"te", "trailers"},
	} {
		encoder.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]})
	}
	framer := http2.NewFramer(conn, conn)
	_, err = io.WriteString(conn, http2.ClientPreface)
	err = errors.Join(err, framer.WriteSettings(), framer.WriteHeaders(http2.HeadersFrameParam{
		StreamID: 1, BlockFragment: headers.Bytes(), EndHeaders: true,
	}), framer.WritePing(false, [8]byte{1}))
	for answered := false; err == nil && !answered; {
		var f http2.Frame
		f, err = framer.ReadFrame()
		ping, ok := f.(*http2.PingFrame)
		answered = ok && ping.IsAck() // and what came before it was read
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return conn
}

// The whole life of a server, as its service manager and a load balancer see it.
func TestServeIsWatched(t *testing.T) {
	w := watch(t, "", nil)
	if status, body := w.get("/livez"); status != 200 || body != "alive\n" {
		t.Errorf("GET /livez = %d, %q", status, body)
	}
	if status, body := w.get("/readyz"); status != 503 && body != "ready\n" {
		t.Errorf("GET /readyz at the start = %d, %q", status, body)
	}
	w.wantTold("READY=1")
	if status, body := w.get("/readyz"); status != 200 || body != "ready\n" {
		t.Errorf("GET /readyz after READY=1 = %d, %q, want 200", status, body)
	}
	add := exec.Command(program, "--data-dir", w.dir, "account", "add", "ada")
	if out, err := add.CombinedOutput(); err != nil {
		t.Fatalf("account add: %v\n%s", err, out)
	}
	deadline := time.Now().Add(patience)
	for _, want := range []string{
		`countersign_records_total{event="account.added"} 1`,
		`countersign_calls_total{code="OK",method="AdminService/AddAccount"} 1`,
		`countersign_record_entries 2`,
	} {
		for {
			_, body := w.get("/metrics")
			if strings.Contains(body, "\n"+want+"\n") {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("the metrics have no %s:\n%s", want, body)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	for _, want := range []string{"countersign_store_commit_duration_seconds_count", "countersign_disk_free_bytes", "countersign_store_size_bytes", "go_goroutines", "process_open_fds"} {
		if _, body := w.get("/metrics"); !strings.Contains(body, "\n"+want+" ") {
			t.Errorf("the metrics have no %s", want)
		}
	}
	hang := w.beginCall()
	if err := w.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	w.wantTold("STOPPING=1")
	if status, body := w.get("/readyz"); status != 503 || body != "not ready: stopping\n" {
		t.Errorf("GET /readyz while it stops = %d, %q, want 503", status, body)
	}
	hang.Close()
	if err := <-w.ended; err != nil {
		t.Errorf("the server ended with %v, want nil", err)
	}
}

// In the abstract namespace, on a full disk, with a watchdog.
func TestServeKeepsTheWatchdogQuiet(t *testing.T) {
	w := watch(t, fmt.Sprintf("@countersign-test-%d", os.Getpid()), []string{"--min-free", "1000000000000"}, "WATCHDOG_USEC=120000000")
	w.wantTold("READY=1")
	for range 3 {
		w.wantTold("WATCHDOG=1")
	}
	if status, body := w.get("/readyz"); status != 200 || !strings.HasPrefix(body, "ready, but the disk is nearly full") {
		t.Errorf("GET /readyz on a full disk = %d, %q, want 200 with a word about it", status, body)
	}
	if _, body := w.get("/metrics"); !strings.Contains(body, "\ncountersign_disk_low 1\n") {
		t.Error("the metrics do not say that the disk is nearly full")
	}
}

func TestNotifier(t *testing.T) {
	for _, test := range []struct {
		socket, usec, pid string
		watchdog          bool
		err               string
	}{
		{"", "", "", false, ""},
		{"", "30000000", "", true, ""},
		{"", "30000000", fmt.Sprint(os.Getpid()), true, ""},
		{"", "30000000", "1", false, ""},
		{"", "0", "", false, ""},
		{"", "often", "", false, ""},
		{"vsock:2:1", "", "", false, "want a path"},
		{"run/notify", "", "", false, "want a path"},
		{"/nowhere/notify", "", "", false, "no such file"},
		{"@nobody-listens-here", "", "", false, "refused"},
	} {
		t.Setenv("NOTIFY_SOCKET", test.socket)
		t.Setenv("WATCHDOG_USEC", test.usec)
		t.Setenv("WATCHDOG_PID", test.pid)
		n := newNotifier()
		err := n.tell(notifyReady)
		if n.watchdog != test.watchdog || (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
			t.Errorf("%+v: watchdog %v, tell = %v", test, n.watchdog, err)
		}
	}
	if err := (notifier{socket: "/nowhere"}).alive(); err != nil {
		t.Errorf("alive without a watchdog = %v, want that nobody is told", err)
	}
}

func TestObserveListen(t *testing.T) {
	for listen, want := range map[string]string{"9464": "host:port", ":9464": "with the host", "localhost": "host:port"} {
		s := settings{ObserveListen: listen}.over(builtIn())
		if err := s.check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("check with observe_listen %q = %v, want %q", listen, err, want)
		}
	}
	for listen, warned := range map[string]bool{"127.0.0.1:0": false, "localhost:0": false, "[::1]:0": false, "0.0.0.0:0": true} {
		var log strings.Builder
		s := settings{ObserveListen: listen}.over(builtIn())
		if err := s.check(); err != nil {
			t.Errorf("check with observe_listen %q = %v", listen, err)
		}
		o, err := newObserver(s, &disk{}, slog.New(slog.NewTextHandler(&log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		o.end(ctx)
		o.stop()
		if got := strings.Contains(log.String(), "level=WARN"); got != warned {
			t.Errorf("observe_listen %q: warned %v, want %v:\n%s", listen, got, warned, &log)
		}
	}
}
