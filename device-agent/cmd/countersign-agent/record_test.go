package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestA14TheAlarmIsSaidAndAccepted: a server that shows another record is said
// to, by status and by record, with what to do, until a person accepts.
func TestA14TheAlarmIsSaidAndAccepted(t *testing.T) {
	f := newFake(t)
	dir := enrolled(t, f)
	if out := call(t, 0, "--dir", dir, "record"); !strings.Contains(out, "in order: 3 records") {
		t.Errorf("record printed %q, want 3 records in order", out)
	}
	line := call(t, 0, "--dir", dir, "record", "--json")
	f.change(func() { f.record = 2 })
	for _, command := range []string{"record", "status"} {
		out := call(t, exitError, "--dir", dir, command)
		if !strings.Contains(out, "had 3 records") || !strings.Contains(out, "showed 2") ||
			!strings.Contains(out, "ell the administrator") || !strings.Contains(out, "countersign-agent record accept") {
			t.Errorf("%s printed %q, want what happened and what to do", command, out)
		}
	}
	if again := call(t, 0, "--dir", dir, "record", "--json"); again != line {
		t.Errorf("record --json printed %q, want what was remembered before, %q", again, line)
	}
	if out := call(t, 0, "--dir", dir, "record", "accept"); !strings.Contains(out, "before: 3 records") || !strings.Contains(out, "now:    2 records") {
		t.Errorf("record accept printed %q", out)
	}
	if kept, err := filepath.Glob(filepath.Join(dir, "record-alarm-*")); err != nil || len(kept) != 1 {
		t.Errorf("evidence %q, %v, want one file", kept, err)
	} else if data, err := os.ReadFile(kept[0]); err != nil || !strings.HasPrefix(string(data), line) {
		t.Errorf("evidence %q, %v, want it to begin with what was remembered", data, err)
	}
	call(t, 0, "--dir", dir, "status")
}
