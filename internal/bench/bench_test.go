package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// line is what every figure looks like.
var line = regexp.MustCompile(`^bench: ([a-z0-9/-]+) [0-9]+\.[0-9]{2} unit=\S+ ours=[0-9.]+ limit=[0-9.]+ n=[0-9]+ spread=[0-9]+%$`)

// build builds the tool and the server and returns their directory.
func build(t *testing.T) string {
	t.Helper()
	bin := t.TempDir()
	cmd := exec.Command("go", "build", "-o", bin, ".", "../../server/cmd/countersign-server")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building: %v\n%s", err, out)
	}
	return bin
}

func command(t *testing.T, bin string, args ...string) (cmd *exec.Cmd, tmp string) {
	t.Helper()
	// Not in t.TempDir, whose names can be too long for a socket.
	tmp, err := os.MkdirTemp("", "b")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(tmp) })
	cmd = exec.CommandContext(t.Context(), filepath.Join(bin, "bench"), append([]string{"-bin", bin, "-small", "-dir", tmp}, args...)...)
	return cmd, tmp
}

func checkCleared(t *testing.T, tmp string) {
	t.Helper()
	left, err := os.ReadDir(tmp)
	if err != nil || len(left) != 0 {
		t.Errorf("ReadDir(%s) = %v, %v, want nothing left", tmp, left, err)
	}
}

// Every bench works and prints its figures; what they are, nobody can promise.
func TestBenches(t *testing.T) {
	bin := build(t)
	t.Run("all", func(t *testing.T) {
		pictures := t.TempDir()
		cmd, tmp := command(t, bin, "-pictures", pictures)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("bench = %v\n%s%s", err, out, stderr.String())
		}
		seen := map[string]bool{}
		for l := range strings.Lines(string(out)) {
			l = strings.TrimSuffix(l, "\n")
			if !strings.HasPrefix(l, "bench: ") {
				continue
			}
			match := line.FindStringSubmatch(l)
			if match == nil {
				t.Errorf("the line %q does not have the form of a figure", l)
				continue
			}
			name, _, _ := strings.Cut(match[1], "/")
			seen[name] = true
		}
		for _, b := range benches {
			if !seen[b.name] {
				t.Errorf("%s printed no figure", b.name)
			}
		}
		for _, name := range []string{"growth.svg", "latency.svg"} {
			b, err := os.ReadFile(filepath.Join(pictures, name))
			if err != nil || !bytes.HasPrefix(b, []byte("<svg ")) || bytes.Contains(b, []byte("NaN")) {
				t.Errorf("the picture %s = %.60q, %v, want an SVG without NaN", name, b, err)
			}
		}
		checkCleared(t, tmp)
	})
	t.Run("interrupted", func(t *testing.T) {
		cmd, tmp := command(t, bin, "-bench", "idle")
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// Until there is a server with its data: then there is something to end.
		for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
			if found, _ := filepath.Glob(filepath.Join(tmp, "*", "home", "admin.sock")); len(found) > 0 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("no server was started")
			}
		}
		cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err == nil || !strings.Contains(stderr.String(), "bench: interrupted\n") {
			t.Errorf("an interrupted bench = %v, %q, want that it says so", err, stderr.String())
		}
		checkCleared(t, tmp)
	})
	t.Run("unknown", func(t *testing.T) {
		cmd, _ := command(t, bin, "-bench", "speed")
		out, err := cmd.CombinedOutput()
		if err == nil || !bytes.Contains(out, []byte("choose one of commit, signin")) {
			t.Errorf("bench -bench speed = %v, %q, want the names of those that there are", err, out)
		}
	})
}
