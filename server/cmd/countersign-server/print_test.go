package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/countersignd/countersign/internal/output"
)

// In a narrow terminal, a fingerprint that is to be compared is not torn apart, and
// what goes on on the next line is not taken for a row.
func TestTablesAreBrokenBetweenWords(t *testing.T) {
	var out strings.Builder
	table := newTable(&out, "ACCOUNT", "NAME", "FINGERPRINT")
	table.row("ada", `"Ada's laptop"`, "roral-sigis-kigah-satuk")
	table.row("bo", `"x"`, "lamuz-rasut-pabap-fizos")
	if err := table.flush(); err != nil {
		t.Fatal(err)
	}
	const whole = "ACCOUNT  NAME            FINGERPRINT\n" +
		"ada      \"Ada's laptop\"  roral-sigis-kigah-satuk\n" +
		"bo       \"x\"             lamuz-rasut-pabap-fizos\n"
	if out.String() != whole {
		t.Errorf("the table is\n%s\nwant\n%s", out.String(), whole)
	}
	const want = "ACCOUNT  NAME            FINGERPRINT\n" +
		"ada      \"Ada's laptop\"\n    roral-sigis-kigah-satuk\n" +
		"bo       \"x\"\n    lamuz-rasut-pabap-fizos\n"
	if got := broken(whole, 40); got != want {
		t.Errorf("broken(…, 40) =\n%s\nwant\n%s", got, want)
	}
}

// An error may name a file with more than ASCII; none of its letters is cut in two.
func TestLettersAreNotCut(t *testing.T) {
	for width := range 60 {
		for _, line := range hanging("", strings.Repeat("ä", 100), width) {
			if strings.ToValidUTF8(line, "?") != line {
				t.Fatalf("at %d columns a line is %q", width, line)
			}
		}
	}
}

// An invitation that went to a full disk was made for nobody.
func TestLostOutputIsAnError(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	file.Close()
	var said strings.Builder
	if code := run([]string{"version"}, output.New(file), &said); code != exitError || said.Len() == 0 {
		t.Errorf("run(version) = %d and says %q, want %d and why", code, said.String(), exitError)
	}
}

func TestCtrlCAnswersAQuestion(t *testing.T) {
	in, answer := io.Pipe()
	defer answer.Close()
	ctx, interrupt := context.WithCancel(t.Context())
	var asked strings.Builder
	agreed := make(chan bool, 1)
	go func() { agreed <- (&environment{ctx: ctx, err: &asked}).agreed(in, "Do it?") }()
	interrupt()
	select {
	case yes := <-agreed:
		if yes || !strings.HasPrefix(asked.String(), "Do it? [y/N] ") {
			t.Errorf("agreed = %t after %q", yes, asked.String())
		}
	case <-time.After(10 * time.Second):
		t.Error("it is still waiting for an answer")
	}
}

func TestQuestionsAreAnswered(t *testing.T) {
	for answer, want := range map[string]bool{"y\n": true, " YES \n": true, "n\n": false, "\n": false, "": false, "y": false, "clear\n": false} {
		env := &environment{ctx: t.Context(), err: io.Discard}
		if got := env.agreed(strings.NewReader(answer), "Do it?"); got != want {
			t.Errorf("agreed(%q) = %t, want %t", answer, got, want)
		}
	}
}
