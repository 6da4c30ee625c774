package webpush

import (
	"bufio"
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/countersignd/countersign/server/approval"
)

// TestForeignReceiver pushes to a push service that others wrote, the npm package
// web-push-testing: it verifies the token and decrypts the messages with libraries of
// its own. It speaks HTTP only, so TLS ends in front of it.
func TestForeignReceiver(t *testing.T) {
	behind := startReceiver(t)
	front := httptest.NewTLSServer(httputil.NewSingleHostReverseProxy(behind))
	t.Cleanup(front.Close)
	roots := x509.NewCertPool()
	roots.AddCert(front.Certificate())
	s := newTestService(t, Config{Allowed: mustAllow(t, "127.0.0.1"), Roots: roots}, nil)

	call := func(path string, request, answer any) {
		t.Helper()
		body, err := json.Marshal(request)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.Post(behind.JoinPath(path).String(), "application/json", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("%s of the receiver = %s", path, resp.Status)
		}
		if answer == nil {
			return
		}
		if err := json.NewDecoder(resp.Body).Decode(answer); err != nil {
			t.Fatalf("%s of the receiver: %v", path, err)
		}
	}
	subscribe := func(key []byte) (approval.PushAddress, string) {
		t.Helper()
		var answer struct {
			Data struct {
				Keys       struct{ P256DH, Auth string }
				ClientHash string
			}
		}
		call("subscribe", map[string]string{"userVisibleOnly": "true", "applicationServerKey": encode64(key)}, &answer)
		return approval.PushAddress{
			Endpoint: front.URL + "/notify/" + answer.Data.ClientHash,
			P256DH:   decode64(t, answer.Data.Keys.P256DH), Auth: decode64(t, answer.Data.Keys.Auth),
		}, answer.Data.ClientHash
	}

	to, hash := subscribe(s.vapid.public)
	over := ring()
	over.Over = true
	for _, w := range []approval.Wakeup{ring(), over} {
		if err := s.Wake(t.Context(), to, w); err != nil {
			t.Fatalf("Wake = %v", err)
		}
	}
	var got struct{ Data struct{ Messages []string } }
	call("get-notifications", map[string]string{"clientHash": hash}, &got)
	if want := []string{`{"countersign":"asked"}`, `{"countersign":"over"}`}; !slices.Equal(got.Data.Messages, want) {
		t.Errorf("the receiver decrypted %q, want %q", got.Data.Messages, want)
	}

	call("expire-subscription/"+hash, struct{}{}, nil)
	if wake := wakeError(t, s.Wake(t.Context(), to, ring())); wake.Verdict != approval.WakeDead {
		t.Errorf("a push to an expired subscription = %v, %s, want it dead", wake.Verdict, wake)
	}
	foreign, _ := subscribe(newTestVAPID(t).public)
	if wake := wakeError(t, s.Wake(t.Context(), foreign, ring())); wake.Verdict != approval.WakeRefused {
		t.Errorf("a push to a subscription for another key = %v, %s, want it refused", wake.Verdict, wake)
	}
}

// startReceiver starts the receiver and returns where it listens.
func startReceiver(t *testing.T) *url.URL {
	t.Helper()
	modules, err := filepath.Abs("../../.tools/web-push-receiver/node_modules")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(modules); err != nil {
		t.Fatalf("the foreign receiver is not there: run  make .tools/web-push-receiver  first: %v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	node := exec.CommandContext(ctx, "node", "testdata/receive.js")
	node.Env = append(os.Environ(), "NODE_PATH="+modules)
	var complaints bytes.Buffer
	node.Stderr = &complaints
	in, err := node.StdinPipe() // it ends with this
	if err != nil {
		t.Fatal(err)
	}
	out, err := node.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := node.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := node.Wait(); err != nil {
			t.Errorf("the foreign receiver ended with %v:\n%s", err, &complaints)
		}
		cancel()
	})
	port, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the foreign receiver did not start: %v", err)
	}
	u, err := url.Parse(fmt.Sprintf("http://127.0.0.1:%s/", strings.TrimSpace(port)))
	if err != nil {
		t.Fatal(err)
	}
	return u
}
