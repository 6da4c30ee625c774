package main

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// build builds both programs and the demo, and returns their directory.
func build(t *testing.T) string {
	t.Helper()
	bin := t.TempDir()
	cmd := exec.Command("go", "build", "-o", bin, "../../server/cmd/countersign-server", "../../device-agent/cmd/countersign-agent", ".")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building: %v\n%s", err, out)
	}
	return bin
}

// demo returns the command that runs the demo without a terminal, and the
// directory in which it makes its own.
func demo(t *testing.T, bin, programs string) (*exec.Cmd, string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(bin, "demo"), "-bin", programs)
	tmp := t.TempDir()
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
	return cmd, tmp
}

func checkCleared(t *testing.T, tmp string) {
	t.Helper()
	left, err := os.ReadDir(tmp)
	if err != nil || len(left) != 0 {
		t.Errorf("ReadDir(temporary directory) = %v, %v, want nothing left", left, err)
	}
}

func TestScreensFitATerminal(t *testing.T) {
	line := "withdrawn: sign-in of ada to \u2068“Files”\u2069 on \u2068“MacBook Air”\u2069: it was answered on another device or cancelled"
	want := []string{
		"withdrawn: sign-in of ada to \u2068“Files”\u2069 on \u2068“MacBook Air”\u2069: it was",
		"  answered on another device or cancelled",
	}
	if got := folded(line, screenWidth); !slices.Equal(got, want) {
		t.Errorf("folded(…, %d) = %q, want %q", screenWidth, got, want)
	}
	for _, line := range []string{"", "  account: ada", strings.Repeat("x", 100)} {
		if got := folded(line, screenWidth); !slices.Equal(got, []string{line}) {
			t.Errorf("folded(%q) = %q", line, got)
		}
	}
}

func TestDemo(t *testing.T) {
	bin := build(t)
	t.Run("answers itself", func(t *testing.T) {
		cmd, tmp := demo(t, bin, bin)
		out, err := cmd.Output()
		lines := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
		if last := lines[len(lines)-1]; err != nil || last != "demo: signed in" {
			t.Errorf("demo = %q, %v, want its last line %q\n%s", last, err, "demo: signed in", out)
		}
		for _, want := range []string{"phone   │ Sign-In Requested", "tablet  │ Sign-In Requested", "tablet  │ withdrawn: ", "one bit changed is refused"} {
			if !bytes.Contains(out, []byte(want)) {
				t.Errorf("demo did not print %q", want)
			}
		}
		checkCleared(t, tmp)
	})
	t.Run("without the programs", func(t *testing.T) {
		cmd, tmp := demo(t, bin, t.TempDir())
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != 1 || bytes.Contains(out, []byte("demo: signed in")) {
			t.Errorf("demo = %v, want exit 1 and nobody signed in\n%s", err, out)
		}
		checkCleared(t, tmp)
	})
	t.Run("interrupted", func(t *testing.T) {
		cmd, tmp := demo(t, bin, bin)
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			out.WriteString(lines.Text() + "\n")
			if strings.HasSuffix(lines.Text(), "countersign-agent run") { // processes are running
				cmd.Process.Signal(syscall.SIGINT)
			}
		}
		if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 1 || strings.Contains(out.String(), "demo: signed in") {
			t.Errorf("demo = %v, want exit 1 and nobody signed in\n%s", err, out.String())
		}
		checkCleared(t, tmp)
	})
}
