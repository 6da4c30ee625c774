package metrics_test

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/countersignd/countersign/server/metrics"
)

// Three paths answer, to GET and HEAD. There is nothing else.
func TestPaths(t *testing.T) {
	ready := metrics.Readiness{Ready: true, Words: "ready"}
	url := serve(t, metrics.New(""), func() metrics.Readiness { return ready })
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	ask := func(method, path string) (*http.Response, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp, string(body)
	}
	for _, test := range []struct {
		method, path string
		status       int
		body         string // its beginning
	}{
		{"GET", "/livez", 200, "alive\n"},
		{"GET", "/readyz", 200, "ready\n"},
		{"GET", "/metrics", 200, "# HELP countersign_"},
		{"HEAD", "/livez", 200, ""},
		{"HEAD", "/readyz", 200, ""},
		{"HEAD", "/metrics", 200, ""},
		{"POST", "/metrics", 405, "Method Not Allowed"},
		{"PUT", "/readyz", 405, "Method Not Allowed"},
		{"DELETE", "/livez", 405, "Method Not Allowed"},
		{"GET", "/", 404, "404"},
		{"GET", "/metrics/", 404, "404"},
		{"GET", "/metrics/x", 404, "404"},
		{"GET", "/readyz/..%2fmetrics", 404, "404"},
		{"GET", "/debug/pprof/", 404, "404"},
		{"GET", "/debug/vars", 404, "404"},
	} {
		resp, body := ask(test.method, test.path)
		if resp.StatusCode != test.status || !strings.HasPrefix(body, test.body) || test.method == "HEAD" && body != "" {
			t.Errorf("%s %s = %s, %.40q, want %d, %q", test.method, test.path, resp.Status, body, test.status, test.body)
		}
		if resp.Header.Get("Cache-Control") != "no-store" || resp.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s %s: the headers are %v", test.method, test.path, resp.Header)
		}
	}
	ready = metrics.Readiness{Words: "not ready: starting"}
	if resp, body := ask("GET", "/readyz"); resp.StatusCode != 503 || body != "not ready: starting\n" {
		t.Errorf("GET /readyz = %s, %q, want 503 and why", resp.Status, body)
	}
	if resp, body := ask("GET", "/livez"); resp.StatusCode != 200 || body != "alive\n" {
		t.Errorf("GET /livez = %s, %q, want 200", resp.Status, body)
	}
}

// Nobody can keep the listener busy: neither with headers nor with many connections
// that say nothing.
func TestHTTPLimits(t *testing.T) {
	url := serve(t, metrics.New(""), func() metrics.Readiness { return metrics.Readiness{Ready: true} })
	address := strings.TrimPrefix(url, "http://")
	dial := func() net.Conn {
		t.Helper()
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	conn := dial()
	fmt.Fprintf(conn, "GET /livez HTTP/1.1\r\nHost: x\r\nX: %s\r\n\r\n", strings.Repeat("x", 16<<10))
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("a request with 16 KiB of headers is answered with %v, %v, want 431", resp, err)
	}
	conn.Close()
	began := time.Now()
	for range 100 {
		fmt.Fprint(dial(), "GET /livez HTTP/1.1\r\n")
	}
	resp, err = http.Get(url + "/livez") // waits for one of them to be cut
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("GET /livez beside connections that say nothing = %v, %v", resp, err)
	}
	resp.Body.Close()
	if waited := time.Since(began); waited > 12*time.Second {
		t.Errorf("it was answered after %v, want that silent connections are cut after 5 s", waited)
	}
}

// Once stop has returned, the listener is closed and nothing of it runs.
func TestStop(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	stop := metrics.New("").Serve(l, func() metrics.Readiness { return metrics.Readiness{} }, slog.New(slog.DiscardHandler))
	address := l.Addr().String()
	resp, err := http.Get("http://" + address + "/livez")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	stop()
	if conn, err := net.Dial("tcp", address); err == nil {
		conn.Close()
		t.Error("the listener is open after stop")
	}
}
