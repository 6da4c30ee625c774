package agent

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// TestMain lets the test binary be a process that counts until it is killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv("COUNTERSIGN_TEST_COUNT"); dir != "" {
		for {
			n, err := nextCounter(dir)
			if err != nil {
				panic(err)
			}
			os.Stdout.WriteString(strconv.FormatUint(n, 10) + "\n")
		}
	}
	os.Exit(m.Run())
}

func TestCounterIsNeverUsedTwice(t *testing.T) {
	dir := t.TempDir()
	if err := startCounter(dir); err != nil {
		t.Fatal(err)
	}
	const goroutines, each = 8, 25
	var mu sync.Mutex
	seen := make(map[uint64]bool)
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			var last uint64
			for range each {
				n, err := nextCounter(dir)
				if err != nil {
					t.Errorf("nextCounter = %v", err)
					return
				}
				mu.Lock()
				if seen[n] || n <= last {
					t.Errorf("nextCounter = %d after %d, seen: %v", n, last, seen[n])
				}
				seen[n], last = true, n
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if n, err := nextCounter(dir); err != nil || n != goroutines*each+1 {
		t.Errorf("nextCounter = %d, %v; want %d", n, err, goroutines*each+1)
	}
	// Starting again does not begin again.
	if err := startCounter(dir); err != nil {
		t.Fatal(err)
	}
	if n, err := nextCounter(dir); err != nil || n != goroutines*each+2 {
		t.Errorf("nextCounter = %d, %v; want %d", n, err, goroutines*each+2)
	}
}

// Processes that are killed at any point use no number twice, together with one
// that goes on.
func TestCounterSurvivesKill(t *testing.T) {
	dir := t.TempDir()
	if err := startCounter(dir); err != nil {
		t.Fatal(err)
	}
	seen := make(map[uint64]bool)
	use := func(n uint64) {
		if seen[n] {
			t.Errorf("number %d was used twice", n)
		}
		seen[n] = true
	}
	for round := range 10 {
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), "COUNTERSIGN_TEST_COUNT="+dir)
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for range round + 1 {
			if !lines.Scan() {
				t.Fatal("the child has stopped")
			}
			n, err := strconv.ParseUint(lines.Text(), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			use(n)
			if n, err = nextCounter(dir); err != nil {
				t.Fatal(err)
			}
			use(n)
		}
		child.Process.Kill()
		for lines.Scan() { // what it had used before it died
			if n, err := strconv.ParseUint(lines.Text(), 10, 64); err == nil {
				use(n)
			}
		}
		child.Wait()
	}
	n, err := nextCounter(dir)
	if err != nil {
		t.Fatal(err)
	}
	use(n)
}

func TestDamagedCounter(t *testing.T) {
	for _, content := range []string{"", "\n", "5", "x\n", "05\n", "+5\n", "-1\n", "5\n\n", " 5\n", "5\n6\n",
		"9007199254740992\n", "18446744073709551616\n", strings.Repeat("1", maxFile+1)} {
		dir := t.TempDir()
		path := filepath.Join(dir, counterName)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if n, err := nextCounter(dir); err == nil || !strings.Contains(err.Error(), "directory away and enrol") {
			t.Errorf("nextCounter(%.20q) = %d, %v; want a refusal that says what to do", content, n, err)
		}
		if err := startCounter(dir); err == nil {
			t.Errorf("startCounter(%.20q) = nil, want a refusal", content)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != content {
			t.Errorf("the file was changed from %.20q to %.20q", content, got)
		}
	}
	if n, err := nextCounter(t.TempDir()); err == nil {
		t.Errorf("nextCounter without a file = %d, want a refusal", n)
	}
	dir := t.TempDir()
	if err := writeCounter(dir, maxCounter); err != nil {
		t.Fatal(err)
	}
	if n, err := nextCounter(dir); err == nil {
		t.Errorf("nextCounter at the end = %d, want a refusal", n)
	}
}
